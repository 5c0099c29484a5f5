"""Rows under many weight vectors at once: margins, losses, and the sum of the gradients.

Weights are laid out features x outputs. Losses are either those of each output by itself
(one-vs-rest, several targets) or the softmax of all of them.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t

from skpar._kernels.arrays cimport (
    doubles,
    doubles_at_least,
    doubles_or_null,
    longs_or_null,
    reals,
    reals_or_null,
)
from skpar._kernels.losses cimport Loss
from skpar._kernels.records cimport Rows
from skpar._kernels.rows cimport real

cdef extern from "outputs.h" nogil:
    void many_margins_f64_i32(const double*, const int32_t*, const int64_t*, Py_ssize_t,
                              Py_ssize_t, Py_ssize_t, const double*, const double*, double*)
    void many_margins_f64_i64(const double*, const int64_t*, const int64_t*, Py_ssize_t,
                              Py_ssize_t, Py_ssize_t, const double*, const double*, double*)
    void many_margins_f32_i32(const float*, const int32_t*, const int64_t*, Py_ssize_t,
                              Py_ssize_t, Py_ssize_t, const float*, const float*, float*)
    void many_margins_f32_i64(const float*, const int64_t*, const int64_t*, Py_ssize_t,
                              Py_ssize_t, Py_ssize_t, const float*, const float*, float*)
    void many_combine_f64_i32(const double*, const int32_t*, const int64_t*, Py_ssize_t,
                              Py_ssize_t, Py_ssize_t, const double*, double*)
    void many_combine_f64_i64(const double*, const int64_t*, const int64_t*, Py_ssize_t,
                              Py_ssize_t, Py_ssize_t, const double*, double*)
    void many_combine_f32_i32(const float*, const int32_t*, const int64_t*, Py_ssize_t,
                              Py_ssize_t, Py_ssize_t, const float*, double*)
    void many_combine_f32_i64(const float*, const int64_t*, const int64_t*, Py_ssize_t,
                              Py_ssize_t, Py_ssize_t, const float*, double*)
    double softmax_row(Py_ssize_t, const double*, Py_ssize_t, double*)
    void log_losses(Py_ssize_t, const double*, const double*, double*, double*, double*)


def sparse_margins(Rows X, w, b, Py_ssize_t lo, Py_ssize_t hi, p):
    """p = X W + b for CSR rows lo to hi; w (n_columns, k), b (k,), p (hi - lo, k)."""
    cdef Py_ssize_t k = len(b)
    cdef void* wp = reals(w, X.is_double, X.n_columns * k)
    cdef void* bp = reals(b, X.is_double, k)
    cdef void* pp = reals(p, X.is_double, (hi - lo) * k)
    with nogil:
        if X.is_double:
            if X.wide:
                many_margins_f64_i64(<const double*>X.values, <const int64_t*>X.columns, X.starts,
                                     lo, hi, k, <double*>wp, <double*>bp, <double*>pp)
            else:
                many_margins_f64_i32(<const double*>X.values, <const int32_t*>X.columns, X.starts,
                                     lo, hi, k, <double*>wp, <double*>bp, <double*>pp)
        elif X.wide:
            many_margins_f32_i64(<const float*>X.values, <const int64_t*>X.columns, X.starts,
                                 lo, hi, k, <float*>wp, <float*>bp, <float*>pp)
        else:
            many_margins_f32_i32(<const float*>X.values, <const int32_t*>X.columns, X.starts,
                                 lo, hi, k, <float*>wp, <float*>bp, <float*>pp)


def sparse_combine(Rows X, r, Py_ssize_t lo, Py_ssize_t hi, total):
    """total += X' r for CSR rows lo to hi; r (hi - lo, k), total (n_columns, k) float64."""
    cdef Py_ssize_t k = r.shape[1]
    cdef void* rp = reals(r, X.is_double, (hi - lo) * k)
    cdef double* sums = doubles_at_least(total, X.n_columns * k)
    with nogil:
        if X.is_double:
            if X.wide:
                many_combine_f64_i64(<const double*>X.values, <const int64_t*>X.columns, X.starts,
                                     lo, hi, k, <double*>rp, sums)
            else:
                many_combine_f64_i32(<const double*>X.values, <const int32_t*>X.columns, X.starts,
                                     lo, hi, k, <double*>rp, sums)
        elif X.wide:
            many_combine_f32_i64(<const float*>X.values, <const int64_t*>X.columns, X.starts,
                                 lo, hi, k, <float*>rp, sums)
        else:
            many_combine_f32_i32(<const float*>X.values, <const int32_t*>X.columns, X.starts,
                                 lo, hi, k, <float*>rp, sums)


