"""Shards on joblib's processes, on Dask and on Ray: the same bits, few bytes, no dead ends."""

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from _common import (
    HogwildClassifier,
    ParallelSGDClassifier,
    ParallelSGDRegressor,
    is_clf,
    large_problem,
    objective,
    wait_until_gone,
)
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold

from skpar import _cluster, _workers

pytestmark = [
    pytest.mark.timeout(240),
    # Dask, Ray and their dependencies; ours are errors all the same.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
BACKENDS = ["threading", "loky", "dask", "ray"]
SCHEMES = ["model-averaging", "gradient-averaging"]
layouts = pytest.mark.parametrize("layout", ["dense", "sparse"])
schemes = pytest.mark.parametrize("scheme", SCHEMES)


@pytest.fixture(scope="module")
def dask():
    """A client of two worker processes on loopback."""
    distributed = pytest.importorskip("distributed", reason="needs the extra skpar[dask]")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def ray():
    """Ray with two workers on loopback."""
    ray = pytest.importorskip("ray", reason="needs the extra skpar[ray]")
    from ray.util.joblib import register_ray

    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _node_ip_address="127.0.0.1",
        object_store_memory=500_000_000,
    )
    register_ray()
    yield ray
    ray.shutdown()


@pytest.fixture
def use(request):
    """use(backend): a joblib configuration of that backend, which is started if need be."""

    def config(backend, **kwargs):
        if backend in ("dask", "ray"):
            request.getfixturevalue(backend)
        return joblib.parallel_config(backend, **kwargs)

    return config


def make(cls=ParallelSGDClassifier, **params):
    params = dict(random_state=0, tol=None, max_iter=2, n_shards=4) | params
    if is_clf(cls):
        params = dict(loss="log_loss") | params
    # "auto" would take steps of another kind where it can see all rows.
    params = dict(learning_rate="optimal" if is_clf(cls) else "invscaling") | params
    if params.get("scheme") == "gradient-averaging":
        params = dict(batch_size=1000) | params
    return cls(**params)


def assert_same_bits(a, b):
    np.testing.assert_array_equal(a.coef_, b.coef_)
    np.testing.assert_array_equal(a.intercept_, b.intercept_)
    np.testing.assert_array_equal(a.history_["objective"], b.history_["objective"])


@pytest.fixture
def exchanges(monkeypatch):
    """The `Traffic` records of all fits, each time that workers were asked."""
    seen, original = [], _cluster.Remote.exchange

    def exchange(self, *args):
        seen.append(self.traffic)
        return original(self, *args)

    monkeypatch.setattr(_cluster.Remote, "exchange", exchange)
    return seen


# The same bits: backends x n_jobs x schemes x layouts x dtypes.
@pytest.mark.parametrize("backend", BACKENDS)
@schemes
@layouts
def test_same_bits(backend, scheme, layout, use, exchanges):
    X, y = large_problem("binary", layout, n=4_000)
    data = [(X.astype(dtype), y) for dtype in (np.float64, np.float32)]
    first = [make(scheme=scheme).fit(*rows) for rows in data]
    assert [est.coef_.dtype for est in first] == [np.float64, np.float32]
    for n_jobs in (1, 2, 4):
        for rows, expected in zip(data, first, strict=True):
            with use(backend):
                est = make(scheme=scheme, n_jobs=n_jobs).fit(*rows)
            assert est.scheme_ == scheme
            assert_same_bits(est, expected)
    assert bool(exchanges) == (backend != "threading")


