"""The behaviour that users of SGDClassifier and SGDRegressor know.

The specification is scikit-learn's own sklearn/linear_model/tests/test_sgd.py; the names here
follow it where one test stands for one there.
"""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from _common import (
    CLASSIFICATION_LOSSES,
    CLASSIFIERS,
    ESTIMATORS,
    REGRESSION_LOSSES,
    REGRESSORS,
    SCHEDULES,
    SKLEARN_HAS_PA,
    is_clf,
    sgd_rate,
)
from sklearn.base import clone
from sklearn.datasets import load_iris, make_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import ElasticNet, SGDClassifier, SGDRegressor
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils import compute_class_weight, get_tags

X = np.array([[-2.0, -1], [-1, -1], [-1, -2], [1, 1], [1, 2], [2, 1]])
Y = np.array([1, 1, 1, 2, 2, 2])
T, TRUE = np.array([[-1.0, -1], [2, 2], [3, 2]]), [1, 2, 2]

X3CLASS = np.array(
    [
        [-1, 1],
        [-0.75, 0.5],
        [-1.5, 1.5],
        [1, 1],
        [0.75, 0.5],
        [1.5, 1.5],
        [-1, -1],
        [0, -0.5],
        [1, -1],
    ]
)
Y3CLASS = np.repeat(["one", "two", "three"], 3)
T3CLASS, TRUE3CLASS = np.array([[-1.5, 0.5], [1, 2], [0, -2]]), ["one", "two", "three"]

# Two groups of nearly redundant features.
X_GROUPS = np.array(
    [
        [1, 0.9, 0.8, 0, 0, 0],
        [1, 0.84, 0.98, 0, 0, 0],
        [1, 0.96, 0.88, 0, 0, 0],
        [1, 0.91, 0.99, 0, 0, 0],
        [0, 0, 0, 0.89, 0.91, 1],
        [0, 0, 0, 0.79, 0.84, 1],
        [0, 0, 0, 0.91, 0.95, 1],
        [0, 0, 0, 0.93, 1, 1],
    ]
)
Y_GROUPS = np.array([1, 1, 1, 1, 2, 2, 2, 2])
IRIS = load_iris()

every = pytest.mark.parametrize("cls", ESTIMATORS)
classifier = pytest.mark.parametrize("cls", CLASSIFIERS)
regressor = pytest.mark.parametrize("cls", REGRESSORS)
layouts = pytest.mark.parametrize("fmt", [np.asarray, sp.csr_array], ids=["dense", "csr"])


def make(cls, **params):
    return cls(**(dict(random_state=42, tol=None, max_iter=5) | sgd_rate(cls) | params))


def averaged_sgd(X, y, eta, alpha, decay=1.0):
    """Averaged SGD on the squared error, written as it is printed."""
    w, b, ws, bs = np.zeros(X.shape[1]), 0.0, [], []
    for x, target in zip(X, y, strict=True):
        gradient = x @ w + b - target
        w = (1 - eta * alpha) * w - eta * gradient * x
        b -= eta * gradient * decay
        ws.append(w)
        bs.append(b)
    return np.mean(ws, axis=0), np.mean(bs)


# Parameters.
@every
def test_parameters_are_sklearns(cls):
    """Every parameter of the newest scikit-learn, same default but one; ours come beside them."""
    assert cls().learning_rate == "auto"
    ours = cls(**sgd_rate(cls)).get_params()
    theirs = (SGDClassifier if is_clf(cls) else SGDRegressor)().get_params()
    if SKLEARN_HAS_PA:
        assert theirs.items() <= ours.items()
    else:
        # eta0's default was 0.0 for classifiers before 1.8.
        assert {k: v for k, v in theirs.items() if k != "eta0"}.items() <= ours.items()
    more = {"n_jobs", "scheme", "n_shards", "merge_every", "batch_size", "inner_n_jobs"}
    more |= {"multi_class", "power", "quantile", "split"}
    assert ours.keys() - theirs.keys() <= more


@every
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss", "no such loss"),
        ("penalty", "l3"),
        ("alpha", -1.0),
        ("l1_ratio", 1.5),
        ("max_iter", 0),
        ("tol", -1.0),
        ("shuffle", "yes please"),
        ("epsilon", -0.1),
        ("learning_rate", "fast"),
        ("eta0", 0.0),
        ("validation_fraction", 1.0),
        ("n_iter_no_change", 0),
        ("average", -1),
        ("n_jobs", 1.5),
        ("scheme", "no such scheme"),
        ("scheme", None),
        ("merge_every", 0),
        ("merge_every", "sometimes"),
        ("n_shards", 0),
        ("n_shards", 1.5),
    ],
)
def test_invalid_parameter(cls, name, value):
    if name not in cls().get_params():
        pytest.skip("a parameter of the other family")
    with pytest.raises(ValueError, match=f"The '{name}' parameter of {cls.__name__} must be"):
        cls(**{name: value}).fit(X, Y)
    if is_clf(cls):
        with pytest.raises(ValueError, match=f"The '{name}' parameter of {cls.__name__} must be"):
            cls(**{name: value}).partial_fit(X, Y, classes=[1, 2])


