/* Rows under the weights of many outputs, for one dtype at one SIMD level.
 *
 * rows_level.h includes this file, with its macros, where SKPAR_MANY is defined. Weights are laid
 * out features x outputs, `size` numbers a feature: a whole number of vectors at every level.
 * An output's sum is taken over the features in an order that does not depend on the number of
 * outputs, so that splitting the outputs changes no bit.
 */

/* As many outputs as so many vectors hold are summed in registers at once. */
#define MANY_BLOCK 4

/* p += x W for the vectors of one block; `columns` NULL is a dense row. */
#define MANY_SPARSE(index, kind)                                                                   \
    TARGET SKPAR_INLINE void NAME(one_block_##kind)(                                               \
        const int nv, const REAL *x, const index *columns, ptrdiff_t n, const REAL *w,             \
        ptrdiff_t size, REAL *p) {                                                                 \
        VEC even[MANY_BLOCK], odd[MANY_BLOCK];                                                     \
        for (int v = 0; v < nv; v++) even[v] = odd[v] = ZERO;                                      \
        ptrdiff_t j = 0;                                                                           \
        for (; j + 2 <= n; j += 2) {                                                               \
            const REAL *w0 = w + (columns != NULL ? (ptrdiff_t)columns[j] : j) * size;             \
            const REAL *w1 = w + (columns != NULL ? (ptrdiff_t)columns[j + 1] : j + 1) * size;     \
            const VEC x0 = SET1(x[j]), x1 = SET1(x[j + 1]);                                        \
            for (int v = 0; v < nv; v++) {                                                         \
                even[v] = FMA(x0, LOAD(w0 + v * LANES), even[v]);                                  \
                odd[v] = FMA(x1, LOAD(w1 + v * LANES), odd[v]);                                    \
            }                                                                                      \
        }                                                                                          \
        if (j < n) {                                                                               \
            const REAL *w0 = w + (columns != NULL ? (ptrdiff_t)columns[j] : j) * size;             \
            const VEC x0 = SET1(x[j]);                                                             \
            for (int v = 0; v < nv; v++) even[v] = FMA(x0, LOAD(w0 + v * LANES), even[v]);         \
        }                                                                                          \
        for (int v = 0; v < nv; v++) STORE(p + v * LANES, ADD(even[v], odd[v]));                   \
    }                                                                                              \
    TARGET static void NAME(many_one_##kind)(const REAL *x, const index *columns, ptrdiff_t n,     \
                                             const REAL *w, ptrdiff_t size, REAL *p) {             \
        ptrdiff_t c = 0;                                                                           \
        for (; c + MANY_BLOCK * LANES <= size; c += MANY_BLOCK * LANES)                            \
            NAME(one_block_##kind)(MANY_BLOCK, x, columns, n, w + c, size, p + c);                 \
        switch ((size - c) / LANES) {                                                              \
        case 3: NAME(one_block_##kind)(3, x, columns, n, w + c, size, p + c); break;               \
        case 2: NAME(one_block_##kind)(2, x, columns, n, w + c, size, p + c); break;               \
        case 1: NAME(one_block_##kind)(1, x, columns, n, w + c, size, p + c); break;               \
        default: break;                                                                            \
        }                                                                                          \
    }                                                                                              \
    /* W += x' u */                                                                                \
    TARGET SKPAR_INLINE void NAME(add_block_##kind)(                                               \
        const int nv, const REAL *x, const index *columns, ptrdiff_t n, const REAL *u,             \
        ptrdiff_t size, REAL *w) {                                                                 \
        VEC step[MANY_BLOCK];                                                                      \
        for (int v = 0; v < nv; v++) step[v] = LOAD(u + v * LANES);                                \
        for (ptrdiff_t j = 0; j < n; j++) {                                                        \
            REAL *wj = w + (columns != NULL ? (ptrdiff_t)columns[j] : j) * size;                   \
            const VEC xj = SET1(x[j]);                                                             \
            for (int v = 0; v < nv; v++)                                                           \
                STORE(wj + v * LANES, FMA(xj, step[v], LOAD(wj + v * LANES)));                     \
        }                                                                                          \
    }                                                                                              \
    TARGET static void NAME(many_add_##kind)(const REAL *x, const index *columns, ptrdiff_t n,     \
                                             const REAL *u, ptrdiff_t size, REAL *w) {             \
        ptrdiff_t c = 0;                                                                           \
        for (; c + MANY_BLOCK * LANES <= size; c += MANY_BLOCK * LANES)                            \
            NAME(add_block_##kind)(MANY_BLOCK, x, columns, n, u + c, size, w + c);                 \
        switch ((size - c) / LANES) {                                                              \
        case 3: NAME(add_block_##kind)(3, x, columns, n, u + c, size, w + c); break;               \
        case 2: NAME(add_block_##kind)(2, x, columns, n, u + c, size, w + c); break;               \
        case 1: NAME(add_block_##kind)(1, x, columns, n, u + c, size, w + c); break;               \
        default: break;                                                                            \
        }                                                                                          \
    }

MANY_SPARSE(int32_t, i32)
MANY_SPARSE(int64_t, i64)
#undef MANY_SPARSE

/* p_r = x_r W for four dense rows r, one after another in p. */
TARGET SKPAR_INLINE void NAME(four_block)(const int nv, const REAL *const *x, ptrdiff_t n,
                                          const REAL *w, ptrdiff_t size, REAL *p) {
    const REAL *x0 = x[0], *x1 = x[1], *x2 = x[2], *x3 = x[3];
    VEC s0[MANY_BLOCK], s1[MANY_BLOCK], s2[MANY_BLOCK], s3[MANY_BLOCK];
    for (int v = 0; v < nv; v++) s0[v] = s1[v] = s2[v] = s3[v] = ZERO;
    for (ptrdiff_t j = 0; j < n; j++, w += size) {
        const VEC a0 = SET1(x0[j]), a1 = SET1(x1[j]), a2 = SET1(x2[j]), a3 = SET1(x3[j]);
        for (int v = 0; v < nv; v++) {
            const VEC wv = LOAD(w + v * LANES);
            s0[v] = FMA(a0, wv, s0[v]);
            s1[v] = FMA(a1, wv, s1[v]);
            s2[v] = FMA(a2, wv, s2[v]);
            s3[v] = FMA(a3, wv, s3[v]);
        }
    }
    for (int v = 0; v < nv; v++) {
        STORE(p + v * LANES, s0[v]);
        STORE(p + size + v * LANES, s1[v]);
        STORE(p + 2 * size + v * LANES, s2[v]);
        STORE(p + 3 * size + v * LANES, s3[v]);
    }
}

TARGET static void NAME(many_four)(const REAL *const *x, ptrdiff_t n, const REAL *w,
                                   ptrdiff_t size, REAL *p) {
    ptrdiff_t c = 0;
    for (; c + MANY_BLOCK * LANES <= size; c += MANY_BLOCK * LANES)
        NAME(four_block)(MANY_BLOCK, x, n, w + c, size, p + c);
    switch ((size - c) / LANES) {
    case 3: NAME(four_block)(3, x, n, w + c, size, p + c); break;
    case 2: NAME(four_block)(2, x, n, w + c, size, p + c); break;
    case 1: NAME(four_block)(1, x, n, w + c, size, p + c); break;
    default: break;
    }
}

/* W += sum_r x_r' u_r for four dense rows r. Two vectors at a time: their steps fill eight
 * registers, and more would not stay in those of AVX2. */
#define ADD_BLOCK 2
TARGET SKPAR_INLINE void NAME(add_four_block)(const int nv, const REAL *const *x, ptrdiff_t n,
                                              const REAL *u, ptrdiff_t size, REAL *w) {
    const REAL *x0 = x[0], *x1 = x[1], *x2 = x[2], *x3 = x[3];
    VEC u0[ADD_BLOCK], u1[ADD_BLOCK], u2[ADD_BLOCK], u3[ADD_BLOCK];
    for (int v = 0; v < nv; v++) {
        u0[v] = LOAD(u + v * LANES);
        u1[v] = LOAD(u + size + v * LANES);
        u2[v] = LOAD(u + 2 * size + v * LANES);
        u3[v] = LOAD(u + 3 * size + v * LANES);
    }
    for (ptrdiff_t j = 0; j < n; j++, w += size) {
        const VEC a0 = SET1(x0[j]), a1 = SET1(x1[j]), a2 = SET1(x2[j]), a3 = SET1(x3[j]);
        for (int v = 0; v < nv; v++) {
            VEC s = FMA(a1, u1[v], FMA(a0, u0[v], LOAD(w + v * LANES)));
            s = ADD(s, FMA(a3, u3[v], MUL(a2, u2[v])));
            STORE(w + v * LANES, s);
        }
    }
}

TARGET static void NAME(many_add_four)(const REAL *const *x, ptrdiff_t n, const REAL *u,
                                       ptrdiff_t size, REAL *w) {
    ptrdiff_t c = 0;
    for (; c + ADD_BLOCK * LANES <= size; c += ADD_BLOCK * LANES)
        NAME(add_four_block)(ADD_BLOCK, x, n, u + c, size, w + c);
    if (c < size) NAME(add_four_block)(1, x, n, u + c, size, w + c);
}

/* out = x_0.x_1, x_0.x_2, x_1.x_2, x_0.x_3, x_1.x_3, x_2.x_3 */
TARGET static void NAME(many_products)(const REAL *const *x, ptrdiff_t n, double *out) {
    const REAL *x0 = x[0], *x1 = x[1], *x2 = x[2], *x3 = x[3];
    VEC s01 = ZERO, s02 = ZERO, s12 = ZERO, s03 = ZERO, s13 = ZERO, s23 = ZERO;
    ptrdiff_t j = 0;
    for (; j < n; j += LANES) {
        VEC a0, a1, a2, a3;
        if (j + LANES <= n) {
            a0 = LOAD(x0 + j), a1 = LOAD(x1 + j), a2 = LOAD(x2 + j), a3 = LOAD(x3 + j);
        } else {
            a0 = LOAD_FIRST(x0 + j, n - j), a1 = LOAD_FIRST(x1 + j, n - j);
            a2 = LOAD_FIRST(x2 + j, n - j), a3 = LOAD_FIRST(x3 + j, n - j);
        }
        s01 = FMA(a0, a1, s01);
        s02 = FMA(a0, a2, s02);
        s12 = FMA(a1, a2, s12);
        s03 = FMA(a0, a3, s03);
        s13 = FMA(a1, a3, s13);
        s23 = FMA(a2, a3, s23);
    }
    out[0] = (double)SUM(s01);
    out[1] = (double)SUM(s02);
    out[2] = (double)SUM(s12);
    out[3] = (double)SUM(s03);
    out[4] = (double)SUM(s13);
    out[5] = (double)SUM(s23);
}
#undef MANY_BLOCK
#undef ADD_BLOCK
