"""Coefficients equal scikit-learn's: shuffle=False, tol=None, one worker.

Each test loops over a product of settings: thousands of small fits, a few dozen tests.
"""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from _common import (
    CLASSIFICATION_LOSSES,
    CLASSIFIERS,
    ESTIMATORS,
    PENALTIES,
    REGRESSION_LOSSES,
    SCHEDULES,
    SKLEARN_HAS_PA,
    HogwildClassifier,
    HogwildRegressor,
    ParallelSGDClassifier,
    ParallelSGDRegressor,
    is_clf,
    product_dicts,
    schedules_for,
    sgd_rate,
    small_problem,
)
from sklearn.base import clone
from sklearn.linear_model import SGDClassifier, SGDRegressor

COMMON = dict(shuffle=False, tol=None, alpha=0.01, eta0=0.02, l1_ratio=0.3, random_state=0)
LAYOUTS = {"dense": np.asarray, "csr": sp.csr_matrix}
AVERAGES = [False, True, 10]


def pair(cls, **params):
    """Our estimator and scikit-learn's, of the same parameters."""
    params = COMMON | dict(max_iter=3) | sgd_rate(cls) | params
    theirs = (SGDClassifier if is_clf(cls) else SGDRegressor)(**params)
    if theirs.learning_rate == "optimal" and theirs.loss.startswith("squared_e"):
        # "optimal" knows no curvature: with a small alpha its first steps multiply these losses
        # until rounding decides the result.
        theirs.set_params(alpha=max(theirs.alpha, 0.3))
    ours = cls(n_jobs=1, **params)
    return ours.set_params(alpha=theirs.alpha), theirs


def outcome(fit, *args, **kwargs):
    """The fitted estimator, or the ValueError that it raised."""
    try:
        with warnings.catch_warnings():
            # scikit-learn's own sums overflow in numpy where it then raises ValueError.
            warnings.simplefilter("ignore", RuntimeWarning)
            return fit(*args, **kwargs)
    except ValueError as error:
        return error


def assert_same(ours, theirs, rtol=1e-6, message=""):
    if isinstance(theirs, ValueError):
        assert isinstance(ours, ValueError), f"scikit-learn raised {theirs}; {message}"
        return
    assert not isinstance(ours, ValueError), f"{ours!r}; {message}"
    for name in ("coef_", "intercept_"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert a.shape == b.shape and a.dtype == b.dtype, f"{name}: {a!r}, {b!r}; {message}"
        # atol: a coefficient that cancels to nearly zero has no digits to compare.
        atol = rtol * 1e-3 * np.abs(b).max()
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=f"{name}; {message}")
    assert ours.t_ == theirs.t_, message
    assert ours.n_iter_ == theirs.n_iter_, message


def check_product(cls, fixed, **values):
    task = "binary" if is_clf(cls) else "regression"
    X, y = small_problem(task)
    data = {name: convert(X) for name, convert in LAYOUTS.items()}
    weights = np.random.default_rng(1).uniform(0.2, 2, len(y))
    for params in product_dicts(**values):
        layout, weighted = params.pop("layout"), params.pop("weighted")
        sample_weight = weights if "sample" in weighted else None
        if "class" in weighted:
            params["class_weight"] = {"yes": 2.0, "no": 0.3}
        ours, theirs = pair(cls, **fixed, **params)
        assert_same(
            outcome(ours.fit, data[layout], y, sample_weight=sample_weight),
            outcome(theirs.fit, data[layout], y, sample_weight=sample_weight),
            message=f"{theirs!r}, {layout}, weighted: {weighted}",
        )


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("loss", CLASSIFICATION_LOSSES)
def test_classifier_full_product(loss, penalty):
    check_product(
        HogwildClassifier,
        dict(loss=loss, penalty=penalty),
        learning_rate=schedules_for(loss, True),
        average=AVERAGES,
        layout=LAYOUTS,
        weighted=["", "sample", "class", "sample, class"],
    )


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("loss", REGRESSION_LOSSES)
def test_regressor_full_product(loss, penalty):
    check_product(
        HogwildRegressor,
        dict(loss=loss, penalty=penalty),
        learning_rate=schedules_for(loss, False),
        average=AVERAGES,
        layout=LAYOUTS,
        weighted=["", "sample"],
    )


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("cls", [ParallelSGDClassifier, ParallelSGDRegressor])
def test_data_parallel_product(cls, fit_intercept):
    for loss in CLASSIFICATION_LOSSES if is_clf(cls) else REGRESSION_LOSSES:
        check_product(
            cls,
            dict(loss=loss, fit_intercept=fit_intercept),
            penalty=PENALTIES,
            learning_rate=schedules_for(loss, is_clf(cls)),
            average=[False, 10],
            layout=LAYOUTS,
            weighted=["sample, class" if is_clf(cls) else "sample"],
        )


