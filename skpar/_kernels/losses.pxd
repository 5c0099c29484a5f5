cdef class Loss:
    cdef readonly str name
    cdef readonly double parameter
    cdef double value(self, double y, double p) noexcept nogil
    cdef double gradient(self, double y, double p) noexcept nogil
