"""The compiled parts against their definitions."""

import numpy as np
import pytest
import scipy.sparse as sp
from _common import (
    CLASSIFICATION_LOSSES,
    LOSS,
    REGRESSION_LOSSES,
    HogwildClassifier,
    HogwildRegressor,
    is_clf,
    objective,
    small_problem,
)

from skpar._data import Batch
from skpar._kernels import margins, rows
from skpar._kernels.records import Order, State
from skpar._kernels.sgd import run
from skpar._problem import Problem

C_NAME = {np.float64: "double", np.float32: "float"}
LENGTHS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 1001]
dtypes = pytest.mark.parametrize("dtype", [np.float64, np.float32])


def problem(loss="log_loss", **params):
    defaults = dict(penalty="l2", alpha=0.01, l1_ratio=0.3, fit_intercept=True)
    defaults |= dict(learning_rate="constant", eta0=0.02, power_t=0.5, epsilon=0.1)
    return Problem(loss=loss, **(defaults | params))


# Row primitives: the fast one and its naive twin.
@dtypes
@pytest.mark.parametrize("n", LENGTHS)
def test_dense_primitives(n, dtype):
    rng = np.random.default_rng(n)
    x, w = rng.normal(size=(2, n)).astype(dtype)
    rtol = 64 * np.finfo(dtype).eps
    fast, naive = rows.py_dot_dense(x, w)
    np.testing.assert_allclose(fast, naive, rtol=0, atol=rtol * np.abs(x * w).sum())
    np.testing.assert_allclose(naive, x.astype(float) @ w, rtol=1e-12, atol=1e-12)
    twin, expected = w.copy(), w + 0.7 * x
    rows.py_axpy_dense[C_NAME[dtype]](0.7, x, w, twin)
    np.testing.assert_allclose(w, twin, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(w, expected, rtol=rtol, atol=rtol)


@dtypes
@pytest.mark.parametrize("n", LENGTHS)
def test_sparse_primitives(n, dtype):
    rng = np.random.default_rng(n)
    columns = rng.permutation(2 * n)[:n].astype(np.int32)
    x, w = rng.normal(size=n).astype(dtype), rng.normal(size=2 * n).astype(dtype)
    rtol = 64 * np.finfo(dtype).eps
    fast, naive = rows.py_dot_sparse(x, columns, w)
    np.testing.assert_allclose(fast, naive, rtol=0, atol=rtol * np.abs(x * w[columns]).sum())
    np.testing.assert_allclose(naive, x.astype(float) @ w[columns], rtol=1e-12, atol=1e-12)
    expected = w.copy()
    expected[columns] += dtype(0.7) * x
    rows.py_axpy_sparse[C_NAME[dtype]](0.7, x, columns, w)
    np.testing.assert_allclose(w, expected, rtol=rtol, atol=rtol)


@dtypes
@pytest.mark.parametrize("n", [1, 8, 33])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_inf_keep_their_meaning(n, bad, dtype):
    """Sums are reassociated; that must not let a NaN disappear."""
    x, w = np.ones(n, dtype), np.ones(n, dtype)
    x[n // 2] = bad
    fast, naive = rows.py_dot_dense(x, w)
    np.testing.assert_array_equal(fast, naive)
    assert not np.isfinite(fast)
    assert not np.isfinite(rows.py_dot_sparse(x, np.arange(n, dtype=np.int32), w)[0])


# Losses.
def targets_of(kernel, y):
    """The log loss takes {0, 1} where the others take {-1, 1}."""
    return (y + 1) / 2 if kernel.name == "LogLoss" else y


@pytest.mark.parametrize("loss", CLASSIFICATION_LOSSES)
def test_loss_values(loss):
    kernel = problem(loss, epsilon=0.3).loss_kernel()
    for y in (-1.0, 1.0, *([0.0, 2.4, -0.7] if loss in REGRESSION_LOSSES else [])):
        for p in [*np.linspace(-4, 4, 81), -700.0, 700.0]:
            value = kernel.py_value(targets_of(kernel, y), p)
            np.testing.assert_allclose(value, LOSS[loss](y, p, 0.3), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("loss", CLASSIFICATION_LOSSES)
def test_loss_gradients_are_differences(loss):
    kernel = problem(loss, epsilon=0.3).loss_kernel()
    rng = np.random.default_rng(0)
    for y in (-1.0, 1.0, *([0.0, 2.4] if loss in REGRESSION_LOSSES else [])):
        y = targets_of(kernel, y)
        for p in rng.uniform(-4, 4, 200):  # random: no kink within h of any
            h = 1e-6
            difference = (kernel.py_value(y, p + h) - kernel.py_value(y, p - h)) / (2 * h)
            np.testing.assert_allclose(kernel.py_gradient(y, p), difference, atol=1e-7)


@pytest.mark.parametrize("loss", CLASSIFICATION_LOSSES)
def test_loss_curvature_bounds_the_gradient(loss):
    if loss in ("hinge", "perceptron", "epsilon_insensitive"):
        pytest.skip("no second derivative")
    p = problem(loss, epsilon=0.3)
    kernel, grid = p.loss_kernel(), np.linspace(-4, 4, 400)
    for y in (-1.0, 1.0):
        gradients = [kernel.py_gradient(targets_of(kernel, y), x) for x in grid]
        slopes = np.diff(gradients) / np.diff(grid)
        assert slopes.max() <= p.curvature * (1 + 1e-9)
        assert slopes.min() >= -1e-9


def test_log_loss_far_out():
    """No overflow, no NaN, and the gradient's tails keep their digits."""
    kernel = problem("log_loss").loss_kernel()
    for y, p in ((1.0, -1e4), (0.0, 1e4), (1.0, 1e4), (0.0, -1e4)):
        assert np.isfinite(kernel.py_value(y, p))
        assert abs(kernel.py_gradient(y, p)) <= 1
    np.testing.assert_allclose(kernel.py_gradient(1.0, 40.0), -np.exp(-40.0), rtol=1e-12)


# Margins and the summed loss.
@dtypes
@pytest.mark.parametrize("layout", ["dense", "csr", "csr64"])
@pytest.mark.parametrize("subset", [None, np.array([1, 4, 5, 30])])
def test_margins_and_total_loss(layout, dtype, subset):
    X, y = small_problem("regression")
    X = X.astype(dtype)
    given = X if layout == "dense" else sp.csr_matrix(X)
    if layout == "csr64":
        given.indices = given.indices.astype(np.int64)
    s = np.random.default_rng(0).random(len(y))
    batch = Batch.of(given, y, s, subset)
    w = np.random.default_rng(1).normal(size=X.shape[1]).astype(dtype)
    used = np.arange(len(y)) if subset is None else subset
    lo, hi = (3, 50) if subset is None else (1, 4)
    p = margins.margins(batch.rows, w, 0.5, lo, hi, subset)
    rows = used[lo:hi]
    np.testing.assert_allclose(p, X[rows] @ w + 0.5, rtol=1e-5 if dtype is np.float32 else 1e-12)
    loss = problem("huber").loss_kernel()
    total = margins.total_loss(batch.rows, loss, w, 0.5, lo, hi, subset)
    expected = s[rows] @ LOSS["huber"](y[rows], X[rows] @ w + 0.5, 0.1)
    np.testing.assert_allclose(total, expected, rtol=1e-5 if dtype is np.float32 else 1e-12)


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (np.zeros(3, np.float32), "4 contiguous numbers of float64, not float32"),
        (np.zeros(3), r"4 contiguous numbers of float64, not float64 of the shape \(3,\)"),
        (np.zeros(8)[::2], "C-contiguous arrays, not one of strides"),
        (np.zeros(4, ">f8"), "float64, not >f8"),
        (None, "not None"),
    ],
)
def test_kernels_refuse_what_they_cannot_read(bad, what):
    batch = Batch.of(np.ones((2, 4)), np.ones(2))
    with pytest.raises(ValueError, match=what):
        margins.margins(batch.rows, bad, 0.0, 0, 2)
    with pytest.raises(ValueError, match="2 contiguous numbers of int64 or more"):
        margins.margins(batch.rows, np.ones(4), 0.0, 0, 2, np.zeros(2))


# The pass, against the algorithm as it is printed.
def plain_sgd(X, y, loss, order, alpha, eta, w):
    b = 0.0
    for i in order:
        gradient = loss.py_gradient(y[i], X[i] @ w + b)
        w = (1 - alpha * eta) * w - eta * gradient * X[i]
        b -= eta * gradient
    return w, b


@pytest.mark.parametrize("subset", [None, np.array([1, 4, 5, 9, 30, 31, 44])])
@pytest.mark.parametrize("block_rows", [1, 3, 8])
@pytest.mark.parametrize("layout", ["dense", "csr"])
def test_pass_visits_the_blocks_in_order(layout, block_rows, subset):
    X, y = small_problem("regression")
    p = problem("squared_error")
    batch = Batch.of(X if layout == "dense" else sp.csr_matrix(X), y, None, subset)
    used = np.arange(len(y)) if subset is None else subset
    n_blocks = -(-len(used) // block_rows)
    state = State(np.zeros(X.shape[1]), 0.0)
    order = Order(len(used), block_rows, [7], subset)
    blocks = order.blocks()
    run(batch.rows, order, state, p.recipe(False, 0.02), 0, n_blocks)
    state.settle()
    visited = np.concatenate([used[b * block_rows : (b + 1) * block_rows] for b in blocks])
    assert sorted(visited) == sorted(used)
    w, b = plain_sgd(X, y, p.loss_kernel(), visited, 0.01, 0.02, np.zeros(X.shape[1]))
    np.testing.assert_allclose(state.w, w, rtol=1e-10)
    np.testing.assert_allclose(state.intercept, b, rtol=1e-10)
    assert state.t == 1 + len(used)


def test_law_of_continuation():
    """One pass over all blocks is a pass over the first and one over the others."""
    X, y = small_problem("regression")
    batch, recipe = Batch.of(X, y), problem("huber", penalty="elasticnet").recipe(False, 0.02)
    order = batch.order(True, [0])
    states = [State(np.zeros(X.shape[1]), 0.0, received=np.zeros(X.shape[1])) for _ in range(2)]
    run(batch.rows, order, states[0], recipe, 0, order.n_blocks)
    run(batch.rows, order, states[1], recipe, 0, 3)
    states[1].settle()
    run(batch.rows, order, states[1], recipe, 3, order.n_blocks)
    for state in states:
        state.settle()
    np.testing.assert_allclose(states[0].w, states[1].w, rtol=1e-12)


def test_order_and_shards_are_partitions():
    X, y = small_problem("regression")
    for subset in (None, np.array([2, 3, 5, 7, 11, 13, 17, 19, 23])):
        batch = Batch.of(X, y, subset=subset)
        used = np.arange(len(y)) if subset is None else subset
        for n_shards in (1, 2, 3, 5):
            for shuffle in (True, False):
                shards = batch.shards(n_shards, shuffle, [0, 1])
                rows = np.concatenate([s.subset for s in shards])
                np.testing.assert_array_equal(np.sort(rows), used)
                sizes = [s.n_rows for s in shards]
                assert max(sizes) - min(sizes) <= batch.block_rows


# What the estimators report and where they end.
@pytest.mark.parametrize("layout", [np.asarray, sp.csr_matrix], ids=["dense", "csr"])
@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet", None])
@pytest.mark.parametrize("average", [False, True])
def test_objective_in_history(layout, penalty, average):
    """history_["objective"] is that of the weights the user gets, weights of rows included."""
    for cls, task in ((HogwildClassifier, "binary"), (HogwildRegressor, "regression")):
        X, y = small_problem(task)
        weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
        for loss in CLASSIFICATION_LOSSES if is_clf(cls) else REGRESSION_LOSSES:
            est = cls(loss=loss, penalty=penalty, average=average, max_iter=4, tol=None)
            est.set_params(alpha=0.01, learning_rate="constant", eta0=0.02, random_state=0)
            est.fit(layout(X), y, sample_weight=weight)
            expected = objective(est, X, y, weight)
            np.testing.assert_allclose(est.history_["objective"][-1], expected, rtol=1e-9)


@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet"])
@pytest.mark.parametrize(
    ("cls", "loss"),
    [
        (HogwildClassifier, "log_loss"),
        (HogwildClassifier, "modified_huber"),
        (HogwildClassifier, "squared_hinge"),
        (HogwildRegressor, "squared_error"),
        (HogwildRegressor, "huber"),
    ],
)
def test_gradient_mapping_vanishes(cls, loss, penalty):
    """w - prox(w - gradient(w)) is zero exactly at an optimum (Beck 2017, section 10.3)."""
    X, y = small_problem("binary" if is_clf(cls) else "regression", n=400, seed=3)
    est = cls(loss=loss, penalty=penalty, l1_ratio=0.5, alpha=0.02, epsilon=0.5, random_state=0)
    est.set_params(max_iter=3000, tol=None, learning_rate="invscaling", power_t=0.6)
    est.set_params(eta0=0.5 if loss == "log_loss" else 0.1)
    est.fit(X, y)
    w, b = est.coef_.ravel(), est.intercept_[0]
    target = np.where(y == "yes", 1.0, -1.0) if is_clf(cls) else y
    kernel = problem(loss, epsilon=0.5).loss_kernel()
    target = targets_of(kernel, target)
    g = np.array([kernel.py_gradient(t, p) for t, p in zip(target, X @ w + b)]) / len(y)
    ratio = {"l2": 0.0, "l1": 1.0, "elasticnet": 0.5}[penalty]
    v = w - (X.T @ g + 0.02 * (1 - ratio) * w)
    prox = np.sign(v) * np.maximum(np.abs(v) - 0.02 * ratio, 0)
    mapping = np.r_[w - prox, g.sum()]
    assert np.abs(mapping).max() < 2e-3
