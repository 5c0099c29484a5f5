"""What a model says of rows: margins x.w + b, and the summed loss. Nothing is written but `out`."""

import numpy as np

from libc.stdint cimport int32_t, int64_t

from skpar._kernels.arrays cimport doubles, longs, longs_at_least, pointer, reals
from skpar._kernels.losses cimport Loss
from skpar._kernels.records cimport Rows
from skpar._kernels.rows cimport (
    dot_dense,
    dot_sparse,
    index,
    real,
    use_simd_level,
)

use_simd_level()


cdef void fill(
    const real* w, const index* columns, Rows X, double intercept, const int64_t* subset,
    double* out, Py_ssize_t lo, Py_ssize_t hi
) noexcept nogil:
    cdef const real* x = <const real*>X.values
    cdef Py_ssize_t i, k
    for k in range(lo, hi):
        i = subset[k] if subset != NULL else k
        if X.sparse:
            out[k - lo] = intercept + dot_sparse(
                x + X.starts[i], columns + X.starts[i], w, X.starts[i + 1] - X.starts[i]
            )
        else:
            out[k - lo] = intercept + dot_dense(x + i * X.n_columns, w, X.n_columns)


def margins(Rows X, w, double intercept, Py_ssize_t lo, Py_ssize_t hi, subset=None):
    """x.w + intercept (float64) for positions lo to hi, without the GIL."""
    out = np.empty(hi - lo)
    cdef double* target = doubles(out, hi - lo)
    cdef const void* weights = reals(w, X.is_double, X.n_columns)
    cdef const int64_t* rows = longs_at_least(subset, hi)
    with nogil:
        if X.is_double:
            if X.wide:
                fill(<const double*>weights, <const int64_t*>X.columns, X, intercept, rows,
                     target, lo, hi)
            else:
                fill(<const double*>weights, <const int32_t*>X.columns, X, intercept, rows,
                     target, lo, hi)
        elif X.wide:
            fill(<const float*>weights, <const int64_t*>X.columns, X, intercept, rows, target,
                 lo, hi)
        else:
            fill(<const float*>weights, <const int32_t*>X.columns, X, intercept, rows, target,
                 lo, hi)
    return out


def total_loss(Rows X, Loss loss, w, double intercept, Py_ssize_t lo, Py_ssize_t hi, subset=None):
    """The sum of s_i loss(y_i, x_i.w + b) over positions lo to hi, without the GIL."""
    p_array = margins(X, w, intercept, lo, hi, subset)
    cdef const double* p = doubles(p_array, hi - lo)
    cdef const int64_t* rows = longs_at_least(subset, hi)
    cdef double total = 0.0
    cdef Py_ssize_t i, k
    with nogil:
        for k in range(hi - lo):
            i = rows[k + lo] if rows != NULL else k + lo
            if X.weights != NULL:
                total += X.weights[i] * loss.value(X.targets[i], p[k])
            else:
                total += loss.value(X.targets[i], p[k])
    return total


cdef bint by_class(
    const real* w, const index* columns, const int64_t* starts, const real* x,
    const real* intercept, real* out, Py_ssize_t n, Py_ssize_t d, Py_ssize_t k
) noexcept nogil:
    """One row primitive a score."""
    cdef Py_ssize_t i, c, first
    cdef bint finite = True
    cdef real score
    for i in range(n):
        first = starts[i] - starts[0]
        for c in range(k):
            score = <real>(intercept[c] + dot_sparse(
                x + first, columns + first, w + c * d, starts[i + 1] - starts[i]))
            finite &= score - score == 0
            out[i * k + c] = score
    return finite


cdef bint by_column(
    const real* w, const index* columns, const int64_t* starts, const real* x,
    const real* intercept, real* out, double* sums, Py_ssize_t n, Py_ssize_t k
) noexcept nogil:
    """All classes of a column together: `w` has one row a column, so each costs one cache miss."""
    cdef Py_ssize_t i, c, j
    cdef bint finite = True
    cdef const real* wj
    cdef double xj
    cdef real score
    for i in range(n):
        for c in range(k):
            sums[c] = intercept[c]
        for j in range(starts[i] - starts[0], starts[i + 1] - starts[0]):
            wj = w + columns[j] * k
            xj = x[j]
            for c in range(k):
                sums[c] += xj * wj[c]
        for c in range(k):
            score = <real>sums[c]
            finite &= score - score == 0
            out[i * k + c] = score
    return finite


cdef bint sparse_rows(
    const real* w, const index* columns, const int64_t* starts, const real* x,
    const real* intercept, real* out, double* sums, Py_ssize_t n, Py_ssize_t d, Py_ssize_t k
) noexcept nogil:
    if sums == NULL:
        return by_class(w, columns, starts, x, intercept, out, n, d, k)
    return by_column(w, columns, starts, x, intercept, out, sums, n, k)


def score_sparse(x, columns, starts, w, intercept, out, bint transposed):
    """out = X w' + intercept for CSR rows; whether all is finite. Without the GIL.

    `starts` (int64) holds n + 1 positions, of which the first is where `x` and `columns` (int32
    or int64) begin. `w` has a row a class or, `transposed`, a row a column.
    """
    cdef Py_ssize_t n = out.shape[0], k = out.shape[1], d = w.shape[1]
    cdef bint finite, is_double = w.dtype == np.float64, wide = columns.dtype == np.int64
    cdef const void* xp = reals(x, is_double, x.size)
    cdef const void* wp = reals(w, is_double, w.size)
    cdef const void* cp = pointer(columns)
    cdef const void* bp = reals(intercept, is_double, k)
    cdef void* op = reals(out, is_double, n * k)
    cdef const int64_t* sp = longs(starts, n + 1)
    cdef double* sums = NULL
    if transposed:
        workspace = np.empty(k)
        sums = doubles(workspace, k)
    with nogil:
        if is_double and wide:
            finite = sparse_rows(<const double*>wp, <const int64_t*>cp, sp, <const double*>xp,
                                 <const double*>bp, <double*>op, sums, n, d, k)
        elif is_double:
            finite = sparse_rows(<const double*>wp, <const int32_t*>cp, sp, <const double*>xp,
                                 <const double*>bp, <double*>op, sums, n, d, k)
        elif wide:
            finite = sparse_rows(<const float*>wp, <const int64_t*>cp, sp, <const float*>xp,
                                 <const float*>bp, <float*>op, sums, n, d, k)
        else:
            finite = sparse_rows(<const float*>wp, <const int32_t*>cp, sp, <const float*>xp,
                                 <const float*>bp, <float*>op, sums, n, d, k)
    return finite
