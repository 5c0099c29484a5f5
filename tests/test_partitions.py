"""Dask arrays and DataFrames: trained and predicted where they lie."""

import os
import signal
import threading
import time

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
from sklearn.base import clone

from skpar import _cluster, _collections

dask = pytest.importorskip("dask", reason="needs the extra skpar[dask]")
distributed = pytest.importorskip("distributed", reason="needs the extra skpar[dask]")
da = pytest.importorskip("dask.array", reason="needs the extra skpar[dask]")
dd = pytest.importorskip("dask.dataframe", reason="needs the extra skpar[dask]")
pd = pytest.importorskip("pandas")

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SCHEMES = ["model-averaging", "gradient-averaging"]
schemes = pytest.mark.parametrize("scheme", SCHEMES)


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def make(cls=ParallelSGDClassifier, **params):
    params = dict(random_state=0, tol=None, max_iter=5) | params
    if is_clf(cls):
        params = dict(loss="log_loss", learning_rate="optimal") | params
    else:
        params = dict(learning_rate="invscaling") | params
    return cls(**params)


def arrays(X, y, rows=3000):
    return da.from_array(X, chunks=(rows, 7)), da.from_array(y, chunks=rows)


@schemes
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_as_good_as_in_memory(scheme, task, client):
    """The same objective as shards in memory, for weights and class weights too."""
    X, y = large_problem(task)
    cls = ParallelSGDRegressor if task == "regression" else ParallelSGDClassifier
    settings = dict(alpha=1e-2, average=60_000, max_iter=20)
    if task == "regression":
        settings |= dict(eta0=0.05)
    elif task == "multiclass":
        settings |= dict(class_weight="balanced")
    est = make(cls, scheme=scheme, **settings)
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    here = clone(est).set_params(n_shards=4).fit(X, y, sample_weight=weight)
    there = est.fit(*arrays(X, y), sample_weight=da.from_array(weight, chunks=3000))
    if task == "multiclass":
        counts = np.bincount(y)
        weight = weight * (len(y) / (len(counts) * counts))[y]
        a, b = (objective_of_one(m, X, y, 2, weight) for m in (here, there))
    else:
        a, b = objective(here, X, y, weight), objective(there, X, y, weight)
    np.testing.assert_allclose(b, a, rtol=2e-3)
    assert there.n_features_in_ == X.shape[1]
    assert there.t_ == 1 + 20 * len(y)


def objective_of_one(model, X, y, k, weight):
    """The objective of class k against the rest, whose weights are 1 times sample_weight."""
    margins = X @ model.coef_[k] + model.intercept_[k]
    return np.mean(np.logaddexp(0, -np.where(y == k, 1, -1) * margins))


@schemes
def test_arrays_and_frames_give_the_same_bits(scheme, client):
    X, y = large_problem("binary", n=4_000)
    labels = np.array(["no", "yes"])[y]
    first = make(scheme=scheme).fit(*arrays(X, labels, 1000))
    frame = pd.DataFrame(X, columns=[f"column {j}" for j in range(X.shape[1])])
    edges = [0, 1000, 2000, 3000, 3999]
    D = dd.from_pandas(frame, npartitions=4, sort=False).repartition(divisions=edges)
    s = dd.from_pandas(pd.Series(labels), npartitions=4, sort=False).repartition(divisions=edges)
    model = make(scheme=scheme).fit(D, s)
    np.testing.assert_array_equal(model.coef_, first.coef_)
    assert list(model.feature_names_in_) == list(frame.columns)
    predicted = model.predict(D)
    assert isinstance(predicted, da.Array)
    np.testing.assert_array_equal(predicted.compute(), model.predict(frame))


@schemes
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_chunks_of_csr(scheme, dtype, client):
    X, y = large_problem("binary", "sparse", n=4_000)
    X = X.astype(dtype)
    blocks = [
        da.from_delayed(dask.delayed(X[lo : lo + 1000]), (1000, X.shape[1]), dtype)
        for lo in range(0, 4000, 1000)
    ]
    model = make(scheme=scheme).fit(da.concatenate(blocks), da.from_array(y, chunks=1000))
    assert model.coef_.dtype == dtype
    assert objective(model, X, y) < np.log(2)


