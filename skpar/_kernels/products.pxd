cdef extern from *:
    """
    #define SKPAR_PRODUCTS
    """

cdef class Products:
    cdef readonly Py_ssize_t d, padded, stride, most
    cdef object keep_alive
    cdef double* z
    cdef double* t
    cdef void add(
        self, Py_ssize_t m, Py_ssize_t first, Py_ssize_t last, double* H) noexcept nogil
    cdef bint factor_of(
        self, const double* rows, const double* factors, Py_ssize_t m, const double* l2,
        double jitter, double* padded, double* H) noexcept nogil
