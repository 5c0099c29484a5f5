"""What one worker does with weights that all workers write.

Columns are hot or cold. Each worker trains a copy of the hot ones and now and then adds what it
learned to the shared weights (`merge`). Of the cold ones it has a copy too, merged less often,
or, where there are very many, reads and writes them in place (`shared_rows`).
"""

from cpython.pythread cimport PyThread_acquire_lock, PyThread_release_lock, PyThread_type_lock
from libc.stdint cimport int32_t, int64_t

from skpar._kernels.ahead cimport Ahead, look_ahead, take
from skpar._kernels.arrays cimport pointer
from skpar._kernels.penalties cimport soft_threshold
from skpar._kernels.records cimport PA1, Order, Recipe, Rows, State, eta
from skpar._kernels.rows cimport (
    axpy_split,
    dot_dense,
    dot_split,
    index,
    real,
    shared_get,
    shared_set,
    skpar_fetch_add,
    skpar_load_flag,
    skpar_prefetch_to_write,
    use_simd_level,
)
from skpar._kernels.sgd cimport clipped_gradient, pass_rows, signed_aggressiveness
from skpar._kernels.shared cimport Shared, l1_total_at, scale_at, try_average

use_simd_level()

cdef enum:
    # Rows between two moments at which a locked worker lets the others have the weights.
    LOCKED_ROWS = 8
    # About a millisecond each.
    CHUNKS_PER_CALL = 64
    # The lines that a merge writes are asked for so many rows before, at most so many bytes.
    ROWS_BEFORE_MERGE = 4
    MERGE_BYTES = 4096


cdef struct Seen:
    # what a worker knows of its last merge: the intercept, and the l1 penalty that the columns
    # which only full merges reach are due since the last of those
    double intercept, l1_due


cdef inline void merge_column(
    real* place, real* w, real* snapshot, double l1, double damping
) noexcept nogil:
    cdef double v = shared_get(place) + damping * (<double>w[0] - <double>snapshot[0])
    if l1 != 0.0:
        v = soft_threshold(v, l1)
    shared_set(place, v)
    w[0] = snapshot[0] = <real>v


cdef void merge(
    real* shared, real* w, real* snapshot, State s, Shared z, Recipe r, Seen* seen,
    bint everything
) noexcept nogil:
    """Add what this worker learned since its last merge: v = shared + damping (w - snapshot).

    Adding is as good as serial where the step is safe for all replicas together; where it is
    not, the damping goes down to that of an average (`_schedules.safe_steps`).

    The l1 penalty of the rows since then is applied here, as the prox of their summed steps:
    every replica truncating on its own would carry the sum across zero.
    """
    cdef double rate = 1.0 / eta(r, s.t)
    cdef double amount = s.l1_total / s.scale
    cdef double least = z.least_damping
    cdef double damping = max(least, min(1.0, z.safe_intercept_step * rate))
    cdef const real* safe = <const real*>z.safe_ptr
    cdef double v = shared_get(z.intercept_ptr) + damping * (s.intercept - seen.intercept)
    cdef real* hot = <real*>z.hot_w_ptr if z.hot_ptr != NULL else shared
    cdef Py_ssize_t k, own
    shared_set(z.intercept_ptr, v)
    s.intercept = seen.intercept = v
    damping = 1.0
    for k in range(z.n_hot):
        own = z.hot_ptr[k] if z.whole and z.hot_ptr != NULL else k
        if safe != NULL:
            damping = max(least, min(1.0, safe[own] * rate))
        merge_column(hot + k, w + own, snapshot + own, amount, damping)
    seen.l1_due += amount
    if everything and z.whole and z.hot_ptr != NULL:
        for k in range(z.n_columns):
            if z.slots_ptr[k] >= 0:
                continue
            if safe != NULL:
                damping = max(least, min(1.0, safe[k] * rate))
            merge_column(shared + k, w + k, snapshot + k, seen.l1_due, damping)
        seen.l1_due = 0.0
    s.l1_total = 0.0


