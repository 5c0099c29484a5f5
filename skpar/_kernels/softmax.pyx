"""The sequential pass of the softmax: a row is read once and moves the weights of all classes.

Weights are laid out features x classes. The order of operations in a step is that of `sgd`.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t

from skpar._kernels.outputs cimport Targets
from skpar._kernels.penalties cimport truncate
from skpar._kernels.records cimport Order, Recipe, Rows, block_at, eta
from skpar._kernels.rows cimport index, real

cdef extern from "outputs.h" nogil:
    double softmax_row(Py_ssize_t, const double*, Py_ssize_t, double*)

cdef double MIN_SCALE = 1e-6


cdef class SoftmaxState:
    """Weights scale * w (features x classes), the intercepts, their averages and counters.

    Arrays are the caller's: `w`, `received` (the l1 penalty met so far) and `average` of the
    data's dtype, `intercept` and `average_intercept` float64.
    """

    cdef readonly object w, intercept, received, average, average_intercept
    cdef public double t, loss_sum, averaged
    cdef double scale, l1_total, average_a, average_b
    cdef Py_ssize_t k

    def __init__(self, w, intercept, t, received=None, average=None, average_intercept=None):
        self.w, self.intercept, self.received = w, intercept, received
        self.average, self.average_intercept = average, average_intercept
        self.t, self.k = t, len(intercept)
        self.scale = self.average_b = 1.0
        self.l1_total = self.average_a = self.loss_sum = self.averaged = 0.0

    def settle(self):
        """Fold the scale and the pending average into the arrays."""
        if self.average is not None:
            self.average += (self.average_a * self.w).astype(self.w.dtype)
            self.average /= self.average_b
        self.w *= self.w.dtype.type(self.scale)
        self.scale = self.average_b = 1.0
        self.average_a = 0.0


cdef void fold_scale(real* w, real* average, SoftmaxState s, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t j
    if average != NULL:
        for j in range(size):
            average[j] = <real>((average[j] + s.average_a * w[j]) / s.average_b)
        s.average_a, s.average_b = 0.0, 1.0
    for j in range(size):
        w[j] = <real>(w[j] * s.scale)
    s.scale = 1.0


cdef void step(
    const real* x, const index* columns, Py_ssize_t n, Py_ssize_t row, Rows X, Targets targets,
    SoftmaxState s, Recipe r, real* w, double* b, real* received, real* average, double* mean_b,
    double* work
) noexcept nogil:
    cdef Py_ssize_t k = s.k, i, c, j
    cdef Py_ssize_t label = targets.codes[row]
    cdef double* p = work
    cdef double* u = work + k
    cdef double rate = eta(r, s.t), weight = targets.factors[label], loss, before, after
    cdef real a
    for c in range(k):
        p[c] = 0.0
    for i in range(n):
        j = (columns[i] if columns != NULL else i) * k
        for c in range(k):
            p[c] += x[i] * w[j + c]
    for c in range(k):
        p[c] = s.scale * p[c] + b[c]
    loss = softmax_row(k, p, label, u)
    if r.track_loss:
        s.loss_sum += loss
    if targets.weights != NULL:
        weight *= targets.weights[row]
    for c in range(k):
        u[c] = -rate * weight * (u[c] - (c == label))
    if r.l2 != 0.0:
        s.scale *= max(0.0, 1.0 - r.l2 * rate)
        if s.scale < MIN_SCALE:
            fold_scale(w, average, s, X.n_columns * k)
    for i in range(n):
        a = <real>(x[i] / s.scale)
        j = (columns[i] if columns != NULL else i) * k
        for c in range(k):
            w[j + c] += <real>(a * u[c])
    for c in range(k):
        b[c] += u[c] * r.intercept_rate
    if average != NULL and 0 < r.average_from <= s.t:
        s.averaged += 1.0
        for i in range(n):
            a = <real>(-s.average_a * x[i] / s.scale)
            j = (columns[i] if columns != NULL else i) * k
            for c in range(k):
                average[j + c] += <real>(a * u[c])
        if s.averaged > 1.0:
            s.average_b /= 1.0 - 1.0 / s.averaged
        s.average_a += s.average_b * s.scale / s.averaged
        for c in range(k):
            mean_b[c] += (b[c] - mean_b[c]) / s.averaged
    if r.l1 != 0.0:
        s.l1_total += r.l1 * rate
        for i in range(n):
            j = (columns[i] if columns != NULL else i) * k
            for c in range(j, j + k):
                before = s.scale * w[c]
                after = truncate(before, s.l1_total, received[c])
                if after != before:
                    w[c] = <real>(after / s.scale)
                    received[c] += <real>(after - before)
                    if average != NULL:
                        average[c] -= <real>(s.average_a * (after - before) / s.scale)
    s.t += 1.0


cdef void pass_blocks(
    const real* x, const index* columns, Rows X, Targets targets, Order order, SoftmaxState s,
    Recipe r, real* w, double* b, real* received, real* average, double* mean_b, double* work,
    Py_ssize_t lo, Py_ssize_t hi
) noexcept nogil:
    cdef Py_ssize_t block, position, first, row, n
    for block in range(lo, hi):
        first = block_at(order, block) * order.block_size
        for position in range(first, min(first + order.block_size, order.n_rows)):
            row = order.subset[position] if order.subset != NULL else position
            if X.sparse:
                n = X.starts[row + 1] - X.starts[row]
                step(x + X.starts[row], columns + X.starts[row], n, row, X, targets, s, r, w, b,
                     received, average, mean_b, work)
            else:
                step(x + row * X.n_columns, <const index*>NULL, X.n_columns, row, X, targets, s,
                     r, w, b, received, average, mean_b, work)


cdef void* place(array, dtype, Py_ssize_t size) except? NULL:
    if array is None:
        return NULL
    if array.dtype != dtype or not array.flags.c_contiguous or array.size != size:
        raise ValueError(f"kernels need {size} contiguous numbers of {dtype}")
    return <void*><size_t>array.ctypes.data


def run_softmax(Rows X, Targets targets, Order order, SoftmaxState s, Recipe r, Py_ssize_t lo,
                Py_ssize_t hi):
    """Blocks lo to hi of the order, one row after another, without the GIL."""
    if targets.codes == NULL or targets.n != X.n_rows or targets.k != s.k:
        raise ValueError("the softmax needs a class for each row")
    dtype = np.dtype(np.float64 if X.is_double else np.float32)
    double = np.dtype(np.float64)
    cdef Py_ssize_t size = X.n_columns * s.k
    cdef void* w = place(s.w, dtype, size)
    cdef void* received = place(s.received, dtype, size)
    cdef void* average = place(s.average, dtype, size)
    cdef double* b = <double*>place(s.intercept, double, s.k)
    cdef double* mean_b = <double*>place(s.average_intercept, double, s.k)
    if r.l1 != 0.0 and received == NULL:
        raise ValueError("the l1 penalty needs `received`")
    workspace = np.empty(2 * s.k)
    cdef double* work = <double*><size_t>workspace.ctypes.data
    with nogil:
        if X.is_double:
            if X.wide:
                pass_blocks(<const double*>X.values, <const int64_t*>X.columns, X, targets, order,
                            s, r, <double*>w, b, <double*>received, <double*>average, mean_b,
                            work, lo, hi)
            else:
                pass_blocks(<const double*>X.values, <const int32_t*>X.columns, X, targets, order,
                            s, r, <double*>w, b, <double*>received, <double*>average, mean_b,
                            work, lo, hi)
        elif X.wide:
            pass_blocks(<const float*>X.values, <const int64_t*>X.columns, X, targets, order, s,
                        r, <float*>w, b, <float*>received, <float*>average, mean_b, work, lo, hi)
        else:
            pass_blocks(<const float*>X.values, <const int32_t*>X.columns, X, targets, order, s,
                        r, <float*>w, b, <float*>received, <float*>average, mean_b, work, lo, hi)
