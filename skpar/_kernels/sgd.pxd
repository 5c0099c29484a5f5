from cpython.pythread cimport PyThread_type_lock
from libc.stdint cimport int64_t

from skpar._kernels.losses cimport Loss

cdef class Rows:
    cdef readonly Py_ssize_t n_rows, n_columns
    cdef readonly bint sparse, is_double, wide
    cdef object keep_alive
    cdef const void* values
    cdef const void* columns
    cdef const int64_t* starts
    cdef const double* targets
    cdef const double* weights

cdef class Order:
    cdef readonly Py_ssize_t n_rows, n_blocks, block_size
    cdef object keep_alive
    cdef const int64_t* blocks
    cdef const int64_t* subset

cdef class Recipe:
    cdef readonly Loss loss
    cdef readonly double l1, l2, alpha, eta0, power_t, optimal_start, intercept_rate
    cdef readonly int schedule
    cdef readonly Py_ssize_t average_from
    cdef readonly bint track_loss
    cdef bint signed_by_target

cdef class State:
    cdef public object w, average, received
    cdef public double intercept, average_intercept, t, l1_total, averaged, loss_sum
    cdef double scale, average_a, average_b
    cdef void* w_ptr
    cdef void* average_ptr
    cdef void* received_ptr
    cpdef settle(self)

cdef class Shared:
    cdef readonly object w, intercept, cursor, safe_steps
    cdef public double safe_intercept_step, least_damping
    cdef public Py_ssize_t intercept_blocks, weight_blocks, chunk_blocks, average_from
    cdef readonly bint direct
    cdef object lock_owner
    cdef void* w_ptr
    cdef double* intercept_ptr
    cdef int64_t* cursor_ptr
    cdef void* safe_ptr
    cdef PyThread_type_lock handle(self)
