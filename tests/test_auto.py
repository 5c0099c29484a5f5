"""learning_rate="auto": the optimum without tuning, and an end that is one."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from _common import (
    CLASSIFIERS,
    ESTIMATORS,
    LOSS,
    PENALTIES,
    REGRESSORS,
    is_clf,
    large_problem,
    load_shared,
    objective,
    objectives,
    shared_names,
    small_problem,
)
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning

from skpar._data import Batch
from skpar._descent import Descent
from skpar._kernels.quadratic import descend
from skpar._kernels.smoothed import Smoothed
from skpar._objective import Objective
from skpar._problem import Problem

every = pytest.mark.parametrize("cls", ESTIMATORS)
SMOOTH = ["log_loss", "squared_hinge", "modified_huber"]
SMOOTH_REGRESSION = ["squared_error", "huber", "squared_epsilon_insensitive"]


def losses_of(cls):
    if is_clf(cls):
        return [*SMOOTH, "hinge"]
    return [*SMOOTH_REGRESSION, "epsilon_insensitive"]


def problem_of(cls, n=600, d=12, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.7)
    scores = X @ rng.normal(size=d) + rng.logistic(size=n) + 0.3
    return X, (scores > 0).astype(int) if is_clf(cls) else scores


def least(est, X, y, sample_weight=None):
    """The least objective: smooth ones by L-BFGS, with w = u - v and u, v >= 0 for l1; kinked
    ones by the same with one slack a row, as a bound-constrained problem in its dual's stead."""
    d = X.shape[1]
    signs = np.where(np.asarray(y) == np.max(y), 1.0, -1.0) if is_clf(type(est)) else np.asarray(y)
    s = np.ones(len(signs)) if sample_weight is None else np.asarray(sample_weight, float)
    ratio = {"l2": 0.0, "l1": 1.0, "elasticnet": est.l1_ratio, None: 0.0}[est.penalty]
    alpha = est.alpha if est.penalty else 0.0

    def value(x):
        w = x[:d] - x[d : 2 * d]
        p = X @ w + x[-1]
        loss = s @ LOSS[est.loss](signs, p, est.epsilon) / len(s)
        l1 = alpha * ratio * x[: 2 * d].sum()
        return loss + l1 + 0.5 * alpha * (1 - ratio) * w @ w

    def gradient(x):
        w = x[:d] - x[d : 2 * d]
        p = X @ w + x[-1]
        h = 1e-6
        up = LOSS[est.loss](signs, p + h, est.epsilon)
        slopes = s * (up - LOSS[est.loss](signs, p - h, est.epsilon)) / (2 * h) / len(s)
        g = X.T @ slopes + alpha * (1 - ratio) * w
        return np.concatenate([g + alpha * ratio, -g + alpha * ratio, [slopes.sum()]])

    bounds = [(0, None)] * (2 * d) + [(None, None)]
    options = dict(maxiter=20_000, maxfun=40_000, ftol=1e-15, gtol=1e-10)
    start = np.full(2 * d + 1, 1e-3)
    return minimize(value, start, jac=gradient, bounds=bounds, options=options).fun


def gap(est, X, y, best, **kwargs):
    return objective(est, X, y, **kwargs) / best - 1


# The optimum.
@pytest.mark.parametrize("penalty", PENALTIES)
@every
def test_every_smooth_loss_ends_at_its_optimum(cls, penalty):
    """Within the documented 0.1 % by default, and at the optimum for a small tol."""
    X, y = problem_of(cls)
    for loss in losses_of(cls)[:-1]:
        est = cls(loss=loss, penalty=penalty, alpha=0.01, random_state=0)
        best = least(est, X, y)
        assert gap(est.fit(X, y), X, y, best) < 1e-3
        assert gap(est.set_params(tol=1e-9).fit(X, y), X, y, best) < 1e-6


@pytest.mark.parametrize("penalty", ["l2", "l1"])
@every
def test_kinked_losses_end_at_their_optimum(cls, penalty):
    """No smooth method finds it; a linear or quadratic program does, here by its dual bound."""
    X, y = problem_of(cls, n=200, d=4)
    est = cls(loss=losses_of(cls)[-1], penalty=penalty, alpha=0.01, tol=1e-4, random_state=0)
    best = kinked_least(est, X, y)
    assert -1e-6 < gap(est.fit(X, y), X, y, best) < 1e-4


