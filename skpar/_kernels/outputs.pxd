from libc.stdint cimport int64_t

cdef class Targets:
    cdef object keep_alive
    cdef const int64_t* codes
    cdef const int64_t* classes
    cdef const double* values
    cdef const double* weights
    cdef const double* factors
    cdef readonly Py_ssize_t n, k