@pytest.mark.parametrize("backend", BACKENDS[1:])
@schemes
def test_same_bits_of_other_fits(backend, scheme, use):
    """Several classes, weights, averages, early stopping, row order, l1, regression."""
    X, y = large_problem("multiclass", n=3_000)
    variants = [
        dict(average=True, class_weight="balanced"),
        dict(early_stopping=True, max_iter=3),
        dict(shuffle=False, penalty="elasticnet"),
        dict(tol=1e-3, max_iter=5),
        dict(learning_rate="auto", tol=1e-4, max_iter=100),
        dict(learning_rate="auto", tol=1e-4, max_iter=100, early_stopping=True),
    ]
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    for params in variants:
        est = make(scheme=scheme, n_shards=3, **params).set_params(n_jobs=2)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Maximum number of iteration")
            first = clone(est).set_params(n_jobs=1).fit(X, y, sample_weight=weight)
            with use(backend):
                assert_same_bits(clone(est).fit(X, y, sample_weight=weight), first)
    # Wide sparse rows, with which "auto" starts by stochastic steps.
    rng = np.random.default_rng(0)
    X = sp.random_array((4_000, 20_000), density=2e-3, format="csr", rng=rng)
    y = (X[:, :500].sum(axis=1) > 0.5).astype(int)
    est = make(scheme=scheme, learning_rate="auto", tol=1e-3, max_iter=50).set_params(n_jobs=2)
    with use(backend):
        assert_same_bits(clone(est).fit(X, y), clone(est).set_params(n_jobs=1).fit(X, y))
    X, y = large_problem("regression", n=3_000)
    est = make(ParallelSGDRegressor, scheme=scheme, n_jobs=2)
    with use(backend):
        assert_same_bits(clone(est).fit(X, y), clone(est).set_params(n_jobs=1).fit(X, y))


# What travels.
@pytest.mark.parametrize("backend", BACKENDS[1:])
@schemes
@layouts
def test_bytes_of_a_round(backend, scheme, layout, use, exchanges):
    """Data travel once; in a round, twice the weights and a few hundred bytes a shard."""
    X, y = large_problem("binary", layout, n=4_000)
    with use(backend):
        est = make(scheme=scheme, n_jobs=2, n_shards=2, max_iter=3).fit(X, y)
    traffic = exchanges[-1]
    assert all(other is traffic for other in exchanges)
    weights = est.coef_.nbytes
    per_round = (traffic.sent + traffic.received) / traffic.rounds / 2
    assert weights < per_round < 2 * weights + 2500
    size = (X.data.nbytes + X.indices.nbytes) if layout == "sparse" else X.nbytes
    assert size <= traffic.placed < 2 * size


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_classes_share_the_rows(backend, use, exchanges):
    """One-vs-rest sends the matrix once, the labels of each class once."""
    X, y = large_problem("multiclass", n=4_000)
    with use(backend):
        make(n_jobs=2, n_shards=2).fit(X, y)
    assert exchanges[-1].placed == X.nbytes + 4 * 8 * len(y)


# Workers die.
def kill_a_worker_in_round(monkeypatch, at, find):
    """SIGKILL a process, found by find(), while round number `at` runs."""
    original, killed = _cluster.Remote.exchange, []

    def exchange(self, *args):
        if self.traffic.rounds == at and not killed:
            killed.append(find())
            threading.Timer(0.02, os.kill, (killed[0], signal.SIGKILL)).start()
        if killed:
            time.sleep(0.01)  # so that the fit does not end before
        return original(self, *args)

    monkeypatch.setattr(_cluster.Remote, "exchange", exchange)
    return killed


