"""The weights that all workers write: where they are, their penalties, their average.

They are kept without their scale: the shrinking of the l2 penalty and the total of the l1 penalty
are functions of the sample number alone, so they need no owner.
"""

import numpy as np

from cpython.pythread cimport PyThread_allocate_lock, PyThread_free_lock, PyThread_type_lock
from libc.math cimport exp, expm1
from libc.stdint cimport int16_t, int64_t

from skpar._kernels.arrays cimport pointer
from skpar._kernels.penalties cimport soft_threshold
from skpar._kernels.records cimport Recipe, State, steps_between
from skpar._kernels.rows cimport (
    real,
    shared_get,
    skpar_load_flag,
    skpar_release,
    skpar_store_flag,
    skpar_try_acquire,
    use_simd_level,
)

from skpar._kernels.records import padded

use_simd_level()


cdef class Lock:
    """A lock that is taken without the GIL (the interpreter's own, so it sleeps, not spins)."""

    def __cinit__(self):
        self.handle = PyThread_allocate_lock()
        if self.handle == NULL:
            raise MemoryError("no lock could be allocated")

    def __dealloc__(self):
        if self.handle != NULL:
            PyThread_free_lock(self.handle)


cdef class Shared:
    """The weights that all workers write, and how they meet there.

    cursor[0] is the next chunk of blocks to take, cursor[8] is not 0 when all must stop,
    cursor[16] is 1 while a worker adds to the average, cursor[20] counts the rows in it (each
    on a cache line of its own, the last two on one).

    With `whole` every worker has a copy of all columns, else of the hot ones only, and writes
    the others in place. Hot columns are merged after `merge_rows` rows, the others (of whole
    copies) after `merge_all_rows`; `hot_columns` None means that all are hot. `slots` maps a
    column to its place among the hot ones, -1 for the others. Between `begin` and `end` the hot
    columns are kept side by side in `hot_w`: in `w` each would be on a cache line of its own.
    """

    def __init__(self, w, *, whole, hot_columns=None, slots=None, average=None, keep_l1=False,
                 locked=False):
        self.w, self.average = padded(w), average
        self.n_columns = w.size
        self.whole = whole
        self.n_hot = self.n_columns if hot_columns is None else len(hot_columns)
        self.hot_columns, self.slots = hot_columns, slots
        if hot_columns is not None:
            self.hot_ptr = <const int64_t*>pointer(hot_columns)
            self.hot_w = padded(np.zeros(self.n_hot, dtype=w.dtype))
            self.hot_w_ptr = pointer(self.hot_w)
        if slots is not None:
            self.slots_ptr = <const int16_t*>pointer(slots)
        # The l1 total that each column written in place has received.
        self.last_total = np.zeros_like(w) if keep_l1 and not whole else None
        self.last_ptr = pointer(self.last_total) if self.last_total is not None else NULL
        self.intercept = padded(np.zeros(1))
        self.cursor = padded(np.zeros(24, dtype=np.int64))
        self.lock_owner = Lock() if locked else None
        self.w_ptr = pointer(self.w)
        self.average_ptr = pointer(average) if average is not None else NULL
        self.intercept_ptr = <double*>pointer(self.intercept)
        self.cursor_ptr = <int64_t*>pointer(self.cursor)
        self.safe_intercept_step = np.inf
        self.least_damping = 1.0
        self.merge_rows = self.merge_all_rows = self.chunk_blocks = self.average_rows = 1

    def limit_steps(self, safe_steps, double safe_intercept_step, double least_damping):
        """Damp merges: own column j adds min(1, safe_steps[j] / eta) of a delta, at least least."""
        self.safe_steps = safe_steps
        self.safe_ptr = pointer(safe_steps)
        self.safe_intercept_step = safe_intercept_step
        self.least_damping = least_damping

    def begin(self, double t, Py_ssize_t lo, Py_ssize_t hi):
        """Before blocks lo to hi, the first with sample t, are run; no worker runs."""
        self.t_start = t
        if self.hot_w is not None:
            self.hot_w[:] = self.w[self.hot_columns]
        self.first_block, self.last_block = lo, hi
        self.cursor[0], self.cursor[20] = lo, 0

    def done(self):
        """Whether all blocks are taken, or all workers told to stop."""
        return self.cursor[0] >= self.last_block or self.cursor[8] != 0

    def end(self, Recipe r, double t):
        """After them, at sample t: write the scale and what is left of the l1 penalty into w."""
        cdef double scale = scale_at(self, r, t)
        cdef double total = l1_total_at(self, r, t)
        cdef int64_t rows = <int64_t>(t - self.t_start)
        if self.hot_w is not None:
            self.w[self.hot_columns] = self.hot_w
        if self.w.dtype == np.float64:
            write_out(<double*>self.w_ptr, self, scale, total)
            add_to_average(<const double*>self.w_ptr, self, rows, 1.0, r, t, False)
        else:
            write_out(<float*>self.w_ptr, self, scale, total)
            add_to_average(<const float*>self.w_ptr, self, rows, 1.0, r, t, False)

    cdef PyThread_type_lock handle(self):
        return (<Lock>self.lock_owner).handle if self.lock_owner is not None else NULL


