from skpar._kernels.losses cimport Loss

cdef class Smoothed(Loss):
    cdef readonly Loss original
    cdef readonly double width
    cdef bint hinge
    cdef double excess(self, double y, double p) noexcept nogil

cdef class SmoothedQuantile(Loss):
    cdef readonly double width
    cdef double slope(self, double r) noexcept nogil
