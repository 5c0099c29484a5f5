/* Sums of outer products at one SIMD level; rows_level.h includes this file and says how.
 *
 * A tile of H, TILE_ROWS rows by up to three registers, stays in registers while all rows of a
 * chunk go by (Goto & van de Geijn 2008), so that arithmetic sets the pace and not H's traffic.
 */

#define TILE_ROWS (LANES >= 8 ? 8 : LANES == 1 ? 2 : 4)

/* H[i, v] += sum_r t[r, i] z[r, v] over one tile; the rows of z and t are `stride` apart. */
TARGET SKPAR_INLINE void NAME(product_tile)(const REAL *z, const REAL *t, ptrdiff_t m,
                                          ptrdiff_t stride, REAL *H, const int registers) {
    VEC sum[TILE_ROWS][3];
    for (int i = 0; i < TILE_ROWS; i++)
        for (int v = 0; v < registers; v++) sum[i][v] = LOAD(H + i * stride + v * LANES);
    for (ptrdiff_t r = 0; r < m; r++, z += stride, t += stride) {
        VEC row[3];
        for (int v = 0; v < registers; v++) row[v] = LOAD(z + v * LANES);
        for (int i = 0; i < TILE_ROWS; i++) {
            const VEC a = SET1(t[i]);
            for (int v = 0; v < registers; v++) sum[i][v] = FMA(a, row[v], sum[i][v]);
        }
    }
    for (int i = 0; i < TILE_ROWS; i++)
        for (int v = 0; v < registers; v++) STORE(H + i * stride + v * LANES, sum[i][v]);
}

/* The tiles of H += sum_r t_r z_r' that hold its upper triangle, in rows `first` to `last`.
 *
 * The rows of z, t and H are `stride` numbers apart; `d` is their length rounded up to whole
 * tiles (SKPAR_TILE_COLUMNS), as `first` and `last` are. */
TARGET SKPAR_STATIC void NAME(products)(const REAL *z, const REAL *t, ptrdiff_t m, ptrdiff_t d,
                                        ptrdiff_t stride, ptrdiff_t first, ptrdiff_t last,
                                        REAL *H) {
    for (ptrdiff_t j = first; j < last; j += TILE_ROWS) {
        REAL *h = H + j * stride;
        ptrdiff_t k = j / LANES * LANES;
        for (; k + 3 * LANES <= d; k += 3 * LANES)
            NAME(product_tile)(z + k, t + j, m, stride, h + k, 3);
        if (k + 2 * LANES <= d)
            NAME(product_tile)(z + k, t + j, m, stride, h + k, 2);
        else if (k + LANES <= d)
            NAME(product_tile)(z + k, t + j, m, stride, h + k, 1);
    }
}

#undef TILE_ROWS

/* z = (x - center) scale and t = a z. */
TARGET SKPAR_STATIC void NAME(pack)(const REAL *x, const double *center, const double *scale,
                                    double a, ptrdiff_t d, double *z, double *t) {
    _Pragma("omp simd") for (ptrdiff_t j = 0; j < d; j++) {
        const double v = ((double)x[j] - center[j]) * scale[j];
        z[j] = v;
        t[j] = a * v;
    }
}
