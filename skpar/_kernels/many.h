/* One step of many outputs: what happens between a row's margins and the update of the weights.
 *
 * Vectors over the outputs hold `size` numbers, a multiple of 8; where there are fewer outputs
 * the rest has a `ratio` of 0 and stays as it is.
 */
#ifndef SKPAR_MANY_H
#define SKPAR_MANY_H

#include "rows.h"

#include "outputs.h"

/* ---- the primitives of many_level.h ------------------------------------------------------ */
#define MANY_TABLE(real, suffix)                                                                   \
    typedef struct {                                                                               \
        void (*one_i32)(const real *, const int32_t *, ptrdiff_t, const real *, ptrdiff_t, real *);\
        void (*one_i64)(const real *, const int64_t *, ptrdiff_t, const real *, ptrdiff_t, real *);\
        void (*add_i32)(const real *, const int32_t *, ptrdiff_t, const real *, ptrdiff_t, real *);\
        void (*add_i64)(const real *, const int64_t *, ptrdiff_t, const real *, ptrdiff_t, real *);\
        void (*four)(const real *const *, ptrdiff_t, const real *, ptrdiff_t, real *);             \
        void (*add_four)(const real *const *, ptrdiff_t, const real *, ptrdiff_t, real *);         \
        void (*products)(const real *const *, ptrdiff_t, double *);                                \
    } skpar_many_##suffix##_table;
