"""Dual coordinate ascent for the softmax of many outputs."""

from libc.stdint cimport int32_t, int64_t

from skpar._kernels.arrays cimport doubles, doubles_or_null, longs
from skpar._kernels.records cimport Rows

cdef extern from "softmax_dual.h" nogil:
    ctypedef struct skpar_dual:
        Py_ssize_t k, size, n
        int rounds, intercept
        double inverse, seen
        const double *squares
        const double *weights
        const double *factors
        const int64_t *places
        double *w
        double *beta
        double *b
        double *sum
        double *curve
        double *p
        double *d
        double *z
        double *share
    void dual_pass_f64_i32(skpar_dual*, const double*, const int32_t*, const int64_t*,
                           const int64_t*, Py_ssize_t)
    void dual_pass_f64_i64(skpar_dual*, const double*, const int64_t*, const int64_t*,
                           const int64_t*, Py_ssize_t)
    void dual_pass_f32_i32(skpar_dual*, const float*, const int32_t*, const int64_t*,
                           const int64_t*, Py_ssize_t)
    void dual_pass_f32_i64(skpar_dual*, const float*, const int64_t*, const int64_t*,
                           const int64_t*, Py_ssize_t)
    double dual_entropies(const skpar_dual*)


cdef class Dual:
    """Weights of the outputs and the dual variables of all rows.

    `w` (features, size), `beta` (rows, size) and `vectors` (7, size: intercepts, sums of beta,
    curvatures, room) belong to the caller; `places` (int64) says which of the outputs a row's
    class is. `scale` is 1 / (l2 n).
    """

    cdef skpar_dual o
    cdef readonly object keep_alive
    cdef Py_ssize_t n_columns

    def __init__(self, w, beta, vectors, squares, weights, factors, places, double scale,
                 *, Py_ssize_t k, bint intercept, int rounds):
        cdef Py_ssize_t n = len(beta), size = w.shape[1]
        self.keep_alive = (w, beta, vectors, squares, weights, factors, places)
        self.n_columns = len(w)
        if size % 8 or k > size:
            raise ValueError("kernels need rows of a multiple of 8 numbers")
        if n and not 0 <= places.min() <= places.max() < k:
            raise ValueError(f"the classes' places must lie in 0 to {k - 1}")
        self.o.k, self.o.size, self.o.n = k, size, n
        self.o.rounds, self.o.intercept = rounds, intercept
        self.o.inverse, self.o.seen = scale, 0.0
        self.o.w = doubles(w, self.n_columns * size)
        self.o.beta = doubles(beta, n * size)
        self.o.squares = doubles(squares, n)
        self.o.weights = doubles_or_null(weights, n)
        self.o.factors = doubles(factors, k)
        self.o.places = longs(places, n)
        cdef double* v = doubles(vectors, 7 * size)
        self.o.b, self.o.sum, self.o.curve, self.o.p = v, v + size, v + 2 * size, v + 3 * size
        self.o.d, self.o.z, self.o.share = v + 4 * size, v + 5 * size, v + 6 * size

    def run(self, Rows X, rows):
        """A step for each of the rows, one after another, without the GIL."""
        cdef Py_ssize_t m = len(rows)
        cdef const int64_t* at = longs(rows, m)
        if X.n_rows != self.o.n or X.n_columns != self.n_columns or not X.sparse:
            raise ValueError("the rows are not those of the dual variables")
        with nogil:
            if X.is_double and X.wide:
                dual_pass_f64_i64(&self.o, <const double*>X.values, <const int64_t*>X.columns,
                                  X.starts, at, m)
            elif X.is_double:
                dual_pass_f64_i32(&self.o, <const double*>X.values, <const int32_t*>X.columns,
                                  X.starts, at, m)
            elif X.wide:
                dual_pass_f32_i64(&self.o, <const float*>X.values, <const int64_t*>X.columns,
                                  X.starts, at, m)
            else:
                dual_pass_f32_i32(&self.o, <const float*>X.values, <const int32_t*>X.columns,
                                  X.starts, at, m)

    def entropies(self):
        """The sum of the rows' weighted entropies."""
        cdef double total
        with nogil:
            total = dual_entropies(&self.o)
        return total
