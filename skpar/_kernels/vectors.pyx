"""Products and combinations of a few long arrays of shape (rows, k): each is read once."""

import numpy as np

from libc.stdlib cimport free, malloc

from skpar._kernels.arrays cimport doubles

cdef extern from "vectors.h" nogil:
    void vector_products(const double* const*, Py_ssize_t, const double* const*, Py_ssize_t,
                         Py_ssize_t, Py_ssize_t, Py_ssize_t, double*)
    void vector_combination(const double*, const double* const*, Py_ssize_t, Py_ssize_t,
                            Py_ssize_t, Py_ssize_t, double*)


cdef const double** addresses(list arrays, tuple shape) except NULL:
    """Of float64 arrays of one shape; the caller frees the list."""
    cdef const double** found
    cdef Py_ssize_t i
    for array in arrays:
        if array.shape != shape:
            raise ValueError(f"kernels need arrays of the shape {shape}, not {array.shape}")
        doubles(array, array.size)
    found = <const double**>malloc(max(1, len(arrays)) * sizeof(double*))
    if found == NULL:
        raise MemoryError
    for i in range(len(arrays)):
        found[i] = doubles(arrays[i], arrays[i].size)
    return found


def products(list left, list right, Py_ssize_t lo, Py_ssize_t hi):
    """Inner products, column by column, over rows lo to hi: shape (left, right, k)."""
    cdef tuple shape = right[0].shape
    cdef Py_ssize_t k = shape[1], m = len(left), r = len(right)
    if not 0 <= lo <= hi <= shape[0]:
        raise ValueError(f"rows {lo} to {hi} of {shape[0]}")
    out = np.zeros((m, r, k))
    cdef double* sums = doubles(out, m * r * k)
    cdef const double** a = addresses(left, shape)
    cdef const double** b = NULL
    try:
        b = addresses(right, shape)
        with nogil:
            vector_products(a, m, b, r, lo, hi, k, sums)
    finally:
        free(a)
        free(b)
    return out


def combination(coef, list arrays, Py_ssize_t lo, Py_ssize_t hi, out):
    """out = sum_a coef_a arrays_a in rows lo to hi; coef (arrays, k)."""
    cdef tuple shape = out.shape
    cdef Py_ssize_t k = shape[1], m = len(arrays)
    coef = np.ascontiguousarray(coef, np.float64)
    if coef.shape != (m, k) or not 0 <= lo <= hi <= shape[0]:
        raise ValueError(f"coefficients of shape {(m, k)} for rows {lo} to {hi} of {shape[0]}")
    cdef const double* t = doubles(coef, m * k)
    cdef const double** a = addresses([*arrays, out], shape)
    cdef double* to = doubles(out, shape[0] * k)
    try:
        with nogil:
            vector_combination(t, a, m, lo, hi, k, to)
    finally:
        free(a)
