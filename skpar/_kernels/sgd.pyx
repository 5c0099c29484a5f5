"""The sequential pass over a list of rows, and what one worker does with shared weights.

The pass does not know that it is parallel: it reads rows in a given order and writes the
weights of one `State`. Shared memory is touched by `merge`, `sweep` and `shared_row` only.
"""

import numpy as np

from cpython.pythread cimport (
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_free_lock,
    PyThread_release_lock,
    PyThread_type_lock,
)
from libc.math cimport pow, sqrt
from libc.stdint cimport int32_t, int64_t

from skpar._kernels.losses cimport Loss
from skpar._kernels.penalties cimport soft_threshold, truncate
from skpar._kernels.rows cimport (
    axpy_dense,
    axpy_sparse,
    dot_dense,
    dot_sparse,
    index,
    real,
    shared_get,
    shared_set,
    skpar_fetch_add,
    skpar_load_flag,
    skpar_prefetch,
)

cdef enum:
    CONSTANT = 1
    OPTIMAL = 2
    INVSCALING = 3
    ADAPTIVE = 4
    PA1 = 5
    PA2 = 6

# A gradient beyond this overflows soon after; scikit-learn clips at the same value.
cdef double MAX_GRADIENT = 1e12
# Below this the scale factor of the weights is folded in, before it underflows.
cdef double MIN_SCALE_F64 = 1e-9
cdef double MIN_SCALE_F32 = 1e-6

SCHEDULES = {
    "constant": CONSTANT,
    "optimal": OPTIMAL,
    "invscaling": INVSCALING,
    "adaptive": ADAPTIVE,
    "pa1": PA1,
    "pa2": PA2,
    "auto": OPTIMAL,  # the same decay, 1 / (1 / eta0 + alpha (t - 1)), from an eta0 of its own
}


cdef void* pointer(array) except? NULL:
    """The address of a C-contiguous array; read-only arrays (memmaps) are welcome."""
    if not array.flags.c_contiguous:
        raise ValueError("kernels need C-contiguous arrays")
    return <void*><size_t>array.ctypes.data


cdef class Rows:
    """A dense or CSR view of rows, targets and weights; it owns nothing but references.

    Indices must have been checked (`_data.check_csr`): kernels do not look again.
    """

    def __init__(self, values, targets, weights=None, columns=None, starts=None, shape=None):
        self.keep_alive = (values, targets, weights, columns, starts)
        self.sparse = columns is not None
        self.n_rows, self.n_columns = shape if self.sparse else values.shape
        self.is_double = values.dtype == np.float64
        self.values = pointer(values)
        self.targets = <const double*>pointer(targets)
        if weights is not None:
            self.weights = <const double*>pointer(weights)
        self.wide = False
        if self.sparse:
            self.wide = columns.dtype == np.int64
            self.columns = pointer(columns)
            self.starts = <const int64_t*>pointer(starts)


cdef class Order:
    """Blocks of consecutive rows in the order in which to visit them.

    Block b holds positions b * block_size up to the next block's; `subset`, where given, maps
    a position to a row (the training rows of a validation split).
    """

    def __init__(self, blocks, Py_ssize_t block_size, Py_ssize_t n_rows, subset=None):
        self.keep_alive = (blocks, subset)
        self.blocks = <const int64_t*>pointer(blocks)
        self.n_blocks = len(blocks)
        self.block_size = block_size
        self.n_rows = n_rows
        if subset is not None:
            self.subset = <const int64_t*>pointer(subset)


cdef class Recipe:
    """What a step does: the loss, the penalty's two strengths, the schedule."""

    def __init__(self, Loss loss, *, l1, l2, alpha, schedule, eta0, power_t, intercept_rate,
                 average_from=0, track_loss=False):
        cdef double typical
        self.loss = loss
        self.l1, self.l2, self.alpha = l1, l2, alpha
        self.schedule = SCHEDULES[schedule]
        self.eta0, self.power_t = eta0, power_t
        self.intercept_rate = intercept_rate
        self.average_from = average_from
        self.track_loss = track_loss
        self.signed_by_target = loss.name == "Hinge"
        if schedule == "optimal":
            # Bottou (2012), section 4.2: the first step is that of a typical weight's size.
            typical = sqrt(1.0 / sqrt(alpha))
            self.eta0 = typical / max(1.0, loss.gradient(1.0, -typical))
        elif schedule == "auto" and alpha == 0.0:
            self.schedule = CONSTANT
        if self.schedule == OPTIMAL:
            self.optimal_start = 1.0 / (self.eta0 * alpha)

    def step_size(self, double t):
        """The step size of sample number t (counted from 1), t float."""
        return eta(self, t)


