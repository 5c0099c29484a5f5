"""Sums of a_k z_k z_k' over rows z: Hessians and normal equations.

Rows are packed a chunk at a time, as z and as a z, padded to whole registers; `products_level.h`
multiplies them.
"""

import numpy as np

cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t, uintptr_t
from libc.string cimport memcpy, memset

from skpar._kernels.arrays cimport doubles, doubles_at_least, longs_at_least
from skpar._kernels.cholesky cimport factor
from skpar._kernels.records cimport Rows
from skpar._kernels.rows cimport index, real, skpar_prefetch_span, use_simd_level

cdef extern from "products.h" nogil:
    ctypedef struct skpar_products_table:
        void (*pack_f64)(const double*, const double*, const double*, double, Py_ssize_t, double*,
                         double*) noexcept nogil
        void (*pack_f32)(const float*, const double*, const double*, double, Py_ssize_t, double*,
                         double*) noexcept nogil
        void (*add)(const double*, const double*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                    Py_ssize_t, double*) noexcept nogil
    skpar_products_table skpar_products
    void scatter_i32(const double*, const int32_t*, Py_ssize_t, double, Py_ssize_t, Py_ssize_t,
                     double*)
    void scatter_i64(const double*, const int64_t*, Py_ssize_t, double, Py_ssize_t, Py_ssize_t,
                     double*)
    void skpar_products_use(const char*)
    enum: SKPAR_TILE_COLUMNS

skpar_products_use(use_simd_level())

cdef enum:
    # Rows in flight before they are packed.
    AHEAD = 8
    FEWEST_ROWS = 16
    MOST_ROWS = 256
# Bytes of a chunk, z and a z: most of a first-level cache.
cdef Py_ssize_t CHUNK_BYTES = 1 << 15
# A product of stored numbers, added at its place in H, takes the time of so many in registers.
cdef double SCATTERED_COST = 25.0


