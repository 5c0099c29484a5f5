"""Dual coordinate ascent on wide sparse rows, and the normal equations of few columns."""

import numpy as np
import pytest
import scipy.sparse as sp
from _common import CLASSIFIERS, ESTIMATORS, REGRESSORS, is_clf, objective
from scipy.optimize import brentq
from sklearn.linear_model import Ridge

import skpar._auto
from skpar._data import Batch
from skpar._dual import SMOOTH, DualAscent
from skpar._kernels.dual import DualState, ascend, margins, shares, sum_rows, survey_rows
from skpar._kernels.duals import DualsState
from skpar._kernels.duals import ascend as ascend_many
from skpar._kernels.duals import losses as losses_of_many
from skpar._kernels.duals import margins as margins_of_many
from skpar._kernels.outputs import Targets
from skpar._least_squares import least_squares_for
from skpar._objective import Objective
from skpar._problem import Problem
from skpar._schemes import Fit, Weights

CLASSIFICATION = ("log_loss", "squared_hinge", "modified_huber")


def wide_rows(n=300, d=6000, seed=0, dtype=np.float64, index=np.int32):
    """Rows of unit length, some columns in most of them."""
    rng = np.random.default_rng(seed)
    columns = np.minimum(rng.zipf(1.3, size=(n, 30)) - 1, d - 1)
    columns[:, 10:] = rng.integers(0, d, size=(n, 20))
    X = sp.csr_matrix(
        (rng.exponential(size=n * 30), (np.repeat(np.arange(n), 30), columns.ravel()))
    )
    X.resize(n, d)
    X = sp.diags(1 / np.sqrt(X.multiply(X).sum(axis=1).A1)) @ X
    X = sp.csr_matrix(X.astype(dtype))
    X.indices, X.indptr = X.indices.astype(index), X.indptr.astype(index)
    scores = 3 * X @ rng.normal(size=d) + 0.5 * rng.normal(size=n) + 0.7
    return X, scores


def fit_of(loss, X, scores, weights=None, subset=None, intercept=True, alpha=None):
    n = X.shape[0] if subset is None else len(subset)
    y = scores
    if loss in CLASSIFICATION:
        y = np.where(scores > 0, 1.0, 0.0 if loss == "log_loss" else -1.0)
    problem = Problem(
        loss=loss, penalty="l2", alpha=1 / n if alpha is None else alpha, l1_ratio=0.0,
        fit_intercept=intercept, epsilon=0.1, learning_rate="auto", eta0=0.01, power_t=0.5,
        average=0,
    )  # fmt: skip
    batch = Batch.of(X, y, weights, subset)
    return Fit(problem, batch, None, 0, True, Weights(np.zeros(X.shape[1]), 0.0))


@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("how", ["plain", "weighted", "subset", "no intercept"])
def test_gap_bounds_the_distance(loss, how):
    X, scores = wide_rows()
    rng = np.random.default_rng(1)
    weights = rng.integers(0, 4, size=300).astype(float) if how == "weighted" else None
    subset = np.sort(rng.permutation(300)[:200]) if how == "subset" else None
    fit = fit_of(loss, X, scores, weights, subset, how != "no intercept")
    objective = Objective(fit.problem, fit.batch)
    ascent = DualAscent(fit, objective)
    values, gaps = [], []
    for number in range(60):
        ascent.epoch(number)
        values.append(ascent.value)
        gaps.append(ascent.gap)
        w, b = ascent.x[: X.shape[1]], ascent.x[X.shape[1] :]
        margins = X @ w + (b if len(b) else 0.0)
        margins = margins if subset is None else margins[subset]
        np.testing.assert_allclose(ascent.margins, margins, atol=1e-12)
        assert objective.value(ascent.x, margins) == pytest.approx(ascent.value, rel=1e-12)
    assert gaps[-1] <= 1e-7 * values[-1]
    # The gradient vanishes at the end, so the last value is the minimum of a convex function.
    at_zero = objective.at(np.zeros_like(ascent.x))
    gradient = objective.at(ascent.x).gradient
    assert np.abs(gradient).max() < 1e-3 * np.abs(at_zero.gradient).max()
    # With an intercept the bound holds to second order.
    slack = 1e-9 if how == "no intercept" else 0.01
    for value, gap in zip(values, gaps, strict=True):
        assert value - values[-1] <= gap * (1 + slack) + 1e-12


