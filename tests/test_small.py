"""Small dense data: interior points and Newton steps in one call, against their definitions."""

import numpy as np
import pytest
from _common import CLASSIFIERS, objective

from skpar._kernels.interior import Interior
from skpar._kernels.newton import Newton


def framed(n=120, d=5, seed=0, intercept=True, noise=1.0):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, d))
    y = np.where(Z[:, 0] + noise * rng.normal(size=n) > 0.2, 1.0, -1.0)
    l2 = rng.uniform(0.5, 2.0, size=d) * 1e-2
    if intercept:
        Z[:, -1], l2[-1] = 1.0, 0.0
    return Z, y, rng.uniform(0.2, 2.0, size=n) / n, l2


def hinge(Z, y, c, l2, u):
    return 0.5 * l2 @ u**2 + c @ np.maximum(0, 1 - y * (Z @ u))


def log_loss(Z, y, c, l2, u):
    p = Z @ u
    return 0.5 * l2 @ u**2 + c @ (np.logaddexp(0, p) - y * p)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize("start", ["zero", "elsewhere"])
def test_interior_points(intercept, noise, start):
    """Every dual value is below every primal one, and the two meet."""
    data = framed(intercept=intercept, noise=noise)
    u = np.zeros(5) if start == "zero" else np.random.default_rng(1).normal(size=5)
    points = Interior(*data, u, intercept)
    if start == "elsewhere":
        assert points.primal == pytest.approx(hinge(*data, u), rel=1e-12)
    bounds, values = [points.dual], [points.primal]
    while values[-1] - bounds[-1] > 1e-9 * values[-1]:
        assert points.step() and len(values) < 60
        assert points.primal == pytest.approx(hinge(*data, points.u), rel=1e-12)
        bounds.append(points.dual)
        values.append(points.primal)
    assert max(bounds) <= min(values) * (1 + 1e-12)


def test_interior_points_with_one_class():
    """The intercept alone wins everything: P = 0, and no multiplier is allowed but 0."""
    Z, _, c, l2 = framed()
    points = Interior(Z, np.ones(len(c)), c, l2, np.zeros(5), True)
    for _ in range(40):
        if not points.step():
            break
    assert points.dual == 0.0 and 0 <= points.primal < 1e-6


@pytest.mark.parametrize("start", [0.0, 30.0])
def test_newton_steps(start):
    Z, y, c, l2 = framed()
    data = Z, (y + 1) / 2, c, l2
    points = Newton(*data, np.full(5, start))
    value = points.value
    assert value == pytest.approx(log_loss(*data, np.full(5, start)), rel=1e-12)
    for _ in range(50):
        slope, u = points.slope, points.u.copy()
        if slope > -1e-15 or not points.step():
            break
        assert points.value <= value + 1e-15
        way = (points.u - u) / points.length
        h = 1e-6
        rise = (log_loss(*data, u + h * way) - log_loss(*data, u - h * way)) / (2 * h)
        assert slope == pytest.approx(rise, rel=1e-4, abs=1e-9)
        value = points.value
        assert value == pytest.approx(log_loss(*data, points.u), rel=1e-12)
    gradient = l2 * points.u + Z.T @ (c * (1 / (1 + np.exp(-Z @ points.u)) - data[1]))
    np.testing.assert_allclose(gradient, 0, atol=1e-8)


def test_arguments_that_do_not_fit():
    Z, y, c, l2 = framed()
    with pytest.raises(ValueError, match="do not fit"):
        Interior(Z, y[1:], c, l2, np.zeros(5), True)
    with pytest.raises(ValueError, match="do not fit"):
        Newton(Z, y, c, l2, np.zeros(4))


@pytest.mark.parametrize("cls", CLASSIFIERS)
@pytest.mark.parametrize("loss", ["hinge", "log_loss"])
@pytest.mark.parametrize("case", ["plain", "no intercept", "weights", "subset", "float32", "raw"])
def test_agrees_with_the_general_solver(cls, loss, case, monkeypatch):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(300, 6)) * (1.0 if case != "raw" else [1, 1e3, 1, 1, 1e-3, 1])
    X = X + (0.0 if case != "raw" else [0, 2e3, 5, 0, 0, 0])
    y = (X[:, 0] + rng.normal(size=300) > 0).astype(int)
    if case == "float32":
        X = X.astype(np.float32)
    weights = rng.integers(0, 3, size=300).astype(float) if case == "weights" else None
    est = cls(loss=loss, alpha=1e-2, tol=1e-6, max_iter=300, random_state=0)
    est.set_params(fit_intercept=case != "no intercept")
    if case == "subset":
        est.set_params(early_stopping=True, n_iter_no_change=300)
    values, scores = [], []
    for most in (1 << 17, 0):
        monkeypatch.setattr("skpar._small.MOST_NUMBERS", most)
        est.fit(X, y, sample_weight=weights)
        values.append(objective(est, X, y, sample_weight=weights))
        scores.append(est.history_["objective"].min())
    assert scores[0] == pytest.approx(scores[1], rel=3e-6)
    if case != "subset":  # where the best weights are those of the best score
        assert values[0] == pytest.approx(values[1], rel=3e-6)


@pytest.mark.parametrize("loss", ["hinge", "log_loss"])
def test_the_general_solver_takes_over(loss, monkeypatch):
    """Where rounding ends the compiled steps too early."""
    Z, y, _, _ = framed(n=200)
    best = CLASSIFIERS[0](loss=loss, alpha=1e-2, tol=1e-6).fit(Z, y)
    monkeypatch.setattr("skpar._small.MOST_STEPS", 2)
    est = CLASSIFIERS[0](loss=loss, alpha=1e-2, tol=1e-6).fit(Z, y)
    assert objective(est, Z, y) == pytest.approx(objective(best, Z, y), rel=3e-6)
    assert (np.diff(est.history_["objective"]) <= 1e-12).all()


@pytest.mark.parametrize("loss", ["hinge", "log_loss"])
def test_one_class_with_weight(loss):
    """Rows of weight 0 are as if they were not there: the intercept alone wins everything."""
    Z, y, _, _ = framed(n=50)
    est = CLASSIFIERS[0](loss=loss).fit(Z, y, sample_weight=(y > 0).astype(float))
    assert objective(est, Z, y, sample_weight=(y > 0).astype(float)) < 1e-6
    assert np.isfinite(est.intercept_).all()
