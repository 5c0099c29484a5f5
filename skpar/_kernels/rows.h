/* Row primitives: everything that touches one row's coordinates.
 *
 * Dense rows are in rows_level.h, compiled for several SIMD levels by rows_simd.h; this file
 * adds sparse rows, shared memory and the naive twins that tests/test_kernels.py holds all to.
 * Reassociation of sums happens in these primitives and nowhere else, so no -ffast-math is
 * needed and NaN and inf keep their meaning.
 */
#ifndef SKPAR_ROWS_H
#define SKPAR_ROWS_H

#include "rows_simd.h"

/* Shared weights are read and written by every worker. Relaxed atomics make that defined
 * behaviour; on x86-64 and arm64 they compile to plain loads and stores. */
#if defined(__GNUC__) || defined(__clang__)
#define SKPAR_LOAD(pointer, value) __atomic_load((pointer), (value), __ATOMIC_RELAXED)
#define SKPAR_STORE(pointer, value) __atomic_store((pointer), (value), __ATOMIC_RELAXED)
#define skpar_fetch_add(pointer, step) __atomic_fetch_add((pointer), (step), __ATOMIC_RELAXED)
#define skpar_load_flag(pointer) __atomic_load_n((pointer), __ATOMIC_RELAXED)
#define skpar_store_flag(pointer, v) __atomic_store_n((pointer), (v), __ATOMIC_RELAXED)
#define skpar_try_acquire(pointer) (__atomic_exchange_n((pointer), 1, __ATOMIC_ACQUIRE) == 0)
#define skpar_release(pointer) __atomic_store_n((pointer), 0, __ATOMIC_RELEASE)
/* Rows are read once an epoch: they should not push the weights out of the second-level cache. */
#define skpar_prefetch(pointer) __builtin_prefetch((pointer), 0, 0)
#else
#include <intrin.h>
#define SKPAR_LOAD(pointer, value) (*(value) = *(pointer))
#define SKPAR_STORE(pointer, value) (*(pointer) = *(value))
#define skpar_fetch_add(pointer, step) _InterlockedExchangeAdd64((volatile int64_t *)(pointer), (step))
#define skpar_load_flag(pointer) (*(volatile const int64_t *)(pointer))
#define skpar_store_flag(pointer, v) (*(volatile int64_t *)(pointer) = (v))
#define skpar_try_acquire(pointer) (_InterlockedExchange64((volatile int64_t *)(pointer), 1) == 0)
#define skpar_release(pointer) _InterlockedExchange64((volatile int64_t *)(pointer), 0)
#define skpar_prefetch(pointer) ((void)(pointer))
#endif

/* Ask for the cache lines of n bytes. gcc takes a function that only prefetches for one without
 * effects and drops the calls; the empty statement keeps them. */
SKPAR_STATIC void skpar_prefetch_span(const void *start, ptrdiff_t n) {
    const char *p = (const char *)start;
    for (const char *end = p + n; p < end; p += 64) skpar_prefetch(p);
#ifdef SKPAR_VECTORS
    __asm__ volatile("");
#endif
}

/* The same for lines that will be written. */
SKPAR_STATIC void skpar_prefetch_to_write(const void *start, ptrdiff_t n) {
#ifdef SKPAR_VECTORS
    const char *p = (const char *)start;
    for (const char *end = p + n; p < end; p += 64) __builtin_prefetch(p, 1);
    __asm__ volatile("");
#else
    (void)start;
    (void)n;
#endif
}

#define SKPAR_REAL(real, suffix)                                                                   \
    SKPAR_STATIC double dot_dense_naive_##suffix(const real *x, const real *w, ptrdiff_t n) {      \
        double sum = 0;                                                                            \
        for (ptrdiff_t j = 0; j < n; j++) sum += (double)x[j] * (double)w[j];                      \
        return sum;                                                                                \
    }                                                                                              \
    SKPAR_STATIC void axpy_dense_naive_##suffix(real a, const real *x, real *w, ptrdiff_t n) {     \
        for (ptrdiff_t j = 0; j < n; j++) w[j] = (real)((double)w[j] + (double)a * (double)x[j]);  \
    }                                                                                              \
    SKPAR_STATIC double shared_get_##suffix(const real *w) {                                       \
        real value;                                                                                \
        SKPAR_LOAD(w, &value);                                                                     \
        return (double)value;                                                                      \
    }                                                                                              \
    SKPAR_STATIC void shared_set_##suffix(real *w, double value) {                                 \
        real cast = (real)value;                                                                   \
        SKPAR_STORE(w, &cast);                                                                     \
    }

