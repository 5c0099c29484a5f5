"""The engine seen from outside: every row once an epoch, no copies, odd shapes, all SIMD levels."""

import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
from _common import (
    ESTIMATORS,
    HogwildRegressor,
    is_clf,
    objective,
)

import skpar._base as base
from skpar._data import Batch

layouts = pytest.mark.parametrize("layout", ["dense", "csr", "csr int64"])


def lay(X, layout):
    if layout == "dense":
        return X.toarray() if sp.issparse(X) else X
    X = sp.csr_matrix(X)
    if layout == "csr int64":
        X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    return X


# Every row once an epoch.
STEP = 1 / 64


def counter(**params):
    """On rows of the identity, one epoch of this leaves STEP * y: each weight steps once."""
    fixed = dict(alpha=0.0, penalty=None, fit_intercept=False, learning_rate="constant")
    return HogwildRegressor(**fixed, eta0=STEP, max_iter=1, tol=None, **params)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 63, 64, 65, 1000, 4097])
@layouts
def test_one_worker_visits_each_row_once(layout, n, shuffle):
    if layout == "dense" and n > 1000:
        pytest.skip("the identity would be large")
    X, y = lay(sp.eye(n, format="csr"), layout), np.arange(1.0, n + 1)
    for seed in range(3):
        est = counter(shuffle=shuffle, random_state=seed).fit(X, y)
        np.testing.assert_allclose(est.coef_, STEP * y, rtol=1e-12)


def own_columns(layout, n=70_001, per_row=3):
    """Each row with columns of its own, so that no worker's steps meet another's."""
    columns = np.random.default_rng(0).permutation(n * per_row)
    starts = np.arange(0, n * per_row + 1, per_row)
    shape = (n, n * per_row)
    return columns.reshape(n, per_row), lay(
        sp.csr_matrix((np.ones(starts[-1]), columns, starts), shape), layout
    )


