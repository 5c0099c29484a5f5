from cpython.pythread cimport PyThread_type_lock
from libc.stdint cimport int16_t, int64_t

from skpar._kernels.records cimport Recipe, State
from skpar._kernels.rows cimport real

cdef class Lock:
    cdef PyThread_type_lock handle

cdef class Shared:
    cdef readonly object w, intercept, cursor, average, hot_columns, slots, last_total
    cdef public double safe_intercept_step, least_damping, t_start, averaged, average_intercept
    cdef public Py_ssize_t merge_rows, merge_all_rows, chunk_blocks, average_from, average_rows
    cdef Py_ssize_t first_block, last_block
    cdef readonly Py_ssize_t n_columns, n_hot
    cdef readonly bint whole
    cdef object lock_owner, safe_steps
    cdef void* w_ptr
    cdef void* average_ptr
    cdef void* safe_ptr
    cdef object hot_w
    cdef void* hot_w_ptr
    cdef void* last_ptr
    cdef double* intercept_ptr
    cdef int64_t* cursor_ptr
    cdef const int64_t* hot_ptr
    cdef const int16_t* slots_ptr
    cdef PyThread_type_lock handle(self)

cdef double scale_at(Shared z, Recipe r, double t) noexcept nogil
cdef double l1_total_at(Shared z, Recipe r, double t) noexcept nogil
cdef void try_average(const real* shared, State s, Shared z, Recipe r) noexcept nogil
