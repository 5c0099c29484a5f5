"""Dual coordinate ascent of many outputs at once: `dual` for each output, in one read of a row.

The outputs are independent (one-vs-rest, several targets); a row's squared norm, its product with
the centre and its numbers serve all of them. Arrays have the outputs in groups of four: those
that make up the last group weigh 0.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t

from skpar._kernels.ahead cimport Ahead, look_ahead, take
from skpar._kernels.arrays cimport doubles
from skpar._kernels.landing cimport ENOUGH, landing
from skpar._kernels.losses cimport Loss
from skpar._kernels.outputs cimport Targets
from skpar._kernels.records cimport Order, Rows
from skpar._kernels.rows cimport index, real

cdef extern from "duals.h" nogil:
    void duals_margins_f64_i32(const double*, const int32_t*, Py_ssize_t, Py_ssize_t,
                               const double*, double*)
    void duals_margins_f64_i64(const double*, const int64_t*, Py_ssize_t, Py_ssize_t,
                               const double*, double*)
    void duals_margins_f32_i32(const float*, const int32_t*, Py_ssize_t, Py_ssize_t,
                               const double*, double*)
    void duals_margins_f32_i64(const float*, const int64_t*, Py_ssize_t, Py_ssize_t,
                               const double*, double*)
    void duals_spread_f64_i32(const double*, const int32_t*, Py_ssize_t, Py_ssize_t,
                              const double*, double*)
    void duals_spread_f64_i64(const double*, const int64_t*, Py_ssize_t, Py_ssize_t,
                              const double*, double*)
    void duals_spread_f32_i32(const float*, const int32_t*, Py_ssize_t, Py_ssize_t,
                              const double*, double*)
    void duals_spread_f32_i64(const float*, const int64_t*, Py_ssize_t, Py_ssize_t,
                              const double*, double*)
    void duals_log_landing(Py_ssize_t, const double*, const double*, const double*,
                           const double*, double, double, double*, double*, double*)
    void log_losses(Py_ssize_t, const double*, const double*, double*, double*, double*)

cdef enum:
    GROUP = 4
    VECTORS = 10  # vectors of workspace


def padded(Py_ssize_t k):
    """k rounded up to whole groups."""
    return (k + GROUP - 1) // GROUP * GROUP


cdef class DualsState:
    """What an ascent of k outputs is about, as `DualState` for one.

    `dual` and `margin` have the shape (rows, padded k), `v` (columns, padded k); `sums`,
    `v_center` and `shift` a number for each output. `along_center` and `squares` are of the rows.
    """

    cdef public object dual, margin, v, sums, v_center, shift, along_center, squares
    cdef public double center_square, size
    cdef readonly Py_ssize_t k

    def __init__(self, Rows X, double size, Py_ssize_t k, along_center, squares, center_square):
        self.k = padded(k)
        self.size, self.center_square = size, center_square
        self.along_center, self.squares = along_center, squares
        self.dual, self.margin = np.zeros((X.n_rows, self.k)), np.zeros((X.n_rows, self.k))
        self.v = np.zeros((X.n_columns, self.k))
        self.sums, self.v_center, self.shift = np.zeros((3, self.k))


cdef struct View:
    # pointers into a DualsState, and room to work
    double* dual
    double* margin
    double* v
    double* sums
    double* v_center
    double* shift
    const double* along
    const double* squares
    double* work
    double center_square, per_row
    Py_ssize_t k


cdef View view_of(DualsState s, Rows X, work):
    cdef View t
    t.dual = doubles(s.dual, X.n_rows * s.k)
    t.margin = doubles(s.margin, X.n_rows * s.k)
    t.v = doubles(s.v, X.n_columns * s.k)
    t.sums = doubles(s.sums, s.k)
    t.v_center = doubles(s.v_center, s.k)
    t.shift = doubles(s.shift, s.k)
    t.along = doubles(s.along_center, X.n_rows)
    t.squares = doubles(s.squares, X.n_rows)
    t.work = doubles(work, VECTORS * s.k)
    t.center_square, t.per_row, t.k = s.center_square, 1.0 / s.size, s.k
    return t


cdef inline void row_times_v(
    const real* x, const index* columns, Py_ssize_t n, View* t, double* p
) noexcept nogil:
    if real is double:
        if index is int32_t:
            duals_margins_f64_i32(x, columns, n, t.k, t.v, p)
        else:
            duals_margins_f64_i64(x, columns, n, t.k, t.v, p)
    elif index is int32_t:
        duals_margins_f32_i32(x, columns, n, t.k, t.v, p)
    else:
        duals_margins_f32_i64(x, columns, n, t.k, t.v, p)


cdef inline void add_row(
    const real* x, const index* columns, Py_ssize_t n, View* t, const double* u
) noexcept nogil:
    if real is double:
        if index is int32_t:
            duals_spread_f64_i32(x, columns, n, t.k, u, t.v)
        else:
            duals_spread_f64_i64(x, columns, n, t.k, u, t.v)
    elif index is int32_t:
        duals_spread_f32_i32(x, columns, n, t.k, u, t.v)
    else:
        duals_spread_f32_i64(x, columns, n, t.k, u, t.v)


cdef inline void margins_of(
    const real* x, const index* columns, Rows X, Py_ssize_t i, View* t, double* p
) noexcept nogil:
    """The margins of row i without the intercepts."""
    cdef Py_ssize_t c, first = X.starts[i]
    cdef double share = t.per_row * (t.center_square - t.along[i])
    row_times_v(x + first, columns + first, X.starts[i + 1] - first, t, p)
    for c in range(t.k):
        p[c] += t.sums[c] * share - t.v_center[c]


cdef inline void wanted(
    Targets targets, Py_ssize_t i, double negative, Py_ssize_t k, double* y, double* s
) noexcept nogil:
    """Targets and weights of a row's outputs; what fills the last group weighs 0."""
    cdef Py_ssize_t c
    cdef double weight = targets.weights[i] if targets.weights != NULL else 1.0
    for c in range(targets.k):
        s[c] = weight
        if targets.values != NULL:
            y[c] = targets.values[i * targets.k + c]
        elif targets.codes[i] == targets.classes[c]:
            y[c] = 1.0
            s[c] = weight * targets.factors[c]
        else:
            y[c] = negative
    for c in range(targets.k, k):
        y[c] = s[c] = 0.0