@pytest.mark.parametrize("scheme", ["locked", "lock-free"])
@pytest.mark.parametrize("merge_every", [1, 100, 10_000])  # "auto" may damp what is merged
@pytest.mark.parametrize("n_jobs", [2, 3, 4])
@pytest.mark.parametrize("layout", ["csr", "csr int64"])
def test_workers_visit_each_row_once(layout, n_jobs, merge_every, scheme):
    columns, X = own_columns(layout)
    est = counter(random_state=0, n_jobs=n_jobs, merge_every=merge_every, scheme=scheme)
    est.fit(X, np.ones(len(columns)))
    assert est.n_workers_ > 1
    steps = est.coef_[columns] / STEP
    if scheme == "locked":
        np.testing.assert_allclose(steps, 1, rtol=1e-12)
    else:
        # Two merges at one moment may lose a step (Niu et al. 2011); none is made twice.
        assert np.all((steps == 0) | np.isclose(steps, 1, rtol=1e-12))
        assert np.mean(steps == 0) < 0.01


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_workers_visit_the_rows_of_the_training_part_once(n_jobs):
    """A validation split leaves its rows out."""
    columns, X = own_columns("csr")
    n = len(columns)
    est = counter(random_state=0, n_jobs=n_jobs, merge_every=100, scheme="locked")
    est.set_params(early_stopping=True).fit(X, np.ones(n))
    steps = est.coef_[columns] / STEP
    assert np.all((steps == 0) | np.isclose(steps, 1, rtol=1e-12))
    assert (steps != 0).any(axis=1).sum() == (steps != 0).all(axis=1).sum() == n - -(-n // 10)


def test_orders_differ_by_epoch_and_seed_and_repeat():
    X, y = np.ones((4000, 1)), np.random.default_rng(0).normal(size=4000)
    fixed = dict(learning_rate="constant", eta0=0.1, tol=None)

    def fit(seed, epochs):
        est = HogwildRegressor(random_state=seed, max_iter=epochs, **fixed).fit(X, y)
        return float(est.coef_[0])

    assert fit(0, 1) == fit(0, 1)
    assert len({fit(seed, 1) for seed in range(20)}) == 20
    # With the same order again, constant steps would repeat the same map of the weights.
    est = HogwildRegressor(random_state=0, max_iter=1, **fixed).fit(X, y)
    again = HogwildRegressor(random_state=0, max_iter=1, **fixed)
    again.fit(X, y, coef_init=est.coef_, intercept_init=est.intercept_)
    assert float(again.coef_[0]) != fit(0, 2)


# No copies.
@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_sparse_rows_are_not_copied(cls, dtype, index, monkeypatch):
    X = sp.random(3000, 200, 0.05, "csr", dtype=dtype, random_state=0)
    X.indices, X.indptr = X.indices.astype(index), X.indptr.astype(index)
    y = np.random.default_rng(0).integers(0, 2, 3000)
    seen = []
    train = base.BaseParallelSGD._train_one

    def spy(self, batch, *args, **kwargs):
        seen.append(batch)
        return train(self, batch, *args, **kwargs)

    monkeypatch.setattr(base.BaseParallelSGD, "_train_one", spy)
    cls(max_iter=2, tol=None, n_jobs=2).fit(X, y)
    assert seen
    for batch in seen:
        assert np.shares_memory(batch.values, X.data)
        assert np.shares_memory(batch.columns, X.indices)
        if index == np.int64:
            assert np.shares_memory(batch.starts, X.indptr)


MEASURE = r"""
import re, sys
import numpy as np, scipy.sparse as sp
from skpar import HogwildClassifier
n_jobs, d, n, per_row = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
columns = rng.integers(0, d, n * per_row, dtype=np.int32)
starts = np.arange(0, n * per_row + 1, per_row, dtype=np.int32)
X = sp.csr_matrix((rng.random(n * per_row), columns, starts), (n, d))
y = rng.integers(0, 2, n)
est = HogwildClassifier(loss="log_loss", max_iter=2, tol=None, n_jobs=n_jobs, random_state=0)
est.set_params(learning_rate="optimal").fit(X, y)
# getrusage counts what the parent held when it made this process, too.
peak = re.search(r"VmHWM:\s*(\d+) kB", open("/proc/self/status").read())[1]
print(int(peak) * 1024, est.n_workers_)
"""


def peak(*arguments):
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return [int(number) for number in done.stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_wide_data_have_no_replica_per_worker():
    d = 1 << 24
    one, _ = peak(1, d, 300_000, 20)
    four, workers = peak(4, d, 300_000, 20)
    assert workers > 1
    assert four - one < 1.5 * 8 * d


# Odd shapes.
def unequal(n=6000, d=3000):
    """Rows of 0 or 1 numbers, some of all columns, and a long run of empty ones."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 2, n)
    lengths[rng.random(n) < 0.005] = d
    lengths[n // 3 : n // 2] = 0
    columns = np.concatenate([rng.permutation(d)[:k] for k in lengths])
    values = rng.normal(size=len(columns)) / np.sqrt(np.repeat(lengths, lengths))
    X = sp.csr_matrix((values, columns, np.concatenate([[0], np.cumsum(lengths)])), (n, d))
    score = X @ rng.normal(size=d) + 0.5 * rng.normal(size=n)
    return X, score


ODD = {
    "one column": lambda: (np.linspace(-1, 1, 5000)[:, None], np.linspace(-1, 2, 5000)),
    "one column, few rows": lambda: (np.array([[1.0], [-1.0]]), np.array([1.0, -1.0])),
    "one row": lambda: (np.array([[1.0, -2.0, 0.0]]), np.array([1.0])),
    "only zeros": lambda: (np.zeros((3000, 4)), np.linspace(-1, 2, 3000)),
    "unequal rows": unequal,
    "more columns than rows": lambda: (
        np.random.default_rng(0).normal(size=(40, 5000)) / 70,
        np.random.default_rng(1).normal(size=40),
    ),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@layouts
@pytest.mark.parametrize("cls", ESTIMATORS)
@pytest.mark.parametrize("shape", ODD)
def test_odd_shapes(shape, cls, layout, dtype):
    """Any number of workers ends where one does, and better than w = 0."""
    X, score = ODD[shape]()
    if is_clf(cls) and shape == "one row":
        pytest.skip("two classes need two rows")
    X = lay(X, layout).astype(dtype)
    y = (score > 0).astype(int) if is_clf(cls) else score
    params = dict(alpha=1e-3, max_iter=30, tol=None, random_state=0)
    params |= dict(loss="log_loss") if is_clf(cls) else {}
    values = []
    for n_jobs in (1, 4):
        est = cls(n_jobs=n_jobs, **params).fit(X, y)
        assert np.all(np.isfinite(est.coef_)) and est.coef_.dtype == dtype
        values.append(objective(est, X.astype(np.float64), y))
    est.coef_, est.intercept_ = 0 * est.coef_, 0 * est.intercept_
    zero = objective(est, X.astype(np.float64), y)
    assert max(values) <= zero + 1e-6
    assert abs(values[1] - values[0]) <= 0.02 * zero


# One result at every SIMD level.
FIT = """
import sys
import numpy as np, scipy.sparse as sp
from skpar import HogwildClassifier, HogwildRegressor
from skpar._kernels.rows import simd_level
results = [np.zeros(0)]
for dtype in ("float64", "float32"):
    for d in (1, 3, 8, 17, 54, 130):
        rng = np.random.default_rng(d)
        X = rng.normal(size=(500, d)).astype(dtype)
        y = X @ rng.normal(size=d).astype(dtype) + rng.normal(size=500)
        for rows in (X, sp.csr_matrix(X)):
            for penalty in ("l2", "l1"):
                common = dict(penalty=penalty, max_iter=3, tol=None, random_state=0)
                reg = HogwildRegressor(eta0=1e-3, learning_rate="constant", **common)
                clf = HogwildClassifier(loss="log_loss", eta0=0.01, **common)
                clf.set_params(learning_rate="constant")
                results += [reg.fit(rows, y).coef_, clf.fit(rows, y > 0).coef_.ravel()]
                results += [reg.predict(rows), clf.decision_function(rows)]
np.save(sys.argv[1], np.concatenate(results).astype(float))
print(simd_level())
"""


def at_level(level, path):
    env = {k: v for k, v in os.environ.items() if k != "SKPAR_SIMD"}
    env["PYTHONPATH"] = os.pathsep.join(sys.path)
    if level is not None:
        env["SKPAR_SIMD"] = level
    command = [sys.executable, "-c", FIT, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), np.load(path)


def test_simd_levels_agree(tmp_path):
    pytest.importorskip("skpar._kernels.rows")
    best, expected = at_level("scalar", tmp_path / "scalar.npy")
    assert best == "scalar"
    best, _ = at_level(None, tmp_path / "default.npy")
    order = ["scalar", "sse2", "avx2", "avx512"] if best != "neon" else ["scalar", "neon"]
    assert best in order
    for level in order[1 : order.index(best) + 1]:
        used, result = at_level(level, tmp_path / f"{level}.npy")
        assert used == level
        half = len(result) // 2  # float64 first
        np.testing.assert_allclose(result[:half], expected[:half], rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(result[half:], expected[half:], rtol=2e-3, atol=2e-4)


def test_batch_of_a_view_reads_the_same_rows():
    X = np.asfortranarray(np.random.default_rng(0).normal(size=(50, 4)))
    np.testing.assert_array_equal(Batch.of(X, np.zeros(50)).values, X)
