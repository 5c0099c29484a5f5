/* Many rows under the same weights: margins, then one combination of the rows.
 *
 * Unlike an SGD step, a gradient reads a few hundred rows twice while they lie in the cache:
 * all their margins first, their losses in one vector loop, and their sum last. Rows come as a
 * list of row numbers, so that shuffled blocks and subsets cost nothing extra.
 */
#ifndef SKPAR_GRADIENTS_H
#define SKPAR_GRADIENTS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* gcc only: clang refuses clones beside `unused`. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(SKPAR_NO_CLONES)
#define SKPAR_WIDE __attribute__((target_clones("avx512f", "avx2,fma", "default")))
#else
#define SKPAR_WIDE
#endif
#if defined(__GNUC__) || defined(__clang__)
#define SKPAR_MAYBE __attribute__((unused))
#define SKPAR_AHEAD(pointer) __builtin_prefetch(pointer)
#else
#define SKPAR_MAYBE
#define SKPAR_AHEAD(pointer) ((void)(pointer))
#endif

/* Rows in flight before their use: enough to cover main memory's latency. */
#define SKPAR_ROWS_AHEAD 8

#define SKPAR_DENSE_CHUNK(real, suffix)                                                             \
    SKPAR_MAYBE SKPAR_WIDE static void chunk_margins_##suffix(                                      \
        const real *x, const int64_t *rows, ptrdiff_t m, ptrdiff_t d, const real *w, double b,      \
        double *p) {                                                                                \
        ptrdiff_t i = 0;                                                                            \
        for (; i + 4 <= m; i += 4) {                                                                \
            const real *x0 = x + rows[i] * d, *x1 = x + rows[i + 1] * d;                            \
            const real *x2 = x + rows[i + 2] * d, *x3 = x + rows[i + 3] * d;                        \
            real s0 = 0, s1 = 0, s2 = 0, s3 = 0;                                                    \
            _Pragma("omp simd reduction(+ : s0, s1, s2, s3)") for (ptrdiff_t j = 0; j < d; j++) {   \
                s0 += x0[j] * w[j];                                                                 \
                s1 += x1[j] * w[j];                                                                 \
                s2 += x2[j] * w[j];                                                                 \
                s3 += x3[j] * w[j];                                                                 \
            }                                                                                       \
            p[i] = b + (double)s0;                                                                  \
            p[i + 1] = b + (double)s1;                                                              \
            p[i + 2] = b + (double)s2;                                                              \
            p[i + 3] = b + (double)s3;                                                              \
        }                                                                                           \
        for (; i < m; i++) {                                                                        \
            const real *x0 = x + rows[i] * d;                                                       \
            real s0 = 0;                                                                            \
            _Pragma("omp simd reduction(+ : s0)") for (ptrdiff_t j = 0; j < d; j++) s0 +=           \
                x0[j] * w[j];                                                                       \
            p[i] = b + (double)s0;                                                                  \
        }                                                                                           \
    }                                                                                               \
    /* sum += a_i x_i over the rows */                                                              \
    SKPAR_MAYBE SKPAR_WIDE static void chunk_combine_##suffix(                                      \
        const real *x, const int64_t *rows, ptrdiff_t m, ptrdiff_t d, const double *a, real *sum) { \
        ptrdiff_t i = 0;                                                                            \
        for (; i + 4 <= m; i += 4) {                                                                \
            const real *x0 = x + rows[i] * d, *x1 = x + rows[i + 1] * d;                            \
            const real *x2 = x + rows[i + 2] * d, *x3 = x + rows[i + 3] * d;                        \
            const real a0 = (real)a[i], a1 = (real)a[i + 1];                                        \
            const real a2 = (real)a[i + 2], a3 = (real)a[i + 3];                                    \
            _Pragma("omp simd") for (ptrdiff_t j = 0; j < d; j++) sum[j] +=                         \
                (a0 * x0[j] + a1 * x1[j]) + (a2 * x2[j] + a3 * x3[j]);                              \
        }                                                                                           \
        for (; i < m; i++) {                                                                        \
            const real *x0 = x + rows[i] * d;                                                       \
            const real a0 = (real)a[i];                                                             \
            _Pragma("omp simd") for (ptrdiff_t j = 0; j < d; j++) sum[j] += a0 * x0[j];             \
        }                                                                                           \
    }                                                                                               \
    /* sum += a_i x_i, squares += a_i x_i^2, coordinate by coordinate */                            \
    SKPAR_MAYBE SKPAR_WIDE static void chunk_moments_##suffix(                                      \
        const real *x, const int64_t *rows, ptrdiff_t m, ptrdiff_t d, const double *a, double *sum, \
        double *squares) {                                                                          \
        for (ptrdiff_t i = 0; i < m; i++) {                                                         \
            const real *x0 = x + rows[i] * d;                                                       \
            const double a0 = a[i];                                                                 \
            _Pragma("omp simd") for (ptrdiff_t j = 0; j < d; j++) {                                 \
                const double v = (double)x0[j];                                                     \
                sum[j] += a0 * v;                                                                   \
                squares[j] += a0 * v * v;                                                           \
            }                                                                                       \
        }                                                                                           \
    }

