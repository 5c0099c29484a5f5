"""Sums of outer products of rows (`_kernels.products`) against plain numpy."""

import numpy as np
import pytest
import scipy.sparse as sp
from test_gradients import LAYOUTS, make_batch

from skpar._data import Batch
from skpar._gram import symmetric
from skpar._kernels.products import Products, curvature_matrix, may_scatter

N, M = 101, 57


def drawn(layout, d, centred, dtype=np.float32):
    """(batch, its rows as float64, row numbers, factors, center, scale)"""
    batch, X, _, _ = make_batch("squared_error", layout, dtype, n=N, d=d)
    rng = np.random.default_rng(0)
    rows, factors = np.sort(rng.integers(0, N, M)), rng.normal(size=M)
    center = rng.normal(size=d) if centred else np.zeros(d)
    return batch, X, rows, factors, center, rng.random(d) + 0.5


def symmetric_of(products, H):
    return symmetric(H[: products.d, : products.d])


def naive(X, factors, center, scale, *last):
    Z = np.column_stack([(X - center) * scale, np.ones(len(X)), *last])
    return (Z * factors[:, None]).T @ Z


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("d", [1, 7, 8, 13, 15, 24, 70, 130])
def test_every_width(layout, centred, d, dtype):
    batch, X, rows, factors, center, scale = drawn(layout, d, centred, dtype)
    products = Products(d + 1)
    expected = naive(X[rows], factors, center, scale)
    for scattered in {False, layout != "dense" and not centred}:
        H = products.matrix()
        for lo, hi in [(0, 11), (11, 11), (11, M)]:
            curvature_matrix(
                batch.rows, rows, factors, lo, hi, center, scale, H, scattered=scattered
            )
        np.testing.assert_allclose(symmetric_of(products, H), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_rows_with_targets(layout):
    batch, X, _, _, center, scale = drawn(layout, 13, True)
    products, H = Products(15), Products(15).matrix()
    curvature_matrix(batch.rows, None, None, 0, N, center, scale, H, 0.25)
    expected = naive(X, np.ones(N), center, scale, batch.targets - 0.25)
    np.testing.assert_allclose(symmetric_of(products, H), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("d", [1, 9, 64, 300])
@pytest.mark.parametrize("count", [1, 4, 50])
def test_parts_are_the_whole(d, count):
    batch, _, rows, factors, center, scale = drawn("dense", d, True)
    products = Products(d + 1)
    whole, parts = products.matrix(), products.matrix()
    own = batch.rows, rows, factors, 0, M, center, scale
    curvature_matrix(*own, whole)
    edges = products.parts(count)
    for part in edges:
        curvature_matrix(*own, parts, part=part)
    assert [hi for _, hi in edges[:-1]] == [lo for lo, _ in edges[1:]]
    np.testing.assert_array_equal(symmetric_of(products, parts), symmetric_of(products, whole))


def test_columns_in_any_order_and_twice():
    """Sparse rows need not be canonical: numbers of one column add up."""
    indices, data = np.array([3, 0, 3, 1, 1]), np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    X = sp.csr_matrix((data, indices, np.array([0, 3, 5])), shape=(2, 5))
    batch = Batch.of(X, np.zeros(2), None, None)
    factors, center, scale = np.array([2.0, 3.0]), np.zeros(5), np.arange(1.0, 6.0)
    products, H = Products(6), Products(6).matrix()
    curvature_matrix(batch.rows, None, factors, 0, 2, center, scale, H, scattered=True)
    expected = naive(X.toarray(), factors, center, scale)
    np.testing.assert_allclose(symmetric_of(products, H), expected, rtol=1e-12)


def test_a_row_far_longer_than_its_columns():
    """So often the same column that a row does not fit where distinct ones would."""
    m = 5000
    rng = np.random.default_rng(0)
    X = sp.csr_matrix((rng.normal(size=m), rng.integers(0, 3, m), np.array([0, m])), shape=(1, 3))
    batch, factors = Batch.of(X, np.zeros(1), None, None), np.array([2.0])
    products, H = Products(4), Products(4).matrix()
    curvature_matrix(batch.rows, None, factors, 0, 1, np.zeros(3), np.ones(3), H, scattered=True)
    expected = naive(X.toarray(), factors, np.zeros(3), np.ones(3))
    np.testing.assert_allclose(symmetric_of(products, H), expected, rtol=1e-9)


def test_when_pairs_are_scattered():
    sparse = sp.random(50, 400, 0.01, format="csr", random_state=0)
    dense = sp.random(50, 40, 0.5, format="csr", random_state=0)
    assert may_scatter(Batch.of(sparse, np.zeros(50)).rows)
    assert not may_scatter(Batch.of(dense, np.zeros(50)).rows)
    assert not may_scatter(Batch.of(sparse.toarray(), np.zeros(50)).rows)


def test_bad_arguments():
    batch, _, rows, factors, center, scale = drawn("dense", 13, True)
    H = Products(14).matrix()
    with pytest.raises(ValueError, match="rows must lie"):
        curvature_matrix(batch.rows, rows + N, factors, 0, M, center, scale, H)
    with pytest.raises(ValueError, match="rows must lie"):
        curvature_matrix(batch.rows, None, np.ones(N + 1), 0, N + 1, center, scale, H)
    with pytest.raises(ValueError, match="contiguous numbers of float64"):
        curvature_matrix(batch.rows, rows, factors[:3], 0, M, center, scale, H)
    with pytest.raises(ValueError, match="whole tiles"):
        curvature_matrix(batch.rows, rows, factors, 0, M, center, scale, H, part=(0, 7))
    with pytest.raises(ValueError, match="only sparse rows"):
        curvature_matrix(batch.rows, rows, factors, 0, M, center, scale, H, scattered=True)
