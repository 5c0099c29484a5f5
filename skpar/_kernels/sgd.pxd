from skpar._kernels.ahead cimport Ahead
from skpar._kernels.records cimport Order, Recipe, Rows, State
from skpar._kernels.rows cimport index, real

cdef Py_ssize_t pass_rows(
    real* w, const index* columns, Rows X, Order order, Ahead* a, State s, Recipe r,
    Py_ssize_t count) noexcept nogil
cdef double signed_aggressiveness(
    Recipe r, double y, double p, double norm, double* step) noexcept nogil
cdef double clipped_gradient(Recipe r, double y, double p) noexcept nogil
