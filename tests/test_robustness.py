"""Bad input, interrupts and failing workers: an error, never a crash, and nothing left behind."""

import json
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from _common import (
    CLASSIFIERS,
    ESTIMATORS,
    WORKER_FUNCTIONS,
    is_clf,
    large_problem,
    sgd_rate,
    small_problem,
    workers,
)
from sklearn.base import clone

import skpar._lockfree as lockfree
import skpar._schemes as schemes

ROOT = Path(__file__).resolve().parents[1]
every = pytest.mark.parametrize("cls", ESTIMATORS)

PREAMBLE = """
import faulthandler, json, sys
faulthandler.enable()
import numpy as np, scipy.sparse as sp
from skpar import *
"""


def run_python(code, *arguments, timeout=120):
    """Run code in a new interpreter: a crash there is a failure here, not the end of pytest."""
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=ROOT,
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout.splitlines()[-1])


MALFORMED = """
cls = globals()[sys.argv[1]]
rng = np.random.default_rng(0)
dense = rng.normal(size=(300, 40)) * (rng.random((300, 40)) < 0.3)
y = (dense @ rng.normal(size=40) > 0).astype(int)
BIG = 2**31 - 1

def put(array, index, value):
    def change(X):
        getattr(X, array)[index] = value
    return change

def shorten(X):
    X.indices, X.data = X.indices[:-50].copy(), X.data[:-50].copy()

def wrap(X):
    # Differences of int32 that wrap around look like growth.
    X.indptr[10:12] = BIG, -2

compressed = {
    "index past the end": put("indices", 7, 10_000_000),
    "index just past the end": put("indices", 7, 40),
    "negative index": put("indices", 7, -3),
    "very negative index": put("indices", -1, -BIG),
    "indptr past the data": put("indptr", -1, 10_000_000),
    "indptr past the data inside": put("indptr", 20, 10_000_000),
    "decreasing indptr": put("indptr", 20, 3),
    "negative indptr": put("indptr", 5, -7),
    "indptr not from zero": put("indptr", 0, 2),
    "indptr that wraps around": wrap,
    "shortened data": shorten,
}
pairs = {
    "column past the end": put("col", 3, 10_000_000),
    "negative column": put("col", 3, -1),
    "row past the end": put("row", 3, 10_000_000),
    "negative row": put("row", 3, -1),
}
formats = {
    "csr": (sp.csr_matrix, compressed),
    "csr_array": (sp.csr_array, compressed),
    "csc": (sp.csc_matrix, compressed),
    "coo": (sp.coo_matrix, pairs),
    "coo_array": (sp.coo_array, pairs),
    "bsr": (lambda X: sp.bsr_matrix(X, blocksize=(2, 2)), {
        "index past the end": put("indices", 7, 10_000_000),
        "negative index": put("indices", 7, -3),
        "decreasing indptr": put("indptr", 20, 3),
        "indptr past the data": put("indptr", -1, 10_000_000),
    }),
}
good = sp.csr_matrix(dense)
fitted = cls(random_state=0, max_iter=5, tol=None).fit(good, y)
count, wrong = 0, []
for format, (convert, changes) in formats.items():
    for index in (np.int32, np.int64):
        for name, change in changes.items():
            if name == "index just past the end" and format == "csc":
                continue  # a row index there, and inside
            X = convert(dense)
            if format not in ("coo", "coo_array"):
                X.indices, X.indptr = X.indices.astype(index), X.indptr.astype(index)
            try:
                change(X)
            except AttributeError:
                # coo_array has coords in place of row and col in some versions.
                coords = [c.copy() for c in X.coords]
                coords[name.endswith("column") or "column" in name][3] = (
                    -1 if "negative" in name else 10_000_000)
                X.coords = tuple(coords)
            if name == "index just past the end":
                assert X.indices.max() == 40
            calls = {
                "fit": lambda: cls(max_iter=2, tol=None).fit(X, y),
                "partial_fit": lambda: fitted.partial_fit(X, y),
                "predict": lambda: fitted.predict(X),
                "score": lambda: fitted.score(X, y),
            }
            if cls.__name__.endswith("Classifier"):
                calls["decision_function"] = lambda: fitted.decision_function(X)
                calls["first partial_fit"] = lambda: cls().partial_fit(X, y, classes=[0, 1])
            for call, function in calls.items():
                print(format, index.__name__, name, call, flush=True)
                count += 1
                try:
                    function()
                except ValueError as error:
                    words = ("indptr", "index", "indices")
                    if not any(word in str(error) for word in words):
                        wrong.append([format, name, call, str(error)])
                else:
                    wrong.append([format, name, call, "no error"])
assert fitted.fit(good, y).score(good, y) > -10
print(json.dumps([count, wrong]))
"""