MANY_TABLE(double, f64)
MANY_TABLE(float, f32)
#define MANY_ENTRY(suffix, level)                                                                  \
    {many_one_i32_##suffix##_##level, many_one_i64_##suffix##_##level,                             \
     many_add_i32_##suffix##_##level, many_add_i64_##suffix##_##level,                             \
     many_four_##suffix##_##level,    many_add_four_##suffix##_##level,                            \
     many_products_##suffix##_##level}
static skpar_many_f64_table skpar_many_f64 = MANY_ENTRY(f64, scalar);
static skpar_many_f32_table skpar_many_f32 = MANY_ENTRY(f32, scalar);

#define MANY_CHOOSE(level)                                                                         \
    do {                                                                                           \
        const skpar_many_f64_table f64_ = MANY_ENTRY(f64, level);                                  \
        const skpar_many_f32_table f32_ = MANY_ENTRY(f32, level);                                  \
        skpar_many_f64 = f64_;                                                                     \
        skpar_many_f32 = f32_;                                                                     \
    } while (0)

/* Use the level that skpar_use_level has named. */
static void skpar_many_use(const char *level) {
    SKPAR_CHOOSE_NAMED(level, MANY_CHOOSE);
}

/* ---- vectors over the outputs ------------------------------------------------------------ */
/* Of eight at a time: with a constant length the compiler keeps them in registers. */
#define MANY_EIGHT(size)                                                                           \
    for (ptrdiff_t e_ = 0; e_ < (size); e_ += 8)                                                   \
        _Pragma("omp simd") for (ptrdiff_t c = e_; c < e_ + 8; c++)

/* What a step reads and writes of each output. */
typedef struct {
    ptrdiff_t k, size;
    double *scale, *intercept, *ratio;                /* weights are scale * w; eta is ratio * eta */
    double *average_a, *average_b, *average_intercept; /* as in `sgd` */
    double *l1_total, *loss_sum;
    double *y, *p, *slope, *value, *update; /* room to work in */
} skpar_outputs;

enum { MANY_OTHER, MANY_LOG, MANY_HINGE, MANY_SQUARED_HINGE, MANY_MODIFIED_HUBER, MANY_SQUARED,
       MANY_HUBER, MANY_INSENSITIVE, MANY_SQUARED_INSENSITIVE };

#define MANY_LOSS(slope_, value_)                                                                  \
    do {                                                                                           \
        MANY_EIGHT(size) {                                                                         \
            const double y = o->y[c], p = o->p[c];                                                 \
            (void)y;                                                                               \
            o->slope[c] = slope_;                                                                  \
        }                                                                                          \
        if (valued)                                                                                \
            MANY_EIGHT(size) {                                                                     \
                const double y = o->y[c], p = o->p[c];                                             \
                o->value[c] = value_;                                                              \
            }                                                                                      \
    } while (0)
#define POSITIVE(a) ((a) > 0.0 ? (a) : 0.0)

/* exp(-|p|) */
SKPAR_MAYBE static inline double many_exp(double p) {
    const double a = p > 0.0 ? -p : p; /* NaN stays NaN */
    return exp_of_negative(a < -700.0 ? -700.0 : a);
}

/* The losses' derivatives at margins p, and their values. The formulas are those of `losses`,
 * without branches. */
SKPAR_MAYBE SKPAR_WIDE static void many_slopes(const skpar_outputs *o, int kind, double a,
                                               int valued) {
    const ptrdiff_t size = o->size;
    switch (kind) {
    case MANY_LOG:
        if (valued)
            MANY_EIGHT(size) {
                const double y = o->y[c], p = o->p[c], e = many_exp(p);
                o->slope[c] = (p > 0.0 ? (1.0 - y) - y * e : (1.0 - y) * e - y) / (1.0 + e);
                o->value[c] = log_of_one_plus(e) + (POSITIVE(p) - y * p);
            }
        else
            MANY_EIGHT(size) {
                const double y = o->y[c], p = o->p[c], e = many_exp(p);
                o->slope[c] = (p > 0.0 ? (1.0 - y) - y * e : (1.0 - y) * e - y) / (1.0 + e);
            }
        break;
    case MANY_HINGE:
        MANY_LOSS(y * p <= a ? -y : 0.0, POSITIVE(a - y * p));
        break;
    case MANY_SQUARED_HINGE:
        MANY_LOSS(-2.0 * y * POSITIVE(1.0 - y * p), POSITIVE(1.0 - y * p) * POSITIVE(1.0 - y * p));
        break;
    case MANY_MODIFIED_HUBER:
        MANY_LOSS(y * p >= -1.0 ? -2.0 * y * POSITIVE(1.0 - y * p) : -4.0 * y,
                  y * p >= -1.0 ? POSITIVE(1.0 - y * p) * POSITIVE(1.0 - y * p) : -4.0 * y * p);
        break;
    case MANY_SQUARED: MANY_LOSS(p - y, 0.5 * (p - y) * (p - y)); break;
    case MANY_HUBER:
        MANY_LOSS(p - y > a ? a : (p - y < -a ? -a : p - y),
                  fabs(y - p) <= a ? 0.5 * (y - p) * (y - p) : a * (fabs(y - p) - 0.5 * a));
        break;
    case MANY_INSENSITIVE:
        MANY_LOSS(y - p > a ? -1.0 : (p - y > a ? 1.0 : 0.0), POSITIVE(fabs(y - p) - a));
        break;
    case MANY_SQUARED_INSENSITIVE:
        MANY_LOSS(2.0 * (POSITIVE(p - y - a) - POSITIVE(y - p - a)),
                  POSITIVE(fabs(y - p) - a) * POSITIVE(fabs(y - p) - a));
        break;
    default: break;
    }
}

/* p = scale (m + sum_m length_m product_m) + intercept, with the steps of the rows just before. */
#define MANY_MARGINS(real, suffix)                                                                 \
    SKPAR_MAYBE SKPAR_WIDE static void many_margins_##suffix(                                      \
        const skpar_outputs *o, const real *margins, const double *lengths,                        \
        const double *products, int n_before) {                                                    \
        const ptrdiff_t size = o->size;                                                            \
        MANY_EIGHT(size) o->p[c] = (double)margins[c];                                             \
        for (int m = 0; m < n_before; m++, lengths += size)                                        \
            MANY_EIGHT(size) o->p[c] += lengths[c] * products[m];                                  \
        MANY_EIGHT(size) o->p[c] = o->scale[c] * o->p[c] + o->intercept[c];                        \
    }                                                                                              \
    SKPAR_MAYBE SKPAR_WIDE static void many_rounded_##suffix(const double *from, ptrdiff_t size,   \
                                                             real *to) {                           \
        MANY_EIGHT(size) to[c] = (real)from[c];                                                    \
    }                                                                                              \
    /* average = (average + a w) / b, w = scale w */                                               \
    SKPAR_MAYBE SKPAR_WIDE static void many_fold_##suffix(const skpar_outputs *o, real *w,         \
                                                          real *average, ptrdiff_t n) {            \
        const ptrdiff_t size = o->size;                                                            \
        for (ptrdiff_t j = 0; j < n; j++, w += size) {                                             \
            if (average != NULL) {                                                                 \
                MANY_EIGHT(size) average[c] = (real)(((double)average[c] + o->average_a[c] * w[c]) \
                                                     / o->average_b[c]);                           \
                average += size;                                                                   \
            }                                                                                      \
            MANY_EIGHT(size) w[c] = (real)((double)w[c] * o->scale[c]);                            \
        }                                                                                          \
        MANY_EIGHT(size) o->scale[c] = 1.0;                                                        \
        if (average != NULL) MANY_EIGHT(size) o->average_a[c] = 0.0, o->average_b[c] = 1.0;        \
    }
