/* Sums of outer products of packed rows, at the widest SIMD level at run time. */
#ifndef SKPAR_PRODUCTS_H
#define SKPAR_PRODUCTS_H

#include "rows.h"

/* Lengths are rounded up to whole tiles of any level. */
#define SKPAR_TILE_COLUMNS 8

typedef struct {
    void (*pack_f64)(const double *, const double *, const double *, double, ptrdiff_t, double *,
                     double *);
    void (*pack_f32)(const float *, const double *, const double *, double, ptrdiff_t, double *,
                     double *);
    void (*add)(const double *, const double *, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t,
                ptrdiff_t, double *);
} skpar_products_table;

#define PRODUCTS_ENTRY(level) {pack_f64_##level, pack_f32_##level, products_f64_##level}
static skpar_products_table skpar_products = PRODUCTS_ENTRY(scalar);

#define PRODUCTS_CHOOSE(level)                                                                     \
    do {                                                                                           \
        const skpar_products_table table_ = PRODUCTS_ENTRY(level);                                 \
        skpar_products = table_;                                                                   \
    } while (0)

/* Use the level that skpar_use_level has named. */
static void skpar_products_use(const char *level) {
    SKPAR_CHOOSE_NAMED(level, PRODUCTS_CHOOSE);
}

/* One sparse row's products u_j = a z_j with z, into the upper triangle of H, pair by pair. */
#define SKPAR_SCATTER(index, kind)                                                                 \
    SKPAR_STATIC void scatter_##kind(const double *restrict z, const index *restrict columns,      \
                                     ptrdiff_t m, double a, ptrdiff_t stride, ptrdiff_t last,      \
                                     double *restrict H) {                                         \
        for (ptrdiff_t j = 0; j < m; j++) {                                                        \
            double *restrict h = H + (ptrdiff_t)columns[j] * stride;                               \
            const double u = a * z[j];                                                             \
            for (ptrdiff_t l = j; l < m; l++) h[columns[l]] += u * z[l];                           \
            h[last] += u;                                                                          \
        }                                                                                          \
        H[last * stride + last] += a;                                                              \
    }
SKPAR_SCATTER(int32_t, i32)
SKPAR_SCATTER(int64_t, i64)

#endif