@every
def test_alpha_zero_with_optimal(cls):
    with pytest.raises(ValueError, match="alpha must be > 0"):
        make(cls, alpha=0, learning_rate="optimal").fit(X, Y)
    assert np.isfinite(make(cls, alpha=0, learning_rate="constant").fit(X, Y).coef_).all()


@every
@pytest.mark.parametrize("rate", ["pa1", "pa2"])
def test_passive_aggressive_wants_its_loss(cls, rate):
    loss = "hinge" if is_clf(cls) else "epsilon_insensitive"
    for bad in ("squared_hinge", "log_loss") if is_clf(cls) else ("squared_error", "huber"):
        with pytest.raises(ValueError, match=f"only works with loss '{loss}'"):
            make(cls, loss=bad, learning_rate=rate).fit(X, Y)
    make(cls, loss=loss, learning_rate=rate).fit(X, Y)


@every
def test_elasticnet_wants_a_ratio(cls):
    with pytest.raises(ValueError, match="l1_ratio must be set when penalty is 'elasticnet'"):
        make(cls, penalty="elasticnet", l1_ratio=None).fit(X, Y)


@every
@pytest.mark.parametrize("l1_ratio", [0, 0.7, 1])
def test_l1_ratio_not_used(cls, l1_ratio):
    a = make(cls, penalty="l1", l1_ratio=None).fit(X, Y)
    b = make(cls, penalty="l1", l1_ratio=l1_ratio).fit(X, Y)
    np.testing.assert_array_equal(a.coef_, b.coef_)


@every
def test_l1_ratio_at_its_ends(cls):
    data, y = make_classification(n_samples=300, n_features=30, random_state=0)
    for ratio, penalty in ((0.9999999999, "l1"), (1e-10, "l2")):
        mixed = make(cls, penalty="elasticnet", l1_ratio=ratio, alpha=0.001).fit(data, y)
        pure = make(cls, penalty=penalty, alpha=0.001).fit(data, y)
        np.testing.assert_allclose(mixed.coef_, pure.coef_, atol=1e-6)


@every
def test_power_t_negative(cls):
    with pytest.warns(FutureWarning, match="Negative values for `power_t` are deprecated"):
        make(cls, power_t=-1.0, max_iter=1).fit(X, Y)


@every
def test_set_params_after_construction(cls):
    est = make(cls, loss="huber", epsilon=0.9).set_params(epsilon=0.1).fit(X, Y)
    np.testing.assert_array_equal(est.coef_, make(cls, loss="huber", epsilon=0.1).fit(X, Y).coef_)


@every
def test_verbose_prints(cls, capsys):
    make(cls, verbose=1, max_iter=2).fit(X, Y)
    assert capsys.readouterr().out.strip()
    make(cls, max_iter=2).fit(X, Y)
    assert not capsys.readouterr().out


# Input.
@every
@layouts
def test_wrong_targets(cls, fmt):
    if is_clf(cls):
        with pytest.raises(ValueError, match="y should be a 1d array"):
            make(cls).fit(fmt(X), np.c_[Y, Y])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        make(cls).fit(fmt(X), Y[:-1])


@classifier
@layouts
def test_at_least_two_labels(cls, fmt):
    with pytest.raises(ValueError, match="number of classes has to be greater than one"):
        make(cls).fit(fmt(X), np.ones(6))


@every
@layouts
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite(cls, fmt, bad):
    data = X.copy()
    data[2, 1] = bad
    with pytest.raises(ValueError, match="NaN|infinity"):
        make(cls).fit(fmt(data), Y)
    with pytest.raises(ValueError, match="NaN|infinity"):
        make(cls).fit(fmt(X), Y).predict(fmt(data))


@every
@layouts
def test_wrong_sample_weight(cls, fmt):
    with pytest.raises(ValueError, match="sample_weight"):
        make(cls).fit(fmt(X), Y, sample_weight=np.arange(7))