cdef class Targets:
    """What the outputs should say: a class for each row, or a number for each row and output.

    `codes` (int64) holds a row's class, `values` (n, k) its targets; one of them is None. With
    classes, output c stands for class `classes[c]`, which weighs `factors[c]`; the others weigh 1.
    """

    def __init__(self, codes, values, weights, classes, factors):
        self.keep_alive = (codes, values, weights, classes, factors)
        self.n = len(codes if values is None else values)
        self.k = len(factors)
        if values is not None and values.shape != (self.n, self.k):
            raise ValueError(f"values must have the shape {(self.n, self.k)}")
        self.codes = longs_or_null(codes, self.n)
        self.classes = longs_or_null(classes, self.k)
        self.values = doubles_or_null(values, self.n * self.k)
        self.weights = doubles_or_null(weights, self.n)
        self.factors = doubles(factors, self.k)


cdef inline double softmax_of(
    Py_ssize_t k, Py_ssize_t target, double s, double* p, double* first, double* second
) noexcept nogil:
    """Weighted loss of a row of margins; its derivatives in place of first and second."""
    cdef Py_ssize_t c
    cdef double loss = softmax_row(k, p, target, first)
    for c in range(k):
        second[c] = s * first[c] * (1.0 - first[c])
        first[c] = s * (first[c] - (c == target))
    return s * loss if s != 0.0 else 0.0


cdef inline void apart(
    Loss loss, Targets t, Py_ssize_t i, double s, double negative, double* y, double* p,
    double* value, double* first, double* second
) noexcept nogil:
    """Weighted losses of a row's outputs, each by itself, and their derivatives."""
    cdef Py_ssize_t c, k = t.k
    cdef double weight
    for c in range(k):
        if t.values != NULL:
            y[c] = t.values[i * k + c]
        else:
            y[c] = 1.0 if t.codes[i] == t.classes[c] else negative
    if loss.kind == 1:
        log_losses(k, y, p, value, first, second)
    else:
        for c in range(k):
            value[c] = loss.value(y[c], p[c])
            first[c] = loss.gradient(y[c], p[c])
            second[c] = loss.curvature(y[c], p[c])
    for c in range(k):
        weight = s
        if t.codes != NULL and t.codes[i] == t.classes[c]:
            weight *= t.factors[c]
        if weight == 0.0:
            value[c] = 0.0
        value[c] *= weight
        first[c] *= weight
        second[c] *= weight


cdef void visit(
    Loss loss, Targets t, const real* margins, Py_ssize_t lo, Py_ssize_t hi, double* work,
    real* slopes, real* curvatures, double* totals
) noexcept nogil:
    cdef Py_ssize_t i, c, k = t.k
    cdef double* p = work
    cdef double* y = work + k
    cdef double* value = work + 2 * k
    cdef double* first = work + 3 * k
    cdef double* second = work + 4 * k
    cdef double s, negative = -1.0
    if loss is not None and loss.kind == 1:
        negative = 0.0
    for i in range(lo, hi):
        s = t.weights[i] if t.weights != NULL else 1.0
        for c in range(k):
            p[c] = margins[(i - lo) * k + c]
        if loss is None:
            totals[0] += softmax_of(k, t.codes[i], s * t.factors[t.codes[i]], p, first, second)
        else:
            apart(loss, t, i, s, negative, y, p, value, first, second)
            for c in range(k):
                totals[c] += value[c]
        if slopes != NULL:
            for c in range(k):
                slopes[(i - lo) * k + c] = <real>first[c]
        if curvatures != NULL:
            for c in range(k):
                curvatures[(i - lo) * k + c] = <real>second[c]


def output_losses(Rows X, Loss loss, Targets t, margins, Py_ssize_t lo, Py_ssize_t hi, totals,
                  slopes=None, curvatures=None):
    """Adds the losses of rows lo to hi into `totals`, one an output; of a softmax one in all.

    `loss` None is the softmax. `margins` and, where given, `slopes` and `curvatures` (the
    losses' derivatives, times the rows' weights) have the shape (hi - lo, k).
    """
    cdef Py_ssize_t size = (hi - lo) * t.k
    cdef void* p = reals(margins, X.is_double, size)
    cdef void* first = reals_or_null(slopes, X.is_double, size)
    cdef void* second = reals_or_null(curvatures, X.is_double, size)
    if lo < 0 or hi > t.n:
        raise ValueError(f"rows {lo} to {hi} of {t.n}")
    workspace = np.empty(5 * t.k)
    cdef double* work = doubles(workspace, 5 * t.k)
    cdef double* sums = doubles_at_least(totals, 1 if loss is None else t.k)
    with nogil:
        if X.is_double:
            visit(loss, t, <const double*>p, lo, hi, work, <double*>first, <double*>second, sums)
        else:
            visit(loss, t, <const float*>p, lo, hi, work, <float*>first, <float*>second, sums)
