"""learning_rate="auto" on awkward shapes: odd scales, few rows, far targets, starts from a sample.

Every optimum is found by scikit-learn's own solvers or by an independent descent.
"""

import numpy as np
import pytest
import scipy.sparse as sp
from _common import CLASSIFIERS, ESTIMATORS, LOSS, REGRESSORS, is_clf, objective
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from skpar._data import Batch
from skpar._descent import Descent
from skpar._few_rows import FewRowsFit, auto_fit, suits
from skpar._newton import Diagonal, Frame, Matrix
from skpar._objective import Objective
from skpar._problem import Problem
from skpar._sampled import start_from_sample
from skpar._schemes import Fit, Weights
from skpar._workers import local_team

BAR = 1.001


def binary(n, d, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    return X, (X[:, : min(d, 10)].sum(axis=1) + noise * rng.normal(size=n) > 0.3).astype(int)


def fit(cls, X, y, **params):
    params = {"alpha": 1 / len(y), "n_jobs": 2, "random_state": 0, **params}
    loss = {"loss": "log_loss"} if is_clf(cls) else {}
    return cls(**{**loss, **params}).fit(X, y)


def least(model, X, y):
    """The objective of `model`'s problem at scikit-learn's solution."""
    if is_clf(type(model)):
        other = LogisticRegression(C=1.0, tol=1e-10, max_iter=20_000, solver="newton-cg").fit(X, y)
    else:
        other = Ridge(alpha=1.0, solver="lsqr", tol=1e-12, max_iter=10_000).fit(X, y)
    copy = type(model)(**model.get_params())
    copy.coef_, copy.intercept_ = other.coef_, np.ravel(other.intercept_)
    if is_clf(type(model)):
        copy.classes_ = other.classes_
    return objective(copy, X, y)


# Columns of next to no spread weigh nothing, and must not outweigh the others in the Hessian.
@pytest.mark.parametrize("scale", [1e-6, 1e-10, 1e-17])
@pytest.mark.parametrize("shape", [(20_000, 50), (300, 10), (252, 700), (3000, 260)])
@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_a_column_of_tiny_scale(cls, shape, scale):
    X, y = binary(*shape)
    X[:, -1] *= scale
    without = X.copy()
    without[:, -1] = 0.0
    model = fit(cls, X, y)
    assert objective(model, X, y) <= BAR * objective(fit(cls, without, y, tol=1e-8), without, y)


def mixed_columns(n=20_000):
    """(one-hot columns beside years, prices, times in seconds and shares; scales; 3 scores)"""
    rng = np.random.default_rng(0)
    hot = sp.csr_matrix((np.ones(n), rng.integers(0, 3000, n), np.arange(n + 1)), (n, 3000))
    more = np.column_stack(
        [rng.integers(1990, 2020, n), rng.lognormal(3, 1, n), rng.random(n) * 2e9, rng.random(n)]
    )
    X = sp.csr_matrix(sp.hstack([hot, sp.csr_matrix(more)]))
    scores = (more - more.mean(axis=0)) / more.std(axis=0) @ rng.normal(size=(4, 3))
    scores += rng.normal(size=(3000, 3))[hot.indices] + rng.normal(size=(n, 3))
    scale = np.ones(X.shape[1])
    scale[-4:] = 1.0 / more.std(axis=0)
    return X, scale, scores


# In columns of one scale other solvers converge too; the penalty hardly counts in those four.
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_sparse_columns_of_all_scales(cls):
    X, scale, scores = mixed_columns()
    y = (scores[:, 0] > 0).astype(int) if is_clf(cls) else scores[:, 0]
    model = fit(cls, X, y, tol=1e-4)
    scaled = sp.csr_matrix(X @ sp.diags_array(scale))
    assert objective(model, X, y) <= 1.005 * least(model, scaled, y)


@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_a_softmax_of_sparse_columns_of_all_scales(cls):
    X, scale, scores = mixed_columns()
    y = scores.argmax(axis=1)
    scaled = sp.csr_matrix(X @ sp.diags_array(scale))
    losses = []
    for rows in (X, scaled):
        model = fit(cls, rows, y, tol=1e-4, multi_class="multinomial")
        losses.append(-np.log(model.predict_proba(rows)[np.arange(len(y)), y]).mean())
    assert losses[0] <= 1.01 * losses[1]


@pytest.mark.parametrize("mean", [300.0, 1e5])
@pytest.mark.parametrize("cls", REGRESSORS)
def test_sparse_rows_and_a_target_far_from_zero(cls, mean):
    rng = np.random.default_rng(0)
    X = sp.random(5000, 3000, 0.003, format="csr", random_state=0)
    y = X @ rng.normal(size=3000) + rng.normal(size=5000)
    shifted = fit(cls, X, mean * y.std() + y, max_iter=200)
    centred = fit(cls, X, y, tol=1e-6, max_iter=200)
    there = objective(shifted, X, mean * y.std() + y)
    assert there <= BAR * objective(centred, X, y)


# Fewer rows than columns.
def reference(loss, X, y, s, alpha, intercept):
    """The least objective by scipy, in the coordinates of the rows' span."""
    _, values, V = np.linalg.svd(X, full_matrices=False)
    V = V[values > 1e-10 * values[0]]
    Z = X @ V.T

    def value(u):
        p = Z @ u[:-1] + (u[-1] if intercept else 0.0)
        losses = LOSS[loss](y, p, 0.1)
        return float(s @ losses) / len(y) + 0.5 * alpha * float(u[:-1] @ u[:-1])

    found = minimize(value, np.zeros(len(V) + 1), method="BFGS", options={"gtol": 1e-7})
    return found.fun


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("cls", "loss"),
    [
        (CLASSIFIERS[0], "log_loss"),
        (CLASSIFIERS[1], "squared_hinge"),
        (REGRESSORS[0], "squared_error"),
        (REGRESSORS[1], "huber"),
    ],
)
def test_fewer_rows_than_columns(cls, loss, dtype, intercept):
    rng = np.random.default_rng(0)
    X, y = binary(25, 90)
    X = (30 * X + 100 * rng.random(90)).astype(dtype)
    X[3], y[3] = X[4], y[4]  # a row twice: the rows' products have no full rank
    s = rng.integers(0, 3, 25).astype(float)
    target = y if is_clf(cls) else X[:, :3].astype(float).sum(axis=1)
    target = target if is_clf(cls) else target / target.std()
    model = cls(loss=loss, alpha=0.1, fit_intercept=intercept, tol=1e-6, max_iter=200)
    model.fit(X, target, sample_weight=s)
    signs = 2 * y - 1 if is_clf(cls) else target
    X = X.astype(float)
    expected = reference(loss, X, signs, s, 0.1, intercept)
    assert objective(model, X, target, s) <= expected * (1 + 1e-3) + 1e-9
    assert model.coef_.dtype == dtype


