"""The sequential pass of many outputs: a row is read once and moves the weights of all.

Weights are laid out features x outputs. The order of operations in a step is that of `sgd`; the
outputs of a row have losses of their own, or are one softmax.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t

from skpar._kernels.ahead cimport AHEAD, Ahead, look_ahead, take
from skpar._kernels.outputs cimport Targets
from skpar._kernels.records cimport PA1, Order, Recipe, Rows, eta, pointer
from skpar._kernels.rows cimport dot_dense, index, real, skpar_prefetch_span, use_simd_level
from skpar._kernels.sgd cimport signed_aggressiveness

skpar_many_use(use_simd_level())

# Losses with a vector loop of their own in many.h, in the order of its enum.
KINDS = ("", "LogLoss", "Hinge", "SquaredHinge", "ModifiedHuber", "SquaredError", "Huber",
         "EpsilonInsensitive", "SquaredEpsilonInsensitive")
# As in `sgd`.
cdef double MIN_SCALE_F64 = 1e-9
cdef double MIN_SCALE_F32 = 1e-6


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


cdef void fold(Pass* s, Rows X, real* w) noexcept nogil:
    if real is double:
        many_fold_f64(&s.o, w, <real*>s.average, X.n_columns)
    else:
        many_fold_f32(&s.o, w, <real*>s.average, X.n_columns)
    s.least = 1.0


cdef void set_targets(Pass* s, Targets t, Py_ssize_t row) noexcept nogil:
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


cdef void find_slopes(Pass* s, Recipe r, Targets t, Py_ssize_t row) noexcept nogil:
    """The derivatives of the row's losses at the margins."""
    cdef Py_ssize_t c
    cdef double loss
    if s.softmax:
        s.place = t.codes[row]
        loss = softmax_row(s.o.k, s.o.p, s.place, s.o.slope)
        s.o.slope[s.place] -= 1.0
        if r.track_loss:
            s.o.loss_sum[0] += loss
        return
    set_targets(s, t, row)
    if s.kind:
        many_slopes(&s.o, s.kind, r.loss.parameter, r.track_loss)
        return
    for c in range(s.o.k):
        s.o.slope[c] = r.loss.gradient(s.o.y[c], s.o.p[c])
        if r.track_loss:
            s.o.loss_sum[c] += r.loss.value(s.o.y[c], s.o.p[c])


