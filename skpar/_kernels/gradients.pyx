"""Sums over many rows under the same weights: loss, gradient, curvature, moments.

Every function works on blocks lo to hi of an `Order` and adds into arrays that the caller owns,
so that spans of rows can be summed side by side and added up in a fixed order: equal bits for
any number of workers. Within a call rows are read in chunks that stay in the cache.
"""

import numpy as np

cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t

from skpar._kernels.arrays cimport doubles_at_least as doubles, reals
from skpar._kernels.losses cimport Loss
from skpar._kernels.rows cimport index, real
from skpar._kernels.records cimport Order, Rows, block_at

cdef extern from "gradients.h" nogil:
    void chunk_margins_f64(const double*, const int64_t*, Py_ssize_t, Py_ssize_t, const double*,
                           double, double*)
    void chunk_margins_f32(const float*, const int64_t*, Py_ssize_t, Py_ssize_t, const float*,
                           double, double*)
    void chunk_combine_f64(const double*, const int64_t*, Py_ssize_t, Py_ssize_t, const double*,
                           double*)
    void chunk_combine_f32(const float*, const int64_t*, Py_ssize_t, Py_ssize_t, const double*,
                           float*)
    void chunk_moments_f64(const double*, const int64_t*, Py_ssize_t, Py_ssize_t, const double*,
                           double*, double*)
    void chunk_moments_f32(const float*, const int64_t*, Py_ssize_t, Py_ssize_t, const double*,
                           double*, double*)
    void csr_margins_f64_i32(const double*, const int32_t*, const int64_t*, const int64_t*,
                             Py_ssize_t, const double*, double, double*)
    void csr_margins_f64_i64(const double*, const int64_t*, const int64_t*, const int64_t*,
                             Py_ssize_t, const double*, double, double*)
    void csr_margins_f32_i32(const float*, const int32_t*, const int64_t*, const int64_t*,
                             Py_ssize_t, const float*, double, double*)
    void csr_margins_f32_i64(const float*, const int64_t*, const int64_t*, const int64_t*,
                             Py_ssize_t, const float*, double, double*)
    void csr_combine_f64_i32(const double*, const int32_t*, const int64_t*, const int64_t*,
                             Py_ssize_t, const double*, double*)
    void csr_combine_f64_i64(const double*, const int64_t*, const int64_t*, const int64_t*,
                             Py_ssize_t, const double*, double*)
    void csr_combine_f32_i32(const float*, const int32_t*, const int64_t*, const int64_t*,
                             Py_ssize_t, const double*, double*)
    void csr_combine_f32_i64(const float*, const int64_t*, const int64_t*, const int64_t*,
                             Py_ssize_t, const double*, double*)
    void csr_moments_f64_i32(const double*, const int32_t*, const int64_t*, const int64_t*,
                             Py_ssize_t, const double*, double*, double*)
    void csr_moments_f64_i64(const double*, const int64_t*, const int64_t*, const int64_t*,
                             Py_ssize_t, const double*, double*, double*)
    void csr_moments_f32_i32(const float*, const int32_t*, const int64_t*, const int64_t*,
                             Py_ssize_t, const double*, double*, double*)
    void csr_moments_f32_i64(const float*, const int64_t*, const int64_t*, const int64_t*,
                             Py_ssize_t, const double*, double*, double*)
    void log_losses(Py_ssize_t, const double*, const double*, double*, double*, double*)

cdef enum:
    MOST_ROWS = 256
# Bytes of dense rows that are read twice: half of a small second-level cache.
cdef Py_ssize_t CHUNK_BYTES = 1 << 17
# float32 sums are folded into float64 after this many rows at the latest.
cdef Py_ssize_t FOLD_ROWS = 1024


cdef struct Chunk:
    Py_ssize_t m                # rows in it
    int64_t rows[MOST_ROWS]     # their numbers
    double p[MOST_ROWS]         # margins
    double y[MOST_ROWS]
    double value[MOST_ROWS]
    double first[MOST_ROWS]     # derivatives of the loss, times the row's weight
    double second[MOST_ROWS]


cdef struct Sums:
    double loss
    double intercept


cdef struct Outputs:
    double* margins             # each NULL or as long as the rows of blocks lo to hi
    double* curvatures
    bint known                  # whether the margins are given rather than wanted


