/* The dense row primitives for one dtype at one SIMD level.
 *
 * rows_simd.h includes this file once for every pair, after defining for the level
 *   TARGET                  the attribute that allows the level's instructions
 *   ZERO, SET1(a), LOAD(p), STORE(p, v), FMA(a, b, c) = a b + c, MUL(a, b), ADD(a, b), SUM(v)
 *   LOAD_FIRST(p, k), STORE_FIRST(p, v, k)   the first k < LANES numbers, zeros for the rest
 * and for the dtype (undefined again at the end)
 *   REAL, NAME(f)           the dtype, and f with a suffix for dtype and level
 *   VEC, LANES              a vector register and the numbers in it
 * LANES is 1 at the scalar level, so that one text is both the fast form and its scalar twin.
 */

TARGET static double NAME(dot)(const REAL *x, const REAL *w, ptrdiff_t n) {
    VEC s0 = ZERO, s1 = ZERO, s2 = ZERO, s3 = ZERO;
    ptrdiff_t j = 0;
    for (; j + 4 * LANES <= n; j += 4 * LANES) {
        s0 = FMA(LOAD(x + j), LOAD(w + j), s0);
        s1 = FMA(LOAD(x + j + LANES), LOAD(w + j + LANES), s1);
        s2 = FMA(LOAD(x + j + 2 * LANES), LOAD(w + j + 2 * LANES), s2);
        s3 = FMA(LOAD(x + j + 3 * LANES), LOAD(w + j + 3 * LANES), s3);
    }
    for (; j + LANES <= n; j += LANES) s0 = FMA(LOAD(x + j), LOAD(w + j), s0);
    if (j < n) s1 = FMA(LOAD_FIRST(x + j, n - j), LOAD_FIRST(w + j, n - j), s1);
    s0 = ADD(ADD(s0, s1), ADD(s2, s3));
    return (double)SUM(s0);
}

TARGET static void NAME(axpy)(REAL a, const REAL *x, REAL *w, ptrdiff_t n) {
    VEC va = SET1(a);
    ptrdiff_t j = 0;
    for (; j + LANES <= n; j += LANES) STORE(w + j, FMA(va, LOAD(x + j), LOAD(w + j)));
    if (j < n) {
        VEC tail = FMA(va, LOAD_FIRST(x + j, n - j), LOAD_FIRST(w + j, n - j));
        STORE_FIRST(w + j, tail, n - j);
    }
}

/* out[k] = x_k . w for four rows. */
TARGET static void NAME(dot4)(const REAL *const *x, const REAL *w, ptrdiff_t n, double *out) {
    const REAL *x0 = x[0], *x1 = x[1], *x2 = x[2], *x3 = x[3];
    VEC s0 = ZERO, s1 = ZERO, s2 = ZERO, s3 = ZERO;
    ptrdiff_t j = 0;
    for (; j + LANES <= n; j += LANES) {
        VEC v = LOAD(w + j);
        s0 = FMA(LOAD(x0 + j), v, s0);
        s1 = FMA(LOAD(x1 + j), v, s1);
        s2 = FMA(LOAD(x2 + j), v, s2);
        s3 = FMA(LOAD(x3 + j), v, s3);
    }
    if (j < n) {
        VEC v = LOAD_FIRST(w + j, n - j);
        s0 = FMA(LOAD_FIRST(x0 + j, n - j), v, s0);
        s1 = FMA(LOAD_FIRST(x1 + j, n - j), v, s1);
        s2 = FMA(LOAD_FIRST(x2 + j, n - j), v, s2);
        s3 = FMA(LOAD_FIRST(x3 + j, n - j), v, s3);
    }
    out[0] = (double)SUM(s0);
    out[1] = (double)SUM(s1);
    out[2] = (double)SUM(s2);
    out[3] = (double)SUM(s3);
}

