/* The levels at which rows_level.h is compiled, and the choice between them at run time.
 *
 * x86-64 with gcc or clang: scalar, sse2 (the baseline), avx2 (with FMA), avx512 (F alone).
 * arm64: scalar, neon (the baseline). Other compilers: scalar, which they may vectorise.
 */
#ifndef SKPAR_ROWS_SIMD_H
#define SKPAR_ROWS_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
#define SKPAR_VECTORS
#define SKPAR_STATIC static __attribute__((unused))
#define SKPAR_INLINE static inline __attribute__((always_inline))
#else
#define SKPAR_STATIC static
#define SKPAR_INLINE static inline
#endif
/* A padded vector of weights may be read and written in whole registers of any level. */
#define SKPAR_PADDING 64

#if defined(SKPAR_VECTORS) && defined(__x86_64__)
#define SKPAR_X86
#include <immintrin.h>
#endif

/* ---- scalar ---------------------------------------------------------------------------- */
#define TARGET
#define ZERO 0
#define SET1(a) (a)
#define LOAD(p) (*(p))
#define STORE(p, v) (*(p) = (v))
#define LOAD_FIRST(p, k) ((void)(k), *(p))
#define STORE_FIRST(p, v, k) ((void)(k), *(p) = (v))
#define FMA(a, b, c) ((a) * (b) + (c))
#define MUL(a, b) ((a) * (b))
#define ADD(a, b) ((a) + (b))
#define SUM(v) (v)
#define REAL double
#define VEC double
#define LANES 1
#define NAME(f) f##_f64_scalar
#include "rows_level.h"
#define REAL float
#define VEC float
#define LANES 1
#define NAME(f) f##_f32_scalar
#include "rows_level.h"
#undef TARGET
#undef ZERO
#undef SET1
#undef LOAD
#undef STORE
#undef LOAD_FIRST
#undef STORE_FIRST
#undef FMA
#undef MUL
#undef ADD
#undef SUM

/* ---- 16 bytes: sse2, neon ------------------------------------------------------------- */
#ifdef SKPAR_VECTORS
typedef double skpar_f64x2 __attribute__((vector_size(16), aligned(8), may_alias));
typedef float skpar_f32x4 __attribute__((vector_size(16), aligned(4), may_alias));
#define TARGET
#define ZERO ((VEC){0})
#define SET1(a) ((VEC){0} + (a))
#define LOAD(p) (*(const VEC *)(p))
#define STORE(p, v) (*(VEC *)(p) = (v))
#define LOAD_FIRST(p, k)                                                                           \
    __extension__({                                                                                \
        VEC first_ = {0};                                                                          \
        for (ptrdiff_t l_ = 0; l_ < (k); l_++) first_[l_] = (p)[l_];                               \
        first_;                                                                                    \
    })
#define STORE_FIRST(p, v, k)                                                                       \
    do {                                                                                           \
        VEC first_ = (v);                                                                          \
        for (ptrdiff_t l_ = 0; l_ < (k); l_++) (p)[l_] = first_[l_];                               \
    } while (0)
#define FMA(a, b, c) ((a) * (b) + (c))
#define MUL(a, b) ((a) * (b))
#define ADD(a, b) ((a) + (b))
#define SUM(v)                                                                                     \
    __extension__({                                                                                \
        REAL sum_ = 0;                                                                             \
        for (int l_ = 0; l_ < LANES; l_++) sum_ += (v)[l_];                                        \
        sum_;                                                                                      \
    })
#define REAL double
#define VEC skpar_f64x2
#define LANES 2
#define NAME(f) f##_f64_base
#include "rows_level.h"
#define REAL float
#define VEC skpar_f32x4
#define LANES 4
#define NAME(f) f##_f32_base
#include "rows_level.h"
#undef TARGET
#undef ZERO
#undef SET1
#undef LOAD
#undef STORE
#undef LOAD_FIRST
#undef STORE_FIRST
#undef FMA
#undef MUL
#undef ADD
#undef SUM
#endif

#ifdef SKPAR_X86
/* ---- avx2 and fma ---------------------------------------------------------------------- */
SKPAR_STATIC const int32_t skpar_first[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
#define AVX2 __attribute__((target("avx2,fma")))
/* Loading 8 integers from here gives ones in the bits of the first k numbers. */
#define MASK(k) _mm256_loadu_si256((const __m256i *)(skpar_first + 8 - (k) * (8 / LANES)))
SKPAR_STATIC AVX2 inline double skpar_sum_f64x4(__m256d v) {
    __m128d half = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(half, _mm_unpackhi_pd(half, half)));
}
SKPAR_STATIC AVX2 inline float skpar_sum_f32x8(__m256 v) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
#define TARGET AVX2
#define ZERO OP(setzero)()
#define SET1(a) OP(set1)(a)
#define LOAD(p) OP(loadu)(p)
#define STORE(p, v) OP(storeu)(p, v)
#define LOAD_FIRST(p, k) OP(maskload)(p, MASK(k))
#define STORE_FIRST(p, v, k) OP(maskstore)(p, MASK(k), v)
#define FMA(a, b, c) OP(fmadd)(a, b, c)
#define MUL(a, b) OP(mul)(a, b)
#define ADD(a, b) OP(add)(a, b)
#define REAL double
#define VEC __m256d
#define LANES 4
#define OP(f) _mm256_##f##_pd
#define SUM(v) skpar_sum_f64x4(v)
#define NAME(f) f##_f64_avx2
#include "rows_level.h"
#undef OP
#undef SUM
#define REAL float
#define VEC __m256
#define LANES 8
#define OP(f) _mm256_##f##_ps
#define SUM(v) skpar_sum_f32x8(v)
#define NAME(f) f##_f32_avx2
#include "rows_level.h"
#undef OP
#undef MASK
#undef TARGET
#undef ZERO
#undef SET1
#undef LOAD
#undef STORE
#undef LOAD_FIRST
#undef STORE_FIRST
#undef FMA
#undef MUL
#undef ADD
#undef SUM

