"""The sequential pass of many outputs: a row is read once and moves the weights of all.

Weights are laid out features x outputs. The order of operations in a step is that of `sgd`; the
outputs of a row have losses of their own, or are one softmax.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t

from skpar._kernels.ahead cimport Ahead, look_ahead
from skpar._kernels.arrays cimport doubles, pointer, reals, reals_or_null
from skpar._kernels.outputs cimport Targets
from skpar._kernels.records cimport PA1, Order, Recipe, Rows, eta
from skpar._kernels.rows cimport dot_dense, index, real, use_simd_level
from skpar._kernels.shared cimport Lock

skpar_many_use(use_simd_level())

# Losses with a vector loop of their own in many.h, in the order of its enum.
KINDS = ("", "LogLoss", "Hinge", "SquaredHinge", "ModifiedHuber", "SquaredError", "Huber",
         "EpsilonInsensitive", "SquaredEpsilonInsensitive")
# As in `sgd`.
cdef double MIN_SCALE_F64 = 1e-9
cdef double MIN_SCALE_F32 = 1e-6


cdef void find_slopes(Pass* s, Recipe r, Targets t, Py_ssize_t row, bint valued) noexcept nogil:
    """The derivatives of the row's losses at the margins, and with `valued` their values."""
    cdef Py_ssize_t c
    if s.softmax:
        s.place = t.codes[row]
        s.o.value[0] = softmax_row(s.o.k, s.o.p, s.place, s.o.slope)
        s.o.slope[s.place] -= 1.0
        return
    set_targets(s, t, row)
    if s.kind:
        many_slopes(&s.o, s.kind, r.loss.parameter, valued)
        return
    for c in range(s.o.k):
        s.o.slope[c] = r.loss.gradient(s.o.y[c], s.o.p[c])
        if valued:
            s.o.value[c] = r.loss.value(s.o.y[c], s.o.p[c])


cdef void find_updates(
    Pass* s, Recipe r, Targets t, Py_ssize_t row, double rate, double weight
) noexcept nogil:
    find_slopes(s, r, t, row, r.track_loss)
    if r.track_loss:
        many_sum(&s.o, 1.0)
    many_updates(&s.o, rate, weight)


cdef void add_losses(Pass* s, Recipe r, Targets t, Py_ssize_t row) noexcept nogil:
    """The row's weighted losses, for the objective."""
    cdef double weight = t.weights[row] if t.weights != NULL else 1.0
    find_slopes(s, r, t, row, True)
    if s.place >= 0:
        s.o.value[0 if s.softmax else s.place] *= t.factors[s.place]
    if weight != 0.0:  # a row of no weight may have a loss that overflows
        many_sum(&s.o, weight)


cdef void step_one(
    const real* x, const index* columns, Py_ssize_t n, Py_ssize_t row, Pass* s, Rows X, Targets t,
    Recipe r
) noexcept nogil:
    cdef double rate = eta(r, s.t)
    cdef double weight = t.weights[row] if t.weights != NULL else 1.0
    margins_of(x, columns, n, s)
    if s.looks:
        add_losses(s, r, t, row)
        return
    if r.schedule >= PA1:
        if not find_aggressive_updates(s, r, t, row, dot_dense(x, x, n), weight):
            return
    else:
        find_updates(s, r, t, row, rate, weight)
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
    if s.least < 1e4 * MIN_SCALE_F32 and not s.looks:
        fold(s, X, <real*>s.w)
    if real is double:
        skpar_many_f64.four(x, X.n_columns, <real*>s.w, size, margins)
        if not s.looks:
            skpar_many_f64.products(x, X.n_columns, products)
    else:
        skpar_many_f32.four(x, X.n_columns, <real*>s.w, size, margins)
        if not s.looks:
            skpar_many_f32.products(x, X.n_columns, products)
    for k in range(4):
        rate = eta(r, s.t)
        weight = t.weights[rows[k]] if t.weights != NULL else 1.0
        lengths = s.lengths + k * size
        if real is double:
            many_margins_f64(&s.o, margins + k * size, s.lengths, products + k * (k - 1) // 2,
                             0 if s.looks else k)
        else:
            many_margins_f32(&s.o, margins + k * size, s.lengths, products + k * (k - 1) // 2,
                             0 if s.looks else k)
        if s.looks:
            add_losses(s, r, t, rows[k])
            continue
        find_updates(s, r, t, rows[k], rate, weight)
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
    if not X.sparse and (
        s.looks or (r.schedule < PA1 and r.l1 == 0.0 and r.l2 * eta(r, s.t) < 0.1)
    ):
        while a.left >= 4:
            for k in range(4):
                rows[k] = next_row(&a, x, columns, X, order, t)
                four[k] = x + rows[k] * X.n_columns
            step_four(four, rows, s, X, t, r)
            s.since += 4
            if 0 < s.meet_rows <= s.since:
                meet(s, X, <real*>s.w)
    while a.left > 0:
        i = next_row(&a, x, columns, X, order, t)
        if X.sparse:
            step_one(x + X.starts[i], columns + X.starts[i], X.starts[i + 1] - X.starts[i], i, s,
                     X, t, r)
        else:
            step_one(x + i * X.n_columns, <const index*>NULL, X.n_columns, i, s, X, t, r)
        s.since += 1
        if 0 < s.meet_rows <= s.since:
            meet(s, X, <real*>s.w)
    if s.meet_rows and s.since:
        meet(s, X, <real*>s.w)


