"""What `many` has from many.h, and what a pass knows."""

cdef extern from *:
    # Before rows.h comes in, by whatever cimport: it brings the primitives of many_level.h.
    """
    #define SKPAR_MANY
    """

from cpython.pythread cimport PyThread_acquire_lock, PyThread_release_lock, PyThread_type_lock
from libc.stdint cimport int32_t, int64_t

from skpar._kernels.ahead cimport AHEAD, Ahead, take
from skpar._kernels.outputs cimport Targets
from skpar._kernels.records cimport Order, Recipe, Rows
from skpar._kernels.rows cimport index, real, skpar_prefetch_span
from skpar._kernels.sgd cimport signed_aggressiveness

cdef extern from "many.h" nogil:
    ctypedef struct skpar_outputs:
        Py_ssize_t k, size
        double *scale
        double *intercept
        double *ratio
        double *average_a
        double *average_b
        double *average_intercept
        double *l1_total
        double *loss_sum
        double *y
        double *p
        double *slope
        double *value
        double *update

    ctypedef struct table_f64 "skpar_many_f64_table":
        void (*one_i32)(const double*, const int32_t*, Py_ssize_t, const double*, Py_ssize_t,
                        double*) noexcept nogil
        void (*one_i64)(const double*, const int64_t*, Py_ssize_t, const double*, Py_ssize_t,
                        double*) noexcept nogil
        void (*add_i32)(const double*, const int32_t*, Py_ssize_t, const double*, Py_ssize_t,
                        double*) noexcept nogil
        void (*add_i64)(const double*, const int64_t*, Py_ssize_t, const double*, Py_ssize_t,
                        double*) noexcept nogil
        void (*four)(const double**, Py_ssize_t, const double*, Py_ssize_t, double*) noexcept nogil
        void (*add_four)(const double**, Py_ssize_t, const double*, Py_ssize_t,
                         double*) noexcept nogil
        void (*products)(const double**, Py_ssize_t, double*) noexcept nogil

    ctypedef struct table_f32 "skpar_many_f32_table":
        void (*one_i32)(const float*, const int32_t*, Py_ssize_t, const float*, Py_ssize_t,
                        float*) noexcept nogil
        void (*one_i64)(const float*, const int64_t*, Py_ssize_t, const float*, Py_ssize_t,
                        float*) noexcept nogil
        void (*add_i32)(const float*, const int32_t*, Py_ssize_t, const float*, Py_ssize_t,
                        float*) noexcept nogil
        void (*add_i64)(const float*, const int64_t*, Py_ssize_t, const float*, Py_ssize_t,
                        float*) noexcept nogil
        void (*four)(const float**, Py_ssize_t, const float*, Py_ssize_t, float*) noexcept nogil
        void (*add_four)(const float**, Py_ssize_t, const float*, Py_ssize_t,
                         float*) noexcept nogil
        void (*products)(const float**, Py_ssize_t, double*) noexcept nogil

    table_f64 skpar_many_f64
    table_f32 skpar_many_f32
    void skpar_many_use(const char*)
    double softmax_row(Py_ssize_t, const double*, Py_ssize_t, double*)
    void many_slopes(const skpar_outputs*, int, double, int)
    void many_updates(const skpar_outputs*, double, double)
    double many_shrink(const skpar_outputs*, double)
    double many_lengths(const skpar_outputs*, double, double*)
    void many_average(const skpar_outputs*, const double*, double, double*)
    void many_sum(const skpar_outputs*, double)
    void many_norms_f64(const double*, Py_ssize_t, Py_ssize_t, double*, double*)
    void many_norms_f32(const float*, Py_ssize_t, Py_ssize_t, double*, double*)
    void many_meet_f64(double*, double*, double*, Py_ssize_t, Py_ssize_t, double, double*,
                       const double*)
    void many_meet_f32(float*, float*, float*, Py_ssize_t, Py_ssize_t, double, float*,
                       const double*)
    void many_penalise(const skpar_outputs*, double)
    void many_margins_f64(const skpar_outputs*, const double*, const double*, const double*, int)
    void many_margins_f32(const skpar_outputs*, const float*, const double*, const double*, int)
    void many_rounded_f64(const double*, Py_ssize_t, double*)
    void many_rounded_f32(const double*, Py_ssize_t, float*)
    void many_fold_f64(const skpar_outputs*, double*, double*, Py_ssize_t)
    void many_fold_f32(const skpar_outputs*, float*, float*, Py_ssize_t)
    void many_truncate_f64_i32(const skpar_outputs*, const int32_t*, Py_ssize_t, double*, double*,
                               double*)
    void many_truncate_f64_i64(const skpar_outputs*, const int64_t*, Py_ssize_t, double*, double*,
                               double*)
    void many_truncate_f32_i32(const skpar_outputs*, const int32_t*, Py_ssize_t, float*, float*,
                               float*)
    void many_truncate_f32_i64(const skpar_outputs*, const int64_t*, Py_ssize_t, float*, float*,
                               float*)

