/* Dual coordinate ascent for the softmax: a row's step solves for its own dual variables, given
 * all others (Shalev-Shwartz & Zhang 2013). w = X' beta / (l2 n) throughout, so that no step size
 * is needed and the distance to the optimum has a bound. Beta is minus the weighted slope of the
 * row's loss at the optimum; the intercepts are multipliers of sum beta = 0. */
#ifndef SKPAR_SOFTMAX_DUAL_H
#define SKPAR_SOFTMAX_DUAL_H

#include "outputs.h"

/* Rows between two steps of the intercepts, and how many times an epoch would close their gap. */
#define SKPAR_DUAL_ROWS 32
#define SKPAR_DUAL_PACE 3.0

typedef struct {
    ptrdiff_t k, size, n; /* outputs, with padding; rows */
    int rounds, intercept;
    double inverse; /* 1 / (l2 n) */
    double seen;
    const double *squares, *weights, *factors; /* weights may be NULL */
    const int64_t *places;                     /* the output of a row's class */
    double *w, *beta, *b, *sum, *curve;        /* curve: sum of the losses' curvatures */
    double *p, *d, *z, *share;                 /* room, of size numbers each */
} skpar_dual;

/* The row's new beta less the old, into d: steps on beta + d = s (t - softmax(p + q d)). The
 * Jacobian's diagonal bounds it, and the last round is exact in that shares sum to one. */
SKPAR_MAYBE static void dual_softmax(const skpar_dual *o, const double *beta, ptrdiff_t place,
                                     double s, double q) {
    const ptrdiff_t k = o->k;
    for (ptrdiff_t c = 0; c < o->size; c++) o->d[c] = 0.0;
    for (int round = 0; round <= o->rounds; round++) {
        for (ptrdiff_t c = 0; c < k; c++) o->z[c] = o->p[c] + q * o->d[c];
        softmax_row(k, o->z, place, o->share);
        const int last = round == o->rounds;
        _Pragma("omp simd") for (ptrdiff_t c = 0; c < k; c++) {
            const double t = c == place ? 1.0 : 0.0, at = beta[c] + o->d[c];
            const double aim = s * (t - o->share[c]), least = s * (t - 1.0), most = s * t;
            double to = at + (aim - at) / (1.0 + s * q * o->share[c]);
            to = to < least ? 0.5 * (at + least) : to > most ? 0.5 * (at + most) : to;
            o->d[c] = (last ? aim : to) - beta[c];
        }
    }
}

/* What the row's steps change: beta, its sums, and from time to time the intercepts. */
SKPAR_MAYBE SKPAR_WIDE static void dual_accept(skpar_dual *o, double *beta, double weight) {
    const ptrdiff_t size = o->size;
    const double s = weight > 0.0 ? weight : 1.0;
    _Pragma("omp simd") for (ptrdiff_t c = 0; c < size; c++) {
        const double old = beta[c], now = old + o->d[c];
        const double before = old < 0.0 ? -old : old, after = now < 0.0 ? -now : now;
        beta[c] = now;
        o->sum[c] += o->d[c];
        o->curve[c] += after * (1.0 - after / s) - before * (1.0 - before / s);
        o->d[c] *= o->inverse;
    }
}

SKPAR_MAYBE static void dual_intercepts(skpar_dual *o) {
    const double rows = o->seen < (double)o->n ? o->seen : (double)o->n;
    double pace = SKPAR_DUAL_PACE * SKPAR_DUAL_ROWS / rows;
    pace = pace > 0.5 ? 0.5 : pace;
    for (ptrdiff_t c = 0; c < o->k; c++) {
        const double curve = o->curve[c] > 1e-6 * rows ? o->curve[c] : 1e-6 * rows;
        o->b[c] += pace * o->sum[c] / curve;
    }
}

/* The margins of few outputs stay in registers. */
#define SKPAR_DUAL_FIXED(number)                                                                   \
    case number: {                                                                                 \
        double sum[number];                                                                        \
        for (int c = 0; c < number; c++) sum[c] = o->b[c];                                         \
        for (ptrdiff_t j = 0; j < m; j++) {                                                        \
            const double xj = (double)x[j], *wj = o->w + columns[j] * (number);                    \
            if (j + SKPAR_ROWS_AHEAD < m)                                                          \
                for (int c = 0; c < number; c += 8)                                                \
                    SKPAR_AHEAD(o->w + columns[j + SKPAR_ROWS_AHEAD] * (number) + c);              \
            _Pragma("omp simd") for (int c = 0; c < number; c++) sum[c] += xj * wj[c];             \
        }                                                                                          \
        for (int c = 0; c < number; c++) o->p[c] = sum[c];                                         \
        return;                                                                                    \
    }