/* ---- avx512f --------------------------------------------------------------------------- */
#define TARGET __attribute__((target("avx512f")))
#define MASK(k) ((1u << (k)) - 1u)
#define ZERO OP(setzero)()
#define SET1(a) OP(set1)(a)
#define LOAD(p) OP(loadu)(p)
#define STORE(p, v) OP(storeu)(p, v)
#define LOAD_FIRST(p, k) OP(maskz_loadu)(MASK(k), p)
#define STORE_FIRST(p, v, k) OP(mask_storeu)(p, MASK(k), v)
#define FMA(a, b, c) OP(fmadd)(a, b, c)
#define MUL(a, b) OP(mul)(a, b)
#define ADD(a, b) OP(add)(a, b)
#define SUM(v) OP(reduce_add)(v)
#define REAL double
#define VEC __m512d
#define LANES 8
#define OP(f) _mm512_##f##_pd
#define NAME(f) f##_f64_avx512
#include "rows_level.h"
#undef OP
#define REAL float
#define VEC __m512
#define LANES 16
#define OP(f) _mm512_##f##_ps
#define NAME(f) f##_f32_avx512
#include "rows_level.h"
#undef OP
#undef MASK
#undef TARGET
#undef ZERO
#undef SET1
#undef LOAD
#undef STORE
#undef LOAD_FIRST
#undef STORE_FIRST
#undef FMA
#undef MUL
#undef ADD
#undef SUM
#endif

/* ---- the choice ------------------------------------------------------------------------ */
#define SKPAR_TABLE(real, suffix)                                                                  \
    typedef struct {                                                                               \
        double (*dot)(const real *, const real *, ptrdiff_t);                                      \
        void (*axpy)(real, const real *, real *, ptrdiff_t);                                       \
        void (*dot4)(const real *const *, const real *, ptrdiff_t, double *);                      \
        void (*gram4)(const real *const *, const real *, const real *, ptrdiff_t, double *);       \
        void (*axpy4)(const real *, const real *const *, const real *, real *, ptrdiff_t);         \
    } skpar_table_##suffix;
SKPAR_TABLE(double, f64)
SKPAR_TABLE(float, f32)

#define SKPAR_ENTRY(suffix, level)                                                                 \
    {dot_##suffix##_##level, axpy_##suffix##_##level, dot4_##suffix##_##level,                     \
     gram4_##suffix##_##level, axpy4_##suffix##_##level}
SKPAR_STATIC skpar_table_f64 skpar_f64 = SKPAR_ENTRY(f64, scalar);
SKPAR_STATIC skpar_table_f32 skpar_f32 = SKPAR_ENTRY(f32, scalar);

#define SKPAR_CHOOSE(level)                                                                        \
    do {                                                                                           \
        const skpar_table_f64 f64_ = SKPAR_ENTRY(f64, level);                                      \
        const skpar_table_f32 f32_ = SKPAR_ENTRY(f32, level);                                      \
        skpar_f64 = f64_;                                                                          \
        skpar_f32 = f32_;                                                                          \
    } while (0)

/* Use the widest level that this machine has and `limit` allows, and return its name; every
 * extension module has a table of its own and calls this at import. NULL: no such level. */
SKPAR_STATIC const char *skpar_use_level(const char *limit) {
    const char *names[] = {"scalar", "neon", "sse2", "avx2", "avx512"};
    int allowed = -1;
    for (int k = 0; k < 5; k++)
        if (strcmp(limit, names[k]) == 0) allowed = k;
    if (limit[0] == 0) allowed = 4;
    if (allowed < 0) return NULL;
#ifdef SKPAR_X86
    __builtin_cpu_init();
    if (allowed >= 4 && __builtin_cpu_supports("avx512f")) {
        SKPAR_CHOOSE(avx512);
        return names[4];
    }
    if (allowed >= 3 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        SKPAR_CHOOSE(avx2);
        return names[3];
    }
    if (allowed >= 2) {
        SKPAR_CHOOSE(base);
        return names[2];
    }
#elif defined(SKPAR_VECTORS)
    if (allowed >= 1) {
        SKPAR_CHOOSE(base);
#ifdef __aarch64__
        return names[1];
#else
        return "vector";
#endif
    }
#endif
    SKPAR_CHOOSE(scalar);
    return names[0];
}

/* choose(level) for the level that skpar_use_level has named; tables start out scalar. */
#ifdef SKPAR_X86
#define SKPAR_CHOOSE_NAMED(name, choose)                                                           \
    do {                                                                                           \
        if (strcmp(name, "avx512") == 0)                                                           \
            choose(avx512);                                                                        \
        else if (strcmp(name, "avx2") == 0)                                                        \
            choose(avx2);                                                                          \
        else if (strcmp(name, "sse2") == 0)                                                        \
            choose(base);                                                                          \
    } while (0)
#elif defined(SKPAR_VECTORS)
#define SKPAR_CHOOSE_NAMED(name, choose)                                                           \
    do {                                                                                           \
        if (strcmp(name, "scalar") != 0) choose(base);                                             \
    } while (0)
#else
#define SKPAR_CHOOSE_NAMED(name, choose) ((void)(name))
#endif

#endif