@every
def test_malformed_sparse_matrices(cls):
    """scikit-learn 1.9 reads and writes outside its arrays on these."""
    count, wrong = run_python(MALFORMED, cls.__name__)
    assert count > 300
    assert wrong == []


@every
def test_partial_fit_of_a_memory_mapped_model(cls, tmp_path):
    """scikit-learn 1.9 writes into the read-only pages and dies."""
    script = """
    import joblib
    cls, path = globals()[sys.argv[1]], sys.argv[2]
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 3000))
    y = (X[:, 0] > 0).astype(int)
    for average in (False, True):
        est = cls(random_state=0, average=average, max_iter=3, tol=None).fit(X, y)
        joblib.dump(est, path)
        mapped = joblib.load(path, mmap_mode="r")
        before = est.coef_.copy()
        assert not mapped.coef_.flags.writeable
        np.testing.assert_array_equal(mapped.predict(X), est.predict(X))
        for data in (X, sp.csr_matrix(X)):
            mapped.partial_fit(data, y)
        other = joblib.load(path, mmap_mode="r").set_params(warm_start=True).fit(X, y)
        assert np.isfinite(other.coef_).all()
        np.testing.assert_array_equal(joblib.load(path).coef_, before)
        expected = est.partial_fit(X, y).partial_fit(sp.csr_matrix(X), y)
        np.testing.assert_array_equal(mapped.coef_, expected.coef_)
        del mapped, other
    print(json.dumps("fine"))
    """
    assert run_python(script, cls.__name__, tmp_path / "model.joblib") == "fine"


@every
@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_read_only_input(cls, n_jobs, layout, tmp_path):
    X, y = large_problem("binary" if is_clf(cls) else "regression", layout)
    weight = np.ones(len(y))
    joblib.dump((X, y, weight), tmp_path / "data.joblib")
    X_map, y_map, weight_map = joblib.load(tmp_path / "data.joblib", mmap_mode="r")
    assert not (X_map.data if sp.issparse(X_map) else X_map).flags.writeable
    est = cls(random_state=0, max_iter=2, tol=None, **workers(cls, n_jobs))
    est.fit(X_map, y_map, sample_weight=weight_map)
    assert est.predict(X_map).shape == y.shape
    if n_jobs == 1:
        same = clone(est).fit(X, y, sample_weight=weight)
        np.testing.assert_array_equal(est.coef_, same.coef_)
    frozen = est.coef_.copy(), est.intercept_.copy()
    for array in frozen:
        array.flags.writeable = False
    est.fit(X_map, y_map, coef_init=frozen[0], intercept_init=frozen[1])


INTERRUPTED = """
import os, signal, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start background jobs without
cls, task, cases = globals()[sys.argv[1]], sys.argv[2], json.loads(sys.argv[3])
rng, n = np.random.default_rng(0), 60_000
dense = rng.normal(size=(n, 40))
sparse = sp.csr_matrix((rng.normal(size=n * 30), rng.integers(0, 5000, n * 30),
                        np.arange(0, n * 30 + 1, 30)), shape=(n, 5000))
sent = []

def interrupt():
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)

def seconds_to_interrupt(est, X, y):
    timer = threading.Timer(0.4, interrupt)
    timer.start()
    try:
        est.fit(X, y)
        return "not interrupted"
    except KeyboardInterrupt:
        return time.perf_counter() - sent[-1]
    finally:
        timer.join()

results = []
for layout, params in cases:
    X = dense if layout == "dense" else sparse
    y = X @ rng.normal(size=X.shape[1])
    y = np.digitize(y, [-1, 0, 1]) if task == "multiclass" else (y > 0).astype(int)
    est = cls(**params, random_state=0, tol=None, max_iter=1_000_000)
    est.set_params(learning_rate="constant", eta0=1e-4)
    before = set(threading.enumerate())
    seconds = seconds_to_interrupt(est, X, y)
    left = [t.name for t in threading.enumerate() if t not in before]
    est.set_params(max_iter=1).fit(X, y)
    results.append([layout, params, seconds, left, bool(np.isfinite(est.coef_).all())])
print(json.dumps(results))
"""