#define SKPAR_DUAL(real, suffix, index, kind)                                                      \
    SKPAR_MAYBE SKPAR_WIDE static void dual_margins_##suffix##_##kind(                             \
        const skpar_dual *o, const real *x, const index *columns, ptrdiff_t m) {                   \
        const ptrdiff_t size = o->size;                                                            \
        switch (size) {                                                                            \
            SKPAR_DUAL_FIXED(8)                                                                    \
            SKPAR_DUAL_FIXED(16)                                                                   \
            SKPAR_DUAL_FIXED(24)                                                                   \
            SKPAR_DUAL_FIXED(32)                                                                   \
        }                                                                                          \
        for (ptrdiff_t c = 0; c < size; c++) o->p[c] = o->b[c];                                    \
        for (ptrdiff_t j = 0; j < m; j++) {                                                        \
            const double xj = (double)x[j], *wj = o->w + columns[j] * size;                        \
            if (j + SKPAR_ROWS_AHEAD < m) {                                                        \
                SKPAR_AHEAD(o->w + columns[j + SKPAR_ROWS_AHEAD] * size);                          \
                SKPAR_AHEAD(o->w + columns[j + SKPAR_ROWS_AHEAD] * size + 8);                      \
            }                                                                                      \
            _Pragma("omp simd") for (ptrdiff_t c = 0; c < size; c++) o->p[c] += xj * wj[c];        \
        }                                                                                          \
    }                                                                                              \
    SKPAR_MAYBE SKPAR_WIDE static void dual_add_##suffix##_##kind(                                 \
        const skpar_dual *o, const real *x, const index *columns, ptrdiff_t m) {                   \
        const ptrdiff_t size = o->size;                                                            \
        for (ptrdiff_t j = 0; j < m; j++) {                                                        \
            const double xj = (double)x[j];                                                        \
            double *wj = o->w + columns[j] * size;                                                 \
            _Pragma("omp simd") for (ptrdiff_t c = 0; c < size; c++) wj[c] += xj * o->d[c];        \
        }                                                                                          \
    }                                                                                              \
    SKPAR_MAYBE static void dual_pass_##suffix##_##kind(                                           \
        skpar_dual *o, const real *x, const index *columns, const int64_t *starts,                 \
        const int64_t *rows, ptrdiff_t n) {                                                        \
        for (ptrdiff_t r = 0; r < n; r++) {                                                        \
            const int64_t i = rows[r], lo = starts[i];                                             \
            const ptrdiff_t m = (ptrdiff_t)(starts[i + 1] - lo), place = (ptrdiff_t)o->places[i];  \
            const double s = (o->weights ? o->weights[i] : 1.0) * o->factors[place];               \
            double *beta = o->beta + i * o->size;                                                  \
            if (r + 1 < n) SKPAR_AHEAD(columns + starts[rows[r + 1]]);                             \
            dual_margins_##suffix##_##kind(o, x + lo, columns + lo, m);                            \
            dual_softmax(o, beta, place, s, o->squares[i] * o->inverse);                           \
            dual_accept(o, beta, s);                                                               \
            dual_add_##suffix##_##kind(o, x + lo, columns + lo, m);                                \
            o->seen += 1.0;                                                                        \
            if (o->intercept && (r + 1) % SKPAR_DUAL_ROWS == 0) dual_intercepts(o);                \
        }                                                                                          \
    }

SKPAR_DUAL(double, f64, int32_t, i32)
SKPAR_DUAL(double, f64, int64_t, i64)
SKPAR_DUAL(float, f32, int32_t, i32)
SKPAR_DUAL(float, f32, int64_t, i64)

SKPAR_MAYBE static double dual_entropy(double share) {
    return share > 0.0 ? -share * log(share) : 0.0;
}

/* The sum of the rows' weighted entropies: minus the conjugates of their losses. */
SKPAR_MAYBE static double dual_entropies(const skpar_dual *o) {
    double total = 0.0;
    for (ptrdiff_t i = 0; i < o->n; i++) {
        const ptrdiff_t place = (ptrdiff_t)o->places[i];
        const double *beta = o->beta + i * o->size;
        const double s = (o->weights ? o->weights[i] : 1.0) * o->factors[place];
        if (s == 0.0) continue;
        for (ptrdiff_t c = 0; c < o->k; c++)
            total += s * dual_entropy((c == place ? 1.0 : 0.0) - beta[c] / s);
    }
    return total;
}

#endif
