"""Workers: the same result, no deadlock, and as good an objective as one worker reaches."""

import copy
import io
import pickle
import threading
import warnings

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from _common import (
    CLASSIFIERS,
    ESTIMATORS,
    REGRESSORS,
    SHARED_DATA,
    HogwildClassifier,
    HogwildRegressor,
    ParallelSGDClassifier,
    ParallelSGDRegressor,
    is_clf,
    large_problem,
    objective,
    sgd_rate,
    small_problem,
    workers,
)
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits

import skpar._lockfree as lockfree
import skpar._schemes as schemes

pytestmark = pytest.mark.timeout(240)
DATA_PARALLEL = [ParallelSGDClassifier, ParallelSGDRegressor]
HOGWILD = [HogwildClassifier, HogwildRegressor]
layouts = pytest.mark.parametrize("layout", ["dense", "sparse"])
every = pytest.mark.parametrize("cls", ESTIMATORS)


def task_of(cls):
    return "binary" if is_clf(cls) else "regression"


def make(cls, **params):
    params = dict(random_state=0, tol=None, max_iter=3) | sgd_rate(cls) | params
    if params.get("n_jobs") == 2:
        params = workers(cls, 2) | params
    if is_clf(cls):
        params = dict(loss="log_loss") | params
    return cls(**params)


def fit_with(est, X, y, n_jobs, backend=None):
    est = clone(est).set_params(n_jobs=n_jobs)
    if backend is None:
        return est.fit(X, y)
    with joblib.parallel_config(backend):
        return est.fit(X, y)


def assert_same_bits(a, b):
    np.testing.assert_array_equal(a.coef_, b.coef_)
    np.testing.assert_array_equal(a.intercept_, b.intercept_)
    np.testing.assert_array_equal(a.history_["objective"], b.history_["objective"])


# How many workers.
@every
@layouts
def test_number_of_workers(cls, layout):
    X, y = large_problem(task_of(cls), layout, n=90_000)
    est = make(cls, max_iter=1)
    assert fit_with(est, X, y, 2).n_workers_ == 2
    assert fit_with(est, X, y, 1).n_workers_ == 1
    assert fit_with(est, X, y, None).n_workers_ == 1
    with joblib.parallel_config("threading", n_jobs=2):
        assert fit_with(est, X, y, None).n_workers_ == 2
    small = small_problem(task_of(cls))
    assert fit_with(est, *small, 2).n_workers_ == 1


@every
def test_small_data_give_the_same_bits_for_any_n_jobs(cls):
    X, y = small_problem(task_of(cls))
    one = make(cls, n_jobs=1).fit(X, y)
    for n_jobs in (None, 2, 4, -1):
        assert_same_bits(one, fit_with(make(cls), X, y, n_jobs))


@every
def test_n_jobs_zero(cls):
    with pytest.raises(ValueError, match="n_jobs"):
        fit_with(make(cls), *small_problem(task_of(cls)), 0)


@every
def test_workers_are_gone_after_a_fit(cls):
    X, y = large_problem(task_of(cls))
    before = set(threading.enumerate())
    make(cls, n_jobs=2).fit(X, y)
    assert set(threading.enumerate()) <= before


# Determinism.
@pytest.mark.parametrize("average", [False, True, 5000])
@layouts
@pytest.mark.parametrize("cls", DATA_PARALLEL)
def test_shards_determine_the_result(cls, layout, average):
    """The same bits for a number of shards, whatever runs them."""
    X, y = large_problem(task_of(cls), layout)
    for params in (dict(), dict(penalty="elasticnet"), dict(shuffle=False), dict(n_shards=3)):
        est = make(cls, average=average, **(dict(n_shards=2) | params))
        first = fit_with(est, X, y, 1)
        for n_jobs in (2, 4):
            for backend in (None, "threading"):
                assert_same_bits(first, fit_with(est, X, y, n_jobs, backend))
        assert first.scheme_ == "model-averaging"


