"""Dual coordinate ascent on CSR rows (Shalev-Shwartz & Zhang 2013), columns centred in effect.

A row's dual variable is a_i = -s_i loss'(y_i, u_i), kept with the margin u_i that it belongs to,
and the weights are w = sum_i a_i (x_i - m) / (l2 n) with a centre m. Centred columns hardly see
the intercept, which is what slows ascent on plain rows. No row is made dense: with
v = sum_i a_i x_i / (l2 n) and k = sum_i a_i / (l2 n),

    w.(x_i - m) = v.x_i - k m.x_i - v.m + k m.m.

A row's v.x_i lacks what the row just before it adds to v, so that the processor can work on both
at once. Steps are shorter than to where two rows alike would overshoot by turns.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t

from skpar._kernels.ahead cimport Ahead, look_ahead, take
from skpar._kernels.arrays cimport doubles_at_least as doubles, longs, longs_at_least
from skpar._kernels.landing cimport landing
from skpar._kernels.losses cimport Loss
from skpar._kernels.records cimport Order, Rows
from skpar._kernels.rows cimport index, real


cdef class DualState:
    """What an ascent is about; `ascend` moves it.

    `dual`, `margin`, `along_center` (m.x_i) and `squares` (||x_i||^2) have an entry for each row
    of the matrix, in use or not, `v` one for each column. `shift` is the intercept of the centred
    rows.
    """

    cdef public object dual, margin, along_center, squares, v
    cdef public double sum, v_center, center_square, shift, size

    def __init__(self, Rows X, double size, along_center, squares, v=None):
        self.dual, self.margin = np.zeros(X.n_rows), np.zeros(X.n_rows)
        self.along_center, self.squares = along_center, squares
        self.v = np.zeros(X.n_columns) if v is None else v
        self.size = size  # l2 n


cdef inline double along_row(
    const real* x, const index* columns, const double* v, Py_ssize_t n
) noexcept nogil:
    """x.v with four sums: one would wait for itself."""
    cdef double p0 = 0.0, p1 = 0.0, p2 = 0.0, p3 = 0.0
    cdef Py_ssize_t j = 0
    while j + 3 < n:
        p0 += x[j] * v[columns[j]]
        p1 += x[j + 1] * v[columns[j + 1]]
        p2 += x[j + 2] * v[columns[j + 2]]
        p3 += x[j + 3] * v[columns[j + 3]]
        j += 4
    while j < n:
        p0 += x[j] * v[columns[j]]
        j += 1
    return (p0 + p1) + (p2 + p3)


cdef inline double along_row_of(
    Py_ssize_t i, const real* x, const index* columns, Rows X, const double* v
) noexcept nogil:
    cdef Py_ssize_t j = X.starts[i]
    return along_row(x + j, columns + j, v, X.starts[i + 1] - j)


cdef inline double square_of(const real* x, Py_ssize_t n) noexcept nogil:
    """||x||^2 with four sums."""
    cdef double p0 = 0.0, p1 = 0.0, p2 = 0.0, p3 = 0.0
    cdef Py_ssize_t j = 0
    while j + 3 < n:
        p0 += <double>x[j] * x[j]
        p1 += <double>x[j + 1] * x[j + 1]
        p2 += <double>x[j + 2] * x[j + 2]
        p3 += <double>x[j + 3] * x[j + 3]
        j += 4
    while j < n:
        p0 += <double>x[j] * x[j]
        j += 1
    return (p0 + p1) + (p2 + p3)


cdef void climb(
    const real* x, const index* columns, Rows X, Loss loss, Order order, DualState s, double* v,
    double* dual, double* margin, const double* along, const double* squares, Py_ssize_t lo,
    Py_ssize_t hi
) noexcept nogil:
    cdef Ahead a
    cdef bint is_log_loss = loss.kind == 1
    cdef double per_row = 1.0 / s.size, weight, product, p, q, u, change, first
    cdef double total = s.sum, v_center = s.v_center
    cdef Py_ssize_t i, j, following
    look_ahead(&a, x, columns, X, order, lo, hi)
    if a.left == 0:
        return
    following = take(&a, x, columns, X, order)
    product = along_row_of(following, x, columns, X, v)
    while following >= 0:
        i = following
        following = take(&a, x, columns, X, order) if a.left > 0 else -1
        weight = X.weights[i] if X.weights != NULL else 1.0
        p = product - v_center + s.shift + total * per_row * (s.center_square - along[i])
        q = max(0.0, squares[i] - 2.0 * along[i] + s.center_square) * per_row
        u = landing(loss, is_log_loss, X.targets[i], weight, p, dual[i], q, &first)
        # The next row's product does not wait for this row's step: it would wait for exponentials.
        if following >= 0:
            product = along_row_of(following, x, columns, X, v)
        margin[i] = u
        change = -weight * first - dual[i]
        if change == 0.0:
            continue
        dual[i] += change
        total += change
        change *= per_row
        v_center += change * along[i]
        for j in range(X.starts[i], X.starts[i + 1]):
            v[columns[j]] += change * x[j]
    s.sum, s.v_center = total, v_center


def ascend(Rows X, Loss loss, Order order, DualState s, Py_ssize_t lo, Py_ssize_t hi):
    """The best a_i of each row of blocks lo to hi, one after another, without the GIL."""
    if not X.sparse:
        raise ValueError("dual ascent is for CSR rows")
    cdef double* dual = doubles(s.dual, X.n_rows)
    cdef double* margin = doubles(s.margin, X.n_rows)
    cdef double* along = doubles(s.along_center, X.n_rows)
    cdef double* squares = doubles(s.squares, X.n_rows)
    cdef double* v = doubles(s.v, X.n_columns)
    with nogil:
        if X.is_double:
            if X.wide:
                climb(<const double*>X.values, <const int64_t*>X.columns, X, loss, order, s, v,
                      dual, margin, along, squares, lo, hi)
            else:
                climb(<const double*>X.values, <const int32_t*>X.columns, X, loss, order, s, v,
                      dual, margin, along, squares, lo, hi)
        elif X.wide:
            climb(<const float*>X.values, <const int64_t*>X.columns, X, loss, order, s, v, dual,
                  margin, along, squares, lo, hi)
        else:
            climb(<const float*>X.values, <const int32_t*>X.columns, X, loss, order, s, v, dual,
                  margin, along, squares, lo, hi)


cdef void survey(
    const real* x, const index* columns, Rows X, const double* means, double* along,
    double* squares, Py_ssize_t lo, Py_ssize_t hi
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(lo, hi):
        squares[i] = square_of(x + X.starts[i], X.starts[i + 1] - X.starts[i])
        along[i] = along_row_of(i, x, columns, X, means)


def survey_rows(Rows X, means, along, squares, Py_ssize_t lo, Py_ssize_t hi):
    """m.x_i and ||x_i||^2 of rows lo to hi, in use or not, without the GIL."""
    cdef double* m = doubles(means, X.n_columns)
    cdef double* products = doubles(along, X.n_rows)
    cdef double* norms = doubles(squares, X.n_rows)
    with nogil:
        if X.is_double:
            if X.wide:
                survey(<const double*>X.values, <const int64_t*>X.columns, X, m, products, norms,
                       lo, hi)
            else:
                survey(<const double*>X.values, <const int32_t*>X.columns, X, m, products, norms,
                       lo, hi)
        elif X.wide:
            survey(<const float*>X.values, <const int64_t*>X.columns, X, m, products, norms,
                   lo, hi)
        else:
            survey(<const float*>X.values, <const int32_t*>X.columns, X, m, products, norms,
                   lo, hi)


cdef void add_rows(
    const real* x, const index* columns, Rows X, const int64_t* rows, Py_ssize_t n, double factor,
    double* sums
) noexcept nogil:
    cdef Py_ssize_t j, k
    for k in range(n):
        for j in range(X.starts[rows[k]], X.starts[rows[k] + 1]):
            sums[columns[j]] += factor * x[j]


def sum_rows(Rows X, rows, double factor, sums):
    """sums += factor sum_i x_i over the given rows (int64)."""
    cdef double* total = doubles(sums, X.n_columns)
    cdef Py_ssize_t n = len(rows)
    cdef const int64_t* which = longs(rows, n)
    with nogil:
        if X.is_double:
            if X.wide:
                add_rows(<const double*>X.values, <const int64_t*>X.columns, X, which, n, factor,
                         total)
            else:
                add_rows(<const double*>X.values, <const int32_t*>X.columns, X, which, n, factor,
                         total)
        elif X.wide:
            add_rows(<const float*>X.values, <const int64_t*>X.columns, X, which, n, factor, total)
        else:
            add_rows(<const float*>X.values, <const int32_t*>X.columns, X, which, n, factor, total)


cdef const int64_t* numbers_of(subset) except? NULL:
    return longs_at_least(subset, 0)


cdef void predict(
    const real* x, const index* columns, Rows X, DualState s, const double* v,
    const double* along, const int64_t* subset, double* out, Py_ssize_t lo, Py_ssize_t hi
) noexcept nogil:
    cdef Py_ssize_t i, k
    cdef double slope = s.sum / s.size, fixed = slope * s.center_square - s.v_center
    for k in range(lo, hi):
        i = subset[k] if subset != NULL else k
        out[k] = along_row_of(i, x, columns, X, v) + fixed - slope * along[i]


def margins(Rows X, DualState s, out, Py_ssize_t lo, Py_ssize_t hi, subset=None):
    """w.(x_i - m) for positions lo to hi of `out`, without the GIL."""
    cdef double* p = doubles(out, len(out))
    cdef double* v = doubles(s.v, X.n_columns)
    cdef double* along = doubles(s.along_center, X.n_rows)
    cdef const int64_t* rows = numbers_of(subset)
    with nogil:
        if X.is_double:
            if X.wide:
                predict(<const double*>X.values, <const int64_t*>X.columns, X, s, v, along, rows,
                        p, lo, hi)
            else:
                predict(<const double*>X.values, <const int32_t*>X.columns, X, s, v, along, rows,
                        p, lo, hi)
        elif X.wide:
            predict(<const float*>X.values, <const int64_t*>X.columns, X, s, v, along, rows, p,
                    lo, hi)
        else:
            predict(<const float*>X.values, <const int32_t*>X.columns, X, s, v, along, rows, p,
                    lo, hi)


def shares(Rows X, Loss loss, DualState s, p, out, subset=None):
    """Twice each row's part of the gap at margins p, to second order: (p - u)(a + s loss'(p))."""
    cdef const double* at = doubles(p, len(p))
    cdef double* target = doubles(out, len(p))
    cdef const double* dual = doubles(s.dual, X.n_rows)
    cdef const double* margin = doubles(s.margin, X.n_rows)
    cdef const int64_t* rows = numbers_of(subset)
    cdef Py_ssize_t i, k, n = len(p)
    cdef double weight
    with nogil:
        for k in range(n):
            i = rows[k] if rows != NULL else k
            weight = X.weights[i] if X.weights != NULL else 1.0
            target[k] = (at[k] - margin[i]) * (
                dual[i] + weight * loss.gradient(X.targets[i], at[k]))
