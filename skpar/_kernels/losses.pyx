"""Losses: value(y, p) and its derivative in the prediction p, in double precision.

The methods are virtual, one call a row (1-2 ns). They take doubles only: Cython does not
override a fused-type cdef method in a subclass, and says nothing about it.
Classification losses take y in {-1, 1}, the log loss y in {0, 1}. Deviances take the logarithm
of the mean for p.
"""

from libc.math cimport copysign, exp, fabs, log, log1p, pow


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

    cdef double majorant(self, double y, double p) noexcept nogil:
        """The curvature of a parabola that touches the loss at p and lies above it.

        Where a loss is straight its own curvature says nothing of how far a step may go.
        """
        return self.curvature(y, p)

    cdef void expand(self, double y, double p, double* c) noexcept nogil:
        pass

    def py_value(self, double y, double p):
        """`value` for tests."""
        return self.value(y, p)

    def py_curvature(self, double y, double p):
        """`curvature` for tests."""
        return self.curvature(y, p)

    def py_majorant(self, double y, double p):
        """`majorant` for tests."""
        return self.majorant(y, p)

    def py_gradient(self, double y, double p):
        """`gradient` for tests."""
        return self.gradient(y, p)


cdef class Hinge(Loss):
    """max(0, threshold - y p): threshold 1 is the SVM's loss, 0 the perceptron's."""

    cdef double value(self, double y, double p) noexcept nogil:
        cdef double z = y * p
        return self.parameter - z if z <= self.parameter else 0.0

    cdef double gradient(self, double y, double p) noexcept nogil:
        # 1 where y p <= threshold, else 0, without a branch: see LogLoss.
        return -y * (0.5 + copysign(0.5, self.parameter - y * p))


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

    def __cinit__(self):
        self.expands = True

    cdef double value(self, double y, double p) noexcept nogil:
        return log1p(exp(-fabs(p))) + (p if p > 0.0 else 0.0) - y * p

    cdef double gradient(self, double y, double p) noexcept nogil:
        # Without a branch: the sign of p is as good as random to the processor.
        cdef double e = exp(-fabs(p))
        cdef double positive = 0.5 + copysign(0.5, p)
        cdef double negative = 1.0 - positive
        return ((1.0 - y) * (positive + negative * e) - y * (negative + positive * e)) / (1.0 + e)

    cdef double curvature(self, double y, double p) noexcept nogil:
        cdef double e = exp(-fabs(p))
        return e / ((1.0 + e) * (1.0 + e))

    cdef void expand(self, double y, double p, double* c) noexcept nogil:
        """The gradient at p + d is c0 + c1 d + ... + c4 d^4, to 1e-9 for |d| <= 1/16."""
        cdef double e = exp(-fabs(p))
        cdef double inverse = 1.0 / (1.0 + e)
        cdef double positive = 0.5 + copysign(0.5, p)
        cdef double sigma = (positive + (1.0 - positive) * e) * inverse
        cdef double slope = e * inverse * inverse
        c[0] = sigma - y
        c[1] = slope
        c[2] = slope * (0.5 - sigma)
        c[3] = slope * (1.0 / 6.0 - slope)
        c[4] = slope * (0.5 - sigma) * (1.0 / 12.0 - slope)


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

    cdef double majorant(self, double y, double p) noexcept nogil:
        cdef double z = y * p
        return 2.0 if z >= -1.0 else 2.0 / -z


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

    cdef double majorant(self, double y, double p) noexcept nogil:
        cdef double r = fabs(p - y)
        return 1.0 if r <= self.parameter else self.parameter / r


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


cdef class Poisson(Loss):
    """Half the Poisson deviance, m - y + y log(y / m) with mean m = exp(p), for y >= 0."""

    cdef double value(self, double y, double p) noexcept nogil:
        cdef double constant = y * log(y) - y if y > 0.0 else 0.0
        return exp(p) - y * p + constant

    cdef double gradient(self, double y, double p) noexcept nogil:
        return exp(p) - y

    cdef double curvature(self, double y, double p) noexcept nogil:
        return exp(p)


cdef class Gamma(Loss):
    """Half the gamma deviance, y / m - 1 - log(y / m) with mean m = exp(p), for y > 0."""

    cdef double value(self, double y, double p) noexcept nogil:
        return y * exp(-p) - 1.0 - log(y) + p

    cdef double gradient(self, double y, double p) noexcept nogil:
        return 1.0 - y * exp(-p)

    cdef double curvature(self, double y, double p) noexcept nogil:
        return y * exp(-p)


cdef class Tweedie(Loss):
    """Half the Tweedie deviance of power v > 1, v != 2, with mean m = exp(p), for y >= 0.

    y^(2-v) / ((1-v) (2-v)) - y m^(1-v) / (1-v) + m^(2-v) / (2-v) (Jorgensen 1987).
    """

    cdef double pull(self, double y, double p) noexcept nogil:
        """y m^(1-v), 0 where y is, however small m."""
        return y * exp((1.0 - self.parameter) * p) if y > 0.0 else 0.0

    cdef double value(self, double y, double p) noexcept nogil:
        cdef double a = 1.0 - self.parameter, b = 2.0 - self.parameter
        cdef double constant = pow(y, b) / (a * b) if y > 0.0 else 0.0
        return constant - self.pull(y, p) / a + exp(b * p) / b

    cdef double gradient(self, double y, double p) noexcept nogil:
        return exp((2.0 - self.parameter) * p) - self.pull(y, p)

    cdef double curvature(self, double y, double p) noexcept nogil:
        cdef double a = 1.0 - self.parameter, b = 2.0 - self.parameter
        return b * exp(b * p) - a * self.pull(y, p)

    cdef double majorant(self, double y, double p) noexcept nogil:
        # Beyond power 2 the loss bends down where the mean is far above the target.
        cdef double a = 1.0 - self.parameter, b = 2.0 - self.parameter
        return max(b, 1.0) * exp(b * p) - a * self.pull(y, p)


cdef class Quantile(Loss):
    """level r for r = y - p >= 0, else (level - 1) r: the pinball (Koenker & Bassett 1978)."""

    cdef double value(self, double y, double p) noexcept nogil:
        cdef double r = y - p
        return self.parameter * r if r >= 0.0 else (self.parameter - 1.0) * r

    cdef double gradient(self, double y, double p) noexcept nogil:
        # 0 lies between the slopes on either side of the kink.
        if y == p:
            return 0.0
        return -self.parameter if y > p else 1.0 - self.parameter
