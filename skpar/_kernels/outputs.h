/* Rows under many weight vectors at once, laid out features x outputs, so that loops over the
 * outputs are vector loops and each column's weights cost one cache miss for all of them. */
#ifndef SKPAR_OUTPUTS_H
#define SKPAR_OUTPUTS_H

#include "gradients.h"

#define SKPAR_MANY_SPARSE(real, suffix, index, kind)                                               \
    /* p_i = b + x_i W for rows lo to hi, p of shape (hi - lo, k) */                               \
    SKPAR_MAYBE SKPAR_WIDE static void many_margins_##suffix##_##kind(                             \
        const real *x, const index *columns, const int64_t *starts, ptrdiff_t lo, ptrdiff_t hi,    \
        ptrdiff_t k, const real *w, const real *b, real *p) {                                      \
        for (ptrdiff_t i = lo; i < hi; i++, p += k) {                                              \
            for (ptrdiff_t c = 0; c < k; c++) p[c] = b[c];                                         \
            for (ptrdiff_t j = starts[i]; j < starts[i + 1]; j++) {                                \
                const real xj = x[j], *wj = w + columns[j] * k;                                    \
                if (j + SKPAR_ROWS_AHEAD < starts[i + 1])                                          \
                    SKPAR_AHEAD(w + columns[j + SKPAR_ROWS_AHEAD] * k);                            \
                _Pragma("omp simd") for (ptrdiff_t c = 0; c < k; c++) p[c] += xj * wj[c];          \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    /* sum += x_i' r_i for rows lo to hi */                                                        \
    SKPAR_MAYBE SKPAR_WIDE static void many_combine_##suffix##_##kind(                             \
        const real *x, const index *columns, const int64_t *starts, ptrdiff_t lo, ptrdiff_t hi,    \
        ptrdiff_t k, const real *r, double *sum) {                                                 \
        for (ptrdiff_t i = lo; i < hi; i++, r += k) {                                              \
            for (ptrdiff_t j = starts[i]; j < starts[i + 1]; j++) {                                \
                const double xj = (double)x[j];                                                    \
                double *sj = sum + columns[j] * k;                                                 \
                if (j + SKPAR_ROWS_AHEAD < starts[i + 1])                                          \
                    SKPAR_AHEAD(sum + columns[j + SKPAR_ROWS_AHEAD] * k);                          \
                _Pragma("omp simd") for (ptrdiff_t c = 0; c < k; c++) sj[c] += xj * (double)r[c];  \
            }                                                                                      \
        }                                                                                          \
    }

SKPAR_MANY_SPARSE(double, f64, int32_t, i32)
SKPAR_MANY_SPARSE(double, f64, int64_t, i64)
SKPAR_MANY_SPARSE(float, f32, int32_t, i32)
SKPAR_MANY_SPARSE(float, f32, int64_t, i64)

/* The softmax of k margins, into `share`; returns log(sum_c exp(p_c)) - p_target. */
SKPAR_MAYBE SKPAR_WIDE static double softmax_row(ptrdiff_t k, const double *p, ptrdiff_t target,
                                                 double *share) {
    double top = p[0], sum = 0.0;
    for (ptrdiff_t c = 1; c < k; c++) top = p[c] > top ? p[c] : top;
    _Pragma("omp simd reduction(+ : sum)") for (ptrdiff_t c = 0; c < k; c++) {
        const double a = p[c] - top; /* NaN stays NaN */
        share[c] = exp_of_negative(a < -700.0 ? -700.0 : a);
        sum += share[c];
    }
    const double inverse = 1.0 / sum;
    _Pragma("omp simd") for (ptrdiff_t c = 0; c < k; c++) share[c] *= inverse;
    return log(sum) + (top - p[target]);
}

#endif
