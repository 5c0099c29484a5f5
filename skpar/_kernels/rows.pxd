"""The row primitives of rows.h under one name each, for every dtype and index type."""

from libc.stdint cimport int32_t, int64_t

ctypedef fused real:
    float
    double

ctypedef fused index:
    int32_t
    int64_t

cdef extern from "rows.h" nogil:
    double dot_dense_f64(const double*, const double*, Py_ssize_t)
    double dot_dense_f32(const float*, const float*, Py_ssize_t)
    void axpy_dense_f64(double, const double*, double*, Py_ssize_t)
    void axpy_dense_f32(float, const float*, float*, Py_ssize_t)
    double dot_dense_naive_f64(const double*, const double*, Py_ssize_t)
    double dot_dense_naive_f32(const float*, const float*, Py_ssize_t)
    void axpy_dense_naive_f64(double, const double*, double*, Py_ssize_t)
    void axpy_dense_naive_f32(float, const float*, float*, Py_ssize_t)
    double dot_sparse_f64_i32(const double*, const int32_t*, const double*, Py_ssize_t)
    double dot_sparse_f64_i64(const double*, const int64_t*, const double*, Py_ssize_t)
    double dot_sparse_f32_i32(const float*, const int32_t*, const float*, Py_ssize_t)
    double dot_sparse_f32_i64(const float*, const int64_t*, const float*, Py_ssize_t)
    void axpy_sparse_f64_i32(double, const double*, const int32_t*, double*, Py_ssize_t)
    void axpy_sparse_f64_i64(double, const double*, const int64_t*, double*, Py_ssize_t)
    void axpy_sparse_f32_i32(float, const float*, const int32_t*, float*, Py_ssize_t)
    void axpy_sparse_f32_i64(float, const float*, const int64_t*, float*, Py_ssize_t)
    double dot_sparse_naive_f64_i32(const double*, const int32_t*, const double*, Py_ssize_t)
    double dot_sparse_naive_f32_i32(const float*, const int32_t*, const float*, Py_ssize_t)
    double shared_get_f64(const double*)
    double shared_get_f32(const float*)
    void shared_set_f64(double*, double)
    void shared_set_f32(float*, double)
    int64_t skpar_fetch_add(int64_t*, int64_t)
    int64_t skpar_load_flag(const int64_t*)
    void skpar_prefetch(const void*)


cdef inline double dot_dense(const real* x, const real* w, Py_ssize_t n) noexcept nogil:
    if real is double:
        return dot_dense_f64(x, w, n)
    else:
        return dot_dense_f32(x, w, n)


cdef inline void axpy_dense(real a, const real* x, real* w, Py_ssize_t n) noexcept nogil:
    if real is double:
        axpy_dense_f64(a, x, w, n)
    else:
        axpy_dense_f32(a, x, w, n)


cdef inline double dot_sparse(
    const real* x, const index* columns, const real* w, Py_ssize_t n
) noexcept nogil:
    if real is double:
        if index is int32_t:
            return dot_sparse_f64_i32(x, columns, w, n)
        else:
            return dot_sparse_f64_i64(x, columns, w, n)
    else:
        if index is int32_t:
            return dot_sparse_f32_i32(x, columns, w, n)
        else:
            return dot_sparse_f32_i64(x, columns, w, n)


cdef inline void axpy_sparse(
    real a, const real* x, const index* columns, real* w, Py_ssize_t n
) noexcept nogil:
    if real is double:
        if index is int32_t:
            axpy_sparse_f64_i32(a, x, columns, w, n)
        else:
            axpy_sparse_f64_i64(a, x, columns, w, n)
    else:
        if index is int32_t:
            axpy_sparse_f32_i32(a, x, columns, w, n)
        else:
            axpy_sparse_f32_i64(a, x, columns, w, n)


cdef inline double shared_get(const real* w) noexcept nogil:
    if real is double:
        return shared_get_f64(w)
    else:
        return shared_get_f32(w)


cdef inline void shared_set(real* w, double value) noexcept nogil:
    if real is double:
        shared_set_f64(w, value)
    else:
        shared_set_f32(w, value)