@every
@layouts
def test_wrong_initial_values(cls, fmt):
    for bad in (np.zeros(3), np.zeros((2, 2))):
        with pytest.raises(ValueError, match="coef_init does not match dataset"):
            make(cls).fit(fmt(X), Y, coef_init=bad)
    with pytest.raises(ValueError, match="intercept_init does not match dataset"):
        make(cls).fit(fmt(X), Y, intercept_init=np.zeros(3))
    # A scalar will do with one problem, and what another fit gave.
    make(cls).fit(fmt(X), Y, intercept_init=0)
    first = make(cls).fit(fmt(X), Y)
    make(cls).fit(fmt(X), Y, coef_init=first.coef_, intercept_init=first.intercept_)


@classifier
@layouts
def test_wrong_initial_values_multiclass(cls, fmt):
    with pytest.raises(ValueError, match="does not match dataset"):
        make(cls).fit(fmt(X3CLASS), Y3CLASS, coef_init=np.zeros((2, 2)))
    with pytest.raises(ValueError, match="does not match dataset"):
        make(cls).fit(fmt(X3CLASS), Y3CLASS, intercept_init=np.zeros((1,)))
    zeros = dict(coef_init=np.zeros((3, 2)), intercept_init=np.zeros(3))
    clf = make(cls, max_iter=20, alpha=0.01).fit(fmt(X3CLASS), Y3CLASS, **zeros)
    np.testing.assert_array_equal(clf.predict(fmt(T3CLASS)), TRUE3CLASS)


@every
def test_not_fitted(cls):
    with pytest.raises(NotFittedError):
        make(cls).predict(X)
    with pytest.raises(NotFittedError):
        make(cls).sparsify()


@every
@layouts
def test_number_of_features(cls, fmt):
    est = make(cls).fit(fmt(X), Y)
    assert est.n_features_in_ == 2
    with pytest.raises(ValueError, match="X has 1 features"):
        est.predict(fmt(X[:, :1]))
    with pytest.raises(ValueError, match="X has 1 features"):
        est.partial_fit(fmt(X[:, :1]), Y)


@every
def test_tags(cls):
    tags, theirs = get_tags(cls()), get_tags((SGDClassifier if is_clf(cls) else SGDRegressor)())
    assert tags.estimator_type == theirs.estimator_type
    assert tags.input_tags.sparse


# Fits.
@every
@layouts
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(cls, fmt, dtype):
    est = make(cls).fit(fmt(X.astype(dtype)), Y)
    assert est.coef_.dtype == dtype
    assert est.intercept_.dtype == dtype
    assert make(cls).fit(fmt(X.astype(np.int64)), Y).coef_.dtype == np.float64


@every
@layouts
def test_float32_near_float64(cls, fmt):
    a, b = (make(cls, max_iter=22, shuffle=False).fit(fmt(X.astype(t)), Y) for t in ("f8", "f4"))
    np.testing.assert_allclose(a.coef_, b.coef_, rtol=1e-4)


@classifier
@layouts
@pytest.mark.parametrize("loss", CLASSIFICATION_LOSSES)
def test_classifies(cls, fmt, loss):
    rate = dict(learning_rate="constant", eta0=0.05) if loss in REGRESSION_LOSSES else {}
    clf = make(cls, loss=loss, alpha=0.01, max_iter=10, **rate).fit(fmt(X), Y)
    np.testing.assert_array_equal(clf.predict(fmt(T)), TRUE)
    assert clf.coef_.shape == (1, 2)
    assert clf.intercept_.shape == (1,)
    assert clf.decision_function(fmt(T)).shape == (3,)
    np.testing.assert_array_equal(clf.classes_, [1, 2])
    np.testing.assert_allclose(clf.decision_function(fmt(T)), T @ clf.coef_[0] + clf.intercept_)


@classifier
@layouts
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_multiclass(cls, fmt, n_jobs):
    clf = make(cls, alpha=0.01, max_iter=20, n_jobs=n_jobs).fit(fmt(X3CLASS), Y3CLASS)
    assert clf.coef_.shape == (3, 2)
    assert clf.intercept_.shape == (3,)
    assert clf.decision_function(fmt(T3CLASS)).shape == (3, 3)
    np.testing.assert_array_equal(clf.predict(fmt(T3CLASS)), TRUE3CLASS)


@every
def test_clone_and_fit_again(cls):
    est = clone(make(cls, alpha=0.01, penalty="l1")).set_params(penalty="l2").fit(X, Y)
    fresh = make(cls, alpha=0.01, penalty="l2").fit(X, Y)
    np.testing.assert_array_equal(est.coef_, fresh.coef_)
    # Another shape, other labels.
    labels = np.where(Y == 1, "ham", "spam") if is_clf(cls) else Y
    est.fit(X[:, :1], labels)
    assert est.coef_.shape[-1] == 1
    assert est.n_features_in_ == 1
    if is_clf(cls):
        assert set(est.predict(X[:, :1])) <= {"ham", "spam"}


