"""Losses: value(y, p) and its derivative in the prediction p, in double precision.

The methods are virtual, one call a row (1-2 ns). They take doubles only: Cython does not
override a fused-type cdef method in a subclass, and says nothing about it.
Classification losses take y in {-1, 1}, the log loss y in {0, 1}.
"""

from libc.math cimport exp, fabs, log1p


cdef class Loss:
    """A loss; `parameter` is its threshold or epsilon, where it has one."""

    def __init__(self, double parameter=0.0):
        self.name = type(self).__name__
        self.parameter = parameter
        self.kind = 1 if type(self) is LogLoss else 0

    def __reduce__(self):
        return type(self), (self.parameter,)

    cdef double value(self, double y, double p) noexcept nogil:
        return 0.0

    cdef double gradient(self, double y, double p) noexcept nogil:
        return 0.0

    cdef double curvature(self, double y, double p) noexcept nogil:
        return 0.0

    def py_value(self, double y, double p):
        """`value` for tests."""
        return self.value(y, p)

    def py_curvature(self, double y, double p):
        """`curvature` for tests."""
        return self.curvature(y, p)

    def py_gradient(self, double y, double p):
        """`gradient` for tests."""
        return self.gradient(y, p)


cdef class Hinge(Loss):
    """max(0, threshold - y p): threshold 1 is the SVM's loss, 0 the perceptron's."""

    cdef double value(self, double y, double p) noexcept nogil:
        cdef double z = y * p
        return self.parameter - z if z <= self.parameter else 0.0

    cdef double gradient(self, double y, double p) noexcept nogil:
        return -y if y * p <= self.parameter else 0.0


cdef class SquaredHinge(Loss):
    """max(0, 1 - y p)^2."""

    cdef double value(self, double y, double p) noexcept nogil:
        cdef double z = 1.0 - y * p
        return z * z if z > 0.0 else 0.0

    cdef double gradient(self, double y, double p) noexcept nogil:
        cdef double z = 1.0 - y * p
        return -2.0 * y * z if z > 0.0 else 0.0

    cdef double curvature(self, double y, double p) noexcept nogil:
        return 2.0 if y * p < 1.0 else 0.0


cdef class LogLoss(Loss):
    """log(1 + exp(p)) - y p with y in {0, 1}, in the form that does not overflow."""

    cdef double value(self, double y, double p) noexcept nogil:
        return log1p(exp(-fabs(p))) + (p if p > 0.0 else 0.0) - y * p

    cdef double gradient(self, double y, double p) noexcept nogil:
        cdef double e
        if p > 0.0:
            e = exp(-p)
            return ((1.0 - y) - y * e) / (1.0 + e)
        e = exp(p)
        return ((1.0 - y) * e - y) / (1.0 + e)

    cdef double curvature(self, double y, double p) noexcept nogil:
        cdef double e = exp(-fabs(p))
        return e / ((1.0 + e) * (1.0 + e))


cdef class ModifiedHuber(Loss):
    """max(0, 1 - z)^2 for z = y p >= -1, else -4 z (Zhang 2004)."""

    cdef double value(self, double y, double p) noexcept nogil:
        cdef double z = y * p
        if z >= 1.0:
            return 0.0
        return (1.0 - z) * (1.0 - z) if z >= -1.0 else -4.0 * z

    cdef double gradient(self, double y, double p) noexcept nogil:
        cdef double z = y * p
        if z >= 1.0:
            return 0.0
        return -2.0 * y * (1.0 - z) if z >= -1.0 else -4.0 * y

    cdef double curvature(self, double y, double p) noexcept nogil:
        cdef double z = y * p
        return 2.0 if -1.0 <= z < 1.0 else 0.0


cdef class SquaredError(Loss):
    """(y - p)^2 / 2."""

    cdef double value(self, double y, double p) noexcept nogil:
        return 0.5 * (y - p) * (y - p)

    cdef double gradient(self, double y, double p) noexcept nogil:
        return p - y

    cdef double curvature(self, double y, double p) noexcept nogil:
        return 1.0


cdef class Huber(Loss):
    """r^2 / 2 for |r| = |y - p| <= epsilon, else epsilon |r| - epsilon^2 / 2 (Huber 1964)."""

    cdef double value(self, double y, double p) noexcept nogil:
        cdef double r = fabs(y - p)
        if r <= self.parameter:
            return 0.5 * r * r
        return self.parameter * (r - 0.5 * self.parameter)

    cdef double gradient(self, double y, double p) noexcept nogil:
        cdef double r = p - y
        if fabs(r) <= self.parameter:
            return r
        return self.parameter if r >= 0.0 else -self.parameter

    cdef double curvature(self, double y, double p) noexcept nogil:
        return 1.0 if fabs(p - y) <= self.parameter else 0.0


cdef class EpsilonInsensitive(Loss):
    """max(0, |y - p| - epsilon): the loss of support vector regression."""

    cdef double value(self, double y, double p) noexcept nogil:
        cdef double r = fabs(y - p) - self.parameter
        return r if r > 0.0 else 0.0

    cdef double gradient(self, double y, double p) noexcept nogil:
        if y - p > self.parameter:
            return -1.0
        return 1.0 if p - y > self.parameter else 0.0


cdef class SquaredEpsilonInsensitive(Loss):
    """max(0, |y - p| - epsilon)^2."""

    cdef double value(self, double y, double p) noexcept nogil:
        cdef double r = fabs(y - p) - self.parameter
        return r * r if r > 0.0 else 0.0

    cdef double gradient(self, double y, double p) noexcept nogil:
        cdef double r = y - p
        if r > self.parameter:
            return -2.0 * (r - self.parameter)
        return 2.0 * (-r - self.parameter) if r < -self.parameter else 0.0

    cdef double curvature(self, double y, double p) noexcept nogil:
        return 2.0 if fabs(y - p) > self.parameter else 0.0
