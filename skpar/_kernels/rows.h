/* Row primitives: everything that touches one row's coordinates.
 *
 * Each fast primitive has a naive twin, which tests/test_kernels.py holds it to.
 * Reassociation of sums is allowed here and nowhere else: `omp simd` grants it to one
 * loop at a time, so no -ffast-math is needed and NaN and inf keep their meaning.
 * (-fopenmp-simd reads these pragmas alone; there is no OpenMP runtime.)
 */
#ifndef SKPAR_ROWS_H
#define SKPAR_ROWS_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* One binary runs everywhere: the loader picks the widest clone that the machine has.
 * Only glibc has the resolver that this needs, and the thread sanitizer cannot run it. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(SKPAR_NO_CLONES) && \
    (!defined(__clang__) || __clang_major__ >= 14)
#define SKPAR_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define SKPAR_CLONES
#endif

/* Shared weights are read and written by every worker. Relaxed atomics make that defined
 * behaviour; on x86-64 and arm64 they compile to plain loads and stores. */
#if defined(__GNUC__) || defined(__clang__)
#define SKPAR_UNUSED __attribute__((unused))
#define SKPAR_LOAD(pointer, value) __atomic_load((pointer), (value), __ATOMIC_RELAXED)
#define SKPAR_STORE(pointer, value) __atomic_store((pointer), (value), __ATOMIC_RELAXED)
#define skpar_fetch_add(pointer, step) __atomic_fetch_add((pointer), (step), __ATOMIC_RELAXED)
#define skpar_load_flag(pointer) __atomic_load_n((pointer), __ATOMIC_RELAXED)
#define skpar_prefetch(pointer) __builtin_prefetch(pointer)
#else
#include <intrin.h>
#define SKPAR_UNUSED
#define SKPAR_LOAD(pointer, value) (*(value) = *(pointer))
#define SKPAR_STORE(pointer, value) (*(pointer) = *(value))
#define skpar_fetch_add(pointer, step) _InterlockedExchangeAdd64((volatile int64_t *)(pointer), (step))
#define skpar_load_flag(pointer) (*(volatile const int64_t *)(pointer))
#define skpar_prefetch(pointer) ((void)(pointer))
#endif

#define SKPAR_DENSE(real, suffix)                                                                  \
    SKPAR_UNUSED SKPAR_CLONES static double dot_dense_##suffix(const real *x, const real *w,       \
                                                               ptrdiff_t n) {                      \
        real sum = 0;                                                                              \
        _Pragma("omp simd reduction(+ : sum)") for (ptrdiff_t j = 0; j < n; j++) sum +=            \
            x[j] * w[j];                                                                           \
        return (double)sum;                                                                        \
    }                                                                                              \
    SKPAR_UNUSED SKPAR_CLONES static void axpy_dense_##suffix(real a, const real *x, real *w,      \
                                                              ptrdiff_t n) {                       \
        _Pragma("omp simd") for (ptrdiff_t j = 0; j < n; j++) w[j] += a * x[j];                    \
    }                                                                                              \
    SKPAR_UNUSED static double dot_dense_naive_##suffix(const real *x, const real *w,              \
                                                        ptrdiff_t n) {                             \
        double sum = 0;                                                                            \
        for (ptrdiff_t j = 0; j < n; j++) sum += (double)x[j] * (double)w[j];                      \
        return sum;                                                                                \
    }                                                                                              \
    SKPAR_UNUSED static void axpy_dense_naive_##suffix(real a, const real *x, real *w,             \
                                                       ptrdiff_t n) {                              \
        for (ptrdiff_t j = 0; j < n; j++) w[j] = (real)((double)w[j] + (double)a * (double)x[j]);  \
    }                                                                                              \
    SKPAR_UNUSED static double shared_get_##suffix(const real *w) {                                \
        real value;                                                                                \
        SKPAR_LOAD(w, &value);                                                                     \
        return (double)value;                                                                      \
    }                                                                                              \
    SKPAR_UNUSED static void shared_set_##suffix(real *w, double value) {                          \
        real cast = (real)value;                                                                   \
        SKPAR_STORE(w, &cast);                                                                     \
    }

/* Four partial sums: a gather has no faster vector form than four scalar loads in flight. */
#define SKPAR_SPARSE(real, suffix, index, kind)                                                    \
    SKPAR_UNUSED static double dot_sparse_##suffix##_##kind(const real *x, const index *columns,   \
                                                            const real *w, ptrdiff_t n) {          \
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
    SKPAR_UNUSED static void axpy_sparse_##suffix##_##kind(real a, const real *x,                  \
                                                           const index *columns, real *w,          \
                                                           ptrdiff_t n) {                          \
        for (ptrdiff_t j = 0; j < n; j++) w[columns[j]] += a * x[j];                               \
    }                                                                                              \
    SKPAR_UNUSED static double dot_sparse_naive_##suffix##_##kind(                                 \
        const real *x, const index *columns, const real *w, ptrdiff_t n) {                         \
        double sum = 0;                                                                            \
        for (ptrdiff_t j = 0; j < n; j++) sum += (double)x[j] * (double)w[columns[j]];             \
        return sum;                                                                                \
    }

SKPAR_DENSE(double, f64)
SKPAR_DENSE(float, f32)
SKPAR_SPARSE(double, f64, int32_t, i32)
SKPAR_SPARSE(double, f64, int64_t, i64)
SKPAR_SPARSE(float, f32, int32_t, i32)
SKPAR_SPARSE(float, f32, int64_t, i64)

#endif