@every
def test_random_state(cls):
    data, y = make_classification(random_state=0)

    def fit(seed):
        return make(cls, random_state=seed, max_iter=1, tol=None).fit(data, y).coef_

    np.testing.assert_array_equal(fit(0), fit(0))
    assert np.abs(fit(0) - fit(1)).max() > 0
    np.testing.assert_array_equal(fit(np.random.RandomState(3)), fit(np.random.RandomState(3)))


@every
def test_shuffle_matters(cls):
    data, y = make_classification(random_state=0)
    a, b = (make(cls, shuffle=s, max_iter=1).fit(data, y).coef_ for s in (True, False))
    assert np.abs(a - b).max() > 0


@every
def test_does_not_write_its_input(cls):
    data, y, weights = X.copy(), Y.copy(), np.linspace(0.5, 1, len(Y))
    for array in (data, y, weights):
        array.flags.writeable = False
    make(cls, average=True).fit(data, y, sample_weight=weights)
    sparse = sp.csr_array(X)
    before = sparse.copy()
    make(cls).fit(sparse, y).predict(sparse)
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(sparse, name), getattr(before, name))


@every
@layouts
@pytest.mark.parametrize("rate", SCHEDULES)
def test_warm_start(cls, fmt, rate):
    params = dict(eta0=0.01, shuffle=False, learning_rate=rate)
    first = make(cls, alpha=0.01, **params).fit(fmt(X), Y)
    explicit = make(cls, alpha=0.001, **params)
    explicit.fit(fmt(X), Y, coef_init=first.coef_.copy(), intercept_init=first.intercept_.copy())
    implicit = make(cls, alpha=0.01, warm_start=True, **params).fit(fmt(X), Y)
    np.testing.assert_allclose(implicit.coef_, first.coef_)
    implicit.set_params(alpha=0.001).fit(fmt(X), Y)
    assert implicit.t_ == explicit.t_
    np.testing.assert_allclose(implicit.coef_, explicit.coef_)


@every
@layouts
@pytest.mark.parametrize("rate", SCHEDULES)
def test_partial_fit_equals_fit(cls, fmt, rate):
    params = dict(alpha=0.01, eta0=0.01, learning_rate=rate, shuffle=False)
    whole = make(cls, max_iter=2, **params).fit(fmt(X), Y)
    parts = make(cls, **params)
    for _ in range(2):
        parts.partial_fit(fmt(X), Y, **({"classes": [1, 2]} if is_clf(cls) else {}))
    assert parts.t_ == whole.t_
    np.testing.assert_allclose(parts.coef_, whole.coef_, rtol=1e-9)


@every
@layouts
def test_partial_fit(cls, fmt):
    classes = {"classes": [1, 2]} if is_clf(cls) else {}
    est = make(cls, alpha=0.01).partial_fit(fmt(X[:2]), Y[:2], **classes)
    assert est.coef_.shape == ((1, 2) if is_clf(cls) else (2,))
    assert est.intercept_.shape == (1,)
    assert est.predict(fmt(X[:1])).shape == (1,)
    est.partial_fit(fmt(X[2:]), Y[2:])
    assert est.t_ == 7
    assert est.n_iter_ == 1
    if is_clf(cls):
        np.testing.assert_array_equal(est.predict(fmt(T)), TRUE)


@classifier
@layouts
def test_partial_fit_multiclass(cls, fmt):
    for average in (False, len(X3CLASS)):
        clf = make(cls, alpha=0.01, average=average)
        clf.partial_fit(fmt(X3CLASS[:3]), Y3CLASS[:3], classes=np.unique(Y3CLASS))
        assert clf.coef_.shape == (3, 2)
        clf.partial_fit(fmt(X3CLASS[3:]), Y3CLASS[3:])
        assert clf.coef_.shape == (3, 2)
        assert clf.intercept_.shape == (3,)
    clf = make(cls).fit(fmt(X3CLASS), Y3CLASS)
    clf.partial_fit(fmt(X3CLASS), Y3CLASS)


@classifier
def test_partial_fit_classes(cls):
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        make(cls).partial_fit(X, Y)
    clf = make(cls).partial_fit(X, Y, classes=[1, 2])
    with pytest.raises(ValueError, match="is not the same as on last call"):
        clf.partial_fit(X, Y, classes=[1, 2, 3])