def kinked_least(est, X, y):
    """The least hinge or epsilon-insensitive objective, as a program with slacks (SLSQP-free:
    proximal bundle by cutting planes over a quadratic, solved through scipy's trust-constr)."""
    d, n = X.shape[1], len(y)
    l1 = est.alpha if est.penalty == "l1" else 0.0
    l2 = est.alpha if est.penalty == "l2" else 0.0
    if is_clf(type(est)):
        signs = np.where(np.asarray(y) == 1, 1.0, -1.0)
        rows, right = signs[:, None] * np.column_stack([X, np.ones(n)]), np.ones(n)
        owner = np.arange(n)
    else:
        A = np.column_stack([X, np.ones(n)])
        rows = np.vstack([A, -A])
        right = np.concatenate([y - est.epsilon, -y - est.epsilon])
        owner = np.concatenate([np.arange(n), np.arange(n)])
    # max over 0 <= a (sums per row <= 1/n) of right.a - l2 or l1 conjugate of rows' a
    if l1:
        from scipy.optimize import linprog

        cost = np.concatenate([np.full(2 * d, l1), [0, 0], np.full(n, 1 / n)])
        slack = sp.csr_matrix((np.ones(len(owner)), (np.arange(len(owner)), owner)))
        lhs = sp.hstack([rows[:, :d], -rows[:, :d], rows[:, d:], -rows[:, d:], slack])
        return linprog(cost, A_ub=-lhs.tocsr(), b_ub=-right).fun
    K = rows[:, :d] @ rows[:, :d].T / l2

    def dual(a):
        return 0.5 * a @ K @ a - right @ a

    groups = sp.csr_matrix((np.ones(len(owner)), (owner, np.arange(len(owner)))))
    constraints = [dict(type="eq", fun=lambda a: rows[:, d] @ a, jac=lambda a: rows[:, d])]
    if len(owner) > n:
        dense = groups.toarray()
        constraints.append(dict(type="ineq", fun=lambda a: 1 / n - dense @ a, jac=lambda a: -dense))
    found = minimize(
        dual,
        np.full(len(owner), 0.1 / n),
        jac=lambda a: K @ a - right,
        bounds=[(0, 1 / n)] * len(owner),
        constraints=constraints,
        options=dict(maxiter=500, ftol=1e-12),
        method="SLSQP",
    )
    return -found.fun