cdef void climb(
    const real* x, const index* columns, Rows X, Loss loss, Targets targets, Order order, View t,
    Py_ssize_t lo, Py_ssize_t hi
) noexcept nogil:
    cdef Ahead a
    cdef Py_ssize_t i, c, first, k = t.k
    cdef double q, change
    cdef double negative = 0.0 if loss.kind == 1 else -1.0
    cdef double* p = t.work
    cdef double* y = t.work + k
    cdef double* s = t.work + 2 * k
    cdef double* slope = t.work + 3 * k
    cdef double* change_of = t.work + 4 * k
    cdef double* dual
    cdef double* margin
    look_ahead(&a, x, columns, X, order, lo, hi)
    while a.left > 0:
        i = take(&a, x, columns, X, order)
        dual, margin = t.dual + i * k, t.margin + i * k
        margins_of(x, columns, X, i, &t, p)
        for c in range(k):
            p[c] += t.shift[c]
        wanted(targets, i, negative, k, y, s)
        q = max(0.0, t.squares[i] - 2.0 * t.along[i] + t.center_square) * t.per_row
        if loss.kind == 1:
            duals_log_landing(k, y, s, p, dual, q, ENOUGH, margin, slope, t.work + 5 * k)
        else:
            for c in range(k):
                margin[c] = landing(loss, False, y[c], s[c], p[c], dual[c], q, slope + c)
        for c in range(k):
            change = -s[c] * slope[c] - dual[c]
            dual[c] += change
            t.sums[c] += change
            change_of[c] = change * t.per_row
            t.v_center[c] += change_of[c] * t.along[i]
        first = X.starts[i]
        add_row(x + first, columns + first, X.starts[i + 1] - first, &t, change_of)