@classifier
@pytest.mark.parametrize("classes", [[1, 2], [1, 2, 3]])
def test_partial_fit_unknown_label(cls, classes):
    clf = make(cls).partial_fit(X, Y, classes=classes)
    before = clf.coef_.copy()
    with pytest.raises(ValueError, match="classes should include all valid labels"):
        clf.partial_fit(X, np.where(Y == 1, 7, Y))
    np.testing.assert_array_equal(clf.coef_, before)


@every
def test_partial_fit_early_stopping(cls):
    with pytest.raises(ValueError, match="early_stopping should be False with partial_fit"):
        make(cls, early_stopping=True).partial_fit(X, Y)


# Averages.
@every
@layouts
def test_average_computed_correctly(cls, fmt):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(20, 10))
    y = data @ rng.normal(size=10)
    y = np.sign(y) if is_clf(cls) else y
    params = dict(
        loss="squared_error", learning_rate="constant", eta0=0.01, alpha=0.2, average=True
    )
    params |= dict(shuffle=False, max_iter=1)
    # scikit-learn slows the intercept on sparse rows by this factor.
    coef, intercept = averaged_sgd(data, y, 0.01, 0.2, decay=0.01 if fmt is sp.csr_array else 1.0)
    est = make(cls, **params).fit(fmt(data), y)
    np.testing.assert_allclose(est.coef_.ravel(), coef, rtol=1e-9)
    np.testing.assert_allclose(est.intercept_[0], intercept, rtol=1e-9)
    parts = make(cls, **params)
    classes = {"classes": [-1, 1]} if is_clf(cls) else {}
    for half in (slice(0, 10), slice(10, 20)):
        parts.partial_fit(fmt(data[half]), y[half], **classes)
    np.testing.assert_allclose(parts.coef_.ravel(), coef, rtol=1e-9)
    np.testing.assert_allclose(parts.intercept_[0], intercept, rtol=1e-9)


@every
@layouts
def test_average_not_reached(cls, fmt):
    a, b = make(cls, average=600), make(cls)
    for _ in range(20):
        for est in (a, b):
            est.partial_fit(fmt(X), Y, **({"classes": [1, 2]} if is_clf(cls) else {}))
    np.testing.assert_array_equal(a.coef_, b.coef_)
    np.testing.assert_array_equal(a.intercept_, b.intercept_)


# Probabilities.
@classifier
def test_predict_proba_access(cls):
    for loss in CLASSIFICATION_LOSSES:
        clf = make(cls, loss=loss)
        for method in ("predict_proba", "predict_log_proba"):
            if loss in ("log_loss", "modified_huber"):
                assert hasattr(clf, method)
                continue
            assert not hasattr(clf, method)
            with pytest.raises(AttributeError, match=f"has no attribute '{method}'") as info:
                getattr(clf, method)
            cause = info.value.__cause__
            assert isinstance(cause, AttributeError)
            assert f"probability estimates are not available for loss={loss!r}" in str(cause)


@classifier
@layouts
@pytest.mark.parametrize("loss", ["log_loss", "modified_huber"])
@pytest.mark.parametrize("data", [(X, Y), (X3CLASS, Y3CLASS)], ids=["binary", "multiclass"])
def test_predict_proba_values(cls, fmt, loss, data):
    """The same decision function gives scikit-learn's probabilities."""
    train, y = data
    clf = make(cls, loss=loss, alpha=0.01, max_iter=10).fit(fmt(train), y)
    theirs = SGDClassifier(loss=loss).fit(train, y)
    theirs.coef_, theirs.intercept_ = clf.coef_, clf.intercept_
    points = np.vstack([train, [[3, 2], [-1, -1], [0.1, -0.1], [40, 50], [0, 0]]])
    p = clf.predict_proba(fmt(points))
    np.testing.assert_allclose(p, theirs.predict_proba(points), atol=1e-12)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert (p >= 0).all()
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(clf.predict_log_proba(fmt(points)), np.log(p))


@classifier
def test_modified_huber_probabilities_when_all_are_zero(cls):
    clf = make(cls, loss="modified_huber").fit(X3CLASS, Y3CLASS)
    clf.coef_, clf.intercept_ = np.zeros((3, 2)), np.full(3, -2.0)
    np.testing.assert_allclose(clf.predict_proba([[1, 1]]), [[1 / 3] * 3])


