"""The records that kernels read and write: rows, their order, the step's recipe, the weights."""

import numpy as np

from libc.math cimport log, pow, sqrt
from libc.stdint cimport int64_t, uint64_t

from skpar._kernels.arrays cimport pointer
from skpar._kernels.losses cimport Loss
from skpar._kernels.rows cimport SKPAR_PADDING, use_simd_level

use_simd_level()

SCHEDULES = {
    "constant": CONSTANT,
    "optimal": OPTIMAL,
    "invscaling": INVSCALING,
    "adaptive": ADAPTIVE,
    "pa1": PA1,
    "pa2": PA2,
    "decaying": DECAYING,
}


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


cdef uint64_t mixed(uint64_t state) noexcept nogil:
    """The next number of splitmix64 (Steele, Lea & Flood 2014)."""
    state += <uint64_t>0x9E3779B97F4A7C15
    state = (state ^ (state >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    state = (state ^ (state >> 27)) * <uint64_t>0x94D049BB133111EB
    return state ^ (state >> 31)


cdef class Order:
    """Blocks of consecutive rows in the order in which to visit them.

    Block b holds positions b * block_size up to the next block's; `subset`, where given, maps
    a position to a row (the training rows of a validation split). With a seed, the order is a
    pseudo-random permutation computed block by block (`block_at`): nothing is drawn, stored or
    waited for before an epoch begins.
    """

    def __init__(self, Py_ssize_t n_rows, Py_ssize_t block_size, seed=None, subset=None):
        cdef uint64_t state
        cdef int k
        self.keep_alive = subset
        self.n_blocks = (n_rows + block_size - 1) // block_size
        self.block_size = block_size
        self.n_rows = n_rows
        self.shuffled = seed is not None and self.n_blocks > 1
        if self.shuffled:
            bits = max(2, int(self.n_blocks - 1).bit_length())
            self.left_bits = bits // 2
            self.right_bits = bits - self.left_bits
            state = 0
            for part in seed:
                state = mixed(state ^ <uint64_t>part)
            for k in range(ROUNDS):
                state = mixed(state)
                self.keys[k] = state
        if subset is not None:
            self.subset = <const int64_t*>pointer(subset)

    def blocks(self):
        """The order as an array, for tests."""
        cdef Py_ssize_t k
        return np.array([block_at(self, k) for k in range(self.n_blocks)], dtype=np.int64)


cdef class Recipe:
    """What a step does: the loss, the penalty's two strengths, the schedule."""

    def __init__(self, Loss loss, *, l1, l2, alpha, schedule, eta0, power_t, intercept_rate,
                 average_from=0, track_loss=False, decay=0.0, typical_mean=1.0):
        cdef double typical, mean = typical_mean
        self.loss = loss
        self.l1, self.l2, self.alpha = l1, l2, alpha
        self.schedule = SCHEDULES[schedule]
        self.eta0, self.power_t, self.decay = eta0, power_t, decay
        self.intercept_rate = intercept_rate
        self.average_from = average_from
        self.track_loss = track_loss
        self.signed_by_target = loss.name == "Hinge"
        if self.schedule == OPTIMAL:
            # Bottou (2012), section 4.2: the first step is that of a typical weight's size.
            if loss.name in ("Poisson", "Gamma", "Tweedie"):
                # Such a weight's exponential would be huge: no step from a mean or to a target of
                # twenty times the typical one overshoots instead.
                self.eta0 = 1.0 / max(-loss.gradient(20.0 * mean, log(mean)),
                                      loss.gradient(mean, log(20.0 * mean)))
            else:
                typical = sqrt(1.0 / sqrt(alpha))
                self.eta0 = typical / max(1.0, loss.gradient(1.0, -typical))
            self.optimal_start = 1.0 / (self.eta0 * alpha)

    def step_size(self, double t):
        """The step size of sample number t (counted from 1), t float."""
        return eta(self, t)

    def sum_of_steps(self, double a, double b):
        """The sum of the step sizes of samples a to b (b not included), by its integral."""
        return steps_between(self, a, b)


cdef double steps_between(Recipe r, double a, double b) noexcept nogil:
    """The midpoint rule: sample t stands for the span from t - 1/2 to t + 1/2."""
    cdef double p = 1.0 - r.power_t
    if r.schedule == OPTIMAL:
        a = max(r.optimal_start + a - 1.5, 0.5)
        b = max(r.optimal_start + b - 1.5, a)
        return log(b / a) / r.alpha
    if r.schedule == INVSCALING:
        a, b = max(a - 0.5, 0.5), max(b - 0.5, 0.5)
        if p == 0.0:
            return r.eta0 * log(b / a)
        return r.eta0 * (pow(b, p) - pow(a, p)) / p
    if r.schedule == DECAYING and r.decay != 0.0:
        a, b = max(a - 1.5, 0.0) * r.decay * r.eta0, max(b - 1.5, 0.0) * r.decay * r.eta0
        return log((1.0 + b) / (1.0 + a)) / r.decay
    return r.eta0 * (b - a)


def padded(w):
    """A copy of w at the start of whole cache lines, zeros behind it: see rows.h."""
    room = np.zeros(w.size + 2 * SKPAR_PADDING // w.itemsize, dtype=w.dtype)
    skip = (-room.ctypes.data % SKPAR_PADDING) // w.itemsize
    copy = room[skip:skip + w.size]
    copy[:] = w
    return copy


cdef class State:
    """One worker's weights: w * scale, the running average, the l1 bookkeeping, the count t.

    `settle` folds the scale in, after which `w`, `average` and the intercepts are plain numbers.
    `w` is copied into memory of its own (`padded`).
    """

    def __init__(self, w, intercept, *, t=1.0, average=None, average_intercept=0.0,
                 received=None):
        self.w, self.average, self.received = padded(w), average, received
        self.intercept, self.average_intercept = intercept, average_intercept
        self.t = t
        self.scale, self.average_a, self.average_b = 1.0, 0.0, 1.0
        self.w_ptr = pointer(self.w)
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
        if self.average is None:
            return self.w * self.w.dtype.type(self.scale), None
        copy = self.copy(self.t)
        copy.settle()
        return copy.w, copy.average

    def copy(self, t):
        """The same numbers in memory of their own, at sample count t."""
        cdef State state = State(
            self.w, self.intercept, t=t,
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