#define SKPAR_SPARSE_CHUNK(real, suffix, index, kind)                                              \
    SKPAR_MAYBE static void csr_margins_##suffix##_##kind(                                         \
        const real *x, const index *columns, const int64_t *starts, const int64_t *rows,           \
        ptrdiff_t m, const real *w, double b, double *p) {                                         \
        for (ptrdiff_t i = 0; i < m; i++) {                                                        \
            ptrdiff_t j = starts[rows[i]];                                                         \
            const ptrdiff_t end = starts[rows[i] + 1];                                             \
            double s0 = 0, s1 = 0, s2 = 0, s3 = 0;                                                 \
            for (; j + 4 <= end; j += 4) {                                                         \
                s0 += (double)x[j] * (double)w[columns[j]];                                        \
                s1 += (double)x[j + 1] * (double)w[columns[j + 1]];                                \
                s2 += (double)x[j + 2] * (double)w[columns[j + 2]];                                \
                s3 += (double)x[j + 3] * (double)w[columns[j + 3]];                                \
            }                                                                                      \
            for (; j < end; j++) s0 += (double)x[j] * (double)w[columns[j]];                       \
            p[i] = b + ((s0 + s1) + (s2 + s3));                                                    \
        }                                                                                          \
    }                                                                                              \
    SKPAR_MAYBE static void csr_combine_##suffix##_##kind(                                         \
        const real *x, const index *columns, const int64_t *starts, const int64_t *rows,           \
        ptrdiff_t m, const double *a, double *sum) {                                               \
        for (ptrdiff_t i = 0; i < m; i++) {                                                        \
            const double a0 = a[i];                                                                \
            if (a0 == 0.0) continue;                                                               \
            for (ptrdiff_t j = starts[rows[i]]; j < starts[rows[i] + 1]; j++)                      \
                sum[columns[j]] += a0 * (double)x[j];                                              \
        }                                                                                          \
    }                                                                                              \
    SKPAR_MAYBE static void csr_moments_##suffix##_##kind(                                         \
        const real *x, const index *columns, const int64_t *starts, const int64_t *rows,           \
        ptrdiff_t m, const double *a, double *sum, double *squares) {                              \
        for (ptrdiff_t i = 0; i < m; i++) {                                                        \
            const double a0 = a[i];                                                                \
            for (ptrdiff_t j = starts[rows[i]]; j < starts[rows[i] + 1]; j++) {                    \
                const double v = (double)x[j];                                                     \
                sum[columns[j]] += a0 * v;                                                         \
                squares[columns[j]] += a0 * v * v;                                                 \
            }                                                                                      \
        }                                                                                          \
    }