@layouts
@pytest.mark.parametrize("cls", DATA_PARALLEL)
def test_shards_determine_the_result_in_processes(cls, layout):
    X, y = large_problem(task_of(cls), layout)
    est = make(cls, average=True, n_shards=2)
    assert_same_bits(fit_with(est, X, y, 1), fit_with(est, X, y, 2, "loky"))


@pytest.mark.parametrize("cls", DATA_PARALLEL)
def test_shards_multiclass_and_early_stopping(cls):
    X, y = large_problem("multiclass" if is_clf(cls) else "regression")
    est = make(cls, n_shards=2, early_stopping=True, max_iter=4)
    first = fit_with(est, X, y, 1)
    for backend in ("threading", "loky"):
        assert_same_bits(first, fit_with(est, X, y, 2, backend))


@pytest.mark.parametrize("cls", DATA_PARALLEL)
def test_shards_on_tiny_data(cls):
    """More shards than rows: no empty shard, no error."""
    X, y = small_problem(task_of(cls))
    est = make(cls, n_shards=1000)
    assert_same_bits(fit_with(est, X, y, 1), fit_with(est, X, y, 2))


@pytest.mark.parametrize("cls", DATA_PARALLEL)
def test_shards_partial_fit(cls):
    X, y = large_problem(task_of(cls))
    classes = {"classes": np.unique(y)} if is_clf(cls) else {}
    models = []
    for n_jobs in (1, 2):
        est = make(cls, n_shards=2, n_jobs=n_jobs, average=True)
        for _ in range(3):
            est.partial_fit(X, y, **classes)
        models.append(est)
    assert_same_bits(*models)
    assert models[0].t_ == 1 + 3 * len(y)


@layouts
@pytest.mark.parametrize("cls", HOGWILD)
def test_one_worker_is_deterministic(cls, layout):
    X, y = large_problem(task_of(cls), layout)
    for scheme in ("lock-free", "locked"):
        a, b = (make(cls, n_jobs=1, scheme=scheme).fit(X, y) for _ in range(2))
        assert_same_bits(a, b)
        assert a.n_workers_ == 1


@pytest.mark.parametrize("cls", HOGWILD)
def test_lock_free_under_a_process_backend(cls):
    """It runs on threads, which share memory, and says so at most once."""
    X, y = large_problem(task_of(cls))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            est = fit_with(make(cls), X, y, 2, "loky")
    assert est.n_workers_ == 2
    assert len([w for w in caught if "threads" in str(w.message)]) <= 1


# As good an objective as one worker's. One-sided: better is no fault. The settings bring one
# worker close to the optimum (its average begins after five epochs); far from it two objectives
# say only how far two paths have come.
SETTINGS = {
    "binary": dict(loss="log_loss", alpha=1e-3, average=60_000),
    "multiclass": dict(loss="log_loss", alpha=1e-3, average=60_000),
    "regression": dict(alpha=1e-2, average=60_000, learning_rate="invscaling", eta0=0.05),
}
VARIANTS = [
    (ParallelSGDClassifier, dict()),
    (HogwildClassifier, dict()),
    (HogwildClassifier, dict(merge_every=1)),
    (HogwildClassifier, dict(merge_every=64)),
    (HogwildClassifier, dict(scheme="locked")),
    (HogwildClassifier, dict(scheme="locked", merge_every=1)),
]
REGRESSION = {
    ParallelSGDClassifier: ParallelSGDRegressor,
    HogwildClassifier: HogwildRegressor,
}


def assert_two_reach_what_one_reaches(cls, X, y, workers=2, **params):
    one = make(cls, n_jobs=1, **{k: v for k, v in params.items() if k != "n_shards"}).fit(X, y)
    two = make(cls, n_jobs=2, **params).fit(X, y)
    assert two.n_workers_ == workers
    a, b = objective(one, X, y), objective(two, X, y)
    np.testing.assert_allclose(np.sum(one.history_["objective"][-1]) * len(one.intercept_), a)
    assert b <= 1.001 * a, f"one worker {a:.6g}, two {b:.6g}: {b / a - 1:+.3%}"


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@layouts
@pytest.mark.parametrize(("cls", "params"), VARIANTS)
def test_two_workers_on_synthetic_data(cls, params, layout, task):
    X, y = large_problem(task, layout)
    cls = REGRESSION[cls] if task == "regression" else cls
    assert_two_reach_what_one_reaches(cls, X, y, **SETTINGS[task], **params, max_iter=30)


