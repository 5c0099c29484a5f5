"""The row primitives of rows.h under one name each, for every dtype and index type."""

from libc.stdint cimport int16_t, int32_t, int64_t

ctypedef fused real:
    float
    double

ctypedef fused index:
    int32_t
    int64_t

cdef extern from "rows.h" nogil:
    ctypedef struct skpar_table_f64:
        double (*dot)(const double*, const double*, Py_ssize_t) noexcept nogil
        void (*axpy)(double, const double*, double*, Py_ssize_t) noexcept nogil
        void (*dot4)(const double**, const double*, Py_ssize_t, double*) noexcept nogil
        void (*gram4)(
            const double**, const double*, const double*, Py_ssize_t, double*) noexcept nogil
        void (*axpy4)(
            const double*, const double**, const double*, double*, Py_ssize_t) noexcept nogil
    ctypedef struct skpar_table_f32:
        double (*dot)(const float*, const float*, Py_ssize_t) noexcept nogil
        void (*axpy)(float, const float*, float*, Py_ssize_t) noexcept nogil
        void (*dot4)(const float**, const float*, Py_ssize_t, double*) noexcept nogil
        void (*gram4)(const float**, const float*, const float*, Py_ssize_t, double*) noexcept nogil
        void (*axpy4)(const float*, const float**, const float*, float*, Py_ssize_t) noexcept nogil
    skpar_table_f64 skpar_f64
    skpar_table_f32 skpar_f32
    const char* skpar_use_level(const char*)
    enum: SKPAR_PADDING
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
    double dot_split_f64_i32(
        const double*, const int32_t*, const int16_t*, double*, double*, double**, Py_ssize_t)
    double dot_split_f64_i64(
        const double*, const int64_t*, const int16_t*, double*, double*, double**, Py_ssize_t)
    double dot_split_f32_i32(
        const float*, const int32_t*, const int16_t*, float*, float*, float**, Py_ssize_t)
    double dot_split_f32_i64(
        const float*, const int64_t*, const int16_t*, float*, float*, float**, Py_ssize_t)
    void axpy_split_f64(double, const double*, double**, Py_ssize_t)
    void axpy_split_f32(float, const float*, float**, Py_ssize_t)
    double dot_sparse_naive_f64_i32(const double*, const int32_t*, const double*, Py_ssize_t)
    double dot_sparse_naive_f32_i32(const float*, const int32_t*, const float*, Py_ssize_t)
    double shared_get_f64(const double*)
    double shared_get_f32(const float*)
    void shared_set_f64(double*, double)
    void shared_set_f32(float*, double)
    int64_t skpar_fetch_add(int64_t*, int64_t)
    int64_t skpar_load_flag(const int64_t*)
    void skpar_store_flag(int64_t*, int64_t)
    bint skpar_try_acquire(int64_t*)
    void skpar_release(int64_t*)
    void skpar_prefetch_span(const void*, Py_ssize_t)
    void skpar_prefetch_to_write(const void*, Py_ssize_t)


cdef inline double dot_dense(const real* x, const real* w, Py_ssize_t n) noexcept nogil:
    if real is double:
        return skpar_f64.dot(x, w, n)
    else:
        return skpar_f32.dot(x, w, n)


cdef inline void axpy_dense(real a, const real* x, real* w, Py_ssize_t n) noexcept nogil:
    if real is double:
        skpar_f64.axpy(a, x, w, n)
    else:
        skpar_f32.axpy(a, x, w, n)


cdef inline void dot4_dense(
    const real** x, const real* w, Py_ssize_t n, double* out
) noexcept nogil:
    if real is double:
        skpar_f64.dot4(x, w, n, out)
    else:
        skpar_f32.dot4(x, w, n, out)


cdef inline void gram4_dense(
    const real** x, const real* w, const real* rates, Py_ssize_t n, double* out
) noexcept nogil:
    if real is double:
        skpar_f64.gram4(x, w, rates, n, out)
    else:
        skpar_f32.gram4(x, w, rates, n, out)


cdef inline void axpy4_dense(
    const real* a, const real** x, const real* rates, real* w, Py_ssize_t n
) noexcept nogil:
    if real is double:
        skpar_f64.axpy4(a, x, rates, w, n)
    else:
        skpar_f32.axpy4(a, x, rates, w, n)


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


cdef inline double dot_split(
    const real* x, const index* columns, const int16_t* slots, real* hot, real* cold,
    real** where, Py_ssize_t n
) noexcept nogil:
    if real is double:
        if index is int32_t:
            return dot_split_f64_i32(x, columns, slots, hot, cold, where, n)
        else:
            return dot_split_f64_i64(x, columns, slots, hot, cold, where, n)
    else:
        if index is int32_t:
            return dot_split_f32_i32(x, columns, slots, hot, cold, where, n)
        else:
            return dot_split_f32_i64(x, columns, slots, hot, cold, where, n)


cdef inline void axpy_split(real a, const real* x, real** where, Py_ssize_t n) noexcept nogil:
    if real is double:
        axpy_split_f64(a, x, where, n)
    else:
        axpy_split_f32(a, x, where, n)


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


cdef inline const char* use_simd_level() except NULL:
    """Fill this extension module's table of primitives; every module that uses rows calls it."""
    import os

    limit = os.environ.get("SKPAR_SIMD", "").lower().encode()
    cdef const char* level = skpar_use_level(limit)
    if level == NULL:
        raise ImportError(
            f"SKPAR_SIMD={limit.decode()!r} is not a level: it is one of scalar, neon, sse2, avx2, "
            "avx512, or empty for the widest that this machine has."
        )
    return level