cdef struct Pass:
    skpar_outputs o
    void* w
    void* received
    void* average
    double t, averaged, negative
    double least, smallest  # of the scales: the least now, and where they are folded in
    int kind
    bint softmax, looks  # whether to look at the losses and leave the weights alone
    const int64_t* places  # of each class its output, -1 for none
    Py_ssize_t place  # of the row's class
    # room for four rows: margins, lengths of the steps, those of the average, as they are added
    void* margins
    double* lengths
    double* steps
    void* rounded
    # shared weights, intercepts and l1 received, and what was in them at the last meeting
    void* shared_w[2]
    void* shared_received[2]
    double* shared_intercept[2]
    Py_ssize_t meet_rows, since  # 0 rows where nothing is shared
    double share
    PyThread_type_lock lock


cdef inline void margins_of(
    const real* x, const index* columns, Py_ssize_t n, Pass* s
) noexcept nogil:
    if real is double:
        if index is int32_t:
            skpar_many_f64.one_i32(x, columns, n, <real*>s.w, s.o.size, <real*>s.margins)
        else:
            skpar_many_f64.one_i64(x, columns, n, <real*>s.w, s.o.size, <real*>s.margins)
        many_margins_f64(&s.o, <real*>s.margins, s.lengths, NULL, 0)
    else:
        if index is int32_t:
            skpar_many_f32.one_i32(x, columns, n, <real*>s.w, s.o.size, <real*>s.margins)
        else:
            skpar_many_f32.one_i64(x, columns, n, <real*>s.w, s.o.size, <real*>s.margins)
        many_margins_f32(&s.o, <real*>s.margins, s.lengths, NULL, 0)


cdef inline void add(
    const real* x, const index* columns, Py_ssize_t n, const double* lengths, Pass* s, void* to
) noexcept nogil:
    if real is double:
        many_rounded_f64(lengths, s.o.size, <real*>s.rounded)
        if index is int32_t:
            skpar_many_f64.add_i32(x, columns, n, <real*>s.rounded, s.o.size, <real*>to)
        else:
            skpar_many_f64.add_i64(x, columns, n, <real*>s.rounded, s.o.size, <real*>to)
    else:
        many_rounded_f32(lengths, s.o.size, <real*>s.rounded)
        if index is int32_t:
            skpar_many_f32.add_i32(x, columns, n, <real*>s.rounded, s.o.size, <real*>to)
        else:
            skpar_many_f32.add_i64(x, columns, n, <real*>s.rounded, s.o.size, <real*>to)


cdef inline void add_four(
    const real** x, Py_ssize_t n, const double* lengths, Pass* s, void* to
) noexcept nogil:
    if real is double:
        many_rounded_f64(lengths, 4 * s.o.size, <real*>s.rounded)
        skpar_many_f64.add_four(x, n, <real*>s.rounded, s.o.size, <real*>to)
    else:
        many_rounded_f32(lengths, 4 * s.o.size, <real*>s.rounded)
        skpar_many_f32.add_four(x, n, <real*>s.rounded, s.o.size, <real*>to)


