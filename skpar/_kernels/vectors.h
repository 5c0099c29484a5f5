/* Sums and products of a few long arrays of shape (rows, k), all of them in one read. */
#ifndef SKPAR_VECTORS_H
#define SKPAR_VECTORS_H

#include "gradients.h"

/* Numbers of each array worked on together: so many arrays' pieces stay in the cache. */
#define SKPAR_PIECE 1024

/* out[a][b][c] += sum over rows lo to hi of left_a[j][c] right_b[j][c] */
SKPAR_MAYBE SKPAR_WIDE static void vector_products(const double *const *left, ptrdiff_t m,
                                                   const double *const *right, ptrdiff_t r,
                                                   ptrdiff_t lo, ptrdiff_t hi, ptrdiff_t k,
                                                   double *out) {
    const ptrdiff_t step = SKPAR_PIECE / k > 4 ? SKPAR_PIECE / k : 4;
    for (ptrdiff_t start = lo; start < hi; start += step) {
        const ptrdiff_t end = start + step < hi ? start + step : hi;
        for (ptrdiff_t a = 0; a < m; a++)
            for (ptrdiff_t b = 0; b < r; b++) {
                const double *x = left[a] + start * k, *y = right[b] + start * k;
                double *sum = out + (a * r + b) * k;
                ptrdiff_t j = start;
                if (k == 1) {
                    double total = 0.0;
                    _Pragma("omp simd reduction(+ : total)") for (ptrdiff_t i = 0; i < end - start;
                                                                  i++) total += x[i] * y[i];
                    sum[0] += total;
                    continue;
                }
                /* Four rows for each read and write of the sums. */
                for (; j + 4 <= end; j += 4, x += 4 * k, y += 4 * k) {
                    _Pragma("omp simd") for (ptrdiff_t c = 0; c < k; c++) sum[c] +=
                        (x[c] * y[c] + x[k + c] * y[k + c]) +
                        (x[2 * k + c] * y[2 * k + c] + x[3 * k + c] * y[3 * k + c]);
                }
                for (; j < end; j++, x += k, y += k)
                    for (ptrdiff_t c = 0; c < k; c++) sum[c] += x[c] * y[c];
            }
    }
}

/* out[j][c] = sum_a coef[a][c] v_a[j][c] for rows lo to hi */
SKPAR_MAYBE SKPAR_WIDE static void vector_combination(const double *coef,
                                                      const double *const *v, ptrdiff_t m,
                                                      ptrdiff_t lo, ptrdiff_t hi, ptrdiff_t k,
                                                      double *out) {
    const ptrdiff_t step = SKPAR_PIECE / k > 1 ? SKPAR_PIECE / k : 1;
    for (ptrdiff_t start = lo; start < hi; start += step) {
        const ptrdiff_t rows = (start + step < hi ? start + step : hi) - start;
        double *to = out + start * k;
        for (ptrdiff_t i = 0; i < rows * k; i++) to[i] = 0.0;
        for (ptrdiff_t a = 0; a < m; a++) {
            const double *x = v[a] + start * k, *t = coef + a * k;
            if (k == 1) {
                const double t0 = t[0];
                _Pragma("omp simd") for (ptrdiff_t i = 0; i < rows; i++) to[i] += t0 * x[i];
                continue;
            }
            for (ptrdiff_t j = 0; j < rows; j++)
                _Pragma("omp simd") for (ptrdiff_t c = 0; c < k; c++) to[j * k + c] +=
                    t[c] * x[j * k + c];
        }
    }
}

#endif
