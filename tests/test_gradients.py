"""Sums over many rows (loss, gradient, curvature, moments) against plain numpy."""

import numpy as np
import pytest
import scipy.sparse as sp
from _common import CLASSIFICATION_LOSSES, LOSS, REGRESSION_LOSSES

from skpar._data import Batch
from skpar._kernels import gradients
from skpar._problem import Problem

LAYOUTS = ["dense", "csr32", "csr64"]
KINKED = ("hinge", "perceptron", "epsilon_insensitive")


def problem(loss):
    return Problem(loss, 0.3, "l2", 0.01, 0.3, True, "constant", 0.02, 0.5)


def make_batch(loss, layout, dtype, n=603, d=13, weighted=True, subset=None):
    rng = np.random.default_rng(n + d)
    X = (rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.7)).astype(dtype)
    y = rng.normal(size=n) if loss in REGRESSION_LOSSES else rng.choice([-1.0, 1.0], n)
    weights = rng.integers(0, 3, n).astype(float) if weighted else None
    targets = (y + 1) / 2 if loss == "log_loss" else y
    A = X
    if layout != "dense":
        A = sp.csr_matrix(X)
        if layout == "csr64":
            A.indices, A.indptr = A.indices.astype(np.int64), A.indptr.astype(np.int64)
    return Batch.of(A, targets, weights, subset), X.astype(float), y, weights


def derivative(kernel, targets, p, name):
    return np.array([getattr(kernel, name)(t, q) for t, q in zip(targets, p)])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("loss", CLASSIFICATION_LOSSES)