@pytest.mark.parametrize("cls", [ParallelSGDClassifier, ParallelSGDRegressor])
def test_predictions_stay_where_the_rows_are(cls, client):
    X, y = large_problem("multiclass" if is_clf(cls) else "regression", n=4_000)
    model = make(cls).fit(X, y)
    A, _ = arrays(X, y, 1000)
    methods = ["predict"]
    if is_clf(cls):
        methods += ["decision_function", "predict_proba", "predict_log_proba"]
    for name in methods:
        there, here = getattr(model, name)(A), getattr(model, name)(X)
        assert there.chunks[0] == (1000,) * 4
        assert there.shape == here.shape
        np.testing.assert_array_equal(there.compute(), here)
    assert model.score(A, da.from_array(y, chunks=1000)) == model.score(X, y)


@schemes
def test_a_worker_dies_with_its_partitions(scheme, client, monkeypatch):
    """Dask computes them again, and the result is the same bits."""
    X, y = large_problem("binary", n=50_000)
    A, b = arrays(X, y, 12_500)
    first = make(scheme=scheme).fit(A, b)
    original, killed = _cluster.Remote.exchange, []

    def exchange(self, *args):
        if self.traffic.rounds == 5 and not killed:
            killed.append(next(iter(client.run(os.getpid).values())))
            threading.Timer(0.02, os.kill, (killed[0], signal.SIGKILL)).start()
        if killed:
            time.sleep(0.01)
        return original(self, *args)

    monkeypatch.setattr(_cluster.Remote, "exchange", exchange)
    np.testing.assert_array_equal(make(scheme=scheme).fit(A, b).coef_, first.coef_)
    wait_until_gone(killed[0])
    client.wait_for_workers(2, timeout=60)


def test_rows_do_not_travel(client, monkeypatch):
    """This process receives descriptions and a sample, whose size the rows do not change."""
    A = da.random.default_rng(0).normal(size=(80_000, 20), chunks=(20_000, 20)).persist()
    b = (A[:, 0] > 0).astype(int)
    traffic, original = [], _cluster.Remote.__init__

    def init(self):
        original(self)
        traffic.append(self.traffic)

    monkeypatch.setattr(_cluster.Remote, "__init__", init)
    make(max_iter=2).fit(A, b)
    assert traffic[0].placed == 0
    assert traffic[0].received / traffic[0].rounds < 4 * (A.shape[1] * 8 + 2500)


def test_without_a_cluster(monkeypatch):
    """Collections of Dask's own threads are computed and trained in memory."""
    monkeypatch.setattr(_collections, "the_client", lambda: None)
    X, y = large_problem("binary", n=4_000)
    A, b = arrays(X, y, 1000)
    est = make(n_shards=2)
    np.testing.assert_array_equal(clone(est).fit(A, b).coef_, est.fit(X, y).coef_)


def test_errors(client):
    X, y = large_problem("binary", n=4_000)
    A, b = arrays(X, y, 1000)
    with pytest.raises(TypeError, match="HogwildClassifier needs the rows in memory"):
        HogwildClassifier().fit(A, b)
    with pytest.raises(ValueError, match="early_stopping=True and X_val need rows in memory"):
        make(early_stopping=True).fit(A, b)
    with pytest.raises(TypeError, match="y is ndarray"):
        make().fit(A, y)
    Y = da.from_array(np.stack([y, -y], axis=1), chunks=(1000, 2))
    with pytest.raises(ValueError, match="y has 2 columns. Several targets need rows in memory"):
        make(ParallelSGDRegressor).fit(A, Y)
    with pytest.raises(ValueError, match="X has 4 partitions and y has 2"):
        make().fit(A, b.rechunk(2000))
    with pytest.raises(ValueError, match="n_shards=3, but X has 4 partitions"):
        make(n_shards=3).fit(A, b)
    spoilt = X.copy()
    spoilt[2500, 3] = np.nan
    with pytest.raises(ValueError, match="Partition 2 of X contains NaN"):
        make().fit(da.from_array(spoilt, chunks=(1000, 20)), b)
    with pytest.raises(ValueError, match="number of classes"):
        make().fit(A, da.zeros(4000, chunks=1000))
    empty = da.from_array(sp.csr_matrix((0, 3)).toarray(), chunks=(10, 3))
    with pytest.raises(ValueError, match="X has no rows"):
        make().fit(empty, da.zeros(0, chunks=10))
