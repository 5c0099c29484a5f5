"""Losses with their corners rounded, so that they have a curvature everywhere."""

from libc.math cimport fabs

from skpar._kernels.losses cimport Loss


cdef class SmoothedQuantile(Loss):
    """The pinball with r^2 / (2 width) for (level - 1) width < r < level width (Nesterov 2005).

    At most max(level, 1 - level)^2 width / 2 below the pinball.
    """

    def __init__(self, double level, double width):
        Loss.__init__(self, level)
        self.width = width

    def __reduce__(self):
        return SmoothedQuantile, (self.parameter, self.width)

    cdef double slope(self, double r) noexcept nogil:
        return max(self.parameter - 1.0, min(self.parameter, r / self.width))

    cdef double value(self, double y, double p) noexcept nogil:
        cdef double u = self.slope(y - p)
        return u * (y - p) - 0.5 * self.width * u * u

    cdef double gradient(self, double y, double p) noexcept nogil:
        return -self.slope(y - p)

    cdef double curvature(self, double y, double p) noexcept nogil:
        cdef double share = (y - p) / self.width
        return 1.0 / self.width if self.parameter - 1.0 < share < self.parameter else 0.0

    cdef double majorant(self, double y, double p) noexcept nogil:
        # The two lines cross at this residual; as for |r| / 2 (Hunter & Lange 2000) from there.
        cdef double corner = (self.parameter - 0.5) * self.width
        return 0.5 / max(fabs(y - p - corner), 0.5 * self.width)


cdef class Smoothed(Loss):
    """A kinked loss with its corner rounded by a parabola of the given width (Nesterov 2005).

    max(0, e) becomes e^2 / (2 width) for 0 < e < width and e - width / 2 above: at most
    width / 2 below the kinked loss. e is threshold - y p for a hinge and |y - p| - epsilon for
    the epsilon-insensitive loss.
    """

    def __init__(self, Loss loss, double width):
        Loss.__init__(self, loss.parameter)
        self.hinge = loss.name == "Hinge"
        self.original, self.width = loss, width

    def __reduce__(self):
        return Smoothed, (self.original, self.width)

    cdef double excess(self, double y, double p) noexcept nogil:
        return self.parameter - y * p if self.hinge else fabs(y - p) - self.parameter

    cdef double value(self, double y, double p) noexcept nogil:
        cdef double e = self.excess(y, p)
        if e <= 0.0:
            return 0.0
        return e * e / (2.0 * self.width) if e < self.width else e - 0.5 * self.width

    cdef double gradient(self, double y, double p) noexcept nogil:
        cdef double e = self.excess(y, p)
        cdef double slope = 0.0 if e <= 0.0 else (e / self.width if e < self.width else 1.0)
        if self.hinge:
            return -y * slope
        return slope if p > y else -slope

    cdef double curvature(self, double y, double p) noexcept nogil:
        cdef double e = self.excess(y, p)
        return 1.0 / self.width if 0.0 < e < self.width else 0.0

    cdef double majorant(self, double y, double p) noexcept nogil:
        # One over twice the distance to the kink, on either side of it.
        return 0.5 / max(fabs(self.excess(y, p)), 0.5 * self.width)
