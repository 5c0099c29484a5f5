"""Several classes: the softmax, and one-vs-rest in one read of the rows."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from _common import CLASSIFIERS, large_problem, load_shared, objectives, shared_names
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from skpar._data import Batch
from skpar._many import ManyDescent
from skpar._many_hessian import Blocks, Diagonals
from skpar._outputs import ManyObjective
from skpar._problem import Problem
from skpar._workers import Team

classifiers = pytest.mark.parametrize("cls", CLASSIFIERS)
layouts = pytest.mark.parametrize("layout", [np.asarray, sp.csr_matrix])
LOSSES = ["log_loss", "squared_hinge", "modified_huber", "squared_error"]
PENALTIES = ["l2", "l1", "elasticnet", None]


def data(n=600, d=6, k=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.7)
    scores = X @ rng.normal(size=(d, k)) + rng.gumbel(size=(n, k)) + 0.5 * np.arange(k)
    return X, np.array(list("dabc"))[scores.argmax(axis=1)]


def softmax_objective(model, X, y, sample_weight=None):
    """(1/n) sum_i s_i (-log p_i) + alpha penalty."""
    scores = np.asarray(X @ model.coef_.T.astype(float)) + model.intercept_
    at = np.searchsorted(model.classes_, y)
    losses = -log_softmax(scores, axis=1)[np.arange(len(y)), at]
    s = np.ones(len(y)) if sample_weight is None else sample_weight
    ratio = {"l2": 0.0, "l1": 1.0, "elasticnet": model.l1_ratio, None: 0.0}[model.penalty]
    alpha = model.alpha if model.penalty else 0.0
    coef = model.coef_.astype(float)
    penalty = (1 - ratio) / 2 * (coef**2).sum() + ratio * np.abs(coef).sum()
    return s @ losses / len(y) + alpha * penalty


def make_objective(loss, X, codes, k, together, weights=None, factors=None, alpha=0.01):
    problem = Problem(loss, 0.1, "l2", alpha, 0.1, True, "auto", 0.1, 0.5)
    factors = np.ones(k) if factors is None else factors
    targets = codes, None, weights, np.arange(k), factors
    team = Team(1, shared_memory=True)
    return ManyObjective(problem, Batch.of(X, codes), team, targets, softmax=together)


@layouts
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("loss", [*LOSSES, "softmax"])
def test_gradients_are_differences(loss, dtype, layout):
    rng = np.random.default_rng(0)
    X, codes = data()[0].astype(dtype), rng.integers(0, 4, 600)
    weights, factors = rng.random(600), np.array([1.0, 2.0, 0.5, 3.0])
    together = loss == "softmax"
    objective = make_objective(
        "log_loss" if together else loss, layout(X), codes, 4, together, weights, factors
    )
    wide = make_objective(
        "log_loss" if together else loss, X.astype(float), codes, 4, together, weights, factors
    )
    x = rng.normal(size=(7, 4)) / 3
    point = objective.at(x)
    tolerance = 1e-5 if dtype == np.float64 else 1e-3
    np.testing.assert_allclose(point.values, wide.at(x).values, rtol=tolerance)
    for j in range(7):
        for c in range(4):
            step = np.zeros_like(x)
            step[j, c] = 1e-5
            up, down = wide.at(x + step).values.sum(), wide.at(x - step).values.sum()
            difference = (up - down) / 2e-5
            np.testing.assert_allclose(
                point.gradient[j, c], difference, rtol=tolerance, atol=tolerance
            )
    way = rng.normal(size=x.shape)
    there = objective.at(x + way)
    t = np.full(objective.n_objectives, 0.3)
    values, slopes = objective.along(point.margins, there.margins - point.margins, t)
    at = wide.at(x + 0.3 * way)
    l2 = 0.005 * wide.dots((x + 0.3 * way)[:6], (x + 0.3 * way)[:6])
    np.testing.assert_allclose(values, at.values - l2, rtol=tolerance)
    gradient = at.gradient.copy()
    gradient[:6] -= 0.01 * (x + 0.3 * way)[:6]
    expected = wide.dots(gradient, way)
    np.testing.assert_allclose(slopes, expected, rtol=10 * tolerance, atol=tolerance)


def test_both_hessians_lead_to_the_same_optimum():
    X, y = data()
    objective = make_objective("log_loss", X, np.unique(y, return_inverse=True)[1], 4, True)
    found = []
    for kind in (Blocks, Diagonals):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("skpar._many.has_blocks", lambda *sizes, own=kind: own is Blocks)
            descent = ManyDescent(objective, np.zeros((7, 4)))
        assert isinstance(descent.hessian, kind)
        for _ in range(100):
            descent.aim()
            descent.move()
        found.append(descent.values)
        assert np.abs(descent.g).max() < 1e-5
    np.testing.assert_allclose(*found, rtol=1e-8)


@classifiers
@layouts
@pytest.mark.parametrize("penalty", PENALTIES)
def test_softmax_reaches_scikit_learns_objective(cls, layout, penalty):
    X, y = data()
    alpha = 5e-3
    ratio = {"l2": 0.0, "l1": 1.0, "elasticnet": 0.15, None: 0.0}[penalty]
    params = dict(loss="log_loss", multi_class="multinomial", penalty=penalty, alpha=alpha)
    model = cls(tol=1e-5, **params).fit(layout(X), y)
    C = 1 / (alpha * len(y)) if penalty else np.inf
    reference = LogisticRegression(C=C, solver="saga", tol=1e-8, max_iter=10_000)
    reference.set_params(**({"l1_ratio": ratio} | ({"penalty": penalty} if ratio else {})))
    with warnings.catch_warnings():
        # How the penalty is named has changed with scikit-learn's versions; each warns of the others.
        warnings.simplefilter("ignore")
        reference.fit(X, y)
    got, (coef, intercept) = softmax_objective(model, X, y), (model.coef_, model.intercept_)
    np.testing.assert_allclose(model.history_["objective"][-1], got, rtol=1e-9)
    model.coef_, model.intercept_ = reference.coef_, reference.intercept_
    assert got <= softmax_objective(model, X, y) * (1 + 1e-4)
    model.coef_, model.intercept_ = coef, intercept
    np.testing.assert_allclose(
        model.predict_proba(X), softmax(X @ coef.T + intercept, axis=1), rtol=1e-10
    )
    np.testing.assert_allclose(
        model.predict_proba(X),
        reference.predict_proba(X),
        atol=0.01 if ratio or not penalty else 2e-3,
    )


@classifiers
@pytest.mark.parametrize("rate", ["auto", "invscaling"])
def test_softmax_weights_are_repetitions(cls, rate):
    X, y = data()
    counts = np.random.default_rng(1).integers(0, 3, len(y))
    class_weight = {"a": 2.0, "b": 0.5}
    params = dict(loss="log_loss", multi_class="multinomial", learning_rate=rate, tol=1e-6)
    model = cls(alpha=1e-3, class_weight=class_weight, max_iter=300, eta0=0.1, **params)
    model.fit(X, y, sample_weight=counts)
    factor = np.array([class_weight.get(label, 1.0) for label in y])
    value = softmax_objective(model, X, y, counts * factor)
    np.testing.assert_allclose(model.history_["objective"][-1], value, rtol=1e-9)
    rows = np.repeat(np.arange(len(y)), counts)
    repeated = cls(
        alpha=1e-3 * len(y) / len(rows), max_iter=1000, **(params | dict(learning_rate="auto"))
    ).fit(X[rows], y[rows], sample_weight=factor[rows])
    best = softmax_objective(repeated, X[rows], y[rows], factor[rows]) * len(rows) / len(y)
    assert value <= best * (1.0001 if rate == "auto" else 1.05)


@classifiers
@layouts
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("rate", ["optimal", "invscaling", "constant", "adaptive"])
def test_softmax_by_scikit_learns_steps(cls, rate, dtype, layout):
    X, y = data()
    params = dict(loss="log_loss", multi_class="multinomial", alpha=0.01, fit_intercept=False)
    best = softmax_objective(cls(tol=1e-6, **params).fit(X, y), X, y)
    eta0 = 0.5 if rate == "invscaling" else 0.05
    model = cls(learning_rate=rate, eta0=eta0, random_state=0, max_iter=60, average=10, **params)
    model.fit(layout(X.astype(dtype)), y)
    value = softmax_objective(model, X, y)
    assert value <= best * 1.03
    assert model.coef_.dtype == dtype
    np.testing.assert_allclose(model.history_["objective"][-1], value, rtol=1e-4)


@layouts
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("average", [False, 20])
def test_softmax_steps_equal_their_definition(layout, penalty, average):
    """A few epochs in plain numpy, with the cumulative l1 penalty (Tsuruoka et al. 2009)."""
    X, y = data(n=80)
    alpha, eta, ratio = 0.02, 0.05, {"l2": 0, "l1": 1, "elasticnet": 0.3, None: 0}[penalty]
    alpha = alpha if penalty else 0.0
    model = CLASSIFIERS[1](
        loss="log_loss", multi_class="multinomial", penalty=penalty, alpha=0.02, l1_ratio=0.3,
        learning_rate="constant", eta0=eta, shuffle=False, tol=None, max_iter=3, average=average,
    )  # fmt: skip
    model.fit(layout(X), y)
    codes = np.unique(y, return_inverse=True)[1]
    w, b, q = np.zeros((4, 6)), np.zeros(4), np.zeros((4, 6))
    mean_w, mean_b, seen, total = 0.0, 0.0, 0, 0.0
    rate = 0.01 if layout is sp.csr_matrix else 1.0
    for t, (x, c) in enumerate(list(zip(X, codes)) * 3, start=1):
        slope = softmax(w @ x + b) - np.eye(4)[c]
        w *= 1 - eta * alpha * (1 - ratio)
        w -= eta * np.outer(slope, x)
        b -= eta * rate * slope
        if average and t >= average:
            seen += 1
            mean_w, mean_b = mean_w + (w - mean_w) / seen, mean_b + (b - mean_b) / seen
        total += eta * alpha * ratio  # after the average, as in scikit-learn
        if ratio:
            at = np.arange(6) if layout is not sp.csr_matrix else np.flatnonzero(x)
            z = w[:, at].copy()
            up, down = np.maximum(0, z - (total + q[:, at])), np.minimum(0, z + (total - q[:, at]))
            w[:, at] = np.where(z > 0, up, np.where(z < 0, down, z))
            q[:, at] += w[:, at] - z
    w, b = (mean_w, mean_b) if average else (w, b)
    np.testing.assert_allclose(model.coef_, w, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.intercept_, b, rtol=1e-9, atol=1e-12)


@classifiers
@pytest.mark.parametrize("rate", ["auto", "optimal"])
def test_softmax_partial_fit(cls, rate):
    X, y = data(n=4000)
    params = dict(loss="log_loss", multi_class="multinomial", alpha=1e-3, random_state=0)
    best = softmax_objective(cls(tol=1e-6, **params).fit(X, y), X, y)
    model = cls(learning_rate=rate, **params)
    for _ in range(10):
        model.partial_fit(X, y, classes=np.unique(y))
    assert softmax_objective(model, X, y) <= best * 1.05
    assert model.t_ == 10 * len(y) + 1
    with pytest.raises(ValueError, match="classes should include"):
        model.partial_fit(X[:1], ["z"])


@classifiers
def test_softmax_of_two_classes_is_the_log_loss(cls):
    X, y = data(k=2)
    model = cls(loss="log_loss", alpha=0.01)
    one = model.fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(
        model.set_params(multi_class="multinomial").fit(X, y).predict_proba(X), one
    )


@classifiers
def test_softmax_early_stopping_and_warm_start(cls):
    X, y = data(n=2000)
    model = cls(loss="log_loss", multi_class="multinomial", early_stopping=True, random_state=0)
    history = model.fit(X, y).history_
    assert np.isfinite(history["validation_score"]).all()
    model = cls(loss="log_loss", multi_class="multinomial", warm_start=True, alpha=1e-3)
    first = model.fit(X, y).n_iter_
    assert model.fit(X, y).n_iter_ < first


@classifiers
@pytest.mark.parametrize(
    ("params", "message"),
    [
        (dict(loss="hinge"), "set loss='log_loss', or multi_class='ovr'"),
        (dict(loss="squared_error"), "set loss='log_loss', or multi_class='ovr'"),
    ],
)
def test_bad_combinations_say_what_to_do(cls, params, message):
    X, y = data()
    with pytest.raises(ValueError, match=message):
        cls(multi_class="multinomial", **params).fit(X, y)
    with pytest.raises(ValueError, match="multi_class"):
        cls(multi_class="crammer_singer").fit(X, y)


@classifiers
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("layout", ["dense", "sparse"])
@pytest.mark.parametrize("loss", LOSSES)
def test_one_vs_rest_together_is_one_vs_rest_apart(cls, loss, layout, fit_intercept):
    X, y = large_problem("multiclass", layout)
    weights = np.random.default_rng(0).random(len(y))
    params = dict(loss=loss, alpha=1e-3, tol=1e-5, fit_intercept=fit_intercept)
    model = cls(class_weight={1: 3.0}, **params).fit(X, y, sample_weight=weights)
    assert model.scheme_ == "full-gradient" or layout == "sparse"
    values = []
    for k in range(4):
        own = weights * np.where((y == k) & (k == 1), 3.0, 1.0)
        apart = cls(**params).fit(X, y == k, sample_weight=own)
        values.append(objectives(apart, X, y == k, own)[0])
        lone = cls(**params).fit(X[:5], (y == k)[:5] | (np.arange(5) == 0))
        lone.classes_, lone.coef_ = np.array([False, True]), model.coef_[k : k + 1]
        lone.intercept_ = model.intercept_[k : k + 1]
        got = objectives(lone, X, y == k, own)[0]
        assert got <= values[-1] * (1 + 1e-4)
    np.testing.assert_allclose(model.history_["objective"][-1], np.mean(values), rtol=1e-4)


@classifiers
@pytest.mark.parametrize(
    ("layout", "multi_class"),
    [("dense", "ovr"), ("dense", "multinomial"), ("sparse", "multinomial")],
)
def test_the_same_bits_for_any_number_of_workers(cls, layout, multi_class):
    X, y = large_problem("multiclass", layout)
    fits = [
        cls(loss="log_loss", multi_class=multi_class, n_jobs=n_jobs).fit(X, y) for n_jobs in (1, 2)
    ]
    np.testing.assert_array_equal(fits[0].coef_, fits[1].coef_)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "news20"])
def test_real_sets(name):
    if name not in shared_names():
        pytest.skip("shared/data is not there")
    r = load_shared(name)
    rows = np.random.default_rng(0).permutation(len(r["y"]))[:4000]
    X, y = r["X"][rows], r["y"][rows]
    alpha = 1e-4
    model = CLASSIFIERS[1](loss="log_loss", multi_class="multinomial", alpha=alpha).fit(X, y)
    got = softmax_objective(model, X, y)
    reference = LogisticRegression(C=1 / (alpha * len(y)), tol=1e-6, max_iter=2000).fit(X, y)
    model.coef_, model.intercept_ = reference.coef_, reference.intercept_
    assert got <= softmax_objective(model, X, y) * 1.001