cdef inline void truncate_row(const index* columns, Py_ssize_t n, Pass* s, real* w) noexcept nogil:
    # The softmax's average is that of the weights; those of scikit-learn's one-vs-rest leave
    # out what the penalty takes.
    cdef void* average = s.average if s.softmax else NULL
    if real is double:
        if index is int32_t:
            many_truncate_f64_i32(&s.o, columns, n, w, <real*>s.received, <real*>average)
        else:
            many_truncate_f64_i64(&s.o, columns, n, w, <real*>s.received, <real*>average)
    else:
        if index is int32_t:
            many_truncate_f32_i32(&s.o, columns, n, w, <real*>s.received, <real*>average)
        else:
            many_truncate_f32_i64(&s.o, columns, n, w, <real*>s.received, <real*>average)


cdef inline void fold(Pass* s, Rows X, real* w) noexcept nogil:
    if real is double:
        many_fold_f64(&s.o, w, <real*>s.average, X.n_columns)
    else:
        many_fold_f32(&s.o, w, <real*>s.average, X.n_columns)
    s.least = 1.0


cdef inline void set_targets(Pass* s, Targets t, Py_ssize_t row) noexcept nogil:
    cdef Py_ssize_t c
    if t.codes != NULL:
        if s.place >= 0:
            s.o.y[s.place] = s.negative
        s.place = s.places[t.codes[row]]
        if s.place >= 0:
            s.o.y[s.place] = 1.0
    else:
        for c in range(s.o.k):
            s.o.y[c] = t.values[row * s.o.k + c]


cdef inline void weigh_own_class(Pass* s, Targets t) noexcept nogil:
    """The row's class weighs its own output in one-vs-rest, all of them in a softmax."""
    cdef Py_ssize_t c
    cdef double factor
    if s.place < 0:
        return
    factor = t.factors[s.place]
    if factor == 1.0:
        return
    if not s.softmax:
        s.o.update[s.place] *= factor
        return
    for c in range(s.o.k):
        s.o.update[c] *= factor


cdef inline void zero(double* a, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(n):
        a[c] = 0.0


cdef inline void meet(Pass* s, Rows X, real* w) noexcept nogil:
    """Add to the shared weights what was learned since the last meeting; take over the rest."""
    cdef Py_ssize_t n = X.n_columns, size = s.o.size
    cdef real* shared = <real*>s.shared_w[0]
    cdef real* seen = <real*>s.shared_w[1]
    cdef real* received = <real*>s.received
    cdef double a = s.share
    s.since = 0
    if s.lock != NULL:
        PyThread_acquire_lock(s.lock, 1)
    many_meet_f64(s.shared_intercept[0], s.o.intercept, s.shared_intercept[1], 1, size, a,
                  NULL, NULL)
    if real is double:
        many_meet_f64(shared, w, seen, n, size, a, <real*>s.average, s.o.average_a)
        if received != NULL:
            many_meet_f64(<real*>s.shared_received[0], received, <real*>s.shared_received[1], n,
                          size, a, NULL, NULL)
    else:
        many_meet_f32(shared, w, seen, n, size, a, <real*>s.average, s.o.average_a)
        if received != NULL:
            many_meet_f32(<real*>s.shared_received[0], received, <real*>s.shared_received[1], n,
                          size, a, NULL, NULL)
    if s.lock != NULL:
        PyThread_release_lock(s.lock)


cdef inline Py_ssize_t next_row(
    Ahead* a, const real* x, const index* columns, Rows X, Order order, Targets t
) noexcept nogil:
    cdef Py_ssize_t row = take(a, x, columns, X, order)
    cdef Py_ssize_t later = a.rows[(a.head + AHEAD - 1) % AHEAD]
    if later >= 0 and t.codes != NULL:
        skpar_prefetch_span(t.codes + later, sizeof(int64_t))
    elif later >= 0:
        skpar_prefetch_span(t.values + later * t.k, t.k * sizeof(double))
    return row


cdef inline bint find_aggressive_updates(
    Pass* s, Recipe r, Targets t, Py_ssize_t row, double norm, double weight
) noexcept nogil:
    """The passive-aggressive steps; False for a row to skip."""
    cdef Py_ssize_t c
    cdef double step = 1.0
    set_targets(s, t, row)
    for c in range(s.o.k):
        if r.track_loss:
            s.o.loss_sum[c] += r.loss.value(s.o.y[c], s.o.p[c])
        s.o.update[c] = signed_aggressiveness(r, s.o.y[c], s.o.p[c], norm, &step)
        s.o.update[c] *= weight * s.o.ratio[c]
    return step != 0.0