/* Four partial sums: a gather has no faster vector form than four scalar loads in flight.
 *
 * In `dot_split` a column lives in one of two places: with slots[c] >= 0 in the worker's own
 * `hot`, else (and without slots) in the shared `cold`. The address of each is left in `where` for `axpy_split`;
 * both are free of branches, which no processor could predict here. */
#define SKPAR_SPARSE(real, suffix, index, kind)                                                    \
    SKPAR_STATIC double dot_sparse_##suffix##_##kind(const real *x, const index *columns,          \
                                                     const real *w, ptrdiff_t n) {                 \
        double s0 = 0, s1 = 0, s2 = 0, s3 = 0;                                                     \
        ptrdiff_t j = 0;                                                                           \
        for (; j + 4 <= n; j += 4) {                                                               \
            s0 += (double)x[j] * (double)w[columns[j]];                                            \
            s1 += (double)x[j + 1] * (double)w[columns[j + 1]];                                    \
            s2 += (double)x[j + 2] * (double)w[columns[j + 2]];                                    \
            s3 += (double)x[j + 3] * (double)w[columns[j + 3]];                                    \
        }                                                                                          \
        for (; j < n; j++) s0 += (double)x[j] * (double)w[columns[j]];                             \
        return (s0 + s1) + (s2 + s3);                                                              \
    }                                                                                              \
    SKPAR_STATIC void axpy_sparse_##suffix##_##kind(real a, const real *x, const index *columns,   \
                                                    real *w, ptrdiff_t n) {                        \
        for (ptrdiff_t j = 0; j < n; j++) w[columns[j]] += a * x[j];                               \
    }                                                                                              \
    SKPAR_STATIC double dot_split_##suffix##_##kind(                                               \
        const real *x, const index *columns, const int16_t *slots, real *hot, real *cold,          \
        real **where, ptrdiff_t n) {                                                               \
        double s0 = 0, s1 = 0;                                                                     \
        ptrdiff_t j = 0;                                                                           \
        real v0, v1;                                                                               \
        for (; j + 2 <= n; j += 2) {                                                               \
            ptrdiff_t c0 = (ptrdiff_t)columns[j], c1 = (ptrdiff_t)columns[j + 1];                  \
            int16_t k0 = slots != NULL ? slots[c0] : -1, k1 = slots != NULL ? slots[c1] : -1;      \
            real *p0 = k0 < 0 ? cold + c0 : hot + k0, *p1 = k1 < 0 ? cold + c1 : hot + k1;         \
            SKPAR_LOAD(p0, &v0);                                                                   \
            SKPAR_LOAD(p1, &v1);                                                                   \
            where[j] = p0;                                                                         \
            where[j + 1] = p1;                                                                     \
            s0 += (double)x[j] * (double)v0;                                                       \
            s1 += (double)x[j + 1] * (double)v1;                                                   \
        }                                                                                          \
        if (j < n) {                                                                               \
            int16_t k0 = slots != NULL ? slots[columns[j]] : -1;                                   \
            real *p0 = k0 < 0 ? cold + columns[j] : hot + k0;                                      \
            SKPAR_LOAD(p0, &v0);                                                                   \
            where[j] = p0;                                                                         \
            s0 += (double)x[j] * (double)v0;                                                       \
        }                                                                                          \
        return s0 + s1;                                                                            \
    }                                                                                              \
    SKPAR_STATIC double dot_sparse_naive_##suffix##_##kind(                                        \
        const real *x, const index *columns, const real *w, ptrdiff_t n) {                         \
        double sum = 0;                                                                            \
        for (ptrdiff_t j = 0; j < n; j++) sum += (double)x[j] * (double)w[columns[j]];             \
        return sum;                                                                                \
    }

#define SKPAR_SPLIT(real, suffix)                                                                  \
    SKPAR_STATIC void axpy_split_##suffix(real a, const real *x, real *const *where,               \
                                          ptrdiff_t n) {                                           \
        for (ptrdiff_t j = 0; j < n; j++) {                                                        \
            real v;                                                                                \
            SKPAR_LOAD(where[j], &v);                                                              \
            v += a * x[j];                                                                         \
            SKPAR_STORE(where[j], &v);                                                             \
        }                                                                                          \
    }

SKPAR_REAL(double, f64)
SKPAR_REAL(float, f32)
SKPAR_SPARSE(double, f64, int32_t, i32)
SKPAR_SPARSE(double, f64, int64_t, i64)
SKPAR_SPARSE(float, f32, int32_t, i32)
SKPAR_SPARSE(float, f32, int64_t, i64)
SKPAR_SPLIT(double, f64)
SKPAR_SPLIT(float, f32)

#endif
