"""The SIMD level in use, and the row primitives beside their naive twins, for tests."""

import numpy as np

from libc.stdint cimport int32_t

from skpar._kernels.rows cimport (
    axpy4_dense,
    axpy_dense,
    axpy_dense_naive_f32,
    axpy_dense_naive_f64,
    axpy_sparse,
    dot4_dense,
    dot_dense,
    dot_dense_naive_f32,
    dot_dense_naive_f64,
    dot_sparse,
    dot_sparse_naive_f32_i32,
    dot_sparse_naive_f64_i32,
    gram4_dense,
    real,
    use_simd_level,
)

LEVEL = use_simd_level().decode()


def simd_level():
    """The instructions that dense rows are computed with: "scalar", "neon", "sse2", ..."""
    return LEVEL


def py_dot_dense(real[::1] x, real[::1] w):
    """(fast, naive) dot products of a dense row."""
    if real is double:
        return (dot_dense(&x[0], &w[0], x.shape[0]),
                dot_dense_naive_f64(&x[0], &w[0], x.shape[0]))
    else:
        return (dot_dense(&x[0], &w[0], x.shape[0]),
                dot_dense_naive_f32(&x[0], &w[0], x.shape[0]))


def py_axpy_dense(real a, real[::1] x, real[::1] w, real[::1] w_naive):
    """w += a x, fast into `w` and naive into `w_naive`."""
    axpy_dense(a, &x[0], &w[0], x.shape[0])
    if real is double:
        axpy_dense_naive_f64(a, &x[0], &w_naive[0], x.shape[0])
    else:
        axpy_dense_naive_f32(a, &x[0], &w_naive[0], x.shape[0])


def py_dot_sparse(real[::1] x, int32_t[::1] columns, real[::1] w):
    """(fast, naive) dot products of a sparse row."""
    if real is double:
        return (dot_sparse(&x[0], &columns[0], &w[0], x.shape[0]),
                dot_sparse_naive_f64_i32(&x[0], &columns[0], &w[0], x.shape[0]))
    else:
        return (dot_sparse(&x[0], &columns[0], &w[0], x.shape[0]),
                dot_sparse_naive_f32_i32(&x[0], &columns[0], &w[0], x.shape[0]))


def py_axpy_sparse(real a, real[::1] x, int32_t[::1] columns, real[::1] w):
    """w[columns] += a x."""
    axpy_sparse(a, &x[0], &columns[0], &w[0], x.shape[0])


def py_four_rows(real[:, ::1] x, real[::1] w, rates, real[::1] a):
    """(dot4, gram4) of four rows, and w += D sum_k a_k x_k; w and rates are padded."""
    cdef const real* rows[4]
    cdef const real* d = NULL
    cdef real[::1] view
    cdef Py_ssize_t k
    dots, gram = np.empty(4), np.empty(10)
    cdef double[::1] dots_out = dots
    cdef double[::1] gram_out = gram
    if rates is not None:
        view = rates
        d = &view[0]
    for k in range(4):
        rows[k] = &x[k, 0]
    dot4_dense(rows, &w[0], x.shape[1], &dots_out[0])
    gram4_dense(rows, &w[0], d, x.shape[1], &gram_out[0])
    axpy4_dense(&a[0], rows, d, &w[0], x.shape[1])
    return dots, gram
