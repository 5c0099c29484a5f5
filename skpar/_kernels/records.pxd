from libc.math cimport pow, sqrt
from libc.stdint cimport int64_t, uint64_t

from skpar._kernels.losses cimport Loss
from skpar._kernels.rows cimport real

cdef enum:
    DECAYING = 0
    CONSTANT = 1
    OPTIMAL = 2
    INVSCALING = 3
    ADAPTIVE = 4
    PA1 = 5
    PA2 = 6

cdef enum:
    ROUNDS = 4

cdef class Rows:
    cdef readonly Py_ssize_t n_rows, n_columns
    cdef readonly bint sparse, is_double, wide
    cdef object keep_alive
    cdef const void* values
    cdef const void* columns
    cdef const int64_t* starts
    cdef const double* targets
    cdef const double* weights

cdef class Order:
    cdef readonly Py_ssize_t n_rows, n_blocks, block_size
    cdef readonly bint shuffled
    cdef object keep_alive
    cdef const int64_t* subset
    cdef int left_bits, right_bits
    cdef uint64_t[ROUNDS] keys

cdef class Recipe:
    cdef readonly Loss loss
    cdef readonly double l1, l2, alpha, eta0, power_t, decay, optimal_start, intercept_rate
    cdef readonly int schedule
    cdef readonly Py_ssize_t average_from
    cdef readonly bint track_loss
    cdef bint signed_by_target

cdef class State:
    # Every row writes t, scale and intercept: keep them off the cache lines of other workers.
    cdef char[64] before
    cdef public object w, average, received
    cdef public double intercept, average_intercept, t, l1_total, averaged, loss_sum
    cdef double scale, average_a, average_b
    cdef void* w_ptr
    cdef void* average_ptr
    cdef void* received_ptr
    cdef char[64] behind
    cpdef settle(self)

cdef void fold(real* w, State s, Py_ssize_t n) noexcept nogil
cdef double steps_between(Recipe r, double a, double b) noexcept nogil


cdef inline Py_ssize_t block_at(Order o, Py_ssize_t k) noexcept nogil:
    """The k-th block to visit: a Feistel network over the numbers of as many bits (Luby & Rackoff
    1988), walked on until it lands on a block (Black & Rogaway 2002)."""
    cdef uint64_t left, right, mixed
    cdef uint64_t left_mask, right_mask
    cdef int turn
    if not o.shuffled:
        return k
    left_mask = ((<uint64_t>1) << o.left_bits) - 1
    right_mask = ((<uint64_t>1) << o.right_bits) - 1
    while True:
        left = (<uint64_t>k) >> o.right_bits
        right = (<uint64_t>k) & right_mask
        for turn in range(0, ROUNDS, 2):
            mixed = (right ^ o.keys[turn]) * <uint64_t>0x9E3779B97F4A7C15
            left ^= (mixed ^ (mixed >> 32)) * <uint64_t>0xD6E8FEB86659FD93 >> 40 & left_mask
            mixed = (left ^ o.keys[turn + 1]) * <uint64_t>0x9E3779B97F4A7C15
            right ^= (mixed ^ (mixed >> 32)) * <uint64_t>0xD6E8FEB86659FD93 >> 40 & right_mask
        k = <Py_ssize_t>((left << o.right_bits) | right)
        if k < o.n_blocks:
            return k


cdef inline double eta(Recipe r, double t) noexcept nogil:
    """The step size of sample t, counted from 1."""
    if r.schedule == OPTIMAL:
        return 1.0 / (r.alpha * (r.optimal_start + t - 1.0))
    if r.schedule == DECAYING:
        return r.eta0 / (1.0 + r.decay * r.eta0 * (t - 1.0))
    if r.schedule == INVSCALING:
        if r.power_t == 0.5:
            return r.eta0 / sqrt(t)
        if r.power_t == 0.25:
            return r.eta0 / sqrt(sqrt(t))
        return r.eta0 / pow(t, r.power_t)
    return r.eta0