def naive_epoch(fit, state, m, rows):
    """The same steps on dense, centred rows, each solved to the last digit.

    What a row says of v is read before the row ahead of it has moved v.
    """
    kernel, size = fit.problem.loss_kernel(), state.size
    X, y, s = fit.batch.matrix().toarray() - m, fit.batch.targets, fit.batch.weights
    dual = state.dual.copy()
    w, late = X.T @ dual / size, np.zeros(X.shape[1])
    for i in rows:
        # late . x_i, not late . (x_i - m): the centre's part is a scalar and not late.
        p = X[i] @ w + state.shift - late @ (X[i] + m)
        q, weight = X[i] @ X[i] / size, 1.0 if s is None else s[i]

        def excess(u, i=i, p=p, q=q, weight=weight):
            return u - p + q * (dual[i] + weight * kernel.py_gradient(y[i], u))

        reach = abs(excess(p)) + 1.0
        u = brentq(excess, p - reach, p + reach, xtol=1e-14)
        change = -weight * kernel.py_gradient(y[i], u) - dual[i]
        dual[i] += change
        w += change * X[i] / size
        late = change * (X[i] + m) / size
    return dual, w


@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_epoch_against_its_naive_twin(loss, index, dtype):
    X, scores = wide_rows(60, 500, dtype=dtype, index=index)
    fit = fit_of(loss, X, scores, np.random.default_rng(0).uniform(0.5, 2, size=60))
    batch, m = fit.batch, np.asarray(X.mean(axis=0), np.float64).ravel()
    states = []
    for _ in range(2):
        along, squares = np.empty(60), np.empty(60)
        survey_rows(batch.rows, m, along, squares, 0, 60)
        state = DualState(batch.rows, 60 * fit.problem.l2, along, squares)
        state.center_square, state.shift = m @ m, 0.3
        states.append(state)
    fast, slow = states
    order = batch.order(False, None)
    rows = np.arange(60)
    for _ in range(15):
        ascend(batch.rows, fit.problem.loss_kernel(), order, fast, 0, order.n_blocks)
        slow.dual, w = naive_epoch(fit, slow, m, rows)
    # Both are at the dual's maximum by now; a step of the fast one may be a percent short.
    np.testing.assert_allclose(fast.dual, slow.dual, atol=1e-5)
    np.testing.assert_allclose(fast.v - fast.sum / fast.size * m, w, atol=1e-5)
    np.testing.assert_allclose(fast.v_center, fast.v @ m, atol=1e-9)


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_passes_against_numpy(index, dtype):
    X, scores = wide_rows(90, 700, dtype=dtype, index=index)
    rng = np.random.default_rng(0)
    subset = np.sort(rng.permutation(90)[:50])
    fit = fit_of("log_loss", X, scores, rng.uniform(0.5, 2, size=90), subset)
    batch, kernel, exact = fit.batch, fit.problem.loss_kernel(), X.toarray().astype(float)
    sums = rng.normal(size=700)
    expected = sums + 0.3 * exact[subset].sum(axis=0)
    sum_rows(batch.rows, subset, 0.3, sums)
    np.testing.assert_allclose(sums, expected, atol=1e-12)
    m = exact.mean(axis=0)
    along, squares = np.full(90, np.nan), np.full(90, np.nan)
    survey_rows(batch.rows, m, along, squares, 0, 40)
    survey_rows(batch.rows, m, along, squares, 40, 90)
    np.testing.assert_allclose(along, exact @ m, atol=1e-12)
    np.testing.assert_allclose(squares, (exact**2).sum(axis=1), atol=1e-12)
    state = DualState(batch.rows, 2.0, along, squares)
    state.center_square, state.shift = m @ m, 0.2
    order = batch.order(True, [3], 16)
    ascend(batch.rows, kernel, order, state, 0, order.n_blocks)
    outside = np.setdiff1d(np.arange(90), subset)
    assert not state.dual[outside].any() and state.dual[subset].all()
    w = (exact - m).T @ state.dual / 2.0
    p = np.full(50, np.nan)
    margins(batch.rows, state, p, 0, 20, subset)
    margins(batch.rows, state, p, 20, 50, subset)
    np.testing.assert_allclose(p, (exact[subset] - m) @ w, atol=1e-12)
    share = np.empty(50)
    shares(batch.rows, kernel, state, p, share, subset)
    a, u, y, s = state.dual[subset], state.margin[subset], batch.targets, batch.weights
    slopes = [kernel.py_gradient(y[i], at) for i, at in zip(subset, p, strict=True)]
    np.testing.assert_allclose(share, (p - u) * (a + s[subset] * slopes), atol=1e-12)
    # To second order this is twice a row's part of the gap, which is never negative.
    losses = [kernel.py_value(y[i], at) for i, at in zip(subset, p, strict=True)]
    tangents = [kernel.py_value(y[i], at) for i, at in zip(subset, u, strict=True)]
    gaps = s[subset] * (np.array(losses) - tangents) + a * (p - u)
    assert gaps.min() >= 0.0
    np.testing.assert_allclose(share / 2, gaps, rtol=0.5, atol=1e-6)