def ascend(Rows X, Loss loss, Targets targets, Order order, DualsState s, Py_ssize_t lo,
           Py_ssize_t hi):
    """The best dual variables of each row of blocks lo to hi, one row after another."""
    check(X, targets, s)
    work = np.zeros(VECTORS * s.k)
    cdef View t = view_of(s, X, work)
    with nogil:
        if X.is_double:
            if X.wide:
                climb(<const double*>X.values, <const int64_t*>X.columns, X, loss, targets, order,
                      t, lo, hi)
            else:
                climb(<const double*>X.values, <const int32_t*>X.columns, X, loss, targets, order,
                      t, lo, hi)
        elif X.wide:
            climb(<const float*>X.values, <const int64_t*>X.columns, X, loss, targets, order, t,
                  lo, hi)
        else:
            climb(<const float*>X.values, <const int32_t*>X.columns, X, loss, targets, order, t,
                  lo, hi)


def check(Rows X, Targets targets, DualsState s):
    """Raise where the parts do not fit each other."""
    if not X.sparse or targets.n != X.n_rows or padded(targets.k) != s.k:
        raise ValueError("dual ascent of many outputs needs CSR rows and targets for each of them")
    if targets.values == NULL and targets.classes == NULL:
        raise ValueError("dual ascent needs the classes of the outputs")


cdef void sum_all(
    const real* x, const index* columns, Rows X, View t, double* margins
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(X.n_rows):
        margins_of(x, columns, X, i, &t, margins + i * t.k)


def margins(Rows X, DualsState s, out):
    """The margins of all rows without the intercepts, into `out` of shape (rows, padded k)."""
    work = np.zeros(VECTORS * s.k)
    cdef View t = view_of(s, X, work)
    cdef double* p = doubles(out, X.n_rows * s.k)
    with nogil:
        if X.is_double:
            if X.wide:
                sum_all(<const double*>X.values, <const int64_t*>X.columns, X, t, p)
            else:
                sum_all(<const double*>X.values, <const int32_t*>X.columns, X, t, p)
        elif X.wide:
            sum_all(<const float*>X.values, <const int64_t*>X.columns, X, t, p)
        else:
            sum_all(<const float*>X.values, <const int32_t*>X.columns, X, t, p)


def losses(Loss loss, Targets targets, margins, shift, totals):
    """Sums over the rows of the weighted losses at margins + shift and of their first and second
    derivatives, one of each for each output, into `totals` of shape (3, padded k)."""
    cdef Py_ssize_t i, c, n = len(margins), k = margins.shape[1]
    cdef double* at = doubles(margins, n * k)
    cdef double* b = doubles(shift, k)
    cdef double* sums = doubles(totals, 3 * k)
    room = np.zeros(6 * k)
    cdef double* p = doubles(room, 6 * k)
    cdef double* y = p + k
    cdef double* s = p + 2 * k
    cdef double* value = p + 3 * k
    cdef double* first = p + 4 * k
    cdef double* second = p + 5 * k
    cdef double negative = 0.0 if loss.kind == 1 else -1.0
    if targets.n != n or padded(targets.k) != k:
        raise ValueError("margins do not fit the targets")
    with nogil:
        for i in range(n):
            wanted(targets, i, negative, k, y, s)
            for c in range(k):
                p[c] = at[i * k + c] + b[c]
            if loss.kind == 1:
                log_losses(k, y, p, value, first, second)
            else:
                for c in range(k):
                    value[c] = loss.value(y[c], p[c])
                    first[c] = loss.gradient(y[c], p[c])
                    second[c] = loss.curvature(y[c], p[c])
            for c in range(k):
                sums[c] += s[c] * value[c]
                sums[k + c] += s[c] * first[c]
                sums[2 * k + c] += s[c] * second[c]