# Sparse coefficients.
@every
@layouts
def test_sparsify_densify(cls, fmt):
    est = make(cls, penalty="l1", alpha=0.2, fit_intercept=False, max_iter=2000, shuffle=False)
    est.fit(fmt(X_GROUPS), Y_GROUPS)
    dense, prediction = est.coef_.copy(), est.predict(fmt(X_GROUPS))
    if is_clf(cls):
        # One feature of each group is enough.
        np.testing.assert_array_equal(est.coef_[0, 1:-1], np.zeros(4))
        np.testing.assert_array_equal(prediction, Y_GROUPS)
        assert est.sparsify() is est
        assert sp.issparse(est.coef_)
        np.testing.assert_allclose(est.predict(fmt(X_GROUPS)), prediction)
        copy = pickle.loads(pickle.dumps(est))
        assert sp.issparse(copy.coef_)
        np.testing.assert_allclose(copy.predict(fmt(X_GROUPS)), prediction)
        est.densify()
        np.testing.assert_array_equal(est.coef_, dense)
        np.testing.assert_allclose(est.predict(fmt(X_GROUPS)), prediction)
    else:
        assert sp.issparse(est.sparsify().coef_)
        est.densify()
        np.testing.assert_array_equal(est.coef_.ravel(), dense)


@classifier
def test_partial_fit_after_sparsify(cls):
    """It trains on, or says that coef_ is sparse: no crash, no wrong numbers."""
    est = make(cls).fit(X, Y)
    other = pickle.loads(pickle.dumps(est)).sparsify()
    est.partial_fit(X, Y)
    try:
        other.partial_fit(X, Y)
    except (ValueError, TypeError):
        return
    coef = other.coef_.toarray() if sp.issparse(other.coef_) else other.coef_
    np.testing.assert_allclose(coef, est.coef_)


@every
def test_l1_gives_zeros(cls):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(200, 20))
    y = data[:, 0] - data[:, 1]
    y = (y > 0).astype(int) if is_clf(cls) else y
    est = make(cls, penalty="l1", alpha=0.05, max_iter=50).fit(data, y)
    coef = est.coef_.ravel()
    assert np.count_nonzero(coef) < 10
    assert set(np.argsort(-np.abs(coef))[:2]) == {0, 1}


# Weights.
@classifier
@layouts
def test_weights_turn_the_plane(cls, fmt):
    data = np.array([[-1.0, -1.0], [-1.0, 0], [-0.8, -1.0], [1.0, 1.0], [1.0, 0.0]])
    y, point = [1, 1, 1, -1, -1], fmt(np.array([[0.2, -1.0]]))
    params = dict(alpha=0.1, max_iter=1000, fit_intercept=False)
    assert make(cls, **params).fit(fmt(data), y).predict(point) == [1]
    light = make(cls, class_weight={1: 0.001}, **params).fit(fmt(data), y)
    assert light.predict(point) == [-1]
    rows = make(cls, **params).fit(fmt(data), y, sample_weight=[0.001] * 3 + [1] * 2)
    assert rows.predict(point) == [-1]
    np.testing.assert_allclose(rows.coef_, light.coef_)


@classifier
@layouts
def test_weights_multiply(cls, fmt):
    weights = np.random.default_rng(0).random(len(Y_GROUPS))
    a = make(cls, alpha=0.1, max_iter=20, class_weight={1: 0.6, 2: 0.3})
    b = make(cls, alpha=0.1, max_iter=20)
    a.fit(fmt(X_GROUPS), Y_GROUPS, sample_weight=weights)
    b.fit(fmt(X_GROUPS), Y_GROUPS, sample_weight=weights * np.where(Y_GROUPS == 1, 0.6, 0.3))
    np.testing.assert_allclose(a.coef_, b.coef_)


@classifier
@layouts
def test_balanced(cls, fmt):
    data, y = X[[0, 1, 2, 3]], Y[[0, 1, 2, 3]]
    weight = dict(zip([1, 2], compute_class_weight("balanced", classes=np.array([1, 2]), y=y)))
    a = make(cls, class_weight="balanced").fit(fmt(data), y)
    b = make(cls, class_weight=weight).fit(fmt(data), y)
    np.testing.assert_allclose(a.coef_, b.coef_)
    with pytest.raises(ValueError, match="class_weight|class label"):
        make(cls, class_weight={3: 0.5}).fit(fmt(data), y)


@every
@layouts
def test_zero_weight_rows_do_not_matter(cls, fmt):
    data, y = np.vstack([X, -3 * X]), np.r_[Y, Y]
    weight = np.repeat([1.0, 0.0], len(X))
    params = dict(alpha=0.1, learning_rate="constant", eta0=0.1, penalty=None, shuffle=False)
    a = make(cls, **params).fit(fmt(data), y, sample_weight=weight)
    b = make(cls, **params).fit(fmt(X), Y)
    np.testing.assert_allclose(a.coef_, b.coef_)