cdef bint find_aggressive_updates(
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


cdef void step_one(
    const real* x, const index* columns, Py_ssize_t n, Py_ssize_t row, Pass* s, Rows X, Targets t,
    Recipe r
) noexcept nogil:
    cdef double rate = eta(r, s.t)
    cdef double weight = t.weights[row] if t.weights != NULL else 1.0
    margins_of(x, columns, n, s)
    if r.schedule >= PA1:
        if not find_aggressive_updates(s, r, t, row, dot_dense(x, x, n), weight):
            return
    else:
        find_slopes(s, r, t, row)
        many_updates(&s.o, rate, weight)
    weigh_own_class(s, t)
    if r.l2 != 0.0:
        s.least = many_shrink(&s.o, r.l2 * rate)
        if s.least < s.smallest:
            fold(s, X, <real*>s.w)
    if many_lengths(&s.o, r.intercept_rate, s.lengths) != 0.0:
        add(x, columns, n, s.lengths, s, s.w)
    if s.average != NULL and 0 < r.average_from <= s.t:
        s.averaged += 1.0
        many_average(&s.o, s.lengths, s.averaged, s.steps)
        add(x, columns, n, s.steps, s, s.average)
    if r.l1 != 0.0:
        many_penalise(&s.o, r.l1 * rate)
        truncate_row(columns, n, s, <real*>s.w)
    s.t += 1.0


cdef void step_four(
    const real** x, const Py_ssize_t* rows, Pass* s, Rows X, Targets t, Recipe r
) noexcept nogil:
    """Four steps of `step_one` that read and write the weights once: see `sgd.step_four`."""
    cdef double[6] products
    cdef double rate, weight, moved = 0.0
    cdef Py_ssize_t size = s.o.size
    cdef real* margins = <real*>s.margins
    cdef double* lengths
    cdef bint averaged = False
    cdef int k
    if s.least < 1e4 * MIN_SCALE_F32:
        fold(s, X, <real*>s.w)
    if real is double:
        skpar_many_f64.four(x, X.n_columns, <real*>s.w, size, margins)
        skpar_many_f64.products(x, X.n_columns, products)
    else:
        skpar_many_f32.four(x, X.n_columns, <real*>s.w, size, margins)
        skpar_many_f32.products(x, X.n_columns, products)
    for k in range(4):
        rate = eta(r, s.t)
        weight = t.weights[rows[k]] if t.weights != NULL else 1.0
        lengths = s.lengths + k * size
        if real is double:
            many_margins_f64(&s.o, margins + k * size, s.lengths, products + k * (k - 1) // 2, k)
        else:
            many_margins_f32(&s.o, margins + k * size, s.lengths, products + k * (k - 1) // 2, k)
        find_slopes(s, r, t, rows[k])
        many_updates(&s.o, rate, weight)
        weigh_own_class(s, t)
        if r.l2 != 0.0:
            s.least = many_shrink(&s.o, r.l2 * rate)
        moved += many_lengths(&s.o, r.intercept_rate, lengths)
        if s.average != NULL and 0 < r.average_from <= s.t:
            averaged = True
            s.averaged += 1.0
            many_average(&s.o, lengths, s.averaged, s.steps + k * size)
        elif s.average != NULL:
            zero(s.steps + k * size, size)
        s.t += 1.0
    if moved != 0.0:
        add_four(x, X.n_columns, s.lengths, s, s.w)
    if averaged:
        add_four(x, X.n_columns, s.steps, s, s.average)


cdef inline void zero(double* a, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(n):
        a[c] = 0.0


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


cdef void pass_blocks(
    const real* x, const index* columns, Rows X, Targets t, Order order, Pass* s, Recipe r,
    Py_ssize_t lo, Py_ssize_t hi
) noexcept nogil:
    """Blocks lo to hi of the order, one row after another."""
    cdef const real* four[4]
    cdef Py_ssize_t[4] rows
    cdef Py_ssize_t i, k
    cdef Ahead a
    look_ahead(&a, x, columns, X, order, lo, hi)
    if not X.sparse and r.schedule < PA1 and r.l1 == 0.0 and r.l2 * eta(r, s.t) < 0.1:
        while a.left >= 4:
            for k in range(4):
                rows[k] = next_row(&a, x, columns, X, order, t)
                four[k] = x + rows[k] * X.n_columns
            step_four(four, rows, s, X, t, r)
    while a.left > 0:
        i = next_row(&a, x, columns, X, order, t)
        if X.sparse:
            step_one(x + X.starts[i], columns + X.starts[i], X.starts[i + 1] - X.starts[i], i, s,
                     X, t, r)
        else:
            step_one(x + i * X.n_columns, <const index*>NULL, X.n_columns, i, s, X, t, r)


cdef void* place(array, dtype, Py_ssize_t size) except? NULL:
    if array is None:
        return NULL
    if array.dtype != dtype or array.size != size:
        raise ValueError(f"kernels need {size} contiguous numbers of {dtype}")
    return pointer(array)


def run_many(Rows X, Targets t, Order order, state, Recipe r, Py_ssize_t lo, Py_ssize_t hi,
             bint softmax=False):
    """Blocks lo to hi of the order, one row after another, without the GIL; `state` a ManyState."""
    cdef Pass s
    cdef skpar_outputs* o = &s.o
    dtype = np.dtype(np.float64 if X.is_double else np.float32)
    o.k, o.size = state.k, state.w.shape[1]
    if t.n != X.n_rows or t.k != o.k or o.size % 8 or (softmax and t.codes == NULL):
        raise ValueError("the targets do not fit the rows and weights")
    if r.l1 != 0.0 and state.received is None:
        raise ValueError("the l1 penalty needs `received`")
    cdef Py_ssize_t numbers = X.n_columns * o.size
    s.w, s.received = place(state.w, dtype, numbers), place(state.received, dtype, numbers)
    s.average = place(state.average, dtype, numbers)
    vectors = state.vectors
    cdef double* v = <double*>place(vectors, np.dtype(np.float64), 8 * o.size)
    o.scale, o.intercept, o.ratio = v, v + o.size, v + 2 * o.size
    o.average_a, o.average_b = v + 3 * o.size, v + 4 * o.size
    o.average_intercept, o.l1_total, o.loss_sum = v + 5 * o.size, v + 6 * o.size, v + 7 * o.size
    work, rounded = np.zeros(12 * o.size), np.zeros((8, o.size), dtype)
    v = <double*>pointer(work)
    o.y, o.p, o.slope, o.update = v, v + o.size, v + 2 * o.size, v + 3 * o.size
    s.lengths, s.steps = v + 4 * o.size, v + 8 * o.size
    s.margins, s.rounded = pointer(rounded[:4]), pointer(rounded[4:])
    s.t, s.averaged, s.least, s.place = state.t, state.averaged, vectors[0].min(), -1
    s.smallest = MIN_SCALE_F64 if X.is_double else MIN_SCALE_F32
    s.softmax, s.kind = softmax, KINDS.index(r.loss.name) if r.loss.name in KINDS else 0
    s.negative = 0.0 if r.loss.name == "LogLoss" else -1.0
    work[:o.size] = s.negative
    s.places = NULL
    if t.codes != NULL and not softmax:
        s.places = <const int64_t*>pointer(state.places)
    with nogil:
        dispatch(X, t, order, &s, r, lo, hi)
    state.t, state.averaged = s.t, s.averaged


cdef void dispatch(
    Rows X, Targets t, Order order, Pass* s, Recipe r, Py_ssize_t lo, Py_ssize_t hi
) noexcept nogil:
    if X.is_double:
        if X.wide:
            pass_blocks(<const double*>X.values, <const int64_t*>X.columns, X, t, order, s, r, lo, hi)
        else:
            pass_blocks(<const double*>X.values, <const int32_t*>X.columns, X, t, order, s, r, lo, hi)
    elif X.wide:
        pass_blocks(<const float*>X.values, <const int64_t*>X.columns, X, t, order, s, r, lo, hi)
    else:
        pass_blocks(<const float*>X.values, <const int32_t*>X.columns, X, t, order, s, r, lo, hi)