@pytest.mark.parametrize("cls", ESTIMATORS)
@pytest.mark.parametrize("alpha", [1.0, 1e-2, 1e-4, 1e-6])
def test_estimators_end_at_the_optimum(cls, alpha, monkeypatch):
    """From strong penalties to those where ascent gives up and gradients take over."""
    X, scores = wide_rows(1500, 6000)
    y = (scores > 0).astype(int) if is_clf(cls) else scores
    est = cls(alpha=alpha, random_state=0, max_iter=5000)
    if is_clf(cls):
        est.set_params(loss="log_loss")
    est.fit(X, y)
    assert np.all(np.diff(est.history_["objective"]) <= 1e-12)
    reached = objective(est, X, y)
    assert est.history_["objective"][-1] == pytest.approx(reached, rel=1e-9)
    if alpha >= 1e-2:
        assert est.scheme_ == "dual-ascent"
    monkeypatch.setattr(skpar._auto, "suits", lambda *_: False)
    other = est.set_params(tol=1e-8).fit(X, y)
    assert other.scheme_ != "dual-ascent"
    best = min(objective(other, X, y), reached)
    assert reached <= best * 1.001 + 1e-9


@pytest.mark.parametrize("weighted", [False, True])
def test_ascent_ends_within_tol(weighted):
    """The gap promised holds against a much tighter fit, whichever rows were visited last."""
    X, scores = wide_rows(1500, 6000)
    weights = np.random.default_rng(1).integers(0, 4, size=1500).astype(float) if weighted else None
    fit = fit_of("log_loss", X, scores, weights, alpha=1e-3)
    objective = Objective(fit.problem, fit.batch)
    tight = DualAscent(fit, objective)
    for number in range(60):
        tight.epoch(number)
    partial = 0
    for seed, tol in [(seed, tol) for seed in range(5) for tol in (1e-2, 1e-3, 1e-4, 1e-6)]:
        fit.seed = seed
        ascent = DualAscent(fit, objective, tol)
        for number in range(30):
            ascent.epoch(number)
            partial += int(ascent.partial)
            if ascent.gap <= tol * ascent.value:
                break
        assert tight.value - 1e-12 <= ascent.value <= tight.value * (1 + 1.02 * tol)
        assert ascent.bound <= tight.value * (1 + 1e-9)
        reached = objective.value(ascent.x, objective.margins(ascent.x))
        assert reached == pytest.approx(ascent.value, rel=1e-12)
    assert partial > 0


def test_memory_is_not_shared_by_fits_at_once():
    X, scores = wide_rows()
    fit = fit_of("log_loss", X, scores)
    objective = Objective(fit.problem, fit.batch)
    first, second = DualAscent(fit, objective), DualAscent(fit, objective)
    assert not np.shares_memory(first.state.v, second.state.v)
    assert not np.shares_memory(first.state.v, first.center.means)
    first.epoch(0)
    assert not second.state.v.any()
    kept = first.x.copy()
    del first
    third = DualAscent(fit, objective)
    assert not third.state.v.any()
    third.epoch(0)
    np.testing.assert_array_equal(third.x, kept)