@pytest.mark.parametrize("penalty", ["l1", "elasticnet", None])
@layouts
@pytest.mark.parametrize(("cls", "params"), VARIANTS)
def test_two_workers_with_other_penalties(cls, params, layout, penalty):
    """Without average: scikit-learn's average, which one worker follows, knows no l1 steps."""
    if penalty is None and layout == "sparse":
        pytest.skip("without a penalty the rare columns move for ever")
    X, y = large_problem("binary", layout)
    settings = dict(penalty=penalty, alpha=3e-3, loss="log_loss", max_iter=100)
    assert_two_reach_what_one_reaches(cls, X, y, **settings, **params)


@pytest.mark.parametrize(
    ("loss", "cls"),
    [
        ("hinge", HogwildClassifier),
        ("squared_hinge", HogwildClassifier),
        ("modified_huber", HogwildClassifier),
        ("hinge", ParallelSGDClassifier),
        ("huber", HogwildRegressor),
        ("epsilon_insensitive", HogwildRegressor),
        ("squared_epsilon_insensitive", HogwildRegressor),
        ("huber", ParallelSGDRegressor),
    ],
)
@layouts
def test_two_workers_with_other_losses(loss, cls, layout):
    X, y = large_problem(task_of(cls), layout)
    settings = SETTINGS[task_of(cls)] | dict(loss=loss, alpha=1e-2, max_iter=40)
    if loss in ("squared_hinge", "modified_huber"):
        # "optimal" knows no curvature: its first steps would multiply these losses.
        eta0 = 0.2 if layout == "sparse" else 0.02
        settings |= dict(learning_rate="invscaling", eta0=eta0)
    assert_two_reach_what_one_reaches(cls, X, y, **settings)


@layouts
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_two_workers_in_float32(cls, layout):
    X, y = large_problem(task_of(cls), layout)
    settings = SETTINGS[task_of(cls)] | dict(max_iter=20)
    est = make(cls, n_jobs=2, **settings).fit(X.astype(np.float32), y)
    assert est.coef_.dtype == np.float32
    wide = make(cls, n_jobs=2, **settings).fit(X, y)
    assert objective(est, X, y) <= 1.001 * objective(wide, X, y)


@pytest.mark.parametrize("cls", HOGWILD)
def test_two_workers_with_wide_indices(cls):
    X, y = large_problem(task_of(cls), "sparse")
    wide = X.copy()
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    for merge_every in ("auto", 1):
        settings = SETTINGS[task_of(cls)] | dict(max_iter=20, merge_every=merge_every)
        a, b = (make(cls, n_jobs=2, **settings).fit(A, y) for A in (X, wide))
        np.testing.assert_allclose(objective(a, X, y), objective(b, X, y), rtol=1e-3)


@every
@layouts
def test_two_workers_with_weights(cls, layout):
    X, y = large_problem(task_of(cls), layout)
    weight = np.random.default_rng(0).uniform(0.1, 3, len(y))
    settings = SETTINGS[task_of(cls)] | dict(max_iter=30)
    one, two = (make(cls, n_jobs=n, **settings).fit(X, y, sample_weight=weight) for n in (1, 2))
    assert objective(two, X, y, weight) <= 1.001 * objective(one, X, y, weight)


@every
def test_two_workers_early_stopping_and_tol(cls):
    X, y = large_problem(task_of(cls))
    settings = dict(tol=1e-4, max_iter=200, early_stopping=True) | SETTINGS[task_of(cls)]
    one, two = (make(cls, n_jobs=n, **(settings | dict(tol=1e-4))).fit(X, y) for n in (1, 2))
    assert two.n_workers_ == 2
    assert two.n_iter_ < 200
    assert two.score(X, y) >= one.score(X, y) - 0.01