def fit_of(problem, X, y, subset=None, weights=None):
    batch = Batch.of(X, y.astype(float), weights, subset)
    start = Weights(np.zeros(X.shape[1], X.dtype), 0.0)
    return Fit(problem, batch, local_team(1), 0, start=start)


def test_few_rows_of_a_subset_and_which_they_are():
    X, y = binary(80, 200)
    problem = Problem("log_loss", 0.1, "l2", 0.01, 0.0, True, "auto", 0.1, 0.5)
    subset = np.arange(0, 80, 2)
    few = fit_of(problem, X, y, subset)
    assert suits(few) and not suits(fit_of(problem, X[:, :30].copy(), y))
    assert not suits(fit_of(problem, sp.csr_matrix(X), y))
    kinds = []
    for one, rows in [(few, subset), (fit_of(problem, X[subset], y[subset]), slice(None))]:
        auto = auto_fit(one, None, 1e-9)
        kinds.append(type(auto))
        for number in range(50):
            if not auto.step(number) or auto.finished:
                break
        w, b = auto.weights()
        own = one.batch.values[rows] @ w + b
        kinds.append(auto.value)
        # What the fit believes of the smaller problem is true of the rows.
        there = Objective(problem, one.batch)
        x = np.append(w, b)
        assert there.value(x, there.margins(x)) == pytest.approx(auto.value, rel=1e-9)
        np.testing.assert_allclose(there.margins(x), own, rtol=1e-9, atol=1e-12)
    assert kinds[0] is kinds[2] is FewRowsFit
    assert kinds[1] == pytest.approx(kinds[3], rel=1e-9)


