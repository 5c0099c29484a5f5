cdef class Loss:
    cdef readonly str name
    cdef readonly double parameter
    cdef readonly int kind  # 1: the log loss, which has a loop of its own in gradients.h
    cdef double value(self, double y, double p) noexcept nogil
    cdef double gradient(self, double y, double p) noexcept nogil
    cdef double curvature(self, double y, double p) noexcept nogil
    cdef readonly bint expands  # whether the gradient has a series: `expand`
    cdef void expand(self, double y, double p, double* c) noexcept nogil
    cdef double majorant(self, double y, double p) noexcept nogil

cdef class Tweedie(Loss):
    cdef double pull(self, double y, double p) noexcept nogil