cdef class Products:
    """Room for a chunk of rows of length d; H has rows and columns of `padded` and `stride`."""

    def __cinit__(self, Py_ssize_t d):
        cdef Py_ssize_t tiles = max(1, (d + SKPAR_TILE_COLUMNS - 1) // SKPAR_TILE_COLUMNS)
        self.d, self.padded = d, tiles * SKPAR_TILE_COLUMNS
        # An odd number of cache lines: rows one below another do not fall on the same set.
        self.stride = (tiles | 1) * SKPAR_TILE_COLUMNS
        self.most = min(MOST_ROWS, max(FEWEST_ROWS, CHUNK_BYTES // (16 * self.stride)))
        self.keep_alive = np.zeros(2 * self.most * self.stride + 8)
        cdef uintptr_t at = <uintptr_t>cnp.PyArray_DATA(self.keep_alive)
        self.z = <double*>((at + 63) // 64 * 64)
        self.t = self.z + self.most * self.stride

    def matrix(self):
        """Zeros, to add products to."""
        return np.zeros((self.padded, self.stride))

    def parts(self, count):
        """[(first, last)] rows of H, whole tiles, with about equal shares of its upper triangle."""
        edges = self.padded * (1.0 - np.sqrt(1.0 - np.arange(count + 1) / count))
        edges = np.round(edges / SKPAR_TILE_COLUMNS).astype(int) * SKPAR_TILE_COLUMNS
        return [(lo, hi) for lo, hi in zip(edges[:-1].tolist(), edges[1:].tolist()) if lo < hi]

    cdef void add(
        self, Py_ssize_t m, Py_ssize_t first, Py_ssize_t last, double* H
    ) noexcept nogil:
        """Rows `first` to `last`, whole tiles, of the products of m packed rows."""
        skpar_products.add(self.z, self.t, m, self.padded, self.stride, first, last, H)

    cdef bint factor_of(
        self, const double* rows, const double* factors, Py_ssize_t m, const double* l2,
        double jitter, double* padded, double* H
    ) noexcept nogil:
        """H (d x d) becomes the factor of Z'AZ + diag(l2), Z the m x d rows.

        The share `jitter` of the mean of the diagonal is added to it; `padded` is room for a
        `matrix`. False where there is no factor.
        """
        cdef Py_ssize_t k, j, lo = 0, end, d = self.d
        cdef double trace = 0.0
        cdef double* z
        cdef double* t
        memset(padded, 0, self.padded * self.stride * sizeof(double))
        while lo < m:
            end = min(m, lo + self.most)
            for k in range(lo, end):
                z, t = self.z + (k - lo) * self.stride, self.t + (k - lo) * self.stride
                for j in range(d):
                    z[j] = rows[k * d + j]
                    t[j] = factors[k] * z[j]
            self.add(end - lo, 0, self.padded, padded)
            lo = end
        for j in range(d):
            memcpy(H + j * d, padded + j * self.stride, d * sizeof(double))
            H[j * d + j] += l2[j]
            trace += H[j * d + j]
        for j in range(d):
            H[j * d + j] += jitter * trace / d
        return factor(H, d)


cdef struct Source:
    const int64_t* rows     # NULL: all rows, in order
    const double* factors   # NULL: 1 each
    const double* center
    const double* scale
    bint targets            # whether a last column holds the targets
    double offset           # to take from them


cdef inline Py_ssize_t row_at(Source* s, Py_ssize_t k) noexcept nogil:
    return s.rows[k] if s.rows != NULL else k


cdef void pack(
    const real* x, const index* columns, Rows X, Source* s, Py_ssize_t k, double* z, double* t
) noexcept nogil:
    """z = ((x - center) scale, 1) and, where wanted, the target; t = a z."""
    cdef Py_ssize_t j, i = row_at(s, k), d = X.n_columns
    cdef double a = s.factors[k] if s.factors != NULL else 1.0
    if X.sparse:
        for j in range(d):
            z[j] = -s.center[j] * s.scale[j]
        for j in range(X.starts[i], X.starts[i + 1]):
            z[columns[j]] += x[j] * s.scale[columns[j]]
        for j in range(d):
            t[j] = a * z[j]
    elif real is double:
        skpar_products.pack_f64(x + i * d, s.center, s.scale, a, d, z, t)
    else:
        skpar_products.pack_f32(x + i * d, s.center, s.scale, a, d, z, t)
    z[d], t[d] = 1.0, a
    if s.targets:
        z[d + 1] = X.targets[i] - s.offset
        t[d + 1] = a * z[d + 1]


cdef void scatter(
    const real* x, const index* columns, Rows X, Source* s, Py_ssize_t k, double* z,
    Py_ssize_t stride, double* H
) noexcept nogil:
    """One sparse row's products into the upper triangle of H, pair by pair."""
    cdef Py_ssize_t i = row_at(s, k), j, other, d = X.n_columns
    cdef Py_ssize_t m = X.starts[i + 1] - X.starts[i]
    cdef double a = s.factors[k] if s.factors != NULL else 1.0
    cdef double u
    cdef bint ascending = True
    x, columns = x + X.starts[i], columns + X.starts[i]
    for j in range(1, m):
        ascending = ascending and columns[j - 1] < columns[j]
    if ascending:  # so the row is no longer than z
        for j in range(m):
            z[j] = x[j] * s.scale[columns[j]]
        if index is int32_t:
            scatter_i32(z, columns, m, a, stride, d, H)
        else:
            scatter_i64(z, columns, m, a, stride, d, H)
        return
    for j in range(m):
        u = a * x[j] * s.scale[columns[j]]
        H[columns[j] * stride + d] += u
        for other in range(m):  # every pair comes twice
            if columns[other] >= columns[j]:
                H[columns[j] * stride + columns[other]] += u * x[other] * s.scale[columns[other]]
    H[d * stride + d] += a


cdef void add_curvature(
    const real* x, const index* columns, Rows X, Source* s, Py_ssize_t lo, Py_ssize_t hi,
    Products p, bint scattered, Py_ssize_t first, Py_ssize_t last, double* H
) noexcept nogil:
    cdef Py_ssize_t k, j, end
    if scattered:
        for k in range(lo, hi):
            scatter(x, columns, X, s, k, p.z, p.stride, H)
        return
    while lo < hi:
        end = min(hi, lo + p.most)
        for k in range(lo, end):
            if s.rows != NULL and k + AHEAD < end and not X.sparse:
                skpar_prefetch_span(x + s.rows[k + AHEAD] * X.n_columns,
                                    X.n_columns * sizeof(x[0]))
            j = (k - lo) * p.stride
            pack(x, columns, X, s, k, p.z + j, p.t + j)
        p.add(end - lo, first, last, H)
        lo = end


def may_scatter(Rows X):
    """Whether products are better added pair by pair, as of rows with few numbers."""
    if not X.sparse:
        return False
    stored = <double>X.starts[X.n_rows] / max(1, X.n_rows)
    return SCATTERED_COST * stored * stored < <double>X.n_columns * X.n_columns


def curvature_matrix(Rows X, rows, factors, Py_ssize_t lo, Py_ssize_t hi, center, scale, H,
                     offset=None, bint scattered=False, part=None):
    """Adds sum_k a_k z_k z_k' into H, for positions lo to hi, without the GIL.

    z_k is row `rows[k]` of X (row k, where None) as ((x - center) scale, 1), followed by the
    target less `offset` if that is given; a are the `factors` (None: 1 each). H is a
    `Products.matrix`; `part` (first, last) limits the work to those rows of it, whole tiles.
    Only the upper triangle is right. With `scattered` (see `may_scatter`) the center is taken
    for 0.
    """
    cdef Products p = Products(X.n_columns + 1 + (offset is not None))
    cdef double* target = doubles(H, p.padded * p.stride)
    cdef Py_ssize_t first = 0, last = p.padded
    cdef Source s
    if part is not None:
        first, last = part
    if not (0 <= first <= last <= p.padded
            and first % SKPAR_TILE_COLUMNS == last % SKPAR_TILE_COLUMNS == 0):
        raise ValueError(f"a part of {p.padded} rows is one of whole tiles: {part}")
    if scattered and (not X.sparse or offset is not None or part is not None):
        raise ValueError("only sparse rows are scattered, and wholly")
    s.factors = doubles_at_least(factors, hi)
    s.rows = longs_at_least(rows, hi)
    s.center, s.scale = doubles(center, X.n_columns), doubles(scale, X.n_columns)
    s.targets = offset is not None
    s.offset = 0.0 if offset is None else offset
    if not 0 <= lo <= hi or (rows is None and hi > X.n_rows):
        raise ValueError(f"rows must lie in 0 to {X.n_rows - 1}")
    if rows is not None:
        for k in range(lo, hi):
            if not 0 <= s.rows[k] < X.n_rows:
                raise ValueError(f"rows must lie in 0 to {X.n_rows - 1}")
    with nogil:
        if X.is_double:
            if X.wide:
                add_curvature(<const double*>X.values, <const int64_t*>X.columns, X, &s, lo, hi,
                              p, scattered, first, last, target)
            else:
                add_curvature(<const double*>X.values, <const int32_t*>X.columns, X, &s, lo, hi,
                              p, scattered, first, last, target)
        elif X.wide:
            add_curvature(<const float*>X.values, <const int64_t*>X.columns, X, &s, lo, hi, p,
                          scattered, first, last, target)
        else:
            add_curvature(<const float*>X.values, <const int32_t*>X.columns, X, &s, lo, hi, p,
                          scattered, first, last, target)