def test_loss_and_gradient(loss, layout, dtype):
    batch, X, y, s = make_batch(loss, layout, dtype)
    kernel = problem(loss).loss_kernel()
    w = np.random.default_rng(1).normal(size=X.shape[1]).astype(dtype)
    p = X @ w.astype(float) + 0.2
    order = batch.order(False, None, 8)
    gradient = np.full(X.shape[1], 7.0)
    margins, curvatures = np.empty((2, len(y)))
    total, intercept = gradients.loss_and_gradient(
        batch.rows, kernel, w, 0.2, order, 0, order.n_blocks, gradient, margins, curvatures
    )
    rtol = 1e-10 if dtype == np.float64 else 1e-4
    slopes = s * derivative(kernel, batch.targets, p, "py_gradient")
    np.testing.assert_allclose(margins, p, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(total, s @ LOSS[loss](y, p, 0.3), rtol=rtol)
    np.testing.assert_allclose(intercept, slopes.sum(), rtol=rtol, atol=rtol * len(y))
    np.testing.assert_allclose(gradient - 7, X.T @ slopes, rtol=rtol, atol=rtol * len(y))
    bends = s * derivative(kernel, batch.targets, p, "py_curvature")
    np.testing.assert_allclose(curvatures, bends, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_curved_product_and_moments(layout, dtype):
    batch, X, _, _ = make_batch("squared_error", layout, dtype)
    rng = np.random.default_rng(2)
    v, c = rng.normal(size=X.shape[1]).astype(dtype), rng.random(len(X))
    order = batch.order(False, None, 8)
    result, margins = np.zeros(X.shape[1]), np.empty(len(X))
    entry = gradients.curved_product(
        batch.rows, c, v, -0.4, order, 0, order.n_blocks, result, margins
    )
    rtol = 1e-10 if dtype == np.float64 else 1e-4
    p = X @ v.astype(float) - 0.4
    np.testing.assert_allclose(margins, p, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(result, X.T @ (c * p), rtol=rtol, atol=rtol * len(X))
    np.testing.assert_allclose(entry, c @ p, rtol=rtol, atol=rtol * len(X))
    sums, squares = np.zeros((2, X.shape[1]))
    gradients.column_moments(batch.rows, order, 0, order.n_blocks, sums, squares, c)
    np.testing.assert_allclose(sums, c @ X, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(squares, c @ X**2, rtol=rtol, atol=rtol)
    sums[:] = squares[:] = 0
    gradients.column_moments(batch.rows, order, 0, order.n_blocks, sums, squares)
    np.testing.assert_allclose(sums, X.sum(axis=0), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shuffle", [False, True])
def test_any_blocks_of_any_order(layout, shuffle):
    """Spans add up to the whole, and outputs follow the order visited, subset included."""
    subset = np.flatnonzero(np.random.default_rng(0).random(603) < 0.6)
    batch, X, _, s = make_batch("log_loss", layout, np.float64, subset=subset)
    kernel, w = problem("log_loss").loss_kernel(), np.linspace(-1, 1, X.shape[1])
    order = batch.order(shuffle, [3], 8)
    whole, parts = np.zeros((2, X.shape[1]))
    total = gradients.loss_and_gradient(batch.rows, kernel, w, 0.1, order, 0, order.n_blocks, whole)
    sums = np.zeros(2)
    for lo in range(0, order.n_blocks, 7):
        hi = min(lo + 7, order.n_blocks)
        sums += gradients.loss_and_gradient(batch.rows, kernel, w, 0.1, order, lo, hi, parts)
    p = X[subset] @ w + 0.1
    slopes = s[subset] * derivative(kernel, batch.targets[subset], p, "py_gradient")
    np.testing.assert_allclose(whole, X[subset].T @ slopes, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(parts, whole, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(sums, total, rtol=1e-9)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_known_margins(layout):
    """The half of a pass that follows the margins gives the same sums."""
    batch, X, _, _ = make_batch("log_loss", layout, np.float64)
    kernel, w = problem("log_loss").loss_kernel(), np.linspace(-1, 1, X.shape[1])
    order = batch.order(False, None, 8)
    whole, half = np.zeros((2, X.shape[1]))
    p = np.empty(len(X))
    span = batch.rows, kernel, w, 0.1, order, 0, order.n_blocks
    total = gradients.loss_and_gradient(*span, whole, p)
    assert gradients.loss_and_gradient(*span, half, p, None, True) == total
    np.testing.assert_array_equal(whole, half)
    with pytest.raises(ValueError, match="known"):
        gradients.loss_and_gradient(*span, half, None, None, True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("loss", ["hinge", "log_loss", "huber"])
def test_loss_along_a_line(layout, loss):
    batch, X, y, s = make_batch(loss, layout, np.float64)
    kernel = problem(loss).loss_kernel()
    p, q = np.random.default_rng(0).normal(size=(2, len(X)))
    value, first, second = gradients.loss_along(batch.rows, kernel, p, q, 0.3, 0, len(X))
    at = p + 0.3 * q
    slopes = derivative(kernel, batch.targets, at, "py_gradient")
    bends = derivative(kernel, batch.targets, at, "py_curvature")
    np.testing.assert_allclose(value, s @ LOSS[loss](y, at, 0.3), rtol=1e-10)
    np.testing.assert_allclose(first, s @ (slopes * q), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(second, s @ (bends * q**2), rtol=1e-9)


@pytest.mark.parametrize("width", [1, 3, 784, 20_000])
def test_every_width_of_rows(width):
    """Chunks are cut by bytes: from one row's width to more than a chunk holds."""
    batch, X, y, s = make_batch("squared_error", "dense", np.float32, n=37, d=width)
    order = batch.order(False, None, 8)
    gradient = np.zeros(width)
    w = np.full(width, 0.01, np.float32)
    gradients.loss_and_gradient(
        batch.rows, problem("squared_error").loss_kernel(), w, 0, order, 0, order.n_blocks, gradient
    )
    expected = X.T @ (s * (X @ w.astype(float) - y))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4)


def test_log_loss_over_its_whole_range():
    """The vector loop has its own exponential and logarithm."""
    p = np.concatenate([np.linspace(-60, 60, 2401), [-1e4, -745.0, -700.0, 700.0, 745.0, 1e4, 0]])
    for y in (0.0, 1.0):
        batch = Batch.of(p[:, None].copy(), np.full(len(p), y))
        kernel, order = problem("log_loss").loss_kernel(), batch.order(False, None, 1)
        for i in range(len(p)):
            gradient, curvature = np.zeros(1), np.zeros(1)
            value, slope = gradients.loss_and_gradient(
                batch.rows, kernel, np.ones(1), 0.0, order, i, i + 1, gradient, None, curvature
            )
            atol = 1e-15 * (1 + abs(p[i]))  # the twin adds and subtracts p
            np.testing.assert_allclose(value, kernel.py_value(y, p[i]), rtol=1e-13, atol=atol)
            np.testing.assert_allclose(slope, kernel.py_gradient(y, p[i]), rtol=1e-13, atol=1e-300)
            np.testing.assert_allclose(
                curvature, kernel.py_curvature(y, p[i]), rtol=1e-13, atol=1e-300
            )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_nan_and_inf_are_seen(layout, bad):
    batch, X, _, _ = make_batch("log_loss", layout, np.float64, weighted=False)
    batch.values[batch.values != 0][:1] = bad
    w = np.full(X.shape[1], bad)
    order = batch.order(False, None, 8)
    gradient = np.zeros(X.shape[1])
    total, _ = gradients.loss_and_gradient(
        batch.rows, problem("log_loss").loss_kernel(), w, 0.0, order, 0, order.n_blocks, gradient
    )
    assert not np.isfinite(total)


def test_arrays_are_checked():
    batch, X, _, _ = make_batch("log_loss", "dense", np.float64)
    order, kernel = batch.order(False, None, 8), problem("log_loss").loss_kernel()
    w, gradient = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    with pytest.raises(ValueError, match="float64"):
        gradients.loss_and_gradient(
            batch.rows, kernel, w, 0, order, 0, 1, gradient.astype(np.float32)
        )
    with pytest.raises(ValueError, match="13 contiguous numbers"):
        gradients.loss_and_gradient(batch.rows, kernel, w[1:], 0, order, 0, 1, gradient)


@pytest.mark.parametrize("loss", [l for l in CLASSIFICATION_LOSSES if l not in KINKED])
def test_curvatures_are_differences(loss):
    kernel = problem(loss).loss_kernel()
    rng = np.random.default_rng(0)
    for y in (-1.0, 1.0):
        t = (y + 1) / 2 if loss == "log_loss" else y
        for p in rng.uniform(-4, 4, 200):  # random: no kink within h of any
            h = 1e-6
            slope = (kernel.py_gradient(t, p + h) - kernel.py_gradient(t, p - h)) / (2 * h)
            np.testing.assert_allclose(kernel.py_curvature(t, p), slope, atol=1e-7)