cdef inline Py_ssize_t first_position(Order order, Py_ssize_t b) noexcept nogil:
    """Where block b of the visiting order starts: the only look into an `Order`."""
    return block_at(order, b) * order.block_size


cdef struct Cursor:
    Py_ssize_t block, position, end


cdef void next_rows(
    Order order, Py_ssize_t hi, Py_ssize_t most, Cursor* at, Chunk* c
) noexcept nogil:
    """Fill the chunk with the next rows of blocks up to hi; none are left where m is 0."""
    cdef Py_ssize_t _
    c.m = 0
    while c.m < most:
        if at.position >= at.end:
            if at.block >= hi:
                return
            at.position = first_position(order, at.block)
            at.end = min(at.position + order.block_size, order.n_rows)
            at.block += 1
        for _ in range(min(at.end - at.position, most - c.m)):
            c.rows[c.m] = order.subset[at.position] if order.subset != NULL else at.position
            c.m += 1
            at.position += 1


cdef Py_ssize_t chunk_rows(Rows X) noexcept nogil:
    cdef Py_ssize_t width
    if X.sparse:
        return MOST_ROWS // 4
    width = max(1, X.n_columns * (8 if X.is_double else 4))
    # A multiple of four rows, which go through the loops together.
    return max(4, min(MOST_ROWS, CHUNK_BYTES // width // 4 * 4))


cdef inline void margins_of(
    const real* w, const index* columns, Rows X, double b, Chunk* c
) noexcept nogil:
    cdef const real* x = <const real*>X.values
    if X.sparse:
        if real is double:
            if index is int32_t:
                csr_margins_f64_i32(x, columns, X.starts, c.rows, c.m, w, b, c.p)
            else:
                csr_margins_f64_i64(x, columns, X.starts, c.rows, c.m, w, b, c.p)
        elif index is int32_t:
            csr_margins_f32_i32(x, columns, X.starts, c.rows, c.m, w, b, c.p)
        else:
            csr_margins_f32_i64(x, columns, X.starts, c.rows, c.m, w, b, c.p)
    elif real is double:
        chunk_margins_f64(x, c.rows, c.m, X.n_columns, w, b, c.p)
    else:
        chunk_margins_f32(x, c.rows, c.m, X.n_columns, w, b, c.p)


cdef inline void combine(
    const real* x, const index* columns, Rows X, Chunk* c, double* sum, real* part
) noexcept nogil:
    """sum += first_i x_i; dense float32 rows go to `part`, which the caller folds."""
    if X.sparse:
        if real is double:
            if index is int32_t:
                csr_combine_f64_i32(x, columns, X.starts, c.rows, c.m, c.first, sum)
            else:
                csr_combine_f64_i64(x, columns, X.starts, c.rows, c.m, c.first, sum)
        elif index is int32_t:
            csr_combine_f32_i32(x, columns, X.starts, c.rows, c.m, c.first, sum)
        else:
            csr_combine_f32_i64(x, columns, X.starts, c.rows, c.m, c.first, sum)
    elif real is double:
        chunk_combine_f64(x, c.rows, c.m, X.n_columns, c.first, sum)
    else:
        chunk_combine_f32(x, c.rows, c.m, X.n_columns, c.first, part)


cdef void fold_part(real* part, double* sum, Py_ssize_t d) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(d):
        sum[j] += part[j]
        part[j] = 0


cdef double losses_of(Loss loss, bint is_log_loss, Rows X, Chunk* c) noexcept nogil:
    """Derivatives times weights into the chunk; returns the weighted sum of the losses."""
    cdef double total = 0.0
    cdef double s
    cdef Py_ssize_t k
    for k in range(c.m):
        c.y[k] = X.targets[c.rows[k]]
    if is_log_loss:
        log_losses(c.m, c.y, c.p, c.value, c.first, c.second)
    else:
        for k in range(c.m):
            c.value[k] = loss.value(c.y[k], c.p[k])
            c.first[k] = loss.gradient(c.y[k], c.p[k])
            c.second[k] = loss.curvature(c.y[k], c.p[k])
    if X.weights != NULL:
        for k in range(c.m):
            s = X.weights[c.rows[k]]
            # A row of weight 0 is as if it were not there, even where its loss overflows.
            c.value[k] = s * c.value[k] if s != 0.0 else 0.0
            c.first[k] = s * c.first[k] if s != 0.0 else 0.0
            c.second[k] = s * c.second[k] if s != 0.0 else 0.0
    for k in range(c.m):
        total += c.value[k]
    return total


cdef Sums sum_rows(
    const real* w, real* part, const index* columns, Rows X, Loss loss, double b, Order order,
    Py_ssize_t lo, Py_ssize_t hi, double* gradient, Outputs out
) noexcept nogil:
    cdef Chunk c
    cdef Cursor at
    cdef Sums sums
    cdef Py_ssize_t most = chunk_rows(X)
    cdef Py_ssize_t k, since = 0, done = 0
    cdef bint is_log_loss = loss.kind == 1
    at.block, at.position, at.end = lo, 0, 0
    sums.loss = sums.intercept = 0.0
    next_rows(order, hi, most, &at, &c)
    while c.m > 0:
        if out.known:
            for k in range(c.m):
                c.p[k] = out.margins[done + k]
        else:
            margins_of(w, columns, X, b, &c)
        sums.loss += losses_of(loss, is_log_loss, X, &c)
        for k in range(c.m):
            sums.intercept += c.first[k]
        combine(<const real*>X.values, columns, X, &c, gradient, part)
        if out.margins != NULL and not out.known:
            for k in range(c.m):
                out.margins[done + k] = c.p[k]
        if out.curvatures != NULL:
            for k in range(c.m):
                out.curvatures[done + k] = c.second[k]
        done += c.m
        since += c.m
        if part != NULL and since >= FOLD_ROWS:
            fold_part(part, gradient, X.n_columns)
            since = 0
        next_rows(order, hi, most, &at, &c)
    if part != NULL:
        fold_part(part, gradient, X.n_columns)
    return sums


cdef Py_ssize_t rows_in(Order order, Py_ssize_t lo, Py_ssize_t hi):
    """How many rows blocks lo to hi have."""
    cdef Py_ssize_t b, total = 0
    for b in range(lo, hi):
        total += min(order.block_size, order.n_rows - first_position(order, b))
    return total


cdef const void* weights_of(Rows X, w) except? NULL:
    return reals(w, X.is_double, X.n_columns)


def loss_and_gradient(Rows X, Loss loss, w, double intercept, Order order, Py_ssize_t lo,
                      Py_ssize_t hi, gradient, margins=None, curvatures=None, bint known=False):
    """Sums over blocks lo to hi of the order, without the GIL.

    Adds sum_i s_i loss'(y_i, p_i) x_i into `gradient` (float64), p_i = x_i.w + intercept, and
    returns (sum_i s_i loss(y_i, p_i), sum_i s_i loss'(y_i, p_i)). `margins` and `curvatures`,
    where given, receive p_i and s_i loss''(y_i, p_i) of these rows in the order visited. With
    `known` the margins are given, and `w` and `intercept` are not looked at.
    """
    cdef const void* weights = weights_of(X, w)
    cdef double* target = doubles(gradient, X.n_columns)
    cdef Outputs out
    cdef Sums sums
    out.margins = doubles(margins, rows_in(order, lo, hi))
    out.curvatures = doubles(curvatures, rows_in(order, lo, hi))
    out.known = known
    if known and margins is None:
        raise ValueError("known margins must be given")
    # Dense float32 rows are summed in float32 a few hundred at a time.
    part = None if X.is_double or X.sparse else np.zeros(X.n_columns, np.float32)
    cdef float* sum32 = NULL if part is None else <float*>cnp.PyArray_DATA(part)
    with nogil:
        if X.is_double:
            if X.wide:
                sums = sum_rows(<const double*>weights, <double*>NULL, <const int64_t*>X.columns,
                                X, loss, intercept, order, lo, hi, target, out)
            else:
                sums = sum_rows(<const double*>weights, <double*>NULL, <const int32_t*>X.columns,
                                X, loss, intercept, order, lo, hi, target, out)
        elif X.wide:
            sums = sum_rows(<const float*>weights, sum32, <const int64_t*>X.columns, X, loss,
                            intercept, order, lo, hi, target, out)
        else:
            sums = sum_rows(<const float*>weights, sum32, <const int32_t*>X.columns, X, loss,
                            intercept, order, lo, hi, target, out)
    return sums.loss, sums.intercept


cdef double multiply(
    const real* v, real* part, const index* columns, Rows X, const double* curvatures, double b,
    Order order, Py_ssize_t lo, Py_ssize_t hi, double* result, double* margins
) noexcept nogil:
    cdef Chunk c
    cdef Cursor at
    cdef Py_ssize_t most = chunk_rows(X)
    cdef Py_ssize_t k, since = 0, done = 0
    cdef double intercept = 0.0
    at.block, at.position, at.end = lo, 0, 0
    next_rows(order, hi, most, &at, &c)
    while c.m > 0:
        margins_of(v, columns, X, b, &c)
        for k in range(c.m):
            c.first[k] = curvatures[done + k] * c.p[k]
            intercept += c.first[k]
        if margins != NULL:
            for k in range(c.m):
                margins[done + k] = c.p[k]
        combine(<const real*>X.values, columns, X, &c, result, part)
        done += c.m
        since += c.m
        if part != NULL and since >= FOLD_ROWS:
            fold_part(part, result, X.n_columns)
            since = 0
        next_rows(order, hi, most, &at, &c)
    if part != NULL:
        fold_part(part, result, X.n_columns)
    return intercept


def curved_product(Rows X, curvatures, v, double intercept, Order order, Py_ssize_t lo,
                   Py_ssize_t hi, result, margins=None):
    """Adds sum_i c_i (x_i.v + intercept) x_i into `result` over blocks lo to hi of the order.

    With c from `loss_and_gradient` this is the Hessian of the losses times (v, intercept); the
    intercept's entry of the product is returned. `margins`, where given, receives x_i.v +
    intercept. `curvatures` and `margins` start at the first row of block lo.
    """
    cdef const void* direction = weights_of(X, v)
    cdef double* target = doubles(result, X.n_columns)
    cdef const double* c = doubles(curvatures, rows_in(order, lo, hi))
    cdef double* p = doubles(margins, rows_in(order, lo, hi))
    cdef double entry
    part = None if X.is_double or X.sparse else np.zeros(X.n_columns, np.float32)
    cdef float* sum32 = NULL if part is None else <float*>cnp.PyArray_DATA(part)
    with nogil:
        if X.is_double:
            if X.wide:
                entry = multiply(<const double*>direction, <double*>NULL,
                                 <const int64_t*>X.columns, X, c, intercept, order, lo, hi,
                                 target, p)
            else:
                entry = multiply(<const double*>direction, <double*>NULL,
                                 <const int32_t*>X.columns, X, c, intercept, order, lo, hi,
                                 target, p)
        elif X.wide:
            entry = multiply(<const float*>direction, sum32, <const int64_t*>X.columns, X, c,
                             intercept, order, lo, hi, target, p)
        else:
            entry = multiply(<const float*>direction, sum32, <const int32_t*>X.columns, X, c,
                             intercept, order, lo, hi, target, p)
    return entry


cdef void add_moments(
    const real* x, const index* columns, Rows X, const double* a, Order order, Py_ssize_t lo,
    Py_ssize_t hi, double* sum, double* squares
) noexcept nogil:
    cdef Chunk c
    cdef Cursor at
    cdef Py_ssize_t k, done = 0
    at.block, at.position, at.end = lo, 0, 0
    next_rows(order, hi, MOST_ROWS, &at, &c)
    while c.m > 0:
        for k in range(c.m):
            c.first[k] = a[done + k] if a != NULL else 1.0
        if X.sparse:
            if real is double:
                if index is int32_t:
                    csr_moments_f64_i32(x, columns, X.starts, c.rows, c.m, c.first, sum, squares)
                else:
                    csr_moments_f64_i64(x, columns, X.starts, c.rows, c.m, c.first, sum, squares)
            elif index is int32_t:
                csr_moments_f32_i32(x, columns, X.starts, c.rows, c.m, c.first, sum, squares)
            else:
                csr_moments_f32_i64(x, columns, X.starts, c.rows, c.m, c.first, sum, squares)
        elif real is double:
            chunk_moments_f64(x, c.rows, c.m, X.n_columns, c.first, sum, squares)
        else:
            chunk_moments_f32(x, c.rows, c.m, X.n_columns, c.first, sum, squares)
        done += c.m
        next_rows(order, hi, MOST_ROWS, &at, &c)


def column_moments(Rows X, Order order, Py_ssize_t lo, Py_ssize_t hi, sums, squares,
                   factors=None):
    """Adds sum_i a_i x_ij and sum_i a_i x_ij^2 over blocks lo to hi of the order.

    `factors` holds a from the first row of block lo; None is 1 each.
    """
    cdef double* first = doubles(sums, X.n_columns)
    cdef double* second = doubles(squares, X.n_columns)
    cdef const double* a = doubles(factors, rows_in(order, lo, hi))
    with nogil:
        if X.is_double:
            if X.wide:
                add_moments(<const double*>X.values, <const int64_t*>X.columns, X, a, order, lo,
                            hi, first, second)
            else:
                add_moments(<const double*>X.values, <const int32_t*>X.columns, X, a, order, lo,
                            hi, first, second)
        elif X.wide:
            add_moments(<const float*>X.values, <const int64_t*>X.columns, X, a, order, lo, hi,
                        first, second)
        else:
            add_moments(<const float*>X.values, <const int32_t*>X.columns, X, a, order, lo, hi,
                        first, second)


cdef void sum_along(
    const double* targets, const double* weights, const int64_t* subset, Loss loss,
    const double* p, const double* q, double t, Py_ssize_t lo, Py_ssize_t hi, double* sums
) noexcept nogil:
    cdef double y[MOST_ROWS]
    cdef double at[MOST_ROWS]
    cdef double value[MOST_ROWS]
    cdef double first[MOST_ROWS]
    cdef double second[MOST_ROWS]
    cdef double s, v
    cdef Py_ssize_t k, i, m, start = lo
    while start < hi:
        m = min(MOST_ROWS, hi - start)
        for k in range(m):
            i = subset[start + k] if subset != NULL else start + k
            y[k] = targets[i]
            at[k] = p[start + k] + t * q[start + k]
        if loss.kind == 1:
            log_losses(m, y, at, value, first, second)
        else:
            for k in range(m):
                value[k] = loss.value(y[k], at[k])
                first[k] = loss.gradient(y[k], at[k])
                second[k] = loss.curvature(y[k], at[k])
        for k in range(m):
            s = 1.0
            if weights != NULL:
                i = subset[start + k] if subset != NULL else start + k
                s = weights[i]
                if s == 0.0:
                    continue
            v = q[start + k]
            sums[0] += s * value[k]
            sums[1] += s * first[k] * v
            sums[2] += s * second[k] * v * v
        start += m


def loss_along(Rows X, Loss loss, p, q, double t, Py_ssize_t lo, Py_ssize_t hi, subset=None):
    """The summed loss at margins p + t q, and its two derivatives in t, over positions lo to hi."""
    cdef const double* at = doubles(p, hi)
    cdef const double* along = doubles(q, hi)
    cdef const int64_t* rows = NULL
    if subset is not None:
        rows = <const int64_t*>cnp.PyArray_DATA(subset)
    cdef double sums[3]
    sums[0] = sums[1] = sums[2] = 0.0
    with nogil:
        sum_along(X.targets, X.weights, rows, loss, at, along, t, lo, hi, sums)
    return sums[0], sums[1], sums[2]


def majorants(Rows X, Loss loss, margins, out, Py_ssize_t lo, Py_ssize_t hi, subset=None):
    """s_i times the curvature of a parabola above the loss, into `out`, for positions lo to hi."""
    cdef const double* p = doubles(margins, hi)
    cdef double* target = doubles(out, hi)
    cdef const int64_t* rows = NULL
    if subset is not None:
        rows = <const int64_t*>cnp.PyArray_DATA(subset)
    cdef Py_ssize_t i, k
    with nogil:
        for k in range(lo, hi):
            i = rows[k] if rows != NULL else k
            target[k] = loss.majorant(X.targets[i], p[k])
            if X.weights != NULL:
                target[k] *= X.weights[i]