cdef void refresh(
    const real* shared, real* w, real* snapshot, State s, Shared z, Seen* seen
) noexcept nogil:
    """Start from the shared weights of this moment.

    A worker that woke late would otherwise learn from the weights of the epoch's start, and add
    a step that the others have taken already.
    """
    cdef const real* hot = <const real*>z.hot_w_ptr
    cdef Py_ssize_t k, own
    s.intercept = seen.intercept = shared_get(z.intercept_ptr)
    s.l1_total = seen.l1_due = 0.0
    if z.whole:
        for k in range(z.n_columns):
            w[k] = snapshot[k] = <real>shared_get(shared + k)
    if z.hot_ptr != NULL:
        for k in range(z.n_hot):
            own = z.hot_ptr[k] if z.whole else k
            w[own] = snapshot[own] = <real>shared_get(hot + k)


cdef void catch_up(
    real* shared, const index* columns, Shared z, double total, Py_ssize_t n
) noexcept nogil:
    """Give the cold columns of a row the l1 penalty of the samples since they were seen last."""
    cdef real* last = <real*>z.last_ptr
    cdef double due
    cdef Py_ssize_t k
    for k in range(n):
        if z.slots_ptr != NULL and z.slots_ptr[columns[k]] >= 0:
            continue
        due = total - shared_get(last + columns[k])
        if due > 0.0:
            shared_set(last + columns[k], total)
            shared_set(
                shared + columns[k], soft_threshold(shared_get(shared + columns[k]), due)
            )


cdef void shared_row(
    real* shared, real* w, real** where, const index* columns, Rows X, Py_ssize_t i, State s,
    Shared z, Recipe r, double* total
) noexcept nogil:
    """One row: hot columns in the worker's own memory, cold ones in place (Niu et al. 2011)."""
    cdef const real* x = <const real*>X.values + X.starts[i]
    cdef Py_ssize_t n = X.starts[i + 1] - X.starts[i]
    cdef double y = X.targets[i]
    cdef double step = eta(r, s.t)
    cdef double counts = 1.0
    cdef double p, update
    if z.last_ptr != NULL:
        catch_up(shared, columns + X.starts[i], z, total[0], n)
    p = s.scale * dot_split(x, columns + X.starts[i], z.slots_ptr, w, shared, where, n)
    p += s.intercept
    if r.track_loss:
        s.loss_sum += r.loss.value(y, p)
    if r.schedule >= PA1:
        update = signed_aggressiveness(r, y, p, dot_dense(x, x, n), &counts)
    else:
        update = -step * clipped_gradient(r, y, p)
    if counts != 0.0:
        if X.weights != NULL:
            update *= X.weights[i]
        s.scale *= 1.0 - r.l2 * step
        if update != 0.0:
            axpy_split(<real>(update / s.scale), x, where, n)
            s.intercept += update * r.intercept_rate
        s.l1_total += r.l1 * step
        total[0] += r.l1 * step / s.scale
    s.t += 1.0


cdef Py_ssize_t shared_rows(
    real* shared, real* w, real** where, const index* columns, Rows X, Order order, Ahead* a,
    State s, Shared z, Recipe r, double* total, Py_ssize_t count
) noexcept nogil:
    """At most `count` rows from where `a` stands; returns how many there were."""
    cdef Py_ssize_t done = 0
    cdef Py_ssize_t i
    while done < count and a.left > 0:
        i = take(a, <const real*>X.values, columns, X, order)
        shared_row(shared, w, where, columns, X, i, s, z, r, total)
        done += 1
    return done