SKPAR_DENSE_CHUNK(double, f64)
SKPAR_DENSE_CHUNK(float, f32)
SKPAR_SPARSE_CHUNK(double, f64, int32_t, i32)
SKPAR_SPARSE_CHUNK(double, f64, int64_t, i64)
SKPAR_SPARSE_CHUNK(float, f32, int32_t, i32)
SKPAR_SPARSE_CHUNK(float, f32, int64_t, i64)

/* exp(z) for -700 <= z <= 0 in a form that compilers vectorise: 2^k by its bits (adding 1.5 * 2^52
 * rounds to an integer and leaves it in the low bits), and the Taylor polynomial of the remainder,
 * |r| <= log(2) / 2 (Cody & Waite 1980, chapter 6; degree 13 is exact to a few ulp). */
SKPAR_MAYBE static inline double exp_of_negative(double z) {
    const double magic = 6755399441055744.0;
    double t = z * 1.4426950408889634 + magic;
    int64_t bits, k;
    double power, r, q;
    memcpy(&bits, &t, sizeof bits);
    k = bits << 52;
    t -= magic;
    r = z - t * 6.93147180369123816490e-01;
    r = r - t * 1.90821492927058770002e-10;
    q = 1.6059043836821613e-10;
    q = q * r + 2.0876756987868099e-09;
    q = q * r + 2.5052108385441719e-08;
    q = q * r + 2.7557319223985891e-07;
    q = q * r + 2.7557319223985893e-06;
    q = q * r + 2.4801587301587302e-05;
    q = q * r + 1.9841269841269841e-04;
    q = q * r + 1.3888888888888889e-03;
    q = q * r + 8.3333333333333333e-03;
    q = q * r + 4.1666666666666667e-02;
    q = q * r + 1.6666666666666667e-01;
    q = q * r + 0.5;
    q = q * r + 1.0;
    q = q * r + 1.0;
    bits = k + INT64_C(0x3FF0000000000000);
    memcpy(&power, &bits, sizeof power);
    return q * power;
}

/* log(1 + e) for 0 <= e <= 1 as 2 atanh(e / (2 + e)), whose argument is at most 1/3. */
SKPAR_MAYBE static inline double log_of_one_plus(double e) {
    const double s = e / (2.0 + e), t = s * s;
    double q = 1.0 / 33.0;
    q = q * t + 1.0 / 31.0;
    q = q * t + 1.0 / 29.0;
    q = q * t + 1.0 / 27.0;
    q = q * t + 1.0 / 25.0;
    q = q * t + 1.0 / 23.0;
    q = q * t + 1.0 / 21.0;
    q = q * t + 1.0 / 19.0;
    q = q * t + 1.0 / 17.0;
    q = q * t + 1.0 / 15.0;
    q = q * t + 1.0 / 13.0;
    q = q * t + 1.0 / 11.0;
    q = q * t + 1.0 / 9.0;
    q = q * t + 1.0 / 7.0;
    q = q * t + 1.0 / 5.0;
    q = q * t + 1.0 / 3.0;
    q = q * t + 1.0;
    return 2.0 * s * q;
}

/* The log loss of m margins, targets in {0, 1}: values, first and second derivatives. */
SKPAR_MAYBE SKPAR_WIDE static void log_losses(ptrdiff_t m, const double *y, const double *p,
                                              double *value, double *first, double *second) {
    _Pragma("omp simd") for (ptrdiff_t i = 0; i < m; i++) {
        const double a = p[i] > 0.0 ? -p[i] : p[i]; /* NaN stays NaN */
        const double e = exp_of_negative(a < -700.0 ? -700.0 : a);
        const double share = 1.0 / (1.0 + e);
        value[i] = log_of_one_plus(e) + ((p[i] > 0.0 ? p[i] : 0.0) - y[i] * p[i]);
        first[i] = (p[i] > 0.0 ? ((1.0 - y[i]) - y[i] * e) : ((1.0 - y[i]) * e - y[i])) * share;
        second[i] = e * share * share;
    }
}

#endif