@pytest.mark.parametrize("cls", [HogwildClassifier, HogwildRegressor])
def test_without_intercept(cls):
    for loss in CLASSIFICATION_LOSSES if is_clf(cls) else REGRESSION_LOSSES:
        check_product(
            cls,
            dict(loss=loss, fit_intercept=False),
            penalty=PENALTIES,
            learning_rate=SCHEDULES,
            average=[True],
            layout=LAYOUTS,
            weighted=[""],
        )


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_other_parameters(cls):
    for params in (
        dict(power_t=0.25),
        dict(learning_rate="invscaling", power_t=0.1),
        dict(learning_rate="optimal", alpha=1.0),
        dict(learning_rate="constant", alpha=0.0),
        dict(learning_rate="constant", alpha=30.0),
        dict(penalty="elasticnet", l1_ratio=0.0),
        dict(penalty="elasticnet", l1_ratio=1.0),
        *([dict(penalty="l1", l1_ratio=None)] if SKLEARN_HAS_PA else []),
        dict(average=60),
        dict(average=61),
        dict(average=75),
        dict(average=1000),
        dict(loss="huber", epsilon=1.5),
        dict(loss="epsilon_insensitive", epsilon=0.0),
        dict(max_iter=1),
        dict(max_iter=50),
    ):
        check_product(cls, params, layout=LAYOUTS, weighted=["", "sample"])


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_multiclass(cls, penalty):
    X, y = small_problem("multiclass")
    for params in product_dicts(
        loss=["hinge", "log_loss", "squared_error"],
        learning_rate=SCHEDULES,
        average=AVERAGES,
        class_weight=[None, "balanced", {4: 3.0}],
    ):
        for convert in LAYOUTS.values():
            ours, theirs = pair(cls, penalty=penalty, **params)
            weight = np.random.default_rng(2).uniform(0.2, 2, len(y))
            assert_same(
                ours.fit(convert(X), y, sample_weight=weight),
                theirs.fit(convert(X), y, sample_weight=weight),
                message=repr(theirs),
            )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_partial_fit_sequence(cls, task, layout):
    """Chunks of several sizes, then weights, a fit, and partial_fit again."""
    if is_clf(cls) != (task != "regression"):
        pytest.skip("another task")
    X, y = small_problem(task)
    X, classes = LAYOUTS[layout](X), {"classes": np.unique(y)} if is_clf(cls) else {}
    for params in product_dicts(
        penalty=PENALTIES, learning_rate=SCHEDULES, average=[False, True, 10, 40]
    ):
        if is_clf(cls) and params["average"]:
            # scikit-learn's classifiers forget the plain intercept between two averaged calls
            # (test_sgd_api.py has the definition, which ours follow).
            params["fit_intercept"] = False
        ours, theirs = pair(cls, **params)
        for start, stop in ((0, 5), (5, 6), (6, 40), (40, 60), (0, 60)):
            for est in (ours, theirs):
                est.partial_fit(X[start:stop], y[start:stop], **classes)
            assert_same(ours, theirs, message=f"{theirs!r} after row {stop}")
        for est in (ours, theirs):
            est.partial_fit(X, y, sample_weight=np.linspace(0.1, 2, len(y)))
        assert_same(ours, theirs, message=repr(theirs))
        for est in (ours, theirs):
            est.fit(X, y)
            est.partial_fit(X[:30], y[:30])
        assert_same(ours, theirs, message=f"{theirs!r} after fit and partial_fit")


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_warm_start(cls, task):
    if is_clf(cls) != (task != "regression"):
        pytest.skip("another task")
    X, y = small_problem(task)
    # scikit-learn's regressor goes on with the old average and counts it as one row.
    averages = AVERAGES if is_clf(cls) else [False]
    for params in product_dicts(penalty=["l2", "l1"], learning_rate=SCHEDULES, average=averages):
        for convert in LAYOUTS.values():
            ours, theirs = pair(cls, warm_start=True, **params)
            for factor in (1, 0.5):
                for est in (ours, theirs):
                    est.set_params(alpha=factor * est.alpha).fit(convert(X), y)
                assert_same(ours, theirs, message=repr(theirs))


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_initial_values(cls, task):
    if is_clf(cls) != (task != "regression"):
        pytest.skip("another task")
    X, y = small_problem(task)
    k, rng = {"binary": 1, "multiclass": 3, "regression": 1}[task], np.random.default_rng(3)
    coef = rng.normal(size=(k, X.shape[1]))
    coef, intercept = (coef.ravel() if task == "regression" else coef), rng.normal(size=k)
    before = coef.copy(), intercept.copy()
    for params in product_dicts(penalty=["l2", "l1"], learning_rate=SCHEDULES, average=AVERAGES):
        ours, theirs = pair(cls, **params)
        ours.fit(X, y, coef_init=coef, intercept_init=intercept)
        theirs.fit(X, y, coef_init=coef.copy(), intercept_init=intercept.copy())
        assert_same(ours, theirs, message=repr(theirs))
        # Ours leaves the caller's arrays alone (scikit-learn trains in them).
        np.testing.assert_array_equal(coef, before[0])
        np.testing.assert_array_equal(intercept, before[1])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_float32(cls, layout):
    """float32 data stay float32; the sums are rounded in another order, hence the tolerance."""
    X, y = small_problem("binary" if is_clf(cls) else "regression")
    X = LAYOUTS[layout](X.astype(np.float32))
    if not is_clf(cls):
        y = y.astype(np.float32)
    smooth = ["log_loss", "modified_huber", "squared_hinge"] if is_clf(cls) else []
    for params in product_dicts(
        loss=[*smooth, "squared_error", "squared_epsilon_insensitive"],
        penalty=["l2", "l1", None],
        learning_rate=["constant", "invscaling"],
        average=[False, True, 10],
    ):
        ours, theirs = pair(cls, **params)
        ours.fit(X, y)
        assert ours.coef_.dtype == np.float32
        assert ours.intercept_.dtype == np.float32
        assert_close_f32(ours, theirs.fit(X, y), repr(theirs))


