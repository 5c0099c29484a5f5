"""What a model says of rows: margins x.w + b, and the summed loss. Nothing is written but `out`."""

import numpy as np

from libc.stdint cimport int32_t, int64_t

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


cdef const int64_t* subset_pointer(subset) except? NULL:
    if subset is None:
        return NULL
    return <const int64_t*><size_t>subset.ctypes.data


def margins(Rows X, w, double intercept, Py_ssize_t lo, Py_ssize_t hi, subset=None):
    """x.w + intercept (float64) for positions lo to hi, without the GIL."""
    out = np.empty(hi - lo)
    cdef double* target = <double*><size_t>out.ctypes.data
    cdef const void* weights = <const void*><size_t>w.ctypes.data
    cdef const int64_t* rows = subset_pointer(subset)
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
    cdef const double* p = <const double*><size_t>p_array.ctypes.data
    cdef const int64_t* rows = subset_pointer(subset)
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