MANY_MARGINS(double, f64)
MANY_MARGINS(float, f32)

/* update = -eta slope weight, the slope clipped as in `sgd`. */
SKPAR_MAYBE SKPAR_WIDE static void many_updates(const skpar_outputs *o, double eta,
                                                double weight) {
    const double most = 1e12;
    const ptrdiff_t size = o->size;
    MANY_EIGHT(size) {
        const double g = o->slope[c];
        const double clipped = g > most ? most : (g >= -most ? g : -most);
        o->update[c] = -(eta * o->ratio[c]) * clipped * weight;
    }
}

/* Shrink the scales by l2; returns the smallest. */
SKPAR_MAYBE SKPAR_WIDE static double many_shrink(const skpar_outputs *o, double amount) {
    double least = 1.0;
    const ptrdiff_t size = o->size;
    for (ptrdiff_t e = 0; e < size; e += 8) {
        _Pragma("omp simd reduction(min : least)") for (ptrdiff_t c = e; c < e + 8; c++) {
            o->scale[c] *= POSITIVE(1.0 - amount * o->ratio[c]);
            least = o->scale[c] < least ? o->scale[c] : least;
        }
    }
    return least;
}

/* length = update / scale; the intercepts move. Returns 0 where nothing did. */
SKPAR_MAYBE SKPAR_WIDE static double many_lengths(const skpar_outputs *o, double rate,
                                                  double *lengths) {
    double moved = 0.0;
    const ptrdiff_t size = o->size;
    for (ptrdiff_t e = 0; e < size; e += 8) {
        _Pragma("omp simd reduction(+ : moved)") for (ptrdiff_t c = e; c < e + 8; c++) {
            lengths[c] = o->update[c] / o->scale[c];
            o->intercept[c] += o->update[c] * rate;
            moved += fabs(o->update[c]);
        }
    }
    return moved;
}

/* The lazy average of `sgd` takes in one more iterate: `steps` are the lengths of its row. */
SKPAR_MAYBE SKPAR_WIDE static void many_average(const skpar_outputs *o, const double *lengths,
                                                double count, double *steps) {
    const ptrdiff_t size = o->size;
    const double grown = count > 1.0 ? 1.0 - 1.0 / count : 1.0;
    MANY_EIGHT(size) {
        const double live = o->ratio[c] != 0.0 ? 1.0 : 0.0;
        steps[c] = -o->average_a[c] * lengths[c];
        o->average_b[c] /= live != 0.0 ? grown : 1.0;
        o->average_a[c] += live * o->average_b[c] * o->scale[c] / count;
        o->average_intercept[c] += live * (o->intercept[c] - o->average_intercept[c]) / count;
    }
}

/* The cumulative l1 penalty on a row's weights (`truncate` of penalties.pxd), which is taken from
 * the averages too, where given: scikit-learn's leave it out. */