cdef void share_blocks(
    real* shared, real* w, real* snapshot, real** where, const index* columns, Rows X,
    Order order, State s, Shared z, Recipe r, PyThread_type_lock lock
) noexcept nogil:
    """Take chunks of blocks, merge as told."""
    cdef Ahead a
    cdef Seen seen
    cdef double total
    cdef Py_ssize_t lo, count
    cdef int _turn
    cdef Py_ssize_t since = 0
    cdef Py_ssize_t since_all = 0
    cdef const real* hot = <real*>z.hot_w_ptr if z.hot_ptr != NULL else shared
    cdef Py_ssize_t n_fetch = min(z.n_hot * <Py_ssize_t>sizeof(real), MERGE_BYTES)
    if lock != NULL:
        PyThread_acquire_lock(lock, 1)
    refresh(<const real*>shared, w, snapshot, s, z, &seen)
    if lock != NULL:
        PyThread_release_lock(lock)
    for _turn in range(CHUNKS_PER_CALL):
        if skpar_load_flag(z.cursor_ptr + 8) != 0:
            break
        lo = skpar_fetch_add(z.cursor_ptr, z.chunk_blocks)
        if lo >= z.last_block:
            break
        s.t = z.t_start + (lo - z.first_block) * order.block_size
        s.scale = scale_at(z, r, s.t)
        total = l1_total_at(z, r, s.t)
        look_ahead(&a, <const real*>X.values, columns, X, order, lo,
                   min(lo + z.chunk_blocks, z.last_block))
        while a.left > 0:
            count = z.merge_rows - since
            if z.whole:
                if count > ROWS_BEFORE_MERGE:
                    count -= ROWS_BEFORE_MERGE
                else:
                    skpar_prefetch_to_write(z.intercept_ptr, sizeof(double))
                    skpar_prefetch_to_write(hot, n_fetch)
                count = pass_rows(w, columns, X, order, &a, s, r, count)
            else:
                if lock != NULL:
                    PyThread_acquire_lock(lock, 1)
                    count = min(count, LOCKED_ROWS)
                count = shared_rows(shared, w, where, columns, X, order, &a, s, z, r, &total,
                                    count)
                if lock != NULL:
                    PyThread_release_lock(lock)
            since += count
            since_all += count
            if since >= z.merge_rows:
                meet(shared, w, snapshot, s, z, r, &seen, lock,
                     since_all >= z.merge_all_rows)
                if since_all >= z.merge_all_rows:
                    since_all = 0
                since = 0
    if since_all > 0:
        meet(shared, w, snapshot, s, z, r, &seen, lock, True)


cdef void meet(
    real* shared, real* w, real* snapshot, State s, Shared z, Recipe r, Seen* seen,
    PyThread_type_lock lock, bint everything
) noexcept nogil:
    if lock != NULL:
        PyThread_acquire_lock(lock, 1)
    merge(shared, w, snapshot, s, z, r, seen, everything)
    try_average(<const real*>shared, s, z, r)
    if lock != NULL:
        PyThread_release_lock(lock)


def run_shared(Rows X, Order order, State s, Shared z, Recipe r, snapshot, where):
    """One worker of a lock-free (or locked) epoch, without the GIL: some chunks, or all left.

    `snapshot` has the size of the state's weights (the hot columns), `where` that of the
    longest row in pointers (size 0 where all columns are hot).
    """
    cdef PyThread_type_lock lock = z.handle()
    cdef void* seen = pointer(snapshot)
    cdef void* places = pointer(where)
    with nogil:
        if X.is_double:
            if X.wide:
                share_blocks(<double*>z.w_ptr, <double*>s.w_ptr, <double*>seen, <double**>places,
                             <const int64_t*>X.columns, X, order, s, z, r, lock)
            else:
                share_blocks(<double*>z.w_ptr, <double*>s.w_ptr, <double*>seen, <double**>places,
                             <const int32_t*>X.columns, X, order, s, z, r, lock)
        elif X.wide:
            share_blocks(<float*>z.w_ptr, <float*>s.w_ptr, <float*>seen, <float**>places,
                         <const int64_t*>X.columns, X, order, s, z, r, lock)
        else:
            share_blocks(<float*>z.w_ptr, <float*>s.w_ptr, <float*>seen, <float**>places,
                         <const int32_t*>X.columns, X, order, s, z, r, lock)
