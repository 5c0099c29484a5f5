"""Dual coordinate ascent on CSR rows (Shalev-Shwartz & Zhang 2013), columns centred in effect.

A row's dual variable is a_i = -s_i loss'(y_i, u_i), kept with the margin u_i that it belongs to,
and the weights are w = sum_i a_i (x_i - m) / (l2 n) with a centre m. Centred columns hardly see
the intercept, which is what slows ascent on plain rows. No row is made dense: with
v = sum_i a_i x_i / (l2 n) and k = sum_i a_i / (l2 n),

    w.(x_i - m) = v.x_i - k m.x_i - v.m + k m.m.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t

from skpar._kernels.ahead cimport Ahead, look_ahead, take
from skpar._kernels.arrays cimport doubles
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

    def __init__(self, Rows X, double size, along_center, squares):
        self.dual, self.margin = np.zeros(X.n_rows), np.zeros(X.n_rows)
        self.along_center, self.squares = along_center, squares
        self.v = np.zeros(X.n_columns)
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


cdef void climb(
    const real* x, const index* columns, Rows X, Loss loss, Order order, DualState s, double* v,
    double* dual, double* margin, const double* along, const double* squares, Py_ssize_t lo,
    Py_ssize_t hi
) noexcept nogil:
    cdef Ahead a
    cdef bint is_log_loss = loss.kind == 1
    cdef double per_row = 1.0 / s.size, weight, p, q, u, change, first
    cdef double total = s.sum, v_center = s.v_center
    cdef Py_ssize_t i, j, end
    look_ahead(&a, x, columns, X, order, lo, hi)
    while a.left > 0:
        i = take(&a, x, columns, X, order)
        weight = X.weights[i] if X.weights != NULL else 1.0
        j, end = X.starts[i], X.starts[i + 1]
        p = along_row(x + j, columns + j, v, end - j) - v_center + s.shift
        p += total * per_row * (s.center_square - along[i])
        q = max(0.0, squares[i] - 2.0 * along[i] + s.center_square) * per_row
        u = landing(loss, is_log_loss, X.targets[i], weight, p, dual[i], q, &first)
        margin[i] = u
        change = -weight * first - dual[i]
        if change == 0.0:
            continue
        dual[i] += change
        total += change
        change *= per_row
        v_center += change * along[i]
        for j in range(X.starts[i], end):
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


cdef void add_rows(
    const real* x, const index* columns, Rows X, const double* factors, double* sums,
    double* squares
) noexcept nogil:
    cdef Py_ssize_t i, j
    cdef double square
    for i in range(X.n_rows):
        square = 0.0
        for j in range(X.starts[i], X.starts[i + 1]):
            square += <double>x[j] * x[j]
        squares[i] = square
        if factors[i] != 0.0:
            for j in range(X.starts[i], X.starts[i + 1]):
                sums[columns[j]] += factors[i] * x[j]


def sum_rows(Rows X, factors, sums, squares):
    """sums += sum_i factors_i x_i, and the rows' squared norms into `squares`."""
    cdef double* f = doubles(factors, X.n_rows)
    cdef double* total = doubles(sums, X.n_columns)
    cdef double* norms = doubles(squares, X.n_rows)
    with nogil:
        if X.is_double:
            if X.wide:
                add_rows(<const double*>X.values, <const int64_t*>X.columns, X, f, total, norms)
            else:
                add_rows(<const double*>X.values, <const int32_t*>X.columns, X, f, total, norms)
        elif X.wide:
            add_rows(<const float*>X.values, <const int64_t*>X.columns, X, f, total, norms)
        else:
            add_rows(<const float*>X.values, <const int32_t*>X.columns, X, f, total, norms)