@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_same_bits_for_any_number_of_workers(cls):
    X, scores = wide_rows(2000, 8000)
    fits = [
        cls(loss="log_loss", n_jobs=n, random_state=3).fit(X, scores > 0).coef_ for n in (1, 2, 4)
    ]
    np.testing.assert_array_equal(fits[0], fits[1])
    np.testing.assert_array_equal(fits[0], fits[2])


@pytest.mark.parametrize("cls", REGRESSORS)
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_normal_equations(cls, fit_intercept, dtype):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(3000, 7)) * 10.0 ** np.arange(-3, 4) + 100).astype(dtype)
    y = X @ rng.normal(size=7) + rng.normal(size=3000)
    weights = rng.integers(0, 3, size=3000).astype(float)
    est = cls(alpha=0.01, fit_intercept=fit_intercept, n_jobs=2).fit(X, y, sample_weight=weights)
    ridge = Ridge(alpha=0.01 * 3000, fit_intercept=fit_intercept)
    ridge.fit(X.astype(float), y, weights)
    np.testing.assert_allclose(est.coef_, ridge.coef_, rtol=1e-4, atol=2e-6)
    assert est.n_iter_ == 1
    value = objective(est, X, y, sample_weight=weights)
    assert est.history_["objective"][-1] == pytest.approx(value, rel=1e-4)


