"""Many outputs on wide sparse rows: dual coordinate ascent, its bound, and what follows it."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import scipy.sparse as sp
from _common import CLASSIFIERS
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from skpar._data import Batch
from skpar._kernels.vectors import combination, products
from skpar._many_state import INTERCEPT
from skpar._outputs import ManyObjective
from skpar._problem import Problem
from skpar._schemes import Fit, Weights
from skpar._softmax_dual import MOST_STEP, DualSteps
from skpar._workers import Team

classifiers = pytest.mark.parametrize("cls", CLASSIFIERS)
kinds = pytest.mark.parametrize("multi_class", ["ovr", "multinomial"])


WEIGHTS, CLASS_WEIGHT = np.random.default_rng(1).random(1300), {1: 2.0, 3: 0.5}


@cache
def wide_rows(n=1300, d=2500, k=5, nonzeros=220, seed=0):
    """Rows of norm one with far more columns than a Hessian could have; classes 0 to k - 1."""
    rng = np.random.default_rng(seed)
    columns = np.minimum(d ** rng.random(n * nonzeros), d - 1).astype(np.int32)
    X = sp.csr_matrix((rng.random(n * nonzeros), columns, np.arange(0, n * nonzeros + 1, nonzeros)))
    X = sp.csr_matrix((X.data, X.indices, X.indptr), (n, d))
    X.sum_duplicates()
    X.data /= np.repeat(np.sqrt(np.asarray(X.multiply(X).sum(axis=1)).ravel()), np.diff(X.indptr))
    scores = X @ rng.normal(size=(d, k)) + 0.3 * rng.gumbel(size=(n, k)) + 0.3 * np.arange(k)
    return X, scores.argmax(axis=1)


def value_of(model, X, y, weights=None, class_weight=None):
    """The objective by its definition; of one-vs-rest the mean over the classes."""
    p = np.asarray(X @ model.coef_.T.astype(float)) + model.intercept_
    s = np.ones(len(y)) if weights is None else weights
    factor = np.array([(class_weight or {}).get(c, 1.0) for c in model.classes_])
    own = y[:, None] == model.classes_
    coef, ratio = model.coef_.astype(float), {"l1": 1.0, "l2": 0.0}.get(model.penalty, 0.15)
    sizes = 0.5 * (1 - ratio) * coef**2 + ratio * np.abs(coef)
    if model.multi_class == "multinomial":
        losses = -log_softmax(p, axis=1)[own] * s * factor[y]
        return losses.mean() + model.alpha * sizes.sum()
    losses = (np.logaddexp(0, p) - own * p) * s[:, None] * np.where(own, factor, 1.0)
    return losses.mean() + model.alpha * sizes.sum() / len(model.classes_)


def dual_steps(X, y, alpha=1e-2, weights=None, factors=None, intercept=True):
    """(scheme, objective)."""
    k = y.max() + 1
    factors = np.ones(k) if factors is None else factors
    problem = Problem("log_loss", 0.1, "l2", alpha, 0.1, intercept, "auto", 0.1, 0.5)
    batch, team = Batch.of(X, y), Team(1, shared_memory=True)
    parts = y.astype(np.int64), None, weights, np.arange(k), factors
    start = Weights(np.zeros((k, X.shape[1])), np.zeros(k), None, np.zeros(k), 1.0)
    fit = Fit(problem, batch, team, 0, True, start)
    assert DualSteps.suits(fit, parts)
    return DualSteps(fit, parts), ManyObjective(problem, batch, team, parts, softmax=True)


def place(scheme, objective):
    x = np.zeros((objective.size, objective.k))
    (state,) = scheme.states
    x[: objective.d] = state.w[:, : state.k]
    if objective.has_intercept:
        x[-1] = state.of(INTERCEPT)
    return x


@pytest.mark.parametrize("intercept", [False, True])
def test_the_dual_bound_holds_and_closes(intercept):
    X, y = wide_rows()
    factors = np.array([1.0, 2.0, 0.5, 1, 3])
    scheme, objective = dual_steps(X, y, 1e-3, WEIGHTS, factors, intercept)
    seen = []
    for number in range(25):
        scheme.epoch(number)
        values = objective.values(place(scheme, objective))
        seen.append((values, scheme.gaps(values)))
    least = np.min([values for values, _ in seen], axis=0)
    for values, gaps in seen:
        assert np.all(gaps >= (values - least) * (1 - 1e-6) - 1e-9)
    # The intercepts follow more slowly than the weights.
    assert np.all(seen[-1][1] <= (2e-3 if intercept else 1e-6) * least)
    if not intercept:
        assert np.abs(objective.at(place(scheme, objective)).gradient).max() < 1e-5


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("wide", [np.int32, np.int64])
def test_a_dual_step_solves_for_its_row(dtype, wide):
    X, y = wide_rows(n=40)
    y = np.arange(40) % 5
    X = sp.csr_matrix((X.data.astype(dtype), X.indices, X.indptr), X.shape)
    X.indices, X.indptr = X.indices.astype(wide), X.indptr.astype(wide)
    scheme, _ = dual_steps(X, y, 0.5, intercept=False)
    w, betas = scheme.states[0].w[:, :5], scheme.betas[:, :5]
    for i in (3, 7, 3):
        scheme.dual.run(scheme.fit.batch.rows, np.array([i]))
        share = softmax(np.asarray(X[[i]] @ w)[0])
        # Two rounds of Newton are near, not there.
        np.testing.assert_allclose(betas[i], (y[i] == np.arange(5)) - share, atol=2e-3)
        np.testing.assert_allclose(w, (X.T @ betas) / (0.5 * 40), atol=1e-6)
    assert not betas[[0, 1, 2, 4]].any()


@cache
def least(multi_class, fit_intercept, alpha):
    """The minimum as scikit-learn finds it."""
    X, y = wide_rows()
    reference = LogisticRegression(
        C=1 / (alpha * len(y)), tol=1e-6, max_iter=3000, fit_intercept=fit_intercept
    )
    own, found = WEIGHTS * np.array([CLASS_WEIGHT.get(c, 1.0) for c in y]), []
    if multi_class == "multinomial":
        reference.fit(X, y, sample_weight=own)
        found = reference.coef_, np.zeros(5) + reference.intercept_
    else:
        for c in range(5):
            each = WEIGHTS * np.where(y == c, CLASS_WEIGHT.get(c, 1.0), 1.0)
            reference.fit(X, y == c, sample_weight=each)
            found.append((reference.coef_[0], np.ravel(reference.intercept_)[0]))
        found = [np.array(a) for a in zip(*found, strict=True)]
    model = CLASSIFIERS[1](alpha=alpha, multi_class=multi_class)
    model.coef_, model.intercept_, model.classes_ = *found, np.arange(5)
    return value_of(model, X, y, WEIGHTS, CLASS_WEIGHT)


@classifiers
@kinds
@pytest.mark.parametrize(
    ("alpha", "fit_intercept", "dtype", "scheme"),
    [
        (1e-2, True, np.float64, "dual-ascent"),
        (1e-3, True, np.float32, "dual-ascent"),
        (1e-3, False, np.float64, "dual-ascent"),
        (1e-5, True, np.float64, None),
        (1e-5, False, np.float32, None),
    ],
)
def test_wide_rows_reach_the_optimum(cls, multi_class, alpha, fit_intercept, dtype, scheme):
    X, y = wide_rows()
    params = dict(loss="log_loss", alpha=alpha, fit_intercept=fit_intercept)
    model = cls(multi_class=multi_class, class_weight=CLASS_WEIGHT, **params)
    model.fit(X.astype(dtype), y, sample_weight=WEIGHTS)
    assert model.coef_.dtype == dtype
    if scheme or multi_class == "multinomial":  # one-vs-rest bears a weaker penalty
        assert (model.scheme_ == "dual-ascent") == (scheme == "dual-ascent")
    got = value_of(model, X, y, WEIGHTS, CLASS_WEIGHT)
    np.testing.assert_allclose(model.history_["objective"][-1], got, rtol=1e-4)
    assert got <= least(multi_class, fit_intercept, alpha) * 1.001


@classifiers
@pytest.mark.parametrize("penalty", ["l1", "elasticnet"])
def test_softmax_of_wide_rows_with_l1(cls, penalty):
    X, y = wide_rows()
    params = dict(loss="log_loss", multi_class="multinomial", penalty=penalty, alpha=1e-3)
    got = value_of(cls(**params).fit(X, y), X, y)
    tight = cls(tol=1e-5, max_iter=3000, **params).fit(X, y)
    assert got <= value_of(tight, X, y) * 1.001
    share = (tight.coef_ == 0).mean()
    assert share > 0.3


@classifiers
@kinds
@pytest.mark.parametrize("alpha", [1e-3, 1e-5])
def test_wide_rows_give_the_same_bits_for_any_number_of_workers(cls, multi_class, alpha):
    X, y = wide_rows(k=20)
    params = dict(loss="log_loss", multi_class=multi_class, alpha=alpha, random_state=0)
    fits = [cls(n_jobs=n_jobs, **params).fit(X, y) for n_jobs in (1, 2, 3)]
    for other in fits[1:]:
        np.testing.assert_array_equal(fits[0].coef_, other.coef_)
        np.testing.assert_array_equal(fits[0].intercept_, other.intercept_)


@pytest.mark.parametrize("loss", ["squared_hinge", "modified_huber", "squared_error"])
def test_other_losses_of_wide_rows_equal_separate_fits(loss):
    X, y = wide_rows()
    params = dict(loss=loss, alpha=1e-3)
    model = CLASSIFIERS[1](**params).fit(X, y)
    for c in range(5):
        apart = CLASSIFIERS[1](tol=1e-5, **params).fit(X, y == c)
        target = np.where(y == c, 1.0, -1.0)
        values = []
        for w, b in ((model.coef_[c], model.intercept_[c]), (apart.coef_[0], apart.intercept_[0])):
            m = target * (X @ w + b)
            losses = {
                "squared_hinge": np.maximum(0, 1 - m) ** 2,
                "modified_huber": np.where(m < -1, -4 * m, np.maximum(0, 1 - m) ** 2),
                "squared_error": 0.5 * (1 - m) ** 2,
            }[loss]
            values.append(losses.mean() + 5e-4 * w @ w)
        assert values[0] <= values[1] * 1.001


def test_warm_start_of_wide_rows_goes_on():
    X, y = wide_rows()
    model = CLASSIFIERS[1](loss="log_loss", alpha=1e-3, warm_start=True).fit(X, y)
    first = value_of(model, X, y)
    assert model.scheme_ == "dual-ascent"
    assert value_of(model.fit(X, y), X, y) <= first * (1 + 1e-6)
    assert model.scheme_ != "dual-ascent"  # which starts at weights 0


def test_a_weak_penalty_or_heavy_rows_do_without_the_dual():
    X, y = wide_rows()
    scheme, _ = dual_steps(X, y)
    fit, parts = scheme.fit, scheme.parts
    np.testing.assert_allclose(scheme.norms, 1.0)
    np.testing.assert_allclose(scheme.longest_step, 1 / (1e-2 * len(y)))
    assert not scheme.ill_conditioned
    weak = replace(fit, problem=replace(fit.problem, alpha=1e-9))
    assert DualSteps(weak, parts).ill_conditioned
    heavy = *parts[:2], np.full(len(y), 1e6), *parts[3:]
    assert DualSteps(fit, heavy).ill_conditioned
    long = replace(fit, batch=Batch.of(X * 1e3, y.astype(float)))
    assert DualSteps(long, parts).longest_step > MOST_STEP
    for no_dual in (dict(penalty="l1"), dict(penalty=None), dict(loss="hinge")):
        assert not DualSteps.suits(replace(fit, problem=replace(fit.problem, **no_dual)), parts)
    with pytest.raises(ValueError, match="0 to 4"):
        DualSteps(fit, (parts[0], None, None, np.array([0, 1, 2, 3, 3]), parts[4]))


@pytest.mark.parametrize(("rows", "k"), [(101, 3), (5000, 1), (700, 20), (3, 40)])
def test_products_and_combinations_of_long_vectors(rows, k):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(rows, k)) for _ in range(5)]
    lo, hi = rows // 3, rows - 1
    expected = np.array([[(a * b)[lo:hi].sum(axis=0) for b in arrays[:2]] for a in arrays])
    np.testing.assert_allclose(products(arrays, arrays[:2], lo, hi), expected, atol=1e-10)
    coef, out = rng.normal(size=(5, k)), np.zeros((rows, k))
    combination(coef, arrays, lo, hi, out)
    expected = sum(c * a for c, a in zip(coef, arrays, strict=True))
    np.testing.assert_allclose(out[lo:hi], expected[lo:hi], atol=1e-12)
    assert not out[:lo].any() and not out[hi:].any()
    with pytest.raises(ValueError, match="rows"):
        products(arrays, arrays, 0, rows + 1)
    with pytest.raises(ValueError, match="numbers of float64, not float32"):
        products(arrays, [arrays[0].astype(np.float32)], 0, rows)