@every
def test_two_workers_warm_start_and_partial_fit(cls):
    """Each call goes on from the last: the objective falls and the count grows."""
    X, y = large_problem(task_of(cls))
    settings = SETTINGS[task_of(cls)] | dict(n_jobs=2)
    classes = {"classes": np.unique(y)} if is_clf(cls) else {}
    est, values = make(cls, **settings), []
    # Six calls: the average begins in the last, and is free of the last iterate's noise.
    for _ in range(6):
        values.append(objective(est.partial_fit(X, y, **classes), X, y))
    assert values[-1] < values[0]
    assert est.t_ == 1 + 6 * len(y)
    warm = make(cls, warm_start=True, **settings).set_params(max_iter=20).fit(X, y)
    first = objective(warm, X, y)
    assert objective(warm.fit(X, y), X, y) <= first * 1.001


REAL = {
    "a9a": dict(),
    "news20": dict(alpha=1e-4),
    "news20_binary": dict(alpha=1e-4, max_iter=60),
    "amazon_reviews": dict(alpha=1e-4, max_iter=60),
    "ijcnn1": dict(),
    # Rows of norms up to 780: the first steps of "optimal" leave one worker anywhere.
    "kdd99": dict(alpha=1e-2, max_iter=20, learning_rate="constant", eta0=1e-4),
    "covtype20k": dict(alpha=1e-2, max_iter=60),
    "mnist": dict(alpha=1e-2, max_iter=40),
    "cal_housing": dict(eta0=0.01),
    "diamonds": dict(eta0=0.01, max_iter=60),
}


def some_of(name, data):
    """Three of many classes, and a part of the largest set: what is tested does not need more."""
    X, y = data["X"], data["y"]
    rows = np.flatnonzero(y <= np.unique(y)[2]) if name in ("mnist", "news20") else slice(None)
    if name == "kdd99":
        rows = slice(None, None, 4)
    return dict(data, X=X[rows], y=y[rows])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="no real data sets beside this checkout")
@pytest.mark.parametrize(
    ("family", "params"),
    [
        ("data-parallel", {}),
        ("data-parallel", {"scheme": "gradient-averaging"}),
        ("lock-free", {}),
        ("lock-free", {"merge_every": 1}),
    ],
    ids=["data-parallel", "gradients", "lock-free", "classic"],
)
@pytest.mark.parametrize("name", REAL)
def test_two_workers_on_real_data(name, family, params, shared_data):
    data = shared_data(name)
    if "scheme" in params:  # the slowest, by far
        data = some_of(name, data)
    if "merge_every" in params and not sp.issparse(data["X"]):
        pytest.skip("rows are written one by one where they are sparse")
    classes = REGRESSORS if data["task"] == "regression" else CLASSIFIERS
    cls = classes[0 if family == "data-parallel" else 1]
    settings = SETTINGS[data["task"]] | dict(max_iter=20, average=5 * len(data["y"]))
    settings |= REAL[name] | params
    if "scheme" in params:
        # 32 steps an epoch, or a few more: the same optimum, later.
        settings["max_iter"] *= 4
    # On few rows over many columns a second lock-free worker would not pay.
    few = family == "lock-free" and name in ("news20_binary", "amazon_reviews")
    workers = 1 if few and "merge_every" not in params else 2
    assert_two_reach_what_one_reaches(cls, data["X"], data["y"], workers=workers, **settings)


# Inside other tools.
@pytest.mark.parametrize("cls", DATA_PARALLEL)
def test_grid_search_in_a_pipeline(cls):
    """Two workers in each of two: the result of one in one."""
    X, y = large_problem(task_of(cls))
    name = cls.__name__.lower()
    grid = {f"{name}__alpha": [1e-4, 1e-2]}
    results = []
    for outer, inner in ((1, 1), (2, 1), (1, 2), (2, 2)):
        pipeline = make_pipeline(StandardScaler(), make(cls, n_jobs=inner, n_shards=2))
        search = GridSearchCV(pipeline, grid, n_jobs=outer, cv=KFold(2)).fit(X, y)
        results.append(search)
    for search in results[1:]:
        for key in ("split0_test_score", "split1_test_score"):
            np.testing.assert_array_equal(search.cv_results_[key], results[0].cv_results_[key])
        np.testing.assert_array_equal(
            search.best_estimator_[-1].coef_, results[0].best_estimator_[-1].coef_
        )