def check_interrupts(cls, task, cases):
    results = run_python(INTERRUPTED, cls.__name__, task, json.dumps(cases))
    assert len(results) == len(cases)
    for layout, params, seconds, left, fits_again in results:
        where = f"{cls.__name__}, {layout}, {params}"
        assert isinstance(seconds, float), where
        assert seconds < 1.0, where
        assert left == [], where
        assert fits_again, where


signals = pytest.mark.skipif(sys.platform == "win32", reason="os.kill there sends no signal")


@signals
@every
def test_interrupt(cls):
    """KeyboardInterrupt within a second of Ctrl-C, no thread left, and it fits again."""
    cases = [[layout, workers(cls, n)] for layout in ("dense", "sparse") for n in (1, 2)]
    check_interrupts(cls, "binary", cases)


@signals
@pytest.mark.slow
@every
def test_interrupt_of_other_fits(cls):
    cases = [
        dict(early_stopping=True),
        dict(average=True, penalty="elasticnet"),
        dict(shuffle=False),
        *([dict(scheme="locked"), dict(merge_every=1)] if "Hogwild" in cls.__name__ else []),
        *([dict(n_shards=3)] if "Parallel" in cls.__name__ else []),
    ]
    cases = [["sparse", workers(cls, n) | case] for case in cases for n in (1, 2)]
    check_interrupts(cls, "multiclass", cases)


# A worker that fails.
class WorkerError(Exception):
    pass


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("cls", "name"), WORKER_FUNCTIONS)
@pytest.mark.parametrize("failing_call", [1, 2, 3])
def test_error_in_a_worker(cls, name, failing_call, monkeypatch):
    """It reaches the caller, the others stop, no thread is left, and it fits again."""
    X, y = large_problem("binary" if is_clf(cls) else "regression")
    est = cls(random_state=0, **workers(cls, 2), max_iter=1000, tol=None, **sgd_rate(cls))
    clone(est).set_params(max_iter=1).fit(X, y)
    before = set(threading.enumerate())
    room = lockfree if name == "run_shared" else schemes
    original, calls = getattr(room, name), []

    def broken(*args):
        calls.append(None)
        if len(calls) == failing_call:
            raise WorkerError("no more")
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(room, name, broken)
        with pytest.raises(WorkerError, match="no more"):
            est.fit(X, y)
    assert set(threading.enumerate()) <= before
    est.set_params(max_iter=2).fit(X, y)
    assert np.isfinite(est.coef_).all()


@every
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_overflow_with_workers(cls, n_jobs):
    """A diverging fit is an error with one worker and with two, and no thread is left."""
    X, y = large_problem("binary" if is_clf(cls) else "regression")
    loss = "squared_hinge" if is_clf(cls) else "squared_error"
    before = set(threading.enumerate())
    est = cls(loss=loss, random_state=0, **workers(cls, n_jobs), max_iter=50, tol=None)
    est.set_params(learning_rate="constant", eta0=1e300)
    with pytest.raises(ValueError, match="overflow"):
        est.fit(X, y)
    assert set(threading.enumerate()) <= before
    assert np.isfinite(est.set_params(eta0=1e-4, max_iter=2).fit(X, y).coef_).all()


@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_failed_first_partial_fit(cls):
    """A call that raised leaves the estimator as if it had not been made."""
    X, y = small_problem("binary")
    est = cls(random_state=0, loss="squared_hinge", learning_rate="constant", eta0=1e300)
    with pytest.raises(ValueError, match="overflow"):
        est.partial_fit(X, y, classes=["no", "yes"])
    est.set_params(eta0=0.01).partial_fit(X, y, classes=["no", "yes"])
    assert np.isfinite(est.coef_).all()


@every
def test_shapes_at_the_edge(cls):
    """One column, one distinct row, empty sparse rows, all zeros: a model, or one clear error."""
    y = np.array([0, 1] * 10)
    for X in (
        np.ones((20, 1)),
        np.zeros((20, 3)),
        sp.csr_matrix((20, 3)),
        sp.csr_matrix(np.eye(20)),
        sp.csr_array(np.diag(np.r_[np.zeros(19), 1.0])),
    ):
        for n_jobs in (1, 2):
            est = cls(random_state=0, max_iter=5, tol=None, n_jobs=n_jobs).fit(X, y)
            assert np.isfinite(est.coef_).all()
            assert est.predict(X).shape == (20,)
    for X in (np.zeros((0, 3)), np.zeros((20, 0)), sp.csr_matrix((0, 3))):
        with pytest.raises(ValueError, match="Found array with|minimum of 1"):
            cls().fit(X, y[: X.shape[0]])