cdef inline double eta(Recipe r, double t) noexcept nogil:
    if r.schedule == OPTIMAL:
        return 1.0 / (r.alpha * (r.optimal_start + t - 1.0))
    if r.schedule == INVSCALING:
        if r.power_t == 0.5:
            return r.eta0 / sqrt(t)
        if r.power_t == 0.25:
            return r.eta0 / sqrt(sqrt(t))
        return r.eta0 / pow(t, r.power_t)
    return r.eta0


cdef class State:
    """One worker's weights: w * scale, the running average, the l1 bookkeeping, the count t.

    `settle` folds the scale in, after which `w`, `average` and the intercepts are plain numbers.
    """

    def __init__(self, w, intercept, *, t=1.0, average=None, average_intercept=0.0,
                 received=None):
        self.w, self.average, self.received = w, average, received
        self.intercept, self.average_intercept = intercept, average_intercept
        self.t = t
        self.scale, self.average_a, self.average_b = 1.0, 0.0, 1.0
        self.w_ptr = pointer(w)
        self.average_ptr = NULL if average is None else pointer(average)
        self.received_ptr = NULL if received is None else pointer(received)

    def __reduce__(self):
        self.settle()
        values = (self.intercept, self.t, self.average_intercept, self.l1_total, self.averaged,
                  self.loss_sum)
        return _restore_state, (self.w, self.average, self.received, values)

    cpdef settle(self):
        if self.w.dtype == np.float64:
            fold[double](<double*>self.w_ptr, self, self.w.shape[0])
        else:
            fold[float](<float*>self.w_ptr, self, self.w.shape[0])

    def plain(self):
        """(w, average) as plain numbers, this state left as it is.

        Folding between epochs would change what scikit-learn gives for l1 with `average`: its
        truncations are not part of the lazy average.
        """
        if self.scale == 1.0 and self.average is None:
            return self.w, None
        copy = self.copy(self.t)
        copy.settle()
        return copy.w, copy.average

    def copy(self, t):
        """The same numbers in memory of their own, at sample count t."""
        cdef State state = State(
            self.w.copy(), self.intercept, t=t,
            average=None if self.average is None else self.average.copy(),
            average_intercept=self.average_intercept,
            received=None if self.received is None else self.received.copy(),
        )
        state.scale = self.scale
        state.average_a, state.average_b = self.average_a, self.average_b
        state.l1_total, state.averaged = self.l1_total, self.averaged
        return state

    @staticmethod
    def mean(states, shares):
        """The weighted mean of states, summed in their order: everything in them is linear."""
        def total(name):
            values = [getattr(state, name) for state in states]
            if values[0] is None:
                return None
            return sum(share * value for share, value in zip(shares, values, strict=True))

        def array(name):
            value = total(name)
            return None if value is None else np.ascontiguousarray(value, states[0].w.dtype)

        for state in states:
            state.settle()
        mean = State(array("w"), total("intercept"), average=array("average"),
                     average_intercept=total("average_intercept"), received=array("received"))
        mean.l1_total = total("l1_total")
        return mean


def _restore_state(w, average, received, values):
    state = State(w, values[0], t=values[1], average=average, average_intercept=values[2],
                  received=received)
    state.l1_total, state.averaged, state.loss_sum = values[3:]
    return state


cdef void fold(real* w, State s, Py_ssize_t n) noexcept nogil:
    """Write the scale into w, and the two numbers of the lazy average into the average."""
    cdef Py_ssize_t j
    cdef real scale = <real>s.scale
    cdef real* average = <real*>s.average_ptr
    if average != NULL and (s.average_a != 0.0 or s.average_b != 1.0):
        for j in range(n):
            average[j] = <real>((average[j] + s.average_a * w[j]) / s.average_b)
        s.average_a, s.average_b = 0.0, 1.0
    if scale != 1.0:
        for j in range(n):
            w[j] *= scale
        s.scale = 1.0