def run_many(Rows X, Targets t, Order order, state, Recipe r, Py_ssize_t lo, Py_ssize_t hi,
             bint softmax=False):
    """Blocks lo to hi of the order, one row after another, without the GIL; `state` a ManyState."""
    if r.l1 != 0.0 and state.received is None:
        raise ValueError("the l1 penalty needs `received`")
    pass_many(X, t, order, state, r, (lo, hi), softmax, False)


def look_many(Rows X, Targets t, Order order, state, Recipe r, Py_ssize_t lo, Py_ssize_t hi,
              bint softmax=False):
    """The sum of the weighted losses of each output (of a softmax one) over blocks lo to hi."""
    vectors = state.vectors.copy()
    vectors[7] = 0.0
    pass_many(X, t, order, state, r, (lo, hi), softmax, True, vectors)
    return vectors[7, :1 if softmax else state.k]


cdef pass_many(Rows X, Targets t, Order order, state, Recipe r, span, bint softmax, bint looks,
               vectors=None):
    cdef Pass s
    cdef skpar_outputs* o = &s.o
    cdef Py_ssize_t lo = span[0], hi = span[1]
    dtype = np.dtype(np.float64 if X.is_double else np.float32)
    vectors = state.vectors if vectors is None else vectors
    o.k, o.size = state.k, state.w.shape[1]
    if t.n != X.n_rows or t.k != o.k or o.size % 8 or (softmax and t.codes == NULL):
        raise ValueError("the targets do not fit the rows and weights")
    cdef Py_ssize_t numbers = X.n_columns * o.size
    s.w = reals(state.w, X.is_double, numbers)
    s.received = reals_or_null(state.received, X.is_double, numbers)
    s.average = reals_or_null(state.average, X.is_double, numbers)
    cdef double* v = doubles(vectors, 8 * o.size)
    o.scale, o.intercept, o.ratio = v, v + o.size, v + 2 * o.size
    o.average_a, o.average_b = v + 3 * o.size, v + 4 * o.size
    o.average_intercept, o.l1_total, o.loss_sum = v + 5 * o.size, v + 6 * o.size, v + 7 * o.size
    work, rounded = np.zeros((13, o.size)), np.zeros((8, o.size), dtype)
    v = doubles(work, 13 * o.size)
    o.y, o.p, o.slope, o.value = v, v + o.size, v + 2 * o.size, v + 3 * o.size
    o.update, s.lengths, s.steps = v + 4 * o.size, v + 5 * o.size, v + 9 * o.size
    s.margins, s.rounded = pointer(rounded[:4]), pointer(rounded[4:])
    s.t, s.averaged, s.least, s.place = state.t, state.averaged, vectors[0].min(), -1
    s.smallest = MIN_SCALE_F64 if X.is_double else MIN_SCALE_F32
    s.softmax, s.looks = softmax, looks
    s.kind = KINDS.index(r.loss.name) if r.loss.name in KINDS else 0
    s.negative = 0.0 if r.loss.name == "LogLoss" else -1.0
    work[0] = s.negative
    s.places = NULL
    if t.codes != NULL and not softmax:
        s.places = <const int64_t*>pointer(state.places)
    meeting = None if looks else state.meeting
    s.meet_rows, s.since, s.lock = 0, 0, NULL
    if meeting is not None:
        join(&s, meeting, X.is_double, numbers)
    with nogil:
        dispatch(X, t, order, &s, r, lo, hi)
    if not looks:
        state.t, state.averaged = s.t, s.averaged


cdef join(Pass* s, meeting, bint is_double, Py_ssize_t numbers):
    """Where the pass meets other workers: at `rows`, `share` and `lock` of a Meeting."""
    for k, state in enumerate((meeting.shared, meeting.snapshot)):
        s.shared_w[k] = reals(state.w, is_double, numbers)
        s.shared_received[k] = reals_or_null(state.received, is_double, numbers)
        s.shared_intercept[k] = doubles(state.vectors, 8 * s.o.size) + s.o.size
    s.meet_rows, s.share = meeting.rows, meeting.share
    if meeting.lock is not None:
        s.lock = (<Lock>meeting.lock).handle


def norms_many(w):
    """(sums of squares, sums of absolute values) of the columns of a C-contiguous matrix."""
    cdef Py_ssize_t n = w.shape[0], size = w.shape[1]
    sums = np.zeros((2, size))
    cdef double* squares = doubles(sums, 2 * size)
    cdef bint is_double = w.dtype == np.float64
    cdef void* weights = reals(w, is_double, n * size)
    if size % 8:
        raise ValueError("kernels need rows of a multiple of 8 numbers")
    with nogil:
        if is_double:
            many_norms_f64(<double*>weights, n, size, squares, squares + size)
        else:
            many_norms_f32(<float*>weights, n, size, squares, squares + size)
    return sums


cdef void dispatch(
    Rows X, Targets t, Order order, Pass* s, Recipe r, Py_ssize_t lo, Py_ssize_t hi
) noexcept nogil:
    cdef const int64_t* wide = <const int64_t*>X.columns
    cdef const int32_t* narrow = <const int32_t*>X.columns
    if X.is_double:
        if X.wide:
            pass_blocks(<const double*>X.values, wide, X, t, order, s, r, lo, hi)
        else:
            pass_blocks(<const double*>X.values, narrow, X, t, order, s, r, lo, hi)
    elif X.wide:
        pass_blocks(<const float*>X.values, wide, X, t, order, s, r, lo, hi)
    else:
        pass_blocks(<const float*>X.values, narrow, X, t, order, s, r, lo, hi)