cdef double scale_at(Shared z, Recipe r, double t) noexcept nogil:
    """What l2 has left of a weight since `begin`: exp(-l2 sum of steps)."""
    if r.l2 == 0.0:
        return 1.0
    return exp(-r.l2 * steps_between(r, z.t_start, t))


cdef double l1_total_at(Shared z, Recipe r, double t) noexcept nogil:
    """The sum of l1 eta_t / scale_t since `begin`: the prox that unscaled weights are due."""
    cdef double steps
    if r.l1 == 0.0:
        return 0.0
    steps = steps_between(r, z.t_start, t)
    if r.l2 == 0.0:
        return r.l1 * steps
    return r.l1 / r.l2 * expm1(r.l2 * steps)


cdef void write_out(real* w, Shared z, double scale, double total) noexcept nogil:
    cdef real* last = <real*>z.last_ptr
    cdef Py_ssize_t j
    if last != NULL:
        for j in range(z.n_columns):
            # Hot columns received their share at merges.
            if z.slots_ptr == NULL or z.slots_ptr[j] < 0:
                w[j] = <real>soft_threshold(w[j], total - last[j])
            last[j] = 0
    if scale != 1.0:
        for j in range(z.n_columns):
            w[j] = <real>(w[j] * scale)


cdef void add_to_average(
    const real* shared, Shared z, int64_t rows_so_far, double scale, Recipe r, double t,
    bint running
) noexcept nogil:
    """Count the shared weights for the rows since this was done last (one worker at a time)."""
    cdef real* average = <real*>z.average_ptr
    cdef double rows = <double>(rows_so_far - skpar_load_flag(z.cursor_ptr + 20))
    cdef double rate
    cdef bint apart = running and z.slots_ptr != NULL
    cdef const real* place
    cdef Py_ssize_t j
    if average == NULL or rows <= 0.0 or t <= z.average_from:
        return
    skpar_store_flag(z.cursor_ptr + 20, rows_so_far)
    z.averaged += rows
    rate = rows / z.averaged
    for j in range(z.n_columns):
        place = shared + j
        if apart and z.slots_ptr[j] >= 0:
            place = <const real*>z.hot_w_ptr + z.slots_ptr[j]
        average[j] += <real>(rate * (scale * shared_get(place) - average[j]))
    z.average_intercept += rate * (shared_get(z.intercept_ptr) - z.average_intercept)


cdef void try_average(const real* shared, State s, Shared z, Recipe r) noexcept nogil:
    """Add to the average if it is time and nobody else does."""
    cdef int64_t rows
    if z.average_ptr == NULL:
        return
    rows = <int64_t>(s.t - z.t_start)
    if rows - skpar_load_flag(z.cursor_ptr + 20) < z.average_rows:
        return
    if skpar_try_acquire(z.cursor_ptr + 16):
        add_to_average(shared, z, rows, s.scale, r, s.t, True)
        skpar_release(z.cursor_ptr + 16)