#define MANY_TRUNCATE(real, suffix, index, kind)                                                   \
    SKPAR_MAYBE SKPAR_WIDE static void many_truncate_##suffix##_##kind(                            \
        const skpar_outputs *o, const index *columns, ptrdiff_t n, real *weights, real *met,       \
        real *averages) {                                                                          \
        const ptrdiff_t size = o->size;                                                            \
        double moved[8];                                                                           \
        for (ptrdiff_t i = 0; i < n; i++) {                                                        \
            const ptrdiff_t j = (columns != NULL ? (ptrdiff_t)columns[i] : i) * size;              \
            for (ptrdiff_t e = 0; e < size; e += 8) {                                              \
                real *w = weights + j + e, *q = met + j + e;                                       \
                const double *total = o->l1_total + e, *scale = o->scale + e;                      \
                const double *ratio = o->ratio + e;                                                \
                _Pragma("omp simd") for (ptrdiff_t c = 0; c < 8; c++) {                            \
                    const double z = scale[c] * (double)w[c], had = (double)q[c];                  \
                    const double down = POSITIVE(z - (total[c] + had));                            \
                    const double up = 0.0 - POSITIVE(-(z + (total[c] - had)));                      \
                    const double cut = z > 0.0 ? down : (z < 0.0 ? up : z);                        \
                    const double after = ratio[c] != 0.0 ? cut : z;                                \
                    moved[c] = after - z;                                                          \
                    w[c] = after != z ? (real)(after / scale[c]) : w[c];                           \
                    q[c] += (real)(after - z);                                                     \
                }                                                                                  \
                if (averages != NULL) {                                                            \
                    real *average = averages + j + e;                                              \
                    _Pragma("omp simd") for (ptrdiff_t c = 0; c < 8; c++)                          \
                        average[c] -= (real)(o->average_a[e + c] * moved[c] / scale[c]);           \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }
MANY_TRUNCATE(double, f64, int32_t, i32)
MANY_TRUNCATE(double, f64, int64_t, i64)
MANY_TRUNCATE(float, f32, int32_t, i32)
MANY_TRUNCATE(float, f32, int64_t, i64)

SKPAR_MAYBE SKPAR_WIDE static void many_sum(const skpar_outputs *o, double weight) {
    const ptrdiff_t size = o->size;
    MANY_EIGHT(size) o->loss_sum[c] += weight * o->value[c];
}

/* Per output, the sums over the features of w^2 and |w|. */
#define MANY_NORMS(real, suffix)                                                                   \
    SKPAR_MAYBE SKPAR_WIDE static void many_norms_##suffix(                                        \
        const real *weights, ptrdiff_t n, ptrdiff_t size, double *squares, double *sizes) {        \
        for (ptrdiff_t j = 0; j < n; j++, weights += size) {                                       \
            MANY_EIGHT(size) {                                                                     \
                const double w = (double)weights[c];                                               \
                squares[c] += w * w;                                                               \
                sizes[c] += w < 0.0 ? -w : w;                                                      \
            }                                                                                      \
        }                                                                                          \
    }
MANY_NORMS(double, f64)
MANY_NORMS(float, f32)

/* A worker adds a share of what it learned since `snapshot` to weights that all write, and takes
 * over what the others did. `average` is lazy in w (see `sgd`), so it is told of the jump. */
#define MANY_MEET(real, suffix)                                                                    \
    SKPAR_MAYBE static void many_meet_##suffix(real *shared, real *weights, real *snapshot,        \
                                               ptrdiff_t n, ptrdiff_t size, double share,          \
                                               real *average, const double *average_a) {           \
        for (ptrdiff_t j = 0; j < n; j++) {                                                        \
            for (ptrdiff_t c = 0; c < size; c++) {                                                 \
                const ptrdiff_t i = j * size + c;                                                  \
                const real learned = weights[i] - snapshot[i];                                     \
                real v;                                                                            \
                SKPAR_LOAD(shared + i, &v);                                                        \
                v += (real)share * learned;                                                        \
                SKPAR_STORE(shared + i, &v);                                                       \
                if (average != NULL) average[i] -= (real)(average_a[c] * (v - weights[i]));        \
                weights[i] = snapshot[i] = v;                                                      \
            }                                                                                      \
        }                                                                                          \
    }
MANY_MEET(double, f64)
MANY_MEET(float, f32)

SKPAR_MAYBE static void many_penalise(const skpar_outputs *o, double amount) {
    for (ptrdiff_t c = 0; c < o->size; c++) o->l1_total[c] += amount * o->ratio[c];
}

#endif