# Stopping.
@every
@layouts
@pytest.mark.parametrize("early_stopping", [True, False])
def test_stops(cls, fmt, early_stopping):
    data, y = IRIS.data[50:], IRIS.target[50:]
    est = make(cls, early_stopping=early_stopping, tol=1e-3, max_iter=1000).fit(fmt(data), y)
    assert est.n_iter_ < 1000
    assert est.t_ == 1 + est.n_iter_ * len(data)


@every
@layouts
def test_adaptive_is_longer_than_constant(cls, fmt):
    params = dict(eta0=0.01, tol=1e-3, max_iter=100)
    a = make(cls, learning_rate="adaptive", **params).fit(fmt(IRIS.data), IRIS.target)
    b = make(cls, learning_rate="constant", **params).fit(fmt(IRIS.data), IRIS.target)
    assert a.n_iter_ > b.n_iter_


@every
@layouts
@pytest.mark.parametrize("early_stopping", [True, False])
def test_n_iter_no_change(cls, fmt, early_stopping):
    n_iter = [
        make(cls, early_stopping=early_stopping, n_iter_no_change=n, tol=1e-4, max_iter=1000)
        .fit(fmt(IRIS.data), IRIS.target)
        .n_iter_
        for n in (2, 3, 10)
    ]
    assert n_iter == sorted(n_iter)


@classifier
def test_tol(cls):
    data, y = StandardScaler().fit_transform(IRIS.data), IRIS.target == 1
    assert make(cls, tol=None, random_state=0, max_iter=42).fit(data, y).n_iter_ == 42
    tight = make(cls, tol=0, random_state=0, max_iter=2000).fit(data, y)
    assert 5 < tight.n_iter_ < 2000
    loose = make(cls, tol=0.1, random_state=0, max_iter=2000).fit(data, y)
    assert 3 < loose.n_iter_ <= tight.n_iter_


@every
def test_convergence_warning(cls):
    est = make(cls, max_iter=3, tol=1e-3)
    with pytest.warns(ConvergenceWarning, match="Maximum number of iteration reached"):
        est.fit(IRIS.data, IRIS.target)
    assert est.n_iter_ == 3


@every
@layouts
def test_validation_rows_are_not_trained_on(cls, fmt):
    """With one epoch the best weights are the last ones."""
    data, y = IRIS.data, IRIS.target
    params = dict(learning_rate="constant", eta0=0.01, max_iter=1, shuffle=False)
    stopped = make(cls, early_stopping=True, validation_fraction=0.4, **params).fit(fmt(data), y)
    split = StratifiedShuffleSplit if is_clf(cls) else ShuffleSplit
    train, _ = next(split(test_size=0.4, random_state=42).split(data, y))
    train = np.sort(train)
    plain = make(cls, **params).fit(fmt(data[train]), y[train])
    np.testing.assert_allclose(stopped.coef_, plain.coef_, rtol=1e-9)


@every
def test_early_stopping_returns_the_best_weights(cls):
    """A documented difference: scikit-learn returns the last."""
    data, y = StandardScaler().fit_transform(IRIS.data), IRIS.target
    params = dict(validation_fraction=0.3, tol=None, max_iter=15)
    params |= dict(learning_rate="constant", eta0=0.2)
    est = make(cls, early_stopping=True, **params).fit(data, y)
    scores = est.history_["validation_score"]
    assert len(scores) == 15
    assert np.isfinite(scores).all()
    if is_clf(cls):
        return  # one split for each class against the rest: no one score to compare with
    split = ShuffleSplit(test_size=0.3, random_state=42)
    _, validation = next(split.split(data, y))
    np.testing.assert_allclose(est.score(data[validation], y[validation]), scores.max())


@every
@layouts
def test_empty_validation_set(cls, fmt):
    with pytest.raises(ValueError):
        make(cls, early_stopping=True, validation_fraction=0.99).fit(fmt(X_GROUPS), Y_GROUPS)


@every
def test_validation_weights_all_zero(cls):
    est = make(cls, early_stopping=True, validation_fraction=0.4)
    with pytest.raises(ValueError, match="sample weights for validation set are all zero"):
        est.fit(IRIS.data, IRIS.target, sample_weight=np.zeros(len(IRIS.target)))


@classifier
def test_multiclass_early_stopping_with_two_jobs(cls):
    params = dict(alpha=1e-3, tol=1e-3, max_iter=1000, early_stopping=True, n_iter_no_change=100)
    clf = make(cls, n_jobs=2, random_state=0, **params).fit(IRIS.data, IRIS.target)
    assert 100 < clf.n_iter_ < 1000
    assert clf.score(IRIS.data, IRIS.target) > 0.8