@every
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_cross_val_score_with_inner_workers(cls, backend):
    X, y = large_problem(task_of(cls))
    settings = SETTINGS[task_of(cls)] | dict(average=20_000, max_iter=20)
    pipeline = make_pipeline(StandardScaler(), make(cls, n_jobs=2, **settings))
    with joblib.parallel_config(backend), warnings.catch_warnings():
        # joblib's word on a backend without shared memory, at most once a process.
        warnings.filterwarnings("ignore", "lock-free training needs shared memory")
        nested = cross_val_score(pipeline, X, y, n_jobs=2, cv=KFold(3))
    plain = cross_val_score(pipeline, X, y, n_jobs=1, cv=KFold(3))
    np.testing.assert_allclose(nested, plain, atol=0.01)


def test_three_levels_of_parallel_calls():
    """Nested calls that joblib makes sequential must not wait for each other."""
    X, y = large_problem("binary")
    est = make(ParallelSGDClassifier, n_jobs=2, n_shards=2, max_iter=1)
    expected = clone(est).fit(X, y).coef_

    def inner():
        return joblib.Parallel(n_jobs=2, backend="threading")(
            joblib.delayed(lambda: clone(est).fit(X, y).coef_)() for _ in range(2)
        )

    outer = joblib.Parallel(n_jobs=2, backend="threading")(
        joblib.delayed(inner)() for _ in range(2)
    )
    for coef in (c for part in outer for c in part):
        np.testing.assert_array_equal(coef, expected)


def test_fits_in_many_threads():
    """Estimators in threads of the user's do not disturb each other."""
    X, y = large_problem("binary")
    est = make(ParallelSGDClassifier, n_jobs=2, n_shards=2)
    expected = clone(est).fit(X, y).coef_
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(clone(est).fit(X, y).coef_))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for coef in results:
        np.testing.assert_array_equal(coef, expected)


def blas_threads():
    return [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]


@pytest.mark.parametrize(("cls", "name"), [(HOGWILD[0], "run_shared"), (DATA_PARALLEL[0], "run")])
def test_blas_threads_inside_a_worker(cls, name, monkeypatch):
    """One in each worker, as many as before afterwards."""
    X, y = large_problem("binary")
    room = lockfree if name == "run_shared" else schemes
    original, seen = getattr(room, name), []

    def spy(*args):
        seen.append((threading.current_thread(), blas_threads()))
        return original(*args)

    monkeypatch.setattr(room, name, spy)
    with threadpool_limits(2, "blas"):
        before = blas_threads()
        if not before or set(before) != {2}:
            pytest.skip("no BLAS here whose threads can be set")
        make(cls, n_jobs=2).fit(X, y)
        assert blas_threads() == before
    assert len({thread for thread, _ in seen}) == 2
    assert all(set(threads) == {1} for _, threads in seen)


# Copies.
@every
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_copies(cls, n_jobs, tmp_path):
    X, y = large_problem(task_of(cls))
    for average in (False, True):
        unfitted = make(cls, n_jobs=n_jobs, average=average, alpha=0.002)
        fitted = clone(unfitted).fit(X, y)

        def through_joblib(est):
            path = tmp_path / "model.joblib"
            joblib.dump(est, path)
            return joblib.load(path)

        def through_pickle(est):
            return pickle.load(io.BytesIO(pickle.dumps(est)))

        for copied in (copy.deepcopy, through_pickle, through_joblib):
            assert copied(unfitted).get_params() == unfitted.get_params()
            assert not hasattr(copied(unfitted), "coef_")
            other = copied(fitted)
            assert_same_bits(other, fitted)
            np.testing.assert_array_equal(other.predict(X), fitted.predict(X))
            # It is a copy, and it trains on.
            other.partial_fit(X, y)
            assert other.t_ == fitted.t_ + len(y)
            assert np.any(other.coef_ != fitted.coef_)
        assert clone(fitted).get_params() == unfitted.get_params()
        assert not hasattr(clone(fitted), "coef_")
