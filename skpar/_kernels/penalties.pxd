"""Penalties as their proximal operators (Parikh & Boyd 2014, section 6.5)."""


cdef inline double soft_threshold(double w, double amount) noexcept nogil:
    """sign(w) max(|w| - amount, 0): the prox of amount |w|, without a branch."""
    cdef double above = w - amount if w > amount else 0.0
    cdef double below = w + amount if w < -amount else 0.0
    return above + below


cdef inline double truncate(double w, double total, double received) noexcept nogil:
    """The cumulative l1 step of Tsuruoka, Tsujii & Ananiadou (2009), eq. 10-11.

    `total` is what every coordinate should have received so far and `received` (signed) what
    this one did; the weight never crosses zero.
    """
    cdef double moved
    if w > 0.0:
        moved = w - (total + received)
        return moved if moved > 0.0 else 0.0
    if w < 0.0:
        moved = w + (total - received)
        return moved if moved < 0.0 else 0.0
    return w
