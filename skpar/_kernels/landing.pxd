"""One step of dual ascent: an equation in one margin, which every smooth convex loss has."""

from libc.math cimport exp, fabs

from skpar._kernels.losses cimport Loss

cdef enum:
    MOST_TURNS = 50
    # Where the slope has kinks Newton's steps may go back and forth between two points: after
    # these turns every other one halves the bracket.
    PATIENCE = 8

cdef extern from *:
    """
    /* A step ends where its equation holds to this share of what it started with. */
    #define SKPAR_LANDING_ENOUGH 1e-2
    """
    const double ENOUGH "SKPAR_LANDING_ENOUGH"


cdef inline double slope_of(Loss loss, bint is_log_loss, double y, double p) noexcept nogil:
    if is_log_loss:
        return 1.0 / (1.0 + exp(-p)) - y
    return loss.gradient(y, p)


cdef inline double bend_of(
    Loss loss, bint is_log_loss, double y, double p, double first
) noexcept nogil:
    if is_log_loss:
        return (first + y) * (1.0 - y - first)
    return loss.curvature(y, p)


cdef inline double landing(
    Loss loss, bint is_log_loss, double y, double s, double p, double a, double q, double* first
) noexcept nogil:
    """The margin u with u - p + q (a + s loss'(y, u)) = 0, nearly, and loss'(y, u).

    The left side rises at least as fast as u, so u lies between p and p less its value there:
    Newton's steps, or halves of what is left of that stretch.
    """
    cdef double g = slope_of(loss, is_log_loss, y, p)
    cdef double begin = q * (a + s * g), value = begin, u = p, next
    cdef double low = min(p, p - begin), high = max(p, p - begin)
    cdef int turn
    cdef bint newton
    for turn in range(MOST_TURNS):
        next = u - value / (1.0 + q * s * bend_of(loss, is_log_loss, y, u, g))
        newton = low < next < high and (turn < PATIENCE or turn % 2 == 0)
        u = next if newton else 0.5 * (low + high)
        g = slope_of(loss, is_log_loss, y, u)
        value = u - p + q * (a + s * g)
        if fabs(value) <= ENOUGH * fabs(begin):
            break
        if value > 0.0:
            high = u
        else:
            low = u
    first[0] = g
    return u