def assert_close_f32(ours, theirs, message):
    for name in ("coef_", "intercept_"):
        a, b = getattr(ours, name), getattr(theirs, name)
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max(), rtol=0, err_msg=message)


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_index_width_does_not_matter(cls):
    X, y = small_problem("binary" if is_clf(cls) else "regression")
    narrow, wide = sp.csr_matrix(X), sp.csr_matrix(X)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    narrow.indices, narrow.indptr = (a.astype(np.int32) for a in (narrow.indices, narrow.indptr))
    est = pair(cls)[0]
    a, b = clone(est).fit(narrow, y), clone(est).fit(wide, y)
    np.testing.assert_array_equal(a.coef_, b.coef_)
    np.testing.assert_array_equal(a.predict(narrow), b.predict(wide))


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_layouts_that_are_converted(cls):
    """Fortran order, strided rows, CSC, COO, sparse arrays, unsorted and repeated indices."""
    X, y = small_problem("binary" if is_clf(cls) else "regression")
    est = pair(cls)[0]
    dense = clone(est).fit(X, y).coef_
    for other in (np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2], X.tolist()):
        np.testing.assert_allclose(clone(est).fit(other, y).coef_, dense, rtol=1e-12)
    sparse = clone(est).fit(sp.csr_matrix(X), y).coef_
    reverse = sp.csr_matrix(X)
    for i in range(X.shape[0]):
        row = slice(reverse.indptr[i], reverse.indptr[i + 1])
        reverse.indices[row], reverse.data[row] = (
            reverse.indices[row][::-1].copy(),
            reverse.data[row][::-1].copy(),
        )
    reverse.has_sorted_indices = False
    for other in (sp.csc_matrix(X), sp.coo_matrix(X), sp.csr_array(X), sp.coo_array(X), reverse):
        np.testing.assert_allclose(clone(est).fit(other, y).coef_, sparse, rtol=1e-9)


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_early_stopping_splits_as_sklearn(cls):
    """One epoch, so that the best weights are the last: the same rows are held out."""
    for task in ["binary", "multiclass"] if is_clf(cls) else ["regression"]:
        X, y = small_problem(task)
        for convert in LAYOUTS.values():
            ours, theirs = pair(cls, early_stopping=True, validation_fraction=0.3, max_iter=1)
            assert_same(ours.fit(convert(X), y), theirs.fit(convert(X), y))
