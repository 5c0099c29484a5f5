/* Dual ascent of many outputs on one CSR row: weights are laid out columns x outputs, outputs in
 * groups of four, so that a group is a vector (or half of one) whatever their number. */
#ifndef SKPAR_DUALS_H
#define SKPAR_DUALS_H

#include "gradients.h"

/* With the width known, the sums of a group stay in registers over the row. */
#define SKPAR_DUAL_GROUP(width)                                                                    \
    {                                                                                              \
        double s[width];                                                                           \
        for (ptrdiff_t c = 0; c < (width); c++) s[c] = 0;                                          \
        for (ptrdiff_t j = 0; j < n; j++) {                                                        \
            const double xj = (double)x[j], *vj = v + columns[j] * k + at;                         \
            for (ptrdiff_t c = 0; c < (width); c++) s[c] += xj * vj[c];                            \
        }                                                                                          \
        for (ptrdiff_t c = 0; c < (width); c++) p[at + c] = s[c];                                  \
        at += (width);                                                                             \
    }

#define SKPAR_DUAL_SPREAD(width)                                                                   \
    {                                                                                              \
        double s[width];                                                                           \
        for (ptrdiff_t c = 0; c < (width); c++) s[c] = u[at + c];                                  \
        for (ptrdiff_t j = 0; j < n; j++) {                                                        \
            const double xj = (double)x[j];                                                        \
            double *vj = v + columns[j] * k + at;                                                  \
            for (ptrdiff_t c = 0; c < (width); c++) vj[c] += xj * s[c];                            \
        }                                                                                          \
        at += (width);                                                                             \
    }

#define SKPAR_DUALS(real, suffix, index, kind)                                                     \
    /* p = x V for one row; k is a multiple of four */                                             \
    SKPAR_MAYBE SKPAR_WIDE static void duals_margins_##suffix##_##kind(                            \
        const real *x, const index *columns, ptrdiff_t n, ptrdiff_t k, const double *v,            \
        double *p) {                                                                               \
        ptrdiff_t at = 0;                                                                          \
        while (at + 16 <= k) SKPAR_DUAL_GROUP(16)                                                  \
        if (at + 8 <= k) SKPAR_DUAL_GROUP(8)                                                       \
        if (at < k) SKPAR_DUAL_GROUP(4)                                                            \
    }                                                                                              \
    /* V += x' u */                                                                                \
    SKPAR_MAYBE SKPAR_WIDE static void duals_spread_##suffix##_##kind(                             \
        const real *x, const index *columns, ptrdiff_t n, ptrdiff_t k, const double *u,            \
        double *v) {                                                                               \
        ptrdiff_t at = 0;                                                                          \
        while (at + 16 <= k) SKPAR_DUAL_SPREAD(16)                                                 \
        if (at + 8 <= k) SKPAR_DUAL_SPREAD(8)                                                      \
        if (at < k) SKPAR_DUAL_SPREAD(4)                                                           \
    }

SKPAR_DUALS(double, f64, int32_t, i32)
SKPAR_DUALS(double, f64, int64_t, i64)
SKPAR_DUALS(float, f32, int32_t, i32)
SKPAR_DUALS(float, f32, int64_t, i64)

/* The margins u with u - p + q (a + s (1 / (1 + exp(-u)) - y)) = 0, nearly, in place of u, and the
 * slopes 1 / (1 + exp(-u)) - y: Newton's steps inside a bracket, as `landing` in dual.pyx, for all
 * outputs of a row at once. `work` is room for 3 k numbers. */
#define SKPAR_LANDING_TURNS 50
#define SKPAR_LANDING_PATIENCE 8
SKPAR_MAYBE SKPAR_WIDE static void duals_log_landing(ptrdiff_t k, const double *y, const double *s,
                                                     const double *p, const double *a, double q,
                                                     double enough, double *u, double *slope,
                                                     double *work) {
    double *low = work, *high = work + k, *begin = work + 2 * k;
    for (int turn = 0; turn < SKPAR_LANDING_TURNS; turn++) {
        const int first = turn == 0, last = turn == SKPAR_LANDING_TURNS - 1;
        const int newton = turn < SKPAR_LANDING_PATIENCE || turn % 2 == 0;
        ptrdiff_t open = 0;
        _Pragma("omp simd reduction(+ : open)") for (ptrdiff_t c = 0; c < k; c++) {
            const double at = first ? p[c] : u[c];
            const double z = at > 0.0 ? -at : at;
            const double e = exp_of_negative(z < -700.0 ? -700.0 : z), share = 1.0 / (1.0 + e);
            const double g = (at > 0.0 ? share : e * share) - y[c];
            const double value = at - p[c] + q * (a[c] + s[c] * g);
            const double size = value < 0.0 ? -value : value;
            const double next = at - value / (1.0 + q * s[c] * e * share * share);
            /* At first the root lies between p and p less the value there. */
            const double lowest = first ? at - size : low[c];
            const double highest = first ? at + size : high[c];
            const double below = value > 0.0 ? lowest : at, above = value > 0.0 ? at : highest;
            const double half = 0.5 * (below + above), wanted = first ? size : begin[c];
            const int done = size <= enough * wanted || last;
            low[c] = below;
            high[c] = above;
            begin[c] = wanted;
            slope[c] = g;
            u[c] = done ? at : (newton && next > below && next < above ? next : half);
            open += !done;
        }
        if (!open) break;
    }
}

#endif