# Numbers.
@classifier
def test_overflow_is_an_error(cls):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(100, 10))
    data[:, :2] *= 1e300
    scaled = MinMaxScaler().fit_transform(data)
    y = (scaled @ rng.normal(size=10) > 0).astype(int)
    clf = make(cls, alpha=0.1, loss="squared_hinge", max_iter=500)
    with np.errstate(all="raise"):
        assert np.isfinite(clf.fit(scaled, y).coef_).all()
        message = (
            r"Floating-point under-/overflow occurred at epoch #\d+.* Scaling input data with "
            r"StandardScaler or MinMaxScaler"
        )
        with pytest.raises(ValueError, match=message):
            clf.fit(data, y)
        # And it can be fitted again.
        assert np.isfinite(clf.fit(scaled, y).coef_).all()


@every
def test_large_gradient(cls):
    loss = "squared_hinge" if is_clf(cls) else "squared_error"
    params = dict(penalty="elasticnet", l1_ratio=0.3, alpha=0.01, eta0=0.001, max_iter=10)
    with np.errstate(all="raise"):
        est = make(cls, loss=loss, random_state=0, **params).fit(IRIS.data, IRIS.target)
    assert np.isfinite(est.coef_).all()


@classifier
@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet"])
def test_large_regularization(cls, penalty):
    params = dict(alpha=1e5, learning_rate="constant", eta0=0.1, penalty=penalty, max_iter=6)
    with np.errstate(all="raise"):
        est = make(cls, shuffle=False, **params).fit(IRIS.data, IRIS.target)
    np.testing.assert_allclose(est.coef_, 0, atol=1e-6)


# Known solutions.
@regressor
@layouts
@pytest.mark.parametrize("loss", ["squared_error", "epsilon_insensitive", "huber"])
def test_fits_a_line(cls, fmt, loss):
    data = np.linspace(-5, 5, 100).reshape(-1, 1)
    params = dict(loss=loss, epsilon=0.1 if loss == "huber" else 0.01, alpha=0.1, max_iter=20)
    for noise, score in ((0, 0.99), (1, 0.5)):
        y = 0.5 * data.ravel() + noise * np.random.default_rng(0).normal(size=100)
        assert (
            make(cls, fit_intercept=False, **params).fit(fmt(data), y).score(fmt(data), y) > score
        )


@regressor
@layouts
@pytest.mark.parametrize("alpha", [0.01, 0.001])
@pytest.mark.parametrize("l1_ratio", [0.5, 0.8, 1.0])
def test_elasticnet_solution(cls, fmt, alpha, l1_ratio):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(1000, 5))
    y = data @ rng.normal(size=5)
    params = dict(alpha=alpha, l1_ratio=l1_ratio, fit_intercept=False)
    expected = ElasticNet(**params).fit(data, y).coef_
    est = make(cls, penalty="elasticnet", max_iter=50, **params).fit(fmt(data), y)
    np.testing.assert_allclose(est.coef_, expected, atol=1e-2)


@classifier
def test_svm_solution(cls):
    """Hinge loss and l2 with decreasing steps end at the support vector machine."""
    data, y = make_classification(n_samples=500, n_features=5, class_sep=0.7, random_state=0)
    alpha = 0.01
    svm = LinearSVC(loss="hinge", C=1 / (alpha * len(y)), fit_intercept=False, max_iter=100_000)
    expected = svm.fit(data, y).coef_
    est = make(cls, alpha=alpha, fit_intercept=False, max_iter=300, average=True).fit(data, y)
    np.testing.assert_allclose(est.coef_, expected, atol=0.02 * np.abs(expected).max())


# What we add.
@every
@pytest.mark.parametrize("early_stopping", [True, False])
def test_history(cls, early_stopping):
    est = make(cls, max_iter=7, early_stopping=early_stopping).fit(IRIS.data, IRIS.target)
    history = est.history_
    assert history.keys() >= {
        "epoch",
        "samples",
        "time",
        "objective",
        "validation_score",
        "step_size",
        "rows_per_second",
    }
    assert {len(values) for values in history.values()} == {7}
    np.testing.assert_array_equal(history["epoch"], np.arange(1, 8))
    assert (np.diff(history["samples"]) > 0).all()
    assert (np.diff(history["time"]) >= 0).all()
    assert np.isfinite(history["objective"]).all()
    assert (np.asarray(history["step_size"]) > 0).all()
    assert np.isfinite(history["validation_score"]).all() == early_stopping
    assert est.n_workers_ == 1