@every
def test_sample_weights(cls):
    X, y = problem_of(cls)
    weights = np.random.default_rng(1).integers(0, 4, len(y)).astype(float)
    for loss in losses_of(cls)[:2]:
        est = cls(loss=loss, alpha=0.01, tol=1e-9, random_state=0).fit(X, y, sample_weight=weights)
        best = least(est, X, y, weights)
        assert gap(est, X, y, best, sample_weight=weights) < 1e-6
        # A weight is a repetition, and a row of weight 0 is as if it were not there.
        repeated = np.repeat(np.arange(len(y)), weights.astype(int))
        alpha = 0.01 * len(y) / len(repeated)
        twin = cls(loss=loss, alpha=alpha, tol=1e-9).fit(X[repeated], y[repeated])
        np.testing.assert_allclose(est.coef_, twin.coef_, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_multiclass(cls):
    X, y = small_problem("multiclass", n=300)
    est = cls(loss="log_loss", alpha=0.01, tol=1e-9, random_state=0).fit(X, y)
    for k, label in enumerate(est.classes_):
        one = cls(loss="log_loss", alpha=0.01, tol=1e-9).fit(X, y == label)
        assert objectives(est, X, y)[k] == pytest.approx(objective(one, X, y == label), rel=1e-7)


@pytest.mark.parametrize("cls", REGRESSORS)
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("shape", [(300, 8), (30, 80)])
def test_closed_form(cls, fit_intercept, shape):
    rng = np.random.default_rng(0)
    X = rng.normal(size=shape) + 5.0
    y = X @ rng.normal(size=shape[1]) + rng.normal(size=len(X)) + 3
    est = cls(alpha=0.1, fit_intercept=fit_intercept, tol=1e-10).fit(X, y)
    A, b = (X - X.mean(axis=0), y - y.mean()) if fit_intercept else (X, y)
    w = np.linalg.solve(A.T @ A / len(X) + 0.1 * np.eye(shape[1]), A.T @ b / len(X))
    np.testing.assert_allclose(est.coef_, w, rtol=1e-6, atol=1e-8)
    intercept = y.mean() - X.mean(axis=0) @ w if fit_intercept else 0.0
    np.testing.assert_allclose(est.intercept_, intercept, rtol=1e-6, atol=1e-8)


# Data that nobody scaled.
@every
@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_columns_of_very_unequal_scale(cls, layout):
    """As good as on standardised columns with the penalty moved along."""
    X, y = problem_of(cls, n=500, d=6)
    scales = np.array([1e-6, 1e-3, 1.0, 1e3, 1e6, 1e9])
    offsets = np.array([0.0, 0.0, 0.0, 5e6, 1e9, 1e12]) if layout == "dense" else 0.0
    raw = X * scales + offsets
    data = raw if layout == "dense" else sp.csr_matrix(raw)
    for loss in losses_of(cls)[:2]:
        est = cls(loss=loss, alpha=1e-9, tol=1e-8, random_state=0).fit(data, y)
        free = cls(loss=loss, alpha=0.0, tol=1e-10).fit(X[:, 2:], y)
        # The columns with large numbers cost no penalty; the two small ones can hardly be used.
        assert objective(est, raw, y) <= objective(free, X[:, 2:], y) * 1.001


def test_features_times_a_thousand():
    """SGDRegressor ends with R2 = -8.5e26 here."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 10)) * 1000
    y = X @ rng.normal(size=10) / 1000 + rng.normal(size=1000)
    for cls in REGRESSORS:
        for n_jobs in (1, 2):
            est = cls(n_jobs=n_jobs).fit(X, y)
            best = least(cls(), X / 1000, y)  # at least as good without the penalty's help
            assert objective(est, X, y) < 1.01 * best


@every
def test_heavy_tails_and_constant_columns(cls):
    rng = np.random.default_rng(0)
    X = rng.standard_cauchy(size=(800, 5))
    X = np.column_stack([X, np.zeros(800), np.full(800, 1e5)])
    y = X[:, 0] + rng.normal(size=800)
    y = (y > 0).astype(int) if is_clf(cls) else np.clip(y, -5, 5)
    for loss in losses_of(cls):
        est = cls(loss=loss, random_state=0).fit(X, y)
        again = cls(loss=loss, random_state=0, tol=1e-7, max_iter=3000).fit(X, y)
        assert np.isfinite(est.coef_).all()
        assert est.coef_.ravel()[5] == 0
        assert objective(est, X, y) < 1.001 * objective(again, X, y)


@every
def test_numbers_too_large_are_named(cls):
    X, y = problem_of(cls)
    X[3, 7] = 1e200
    with pytest.raises(ValueError, match=r"column 7 of X .*1e\+200"):
        cls().fit(X, y)
    if not is_clf(cls):
        X[3, 7] = 0
        with pytest.raises(ValueError, match="targets"):
            cls().fit(X, y * 1e200)


# Laws.
@every
def test_dense_and_sparse_agree(cls):
    X, y = problem_of(cls)
    for loss in losses_of(cls)[:2]:
        a, b, c = (
            cls(loss=loss, tol=1e-9, alpha=0.01, random_state=0).fit(data, y)
            for data in (X, sp.csr_matrix(X), X.astype(np.float32))
        )
        # Objectives within 1e-9 are those of weights within the root of that.
        np.testing.assert_allclose(a.coef_, b.coef_, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(a.coef_, c.coef_, rtol=1e-3, atol=1e-4)
        assert c.coef_.dtype == np.float32


@every
@pytest.mark.parametrize("layout", ["dense", "csr"])
def test_same_bits_for_any_number_of_workers(cls, layout):
    """Full gradients are summed in spans that the data define."""
    if "Hogwild" in cls.__name__ and layout == "csr":
        pytest.skip("wide sparse rows begin with lock-free steps")
    X, y = large_problem("binary" if is_clf(cls) else "regression", layout)
    fits = [cls(random_state=0, n_jobs=n).fit(X, y) for n in (None, 1, 2, 3)]
    for other in fits[1:]:
        np.testing.assert_array_equal(fits[0].coef_, other.coef_)
        np.testing.assert_array_equal(fits[0].intercept_, other.intercept_)


@every
def test_warm_start_at_the_optimum_ends_at_once(cls):
    X, y = problem_of(cls)
    est = cls(loss=losses_of(cls)[0], alpha=0.01, tol=1e-6, warm_start=True).fit(X, y)
    value, first = objective(est, X, y), est.n_iter_
    est.fit(X, y)
    assert est.n_iter_ <= min(2, first)
    assert objective(est, X, y) <= value * (1 + 1e-6)


@every
def test_history_and_the_end(cls):
    X, y = problem_of(cls)
    est = cls(loss=losses_of(cls)[0], random_state=0).fit(X, y)
    history = est.history_
    assert {len(v) for v in history.values()} == {est.n_iter_}
    assert (np.diff(history["objective"]) <= 0).all()
    assert history["objective"][-1] == pytest.approx(objective(est, X, y), rel=1e-6)
    assert (history["step_size"] > 0).all() and est.eta0_ > 0
    with pytest.warns(ConvergenceWarning, match="Maximum number of iteration"):
        cls(loss=losses_of(cls)[-1], max_iter=1, random_state=0).fit(X, y)


@every
def test_tol_is_relative_to_the_objective(cls):
    """Targets in other units, or a loss that is nearly zero, need no other tol."""
    X, y = problem_of(cls)
    loss = losses_of(cls)[0]
    for alpha in (1e-7, 1e-2, 10.0):
        est = cls(loss=loss, alpha=alpha).fit(X, y)
        best = least(est, X, y)
        assert gap(est, X, y, best) < 1e-3
    if not is_clf(cls):
        small = cls(alpha=1e-4).fit(X, y * 1e-5)
        assert gap(small, X, y * 1e-5, least(small, X, y * 1e-5)) < 1e-3


# partial_fit.
@every
@pytest.mark.parametrize("layout", ["dense", "csr"])
def test_partial_fit_makes_progress(cls, layout):
    """The step found in the first call is kept, and each pass ends below w = 0."""
    X, y = large_problem("binary" if is_clf(cls) else "regression", layout)
    est, classes = cls(random_state=0), dict(classes=[0, 1]) if is_clf(cls) else {}
    values, steps = [], []
    for _ in range(8):
        est.partial_fit(X, y, **classes)
        values.append(objective(est, X, y))
        steps.append(est.eta0_)
    fitted = cls(random_state=0).fit(X, y)
    zero = clone_at_zero(est, X)
    assert values[0] < objective(zero, X, y)
    assert values[-1] < 1.1 * objective(fitted, X, y)
    assert len(set(steps)) == 1


def clone_at_zero(est, X):
    zero = type(est)(**est.get_params())
    zero.__dict__ |= {k: v for k, v in est.__dict__.items() if k.endswith("_")}
    zero.coef_, zero.intercept_ = np.zeros_like(est.coef_), np.zeros_like(est.intercept_)
    return zero


@every
def test_partial_fit_in_batches_of_unscaled_rows(cls):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 5)) * 300
    y = X @ np.ones(5) / 300 + rng.normal(size=4000)
    y = (y > 0).astype(int) if is_clf(cls) else y
    est = cls(random_state=0, loss=losses_of(cls)[0])
    for _ in range(5):
        for lo in range(0, 4000, 500):
            rows = slice(lo, lo + 500)
            est.partial_fit(X[rows], y[rows], **(dict(classes=[0, 1]) if is_clf(cls) else {}))
    assert np.isfinite(est.coef_).all()
    assert est.score(X, y) > 0.5


# Validation rows.
@every
def test_validation_set_given(cls):
    X, y = problem_of(cls)
    held, train = slice(0, 200), slice(200, None)
    given = dict(X_val=X[held], y_val=y[held])
    for rate in ("auto", "constant"):
        params = dict(learning_rate=rate, tol=1e-4, max_iter=50, random_state=0)
        est = cls(**params).fit(X[train], y[train], **given)
        plain = cls(**params).fit(X[train], y[train])
        np.testing.assert_array_equal(est.coef_, plain.coef_)  # it is looked at only
        scores = est.history_["validation_score"]
        assert scores[-1] == pytest.approx(est.score(X[held], y[held]))
        stopped = cls(early_stopping=True, **params).fit(X[train], y[train], **given)
        best = np.nanmax(stopped.history_["validation_score"])
        assert stopped.score(X[held], y[held]) == pytest.approx(best)
        weights = np.r_[np.ones(100), np.zeros(100)]
        est.fit(X[train], y[train], **given, sample_weight_val=weights)
        half = est.score(X[:100], y[:100])
        assert est.history_["validation_score"][-1] == pytest.approx(half)


@every
def test_validation_set_errors(cls):
    X, y = problem_of(cls)
    with pytest.raises(ValueError, match="y_val is missing"):
        cls().fit(X, y, X_val=X)
    with pytest.raises(ValueError, match="features"):
        cls().fit(X, y, X_val=X[:, :3], y_val=y)
    if is_clf(cls):
        with pytest.raises(ValueError, match=r"y_val has labels that y has not: \[7\]"):
            cls().fit(X, y, X_val=X[:1], y_val=[7])


# The pieces.
@pytest.mark.parametrize("name", ["hinge", "epsilon_insensitive", "perceptron"])
def test_smoothed_kinks(name):
    kernel = Problem(name, 0.2, "l2", 0.1, 0.1, True, "auto", 0.1, 0.5).loss_kernel()
    for width in (0.5, 1e-3):
        smooth = Smoothed(kernel, width)
        for y in (-1.0, 1.0):
            for p in np.random.default_rng(0).uniform(-3, 3, 300):
                below = kernel.py_value(y, p) - smooth.py_value(y, p)
                assert -1e-12 <= below <= width / 2 + 1e-12
                h = 1e-7
                slope = (smooth.py_value(y, p + h) - smooth.py_value(y, p - h)) / (2 * h)
                assert smooth.py_gradient(y, p) == pytest.approx(slope, abs=1e-6 / width)


@pytest.mark.parametrize("name", ["huber", "modified_huber"])
def test_majorants_lie_above(name):
    kernel = Problem(name, 0.3, "l2", 0.1, 0.1, True, "auto", 0.1, 0.5).loss_kernel()
    grid = np.linspace(-6, 6, 241)
    for p in np.linspace(-4, 4, 41):
        curve = kernel.py_value(1.0, p) + kernel.py_gradient(1.0, p) * (grid - p)
        curve = curve + 0.5 * kernel.py_majorant(1.0, p) * (grid - p) ** 2
        assert (curve >= [kernel.py_value(1.0, q) - 1e-9 for q in grid]).all()


def test_quadratic_with_absolute_values():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(30, 8))
    H, g, z, t = A.T @ A / 30, rng.normal(size=8), rng.normal(size=8), rng.random(8)
    q = descend(H, g, z, t, 10_000, 1e-12)
    slope = g + H @ q
    moved = z + q
    np.testing.assert_allclose(slope[moved != 0], -(t * np.sign(moved))[moved != 0], atol=1e-8)
    assert (np.abs(slope[moved == 0]) <= t[moved == 0] + 1e-8).all()


@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("l1", [0.0, 1e-3])
def test_descent_without_a_hessian(monkeypatch, layout, l1):
    """Many columns: the diagonal and limited memory reach the same optimum."""
    X, y = large_problem("binary", layout, n=3000)
    ratio = 0.0 if l1 == 0.0 else 0.5
    penalty = "elasticnet" if l1 else "l2"
    problem = Problem("log_loss", 0.1, penalty, 2e-3, ratio, True, "auto", 0.1, 0.5)
    values = []
    for most in (3000, 0):
        monkeypatch.setattr("skpar._newton.MOST_COLUMNS", most)
        objective_ = Objective(problem, Batch.of(X, y.astype(float)))
        descent = Descent(objective_, np.zeros(objective_.size), problem.l1)
        for _ in range(300):
            descent.aim()
            if descent.gap < 1e-9 or not descent.move():
                break
        values.append(descent.value)
    assert values[0] == pytest.approx(values[1], rel=1e-6)


@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_sampled_hessian(cls, monkeypatch):
    X, y = large_problem("binary", "dense")
    exact = cls(loss="log_loss", tol=1e-8).fit(X, y)
    monkeypatch.setattr("skpar._newton.EXACT_PASSES", 0)
    sampled = cls(loss="log_loss", tol=1e-8).fit(X, y)
    np.testing.assert_allclose(exact.coef_, sampled.coef_, rtol=1e-2, atol=1e-4)
    assert objective(sampled, X, y) == pytest.approx(objective(exact, X, y), rel=1e-7)


@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_perceptron_still_learns(cls):
    X, y = large_problem("binary", "dense")
    assert cls(loss="perceptron", random_state=0).fit(X, y).score(X, y) > 0.6


@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_separable_without_penalty(cls):
    """There is no minimum: it ends all the same, with everything on its side."""
    X = np.r_[np.linspace(-2, -1, 20), np.linspace(1, 2, 20)][:, None]
    y = X[:, 0] > 0
    for loss in ("log_loss", "hinge", "squared_hinge"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            est = cls(loss=loss, alpha=0.0, max_iter=200).fit(X, y)
        assert est.score(X, y) == 1 and np.isfinite(est.coef_).all()


# Real data.
@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("name", shared_names())
def test_real_data(name, n_jobs):
    """The defaults end within 0.1 % of the optimum that a tight fit finds."""
    data = load_shared(name)
    X, y = data["X"], data["y"]
    if data["task"] == "multiclass":
        y = y % 2
    cls = REGRESSORS[1] if data["task"] == "regression" else CLASSIFIERS[1]
    loss = {} if data["task"] == "regression" else dict(loss="log_loss")
    params = dict(alpha=1 / len(y), n_jobs=n_jobs, **loss)
    best = objective(cls(tol=1e-8, **params).fit(X, y), X, y)
    seeds = range(2) if len(y) < 1e5 else range(1)
    for seed in seeds:
        assert gap(cls(random_state=seed, **params).fit(X, y), X, y, best) < 1e-3