def test_normal_equations_are_left_where_digits_are_missing():
    """Columns that nearly repeat each other, targets that are met to the last digits."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 3))
    twin = np.column_stack([X, X[:, 0] + 1e-7 * X[:, 1]])
    noisy = X @ [1.0, 2.0, 3.0] + rng.normal(size=500)

    def solver(X, y):
        problem = Problem(
            loss="squared_error", penalty="l2", alpha=1e-12, l1_ratio=0.0, fit_intercept=True,
            epsilon=0.1, learning_rate="auto", eta0=0.01, power_t=0.5, average=0,
        )  # fmt: skip
        return least_squares_for(Objective(problem, Batch.of(X, y)), np.zeros(X.shape[1] + 1))

    assert solver(X, noisy) is not None
    assert solver(twin, noisy) is None
    exact = solver(X, X @ [1.0, 2.0, 3.0])
    assert exact.best == pytest.approx(0.5e-12 * exact.w @ exact.w, rel=1e-6)
    assert solver(X * 1e160, noisy) is None


# Many outputs in one read.
def targets_of(loss, scores, k, rng):
    """(arguments of `Targets`, a column of targets for each output, its rows' weights)."""
    n = len(scores)
    weights = rng.integers(0, 3, size=n).astype(float)
    if loss in CLASSIFICATION:
        codes = rng.integers(0, k, size=n)
        factors = rng.uniform(0.5, 2.0, size=k)
        hit = codes[:, None] == np.arange(k)
        Y = np.where(hit, 1.0, 0.0 if loss == "log_loss" else -1.0)
        own = weights[:, None] * np.where(hit, factors, 1.0)
        return (codes, None, weights, np.arange(k), factors), Y, own
    Y = scores[:, None] * rng.normal(size=k) + rng.normal(size=(n, k))
    return (None, Y, weights, None, np.ones(k)), Y, np.repeat(weights[:, None], k, axis=1)


@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("k", [1, 3, 4, 13, 30])
@pytest.mark.parametrize("kind", [(np.float64, np.int32), (np.float32, np.int64)], ids=str)
def test_many_outputs_are_as_many_ascents(loss, k, kind):
    X, scores = wide_rows(120, 900, dtype=kind[0], index=kind[1])
    rng = np.random.default_rng(k)
    parts, Y, weights = targets_of(loss, scores, k, rng)
    kernel = fit_of(loss, X, scores).problem.loss_kernel()
    m = np.asarray(X.mean(axis=0), np.float64).ravel()
    along, squares, square = np.empty(120), np.empty(120), m @ m
    batch = Batch.of(X, Y[:, 0])
    survey_rows(batch.rows, m, along, squares, 0, 120)
    order = batch.order(True, [3, 1], 4)
    many = DualsState(batch.rows, 2.0, k, along, squares, square)
    many.shift[:k] = rng.normal(size=k)
    targets = Targets(*parts)
    # One output alone reads a row before the row ahead of it has moved the weights, and steps may
    # be a percent short: these ascents are compared at the maximum.
    epochs, apart = 100, 1e-4 if loss == "modified_huber" else 1e-8
    for _ in range(epochs):
        ascend_many(batch.rows, kernel, targets, order, many, 0, order.n_blocks)
    margins = np.empty((120, many.k))
    margins_of_many(batch.rows, many, margins)
    totals = np.zeros((3, many.k))
    losses_of_many(kernel, targets, margins, many.shift, totals)
    for c in range(k):
        own = Batch.of(X, Y[:, c], weights[:, c])
        one = DualState(own.rows, 2.0, along, squares)
        one.center_square, one.shift = square, many.shift[c]
        for _ in range(epochs):
            ascend(own.rows, kernel, order, one, 0, order.n_blocks)
        np.testing.assert_allclose(many.dual[:, c], one.dual, atol=apart)
        np.testing.assert_allclose(many.v[:, c], one.v, atol=apart)
        used = weights[:, c] > 0
        np.testing.assert_allclose(many.margin[used, c], one.margin[used], atol=apart)
        plain = X @ one.v - one.v_center + one.sum / 2.0 * (square - along)
        np.testing.assert_allclose(margins[:, c], plain, atol=max(apart, 1e-6))
        p = margins[:, c] + one.shift
        values = [kernel.py_value(y, z) for y, z in zip(Y[:, c], p, strict=True)]
        slopes = [kernel.py_gradient(y, z) for y, z in zip(Y[:, c], p, strict=True)]
        assert totals[0, c] == pytest.approx(weights[:, c] @ values, rel=1e-9)
        assert totals[1, c] == pytest.approx(weights[:, c] @ slopes, rel=1e-7, abs=1e-9)
    assert not many.v[:, k:].any()


@pytest.mark.parametrize("cls", CLASSIFIERS)
@pytest.mark.parametrize("alpha", [1e-2, 1e-3, 1e-6])
def test_classes_end_at_their_optima(cls, alpha):
    X, scores = wide_rows(5000, 6000)
    y = np.digitize(scores, [-1.5, -0.2, 0.5, 2.0])
    est = cls(loss="log_loss", alpha=alpha, class_weight={0: 2.0}, random_state=0, max_iter=3000)
    fits = [est.set_params(n_jobs=n).fit(X, y).coef_ for n in (1, 2, 4)]
    np.testing.assert_array_equal(fits[0], fits[1])
    np.testing.assert_array_equal(fits[0], fits[2])
    if alpha >= 1e-3:
        assert est.scheme_ == "dual-ascent"
    reached = []
    for k in range(5):
        one = cls(loss="log_loss", alpha=alpha, tol=1e-8, random_state=0, max_iter=3000)
        weights = np.where(y == k, 2.0 if k == 0 else 1.0, 1.0)
        one.fit(X, y == k, sample_weight=weights)
        least = objective(one, X, y == k, sample_weight=weights)
        one.coef_, one.intercept_ = est.coef_[[k]], est.intercept_[[k]]
        reached.append(objective(one, X, y == k, sample_weight=weights))
        assert reached[-1] <= least * 1.001 + 1e-9
    assert est.history_["objective"][-1] == pytest.approx(np.mean(reached), rel=1e-9)


@pytest.mark.parametrize("cls", REGRESSORS)
def test_targets_end_at_their_optima(cls):
    X, scores = wide_rows(5000, 6000)
    Y = scores[:, None] + np.random.default_rng(0).normal(size=(5000, 5))
    est = cls(alpha=1e-2, n_jobs=2).fit(X, Y)
    assert est.scheme_ == "dual-ascent"
    for k in range(5):
        ridge = Ridge(alpha=1e-2 * 5000, tol=1e-10).fit(X, Y[:, k])
        one = cls(alpha=1e-2, n_jobs=1).fit(X, Y[:, k])
        values = []
        for coef, intercept in ((ridge.coef_, ridge.intercept_), (est.coef_[k], est.intercept_[k])):
            one.coef_, one.intercept_ = coef, np.array([intercept])
            values.append(objective(one, X, Y[:, k]))
        assert values[1] <= values[0] * 1.001