cdef inline double signed_aggressiveness(
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


cdef inline double clipped_gradient(Recipe r, double y, double p) noexcept nogil:
    return max(-MAX_GRADIENT, min(MAX_GRADIENT, r.loss.gradient(y, p)))


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


cdef inline void fetch_block(const real* x, Rows X, Order order, Py_ssize_t b) noexcept nogil:
    """Ask for the first lines of a block's rows; the processor's own prefetcher goes on."""
    cdef Py_ssize_t i = order.blocks[b] * order.block_size
    cdef Py_ssize_t k, first
    if order.subset != NULL:
        i = order.subset[i]
    first = X.starts[i] if X.sparse else i * X.n_columns
    for k in range(4):
        skpar_prefetch(x + first + k * 16)


cdef void pass_blocks(
    real* w, const index* columns, Rows X, Order order, State s, Recipe r, Py_ssize_t lo,
    Py_ssize_t hi
) noexcept nogil:
    """Blocks lo to hi of the order, one row after another."""
    cdef const real* x = <const real*>X.values
    cdef Py_ssize_t b, i, k, position, end
    for b in range(lo, hi):
        if b + 1 < hi:
            fetch_block(x, X, order, b + 1)
        position = order.blocks[b] * order.block_size
        end = min(position + order.block_size, order.n_rows)
        for k in range(position, end):
            i = order.subset[k] if order.subset != NULL else k
            if X.sparse:
                step_row(w, x + X.starts[i], columns + X.starts[i],
                         X.starts[i + 1] - X.starts[i], X, i, s, r)
            else:
                step_row(w, x + i * X.n_columns, <const index*>NULL, X.n_columns, X, i, s, r)


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


cdef class Lock:
    """A lock that is taken without the GIL (the interpreter's own, so it sleeps, not spins)."""

    cdef PyThread_type_lock handle

    def __cinit__(self):
        self.handle = PyThread_allocate_lock()
        if self.handle == NULL:
            raise MemoryError("no lock could be allocated")

    def __dealloc__(self):
        if self.handle != NULL:
            PyThread_free_lock(self.handle)


cdef class Shared:
    """The weights that all workers write, and how they meet there.

    cursor[0] is the next chunk of blocks to take, cursor[1] is not 0 when all must stop.
    `weight_blocks` blocks lie between two merges of a worker's replica, `intercept_blocks`
    between two of its intercept, the densest coordinate. With `direct` there are no replicas:
    rows write straight into `w`, and the penalty follows in sweeps `weight_blocks` apart.
    """

    def __init__(self, w, *, direct=False, locked=False):
        self.w = w
        self.direct = direct
        self.intercept = np.zeros(1)
        self.cursor = np.zeros(2, dtype=np.int64)
        self.lock_owner = Lock() if locked else None
        self.w_ptr = pointer(w)
        self.intercept_ptr = <double*>pointer(self.intercept)
        self.cursor_ptr = <int64_t*>pointer(self.cursor)
        self.safe_intercept_step = np.inf
        self.least_damping = 1.0
        self.intercept_blocks = self.weight_blocks = self.chunk_blocks = 1

    def limit_steps(self, safe_steps, double safe_intercept_step, double least_damping):
        """Damp merges: coordinate j adds min(1, safe_steps[j] / eta) of a delta, at least least."""
        self.safe_steps = safe_steps
        self.safe_ptr = pointer(safe_steps)
        self.safe_intercept_step = safe_intercept_step
        self.least_damping = least_damping

    cdef PyThread_type_lock handle(self):
        return (<Lock>self.lock_owner).handle if self.lock_owner is not None else NULL


cdef void merge(
    real* shared, real* w, real* snapshot, State s, Shared z, Recipe r, Py_ssize_t n
) noexcept nogil:
    """Add what this replica learned since its last merge: v = shared + damping (w - snapshot).

    Adding is as good as serial where the step is safe for all replicas together; where it is
    not, the damping goes down to that of an average (`_schedules.safe_steps`).

    The l1 penalty of the rows since then is applied here, as the prox of their summed steps:
    every replica truncating on its own would carry the sum across zero.
    """
    cdef Py_ssize_t j
    cdef double v
    cdef double amount = s.l1_total if r.l1 != 0.0 else 0.0
    cdef double damping = 1.0
    cdef double rate = 1.0 / eta(r, s.t)
    cdef const real* safe = <const real*>z.safe_ptr
    if s.average_ptr != NULL:
        fold(w, s, n)  # the lazy average must not see the others' deltas as this replica's past
    for j in range(n):
        if safe != NULL:
            damping = max(z.least_damping, min(1.0, safe[j] * rate))
        v = shared_get(shared + j) + damping * (s.scale * w[j] - snapshot[j])
        if amount != 0.0:
            v = soft_threshold(v, amount)
        shared_set(shared + j, v)
        w[j] = <real>v
        snapshot[j] = <real>v
    s.scale = 1.0
    s.l1_total = 0.0


cdef void sweep(real* shared, State s, Recipe r, Py_ssize_t n) noexcept nogil:
    """Apply the penalty of this worker's last rows to weights that it wrote directly."""
    cdef Py_ssize_t j
    cdef double before, after
    for j in range(n):
        before = shared_get(shared + j)
        after = soft_threshold(before * s.scale, s.l1_total)
        if after != before:
            shared_set(shared + j, after)
    s.scale = 1.0
    s.l1_total = 0.0


cdef void shared_row(
    real* shared, const real* x, const index* columns, Py_ssize_t n, Rows X, Py_ssize_t i,
    State s, Recipe r
) noexcept nogil:
    """One row of classic Hogwild (Niu et al. 2011): read and write the shared coordinates."""
    cdef double p = s.intercept
    cdef double y = X.targets[i]
    cdef double step = eta(r, s.t)
    cdef double counts = 1.0
    cdef double update
    cdef Py_ssize_t k
    for k in range(n):
        p += shared_get(shared + columns[k]) * x[k]
    if r.track_loss:
        s.loss_sum += r.loss.value(y, p)
    if r.schedule >= PA1:
        update = signed_aggressiveness(r, y, p, dot_dense(x, x, n), &counts)
    else:
        update = -step * clipped_gradient(r, y, p)
    if counts != 0.0:
        if X.weights != NULL:
            update *= X.weights[i]
        if update != 0.0:
            for k in range(n):
                shared_set(
                    shared + columns[k], shared_get(shared + columns[k]) + update * x[k]
                )
            s.intercept += update * r.intercept_rate
        s.scale *= max(0.0, 1.0 - r.l2 * step)
        s.l1_total += r.l1 * step
    s.t += 1.0


cdef void shared_blocks(
    real* shared, const index* columns, Rows X, Order order, State s, Recipe r, Py_ssize_t lo,
    Py_ssize_t hi
) noexcept nogil:
    cdef const real* x = <const real*>X.values
    cdef Py_ssize_t b, i, k, position
    for b in range(lo, hi):
        position = order.blocks[b] * order.block_size
        for k in range(position, min(position + order.block_size, order.n_rows)):
            i = order.subset[k] if order.subset != NULL else k
            shared_row(shared, x + X.starts[i], columns + X.starts[i],
                       X.starts[i + 1] - X.starts[i], X, i, s, r)


cdef void add_to_average(
    const real* shared, State s, Shared z, double rows, Py_ssize_t n
) noexcept nogil:
    """The mean over the shared weights seen at sweeps, each weighted by the rows since the last."""
    cdef real* average = <real*>s.average_ptr
    cdef double rate
    cdef Py_ssize_t j
    if average == NULL or s.t <= z.average_from:
        return
    s.averaged += rows
    rate = rows / s.averaged
    for j in range(n):
        average[j] += <real>(rate * (shared_get(shared + j) - average[j]))
    s.average_intercept += rate * (s.intercept - s.average_intercept)


cdef void meet(
    real* shared, real* w, real* snapshot, State s, Shared z, Recipe r, Rows X,
    double rows, double* intercept_seen, bint weights_too
) noexcept nogil:
    """A worker's meeting with the others: weights, then the intercept, then the average."""
    cdef double damping = min(1.0, z.safe_intercept_step / eta(r, s.t))
    cdef double v
    damping = max(z.least_damping, damping)
    v = shared_get(z.intercept_ptr) + damping * (s.intercept - intercept_seen[0])
    shared_set(z.intercept_ptr, v)
    s.intercept = v
    intercept_seen[0] = v
    if not weights_too:
        return
    if not z.direct:
        merge(shared, w, snapshot, s, z, r, X.n_columns)
        return
    if r.l1 != 0.0 or s.scale != 1.0:
        sweep(shared, s, r, X.n_columns)
    add_to_average(<const real*>shared, s, z, rows, X.n_columns)


cdef void refresh(
    const real* shared, real* w, real* snapshot, State s, Shared z, Py_ssize_t n
) noexcept nogil:
    """Start from the shared weights of this moment.

    A worker that woke late would otherwise learn from the weights of the epoch's start, and add
    a step that the others have taken already.
    """
    cdef Py_ssize_t j
    s.intercept = shared_get(z.intercept_ptr)
    if z.direct:
        return
    for j in range(n):
        w[j] = snapshot[j] = <real>shared_get(shared + j)


cdef void share_blocks(
    real* shared, real* w, real* snapshot, const index* columns, Rows X, Order order, State s,
    Shared z, Recipe r, double t0, PyThread_type_lock lock
) noexcept nogil:
    """Take chunks of blocks until none is left or a stop is asked for; merge as told."""
    cdef double intercept_seen
    cdef double rows
    cdef Py_ssize_t lo, hi, b
    cdef Py_ssize_t since = 0
    cdef bint direct = z.direct
    if lock != NULL:
        PyThread_acquire_lock(lock, 1)
    refresh(<const real*>shared, w, snapshot, s, z, X.n_columns)
    if lock != NULL:
        PyThread_release_lock(lock)
    intercept_seen = s.intercept
    while skpar_load_flag(z.cursor_ptr + 1) == 0:
        lo = skpar_fetch_add(z.cursor_ptr, z.chunk_blocks)
        if lo >= order.n_blocks:
            break
        hi = min(lo + z.chunk_blocks, order.n_blocks)
        s.t = t0 + lo * order.block_size
        while lo < hi:
            b = min(lo + z.intercept_blocks, hi)
            if lock != NULL and direct:
                PyThread_acquire_lock(lock, 1)
            if direct:
                shared_blocks(shared, columns, X, order, s, r, lo, b)
            else:
                pass_blocks(w, columns, X, order, s, r, lo, b)
            since += b - lo
            rows = since * order.block_size
            if lock != NULL and not direct:
                PyThread_acquire_lock(lock, 1)
            meet(shared, w, snapshot, s, z, r, X, rows, &intercept_seen,
                 since >= z.weight_blocks or b >= order.n_blocks)
            if lock != NULL:
                PyThread_release_lock(lock)
            if since >= z.weight_blocks:
                since = 0
            lo = b
    if lock != NULL:
        PyThread_acquire_lock(lock, 1)
    meet(shared, w, snapshot, s, z, r, X, max(1.0, <double>(since * order.block_size)),
         &intercept_seen, True)
    if lock != NULL:
        PyThread_release_lock(lock)


def run_shared(Rows X, Order order, State s, Shared z, Recipe r, snapshot, double t0):
    """One worker of a lock-free (or locked) epoch, without the GIL, until no rows are left."""
    cdef PyThread_type_lock lock = z.handle()
    cdef void* seen = pointer(snapshot) if snapshot is not None else NULL
    with nogil:
        if X.is_double:
            if X.wide:
                share_blocks(<double*>z.w_ptr, <double*>s.w_ptr, <double*>seen,
                             <const int64_t*>X.columns, X, order, s, z, r, t0, lock)
            else:
                share_blocks(<double*>z.w_ptr, <double*>s.w_ptr, <double*>seen,
                             <const int32_t*>X.columns, X, order, s, z, r, t0, lock)
        elif X.wide:
            share_blocks(<float*>z.w_ptr, <float*>s.w_ptr, <float*>seen,
                         <const int64_t*>X.columns, X, order, s, z, r, t0, lock)
        else:
            share_blocks(<float*>z.w_ptr, <float*>s.w_ptr, <float*>seen,
                         <const int32_t*>X.columns, X, order, s, z, r, t0, lock)