def children(name):
    """Processes started by this one, their command line holding `name` (Linux)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == os.getpid() and name.encode() in command:
            found.append(int(folder.name))
    return sorted(found)


def shm():
    return set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()


@schemes
def test_a_process_dies(scheme, use, monkeypatch, tmp_path):
    X, y = large_problem("binary", n=100_000)
    before = shm()
    monkeypatch.setenv("JOBLIB_TEMP_FOLDER", str(tmp_path))
    with use("loky"):
        est = make(scheme=scheme, n_jobs=2, n_shards=2, max_iter=50, batch_size=20_000)
        killed = kill_a_worker_in_round(monkeypatch, 5, lambda: children("popen_loky")[0])
        with pytest.raises(RuntimeError, match=r"worker process .* died .* shards 0, 1"):
            est.fit(X, y)
        assert killed
        # The next fit works, with new processes.
        est.set_params(max_iter=1).fit(X, y)
    joblib.externals.loky.get_reusable_executor().shutdown(wait=True)
    assert not [name for name in shm() - before if str(os.getpid()) in name]
    assert not list(tmp_path.iterdir())


@schemes
def test_a_dask_worker_dies(scheme, use, dask, monkeypatch):
    X, y = large_problem("binary", n=100_000)
    est = make(scheme=scheme, n_jobs=2, n_shards=4, max_iter=20, batch_size=20_000)
    first = clone(est).set_params(n_jobs=1).fit(X, y)
    killed = kill_a_worker_in_round(
        monkeypatch, 5, lambda: next(iter(dask.run(os.getpid).values()))
    )
    with use("dask"):
        assert_same_bits(est.fit(X, y), first)
    wait_until_gone(killed[0])
    dask.wait_for_workers(2, timeout=60)


@schemes
def test_a_ray_worker_dies(scheme, use, ray, monkeypatch):
    X, y = large_problem("binary", n=100_000)
    est = make(scheme=scheme, n_jobs=2, n_shards=4, max_iter=20, batch_size=20_000)
    first = clone(est).set_params(n_jobs=1).fit(X, y)

    def find():
        def pid():  # inside, so that it travels by value
            time.sleep(0.2)
            return os.getpid()

        return ray.get([ray.remote(pid).remote() for _ in range(2)])[0]

    killed = kill_a_worker_in_round(monkeypatch, 5, find)
    with use("ray"):
        assert_same_bits(est.fit(X, y), first)
    assert killed


# Threads inside a worker.
@pytest.mark.parametrize("backend", BACKENDS)
@layouts
def test_threads_inside_workers(backend, layout, use):
    """Two workers of two threads each reach what one worker reaches."""
    X, y = large_problem("binary", layout)
    settings = dict(alpha=1e-3, average=60_000, max_iter=30)
    one = make(n_shards=1, **settings).fit(X, y)
    with use(backend):
        est = make(n_jobs=4, n_shards=2, inner_n_jobs=2, **settings).fit(X, y)
    assert est.scheme_ == "model-averaging"
    assert est.n_workers_ == 2
    assert objective(est, X, y) <= 1.001 * objective(one, X, y)


def test_inner_n_jobs_is_for_model_averaging():
    X, y = large_problem("binary")
    with pytest.raises(ValueError, match="inner_n_jobs trains shards lock-free"):
        make(scheme="gradient-averaging", inner_n_jobs=2).fit(X, y)


# Inside other tools.
@pytest.mark.parametrize("backend", BACKENDS)
def test_inside_a_grid_search(backend, use):
    """Two candidates at once, two workers each: the results of one in one."""
    X, y = large_problem("binary", n=4_000)
    grid = {"alpha": [1e-4, 1e-2]}
    plain = GridSearchCV(make(n_shards=2), grid, cv=KFold(2)).fit(X, y)
    with use(backend):
        search = GridSearchCV(make(n_jobs=2, n_shards=2), grid, n_jobs=2, cv=KFold(2)).fit(X, y)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"]
    )
    np.testing.assert_array_equal(search.best_estimator_.coef_, plain.best_estimator_.coef_)


@pytest.mark.parametrize("backend", ["loky", "dask", "ray"])
def test_nested_fits_take_their_share(backend, use):
    """Two tasks on two cores: the fit in each has one thread and sends nothing on."""
    cores = 2

    def inner_threads(n_jobs):  # inside, so that it travels by value
        team = _workers.Team(n_jobs, shared_memory=False)
        return team.kind, team.threads

    with use(backend, inner_max_num_threads=1) if backend == "loky" else use(backend):
        inner = Parallel(n_jobs=cores)(delayed(inner_threads)(2) for _ in range(cores))
    assert inner == [("threads", 1)] * cores


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_lock_free_says_once_that_it_runs_on_threads(backend, use, monkeypatch):
    monkeypatch.setattr(_workers, "_said", set())
    X, y = large_problem("binary", n=200_000)
    with use(backend), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            est = HogwildClassifier(n_jobs=2, max_iter=2, tol=None, learning_rate="optimal").fit(
                X, y
            )
    assert est.n_workers_ == 2
    assert len([w for w in caught if "it runs on threads" in str(w.message)]) == 1


def test_extras_are_imported_where_they_are_used():
    code = """
import sys, joblib, numpy as np
from skpar import ParallelSGDClassifier
X = np.random.default_rng(0).normal(size=(2000, 5)); y = (X[:, 0] > 0).astype(int)
with joblib.parallel_config("loky"):
    ParallelSGDClassifier(n_jobs=2, n_shards=2, max_iter=2, tol=None).fit(X, y).predict(X)
found = {"dask", "distributed", "ray"} & set(sys.modules)
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
