from libc.stdint cimport int64_t

from skpar._kernels.records cimport Order, Recipe, Rows, State
from skpar._kernels.rows cimport index, real

cdef enum:
    AHEAD = 8

cdef struct Ahead:
    # the rows to work on next, a ring; -1 past the end
    Py_ssize_t[AHEAD] rows
    Py_ssize_t head, left
    Py_ssize_t block, last_block, position, end

cdef Py_ssize_t take(
    Ahead* a, const real* x, const index* columns, Rows X, Order order) noexcept nogil
cdef void look_ahead(
    Ahead* a, const real* x, const index* columns, Rows X, Order order, Py_ssize_t lo, Py_ssize_t hi
) noexcept nogil
cdef Py_ssize_t pass_rows(
    real* w, const index* columns, Rows X, Order order, Ahead* a, State s, Recipe r,
    Py_ssize_t count) noexcept nogil
cdef double signed_aggressiveness(
    Recipe r, double y, double p, double norm, double* step) noexcept nogil
cdef double clipped_gradient(Recipe r, double y, double p) noexcept nogil
