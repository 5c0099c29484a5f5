"""The sequential pass over a list of rows.

The pass does not know that it is parallel: it reads rows in a given order and writes the
weights of one `State`.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t

from skpar._kernels.ahead cimport Ahead, look_ahead, take
from skpar._kernels.penalties cimport truncate
from skpar._kernels.records cimport PA1, Order, Recipe, Rows, State, eta, fold
from skpar._kernels.rows cimport (
    axpy4_dense,
    axpy_dense,
    axpy_sparse,
    dot_dense,
    dot_sparse,
    gram4_dense,
    index,
    real,
    use_simd_level,
)

use_simd_level()

# A gradient beyond this overflows soon after; scikit-learn clips at the same value.
cdef double MAX_GRADIENT = 1e12
cdef double EXPANSION_REACH = 0.0625
# Below this the scale factor of the weights is folded in, before it underflows.
cdef double MIN_SCALE_F64 = 1e-9
cdef double MIN_SCALE_F32 = 1e-6


cdef double signed_aggressiveness(
    Recipe r, double y, double p, double norm, double* step
) noexcept nogil:
    """The passive-aggressive step (Crammer et al. 2006); `step` is 0 for a row to skip."""
    cdef double loss = r.loss.value(y, p)
    step[0] = 1.0
    if r.schedule == PA1:
        if norm == 0.0:
            step[0] = 0.0
            return 0.0
        loss = min(r.eta0, loss / norm)
    else:
        loss = loss / (norm + 0.5 / r.eta0)
    if r.signed_by_target:
        return loss * y
    return -loss if y - p < 0.0 else loss


cdef double clipped_gradient(Recipe r, double y, double p) noexcept nogil:
    cdef double g = r.loss.gradient(y, p)
    if -MAX_GRADIENT <= g <= MAX_GRADIENT:
        return g
    return MAX_GRADIENT if g > 0.0 else -MAX_GRADIENT


cdef void shrink(real* w, State s, double factor, Py_ssize_t n) noexcept nogil:
    cdef double smallest = MIN_SCALE_F64
    if real is float:
        smallest = MIN_SCALE_F32
    s.scale *= factor if factor > 0.0 else 0.0
    if s.scale < smallest:
        fold[real](w, s, n)


cdef void truncate_row(
    real* w, const index* columns, State s, Py_ssize_t n
) noexcept nogil:
    """Apply the cumulative l1 penalty to the coordinates of one row (all, where dense)."""
    cdef real* received = <real*>s.received_ptr
    cdef Py_ssize_t k, j
    cdef double before, after
    for k in range(n):
        j = columns[k] if columns != NULL else k
        before = s.scale * w[j]
        after = truncate(before, s.l1_total, received[j])
        if after != before:
            w[j] = <real>(after / s.scale)
            received[j] += <real>(after - before)


cdef void average_row(
    const real* x, const index* columns, State s, double update, Py_ssize_t n, double count
) noexcept nogil:
    """The average over iterates at the cost of a row (Bottou 2012, section 5.1)."""
    cdef real* average = <real*>s.average_ptr
    cdef real step = <real>(-s.average_a * update / s.scale)
    if step != 0.0:
        if columns != NULL:
            axpy_sparse(step, x, columns, average, n)
        else:
            axpy_dense(step, x, average, n)
    if count > 1.0:
        s.average_b /= 1.0 - 1.0 / count
    s.average_a += s.average_b * s.scale / count
    s.average_intercept += (s.intercept - s.average_intercept) / count


cdef void step_row(
    real* w, const real* x, const index* columns, Py_ssize_t n, Rows X, Py_ssize_t i, State s,
    Recipe r
) noexcept nogil:
    """One row's update of one state, in scikit-learn's order of operations."""
    cdef double y = X.targets[i]
    cdef double step = eta(r, s.t)
    cdef double counts = 1.0
    cdef double p, update
    if columns != NULL:
        p = s.scale * dot_sparse(x, columns, w, n) + s.intercept
    else:
        p = s.scale * dot_dense(x, w, n) + s.intercept
    if r.track_loss:
        s.loss_sum += r.loss.value(y, p)
    if r.schedule >= PA1:
        update = signed_aggressiveness(r, y, p, dot_dense(x, x, n), &counts)
        if counts == 0.0:
            return
    else:
        update = -step * clipped_gradient(r, y, p)
    if X.weights != NULL:
        update *= X.weights[i]
    if r.l2 != 0.0:
        shrink(w, s, 1.0 - r.l2 * step, X.n_columns)
    if update != 0.0:
        if columns != NULL:
            axpy_sparse(<real>(update / s.scale), x, columns, w, n)
        else:
            axpy_dense(<real>(update / s.scale), x, w, n)
        s.intercept += update * r.intercept_rate
    if s.average_ptr != NULL and 0 < r.average_from <= s.t:
        s.averaged += 1.0
        average_row(x, columns, s, update, n, s.averaged)
    if r.l1 != 0.0:
        s.l1_total += r.l1 * step
        if s.received_ptr != NULL:
            truncate_row(w, columns, s, n)
    s.t += 1.0


cdef inline bint steps_in_fours(Rows X, State s, Recipe r) noexcept nogil:
    """Whether four serial steps may share one reading of the weights (`step_four`)."""
    return (
        not X.sparse and r.schedule < PA1 and s.received_ptr == NULL
        and r.l2 * eta(r, s.t) < 0.1
    )


cdef void step_four(
    real* w, const real** x, const Py_ssize_t* rows, Rows X, State s, Recipe r
) noexcept nogil:
    """Four steps of `step_row`, one after another, that read and write the weights once.

    What step m does to the margin of a later row k is its length times x_m.x_k, so the margins
    follow from the products of the four rows with each other. The result is that of four single
    steps up to rounding.

    A margin waits for the step before it, so little stands between the two: all that does not
    depend on the step is computed before, and where the three steps before have moved a margin
    by no more than EXPANSION_REACH, a loss with an exponential gives its gradient by its Taylor
    series at the margin of before (to 1e-9: rounding, for weights that learn from noise).
    """
    cdef double[10] products
    cdef double[20] series
    cdef double[4] updates, inverse, before
    cdef double* c = series
    cdef bint expands = r.loss.expands
    cdef real[4] lengths
    cdef double p, step, moved, update = 0.0
    cdef double scale = s.scale, intercept = s.intercept, t = s.t
    cdef const double* row = products + 4
    cdef int k, m
    if scale < 1e4 * MIN_SCALE_F32:
        fold(w, s, X.n_columns)
        scale = 1.0
    gram4_dense(x, w, <const real*>NULL, X.n_columns, products)
    if expands:
        for k in range(4):
            before[k] = scale * products[k] + intercept
            r.loss.expand(X.targets[rows[k]], before[k], series + 5 * k)
    for k in range(4):
        step = eta(r, t)
        # Everything but the last step's effect, and the factor of that effect.
        p = products[k]
        for m in range(k - 1):
            p += updates[m] * inverse[m] * row[m]
        p = scale * p + intercept
        if k > 0:
            p += update * (scale * inverse[k - 1] * row[k - 1] + r.intercept_rate)
            intercept += update * r.intercept_rate
        row += k
        if r.track_loss:
            s.loss_sum += r.loss.value(X.targets[rows[k]], p)
        moved = p - before[k] if expands else INFINITY
        if -EXPANSION_REACH < moved < EXPANSION_REACH:
            update = c[0] + moved * (c[1] + moved * (c[2] + moved * (c[3] + moved * c[4])))
            update *= -step
        else:
            update = -step * clipped_gradient(r, X.targets[rows[k]], p)
        c += 5
        if X.weights != NULL:
            update *= X.weights[rows[k]]
        scale *= 1.0 - r.l2 * step
        updates[k] = update
        inverse[k] = 1.0 / scale
        if s.average_ptr != NULL and 0 < r.average_from <= t:
            s.scale, s.intercept = scale, intercept + update * r.intercept_rate
            s.averaged += 1.0
            average_row(x[k], <const int32_t*>NULL, s, update, X.n_columns, s.averaged)
        s.l1_total += r.l1 * step
        t += 1.0
    for k in range(4):
        lengths[k] = <real>(updates[k] * inverse[k])
    s.scale, s.t = scale, t
    s.intercept = intercept + update * r.intercept_rate
    axpy4_dense(lengths, x, <const real*>NULL, w, X.n_columns)


cdef Py_ssize_t pass_rows(
    real* w, const index* columns, Rows X, Order order, Ahead* a, State s, Recipe r,
    Py_ssize_t count
) noexcept nogil:
    """At most `count` rows from where `a` stands; returns how many there were."""
    cdef const real* x = <const real*>X.values
    cdef const real* four[4]
    cdef Py_ssize_t[4] rows
    cdef Py_ssize_t done = 0
    cdef Py_ssize_t i, k
    if steps_in_fours(X, s, r):
        while count - done >= 4 and a.left >= 4:
            for k in range(4):
                rows[k] = take(a, x, columns, X, order)
                four[k] = x + rows[k] * X.n_columns
            step_four(w, four, rows, X, s, r)
            done += 4
    while done < count and a.left > 0:
        i = take(a, x, columns, X, order)
        if X.sparse:
            step_row(w, x + X.starts[i], columns + X.starts[i],
                     X.starts[i + 1] - X.starts[i], X, i, s, r)
        else:
            step_row(w, x + i * X.n_columns, <const index*>NULL, X.n_columns, X, i, s, r)
        done += 1
    return done


cdef void pass_blocks(
    real* w, const index* columns, Rows X, Order order, State s, Recipe r, Py_ssize_t lo,
    Py_ssize_t hi
) noexcept nogil:
    """Blocks lo to hi of the order, one row after another."""
    cdef Ahead a
    look_ahead(&a, <const real*>X.values, columns, X, order, lo, hi)
    pass_rows(w, columns, X, order, &a, s, r, X.n_rows)


def run(Rows X, Order order, State s, Recipe r, Py_ssize_t lo, Py_ssize_t hi):
    """One worker on its own weights: blocks lo to hi of the order, without the GIL."""
    with nogil:
        if X.is_double:
            if X.wide:
                pass_blocks(<double*>s.w_ptr, <const int64_t*>X.columns, X, order, s, r, lo, hi)
            else:
                pass_blocks(<double*>s.w_ptr, <const int32_t*>X.columns, X, order, s, r, lo, hi)
        elif X.wide:
            pass_blocks(<float*>s.w_ptr, <const int64_t*>X.columns, X, order, s, r, lo, hi)
        else:
            pass_blocks(<float*>s.w_ptr, <const int32_t*>X.columns, X, order, s, r, lo, hi)