def test_few_rows_that_overflow_are_left_to_the_usual_error():
    X, y = binary(20, 50)
    X[3, 7] = 1e200
    with pytest.raises(ValueError, match="column 7"):
        fit(CLASSIFIERS[0], X, y)


# A start from some of the rows.
LOG = Problem("log_loss", 0.1, "l2", 1e-3, 0.0, True, "auto", 0.1, 0.5)


def sampled_start(X, y, monkeypatch, problem=LOG):
    monkeypatch.setattr("skpar._sampled.LEAST_WORK", 0)
    objective_ = Objective(problem, Batch.of(X, y.astype(float)))
    zero = np.zeros(objective_.size)
    x = start_from_sample(objective_, Frame(objective_), zero, problem.l1)
    return [objective_.value(v, objective_.margins(v)) for v in (zero, x)]


def test_a_sample_leads_near_the_end(monkeypatch):
    X, y = binary(16_000, 12)
    zero, there = sampled_start(X, y, monkeypatch)
    end = objective(fit(CLASSIFIERS[0], X, y, alpha=1e-3, tol=1e-8), X, y)
    assert end <= there <= end + 0.05 * (zero - end)


def test_a_sample_that_separates_does_not_lead_away(monkeypatch):
    """Rare rows tell: few rows can be told apart perfectly, all can not."""
    rng = np.random.default_rng(0)
    X = (rng.random((16_000, 40)) < 0.01).astype(float)
    y = (X[:, :20].sum(axis=1) + 0.3 * rng.random(16_000) > 0.5).astype(int)
    y[rng.random(16_000) < 0.02] ^= 1
    zero, there = sampled_start(X, y, monkeypatch)
    assert there < zero


def test_rows_sorted_by_label(monkeypatch):
    monkeypatch.setattr("skpar._sampled.LEAST_WORK", 0)
    X, y = binary(16_000, 12)
    order = np.argsort(y, kind="stable")
    models = [fit(CLASSIFIERS[0], X[rows], y[rows]) for rows in (order, np.arange(len(y)))]
    ends = [objective(model, X, y) for model in models]
    assert ends[0] == pytest.approx(ends[1], rel=1e-3)


# When it ends.
def test_a_bound_from_an_older_hessian():
    """It is at least what a Newton step by the Hessian of the very point promises."""
    X, y = binary(4000, 8)
    objective_ = Objective(LOG, Batch.of(X, y.astype(float)))
    descent = Descent(objective_, np.zeros(9))
    for _ in range(4):
        descent.aim()
        descent.move()
        bound = descent._bound()
        fresh = Matrix(objective_, descent.frame, objective_.n)
        fresh.renew(descent.point.curvatures)
        assert 0.5 * descent.g @ fresh.solve(descent.g) <= bound * (1 + 1e-6)


def test_an_estimate_far_from_the_bound_is_doubted():
    X, y = binary(4000, 8)
    objective_ = Objective(LOG, Batch.of(X, y.astype(float)))
    frame = Frame(objective_)
    descent = Descent(objective_, np.zeros(9), 0.0, (frame, Diagonal(objective_, frame)))
    descent.aim()
    assert descent.doubtful(1e-6)
    for _ in range(100):
        if not descent.move():
            break
        descent.aim()
    assert not descent.doubtful(1e-6)


@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_no_step_that_gains_is_said(cls, monkeypatch):
    monkeypatch.setattr(Descent, "_search", lambda self: (None, 0.0))
    X, y = binary(5000, 40)
    with pytest.warns(ConvergenceWarning, match="No step lowers the objective"):
        fit(cls, X, y)


def test_a_sampled_hessian_that_misses_columns(monkeypatch):
    """Pixels that few rows have: the sample's diagonal is that of all rows."""
    monkeypatch.setattr("skpar._newton.EXACT_PASSES", 0)
    rng = np.random.default_rng(0)
    X, y = binary(6000, 60)
    X[:, 40:] = 0.0
    for column in range(40, 60):
        X[rng.integers(0, 6000, 2), column] = 255.0
    model = fit(CLASSIFIERS[0], X, y)
    assert objective(model, X, y) <= BAR * least(model, X, y)