#define GRAM_STEP(LOADX, LOADW)                                                                    \
    do {                                                                                           \
        VEC v = LOADW(w), a0 = LOADX(x0), a1 = LOADX(x1), a2 = LOADX(x2), a3 = LOADX(x3);          \
        s0 = FMA(a0, v, s0);                                                                       \
        s1 = FMA(a1, v, s1);                                                                       \
        s2 = FMA(a2, v, s2);                                                                       \
        s3 = FMA(a3, v, s3);                                                                       \
        if (rates != NULL) {                                                                       \
            VEC d = LOADW(rates);                                                                  \
            g01 = FMA(MUL(a0, d), a1, g01);                                                        \
            g02 = FMA(MUL(a0, d), a2, g02);                                                        \
            g12 = FMA(MUL(a1, d), a2, g12);                                                        \
            d = MUL(a3, d);                                                                        \
            g03 = FMA(a0, d, g03);                                                                 \
            g13 = FMA(a1, d, g13);                                                                 \
            g23 = FMA(a2, d, g23);                                                                 \
        } else {                                                                                   \
            g01 = FMA(a0, a1, g01);                                                                \
            g02 = FMA(a0, a2, g02);                                                                \
            g12 = FMA(a1, a2, g12);                                                                \
            g03 = FMA(a0, a3, g03);                                                                \
            g13 = FMA(a1, a3, g13);                                                                \
            g23 = FMA(a2, a3, g23);                                                                \
        }                                                                                          \
    } while (0)
#define WHOLE(p) LOAD((p) + j)
#define FIRST(p) LOAD_FIRST((p) + j, n - j)

/* out[0..3] = x_k . w, then x_0.Dx_1, x_0.Dx_2, x_1.Dx_2, x_0.Dx_3, x_1.Dx_3, x_2.Dx_3.
 *
 * With the products between the rows, four serial steps need one reading and one writing of
 * the weights. `w` and `rates` (the diagonal D; NULL for ones) are padded to whole vectors. */
TARGET static void NAME(gram4)(const REAL *const *x, const REAL *w, const REAL *rates, ptrdiff_t n,
                               double *out) {
    const REAL *x0 = x[0], *x1 = x[1], *x2 = x[2], *x3 = x[3];
    VEC s0 = ZERO, s1 = ZERO, s2 = ZERO, s3 = ZERO;
    VEC g01 = ZERO, g02 = ZERO, g12 = ZERO, g03 = ZERO, g13 = ZERO, g23 = ZERO;
    ptrdiff_t j = 0;
    for (; j + LANES <= n; j += LANES) GRAM_STEP(WHOLE, WHOLE);
    if (j < n) GRAM_STEP(FIRST, WHOLE);
    out[0] = (double)SUM(s0);
    out[1] = (double)SUM(s1);
    out[2] = (double)SUM(s2);
    out[3] = (double)SUM(s3);
    out[4] = (double)SUM(g01);
    out[5] = (double)SUM(g02);
    out[6] = (double)SUM(g12);
    out[7] = (double)SUM(g03);
    out[8] = (double)SUM(g13);
    out[9] = (double)SUM(g23);
}

/* w += D sum_k a_k x_k; `w` and `rates` as in gram4. */
TARGET static void NAME(axpy4)(const REAL *a, const REAL *const *x, const REAL *rates, REAL *w,
                               ptrdiff_t n) {
    const REAL *x0 = x[0], *x1 = x[1], *x2 = x[2], *x3 = x[3];
    VEC a0 = SET1(a[0]), a1 = SET1(a[1]), a2 = SET1(a[2]), a3 = SET1(a[3]);
    ptrdiff_t j = 0;
    for (; j < n; j += LANES) {
        VEC step, v = LOAD(w + j);
        if (j + LANES <= n) {
            step = MUL(a0, LOAD(x0 + j));
            step = FMA(a1, LOAD(x1 + j), step);
            step = ADD(step, FMA(a2, LOAD(x2 + j), MUL(a3, LOAD(x3 + j))));
        } else {
            step = MUL(a0, LOAD_FIRST(x0 + j, n - j));
            step = FMA(a1, LOAD_FIRST(x1 + j, n - j), step);
            step = ADD(step, FMA(a2, LOAD_FIRST(x2 + j, n - j), MUL(a3, LOAD_FIRST(x3 + j, n - j))));
        }
        v = rates != NULL ? FMA(LOAD(rates + j), step, v) : ADD(v, step);
        STORE(w + j, v);
    }
}

#ifdef SKPAR_MANY
#include "many_level.h"
#endif
#ifdef SKPAR_PRODUCTS
#include "products_level.h"
#endif

#undef GRAM_STEP
#undef WHOLE
#undef FIRST
#undef REAL
#undef NAME
#undef VEC
#undef LANES
