"""Rows on their way: the order is run through a few rows early, to ask for their cache lines."""

from libc.stdint cimport int64_t

from skpar._kernels.records cimport Order, Rows, block_at
from skpar._kernels.rows cimport index, real, skpar_prefetch_span

cdef enum:
    AHEAD = 8
    # At most this many bytes of a row are asked for: the processor's own prefetcher goes on.
    FETCH_BYTES = 2048

cdef struct Ahead:
    # the rows to work on next, a ring; -1 past the end
    Py_ssize_t[AHEAD] rows
    Py_ssize_t head, left
    Py_ssize_t block, last_block, position, end


cdef inline void fetch_row(
    const real* x, const index* columns, Rows X, Py_ssize_t i
) noexcept nogil:
    cdef Py_ssize_t first, n
    skpar_prefetch_span(X.targets + i, sizeof(double))
    if X.weights != NULL:
        skpar_prefetch_span(X.weights + i, sizeof(double))
    if X.sparse:
        first = X.starts[i]
        n = X.starts[i + 1] - first
        skpar_prefetch_span(columns + first, min(n * <Py_ssize_t>sizeof(index), FETCH_BYTES))
    else:
        first = i * X.n_columns
        n = X.n_columns
    skpar_prefetch_span(x + first, min(n * <Py_ssize_t>sizeof(real), FETCH_BYTES))


cdef inline Py_ssize_t upcoming(Ahead* a, Order order) noexcept nogil:
    """The row after the last one asked for, -1 at the end."""
    cdef Py_ssize_t i
    if a.position == a.end:
        if a.block == a.last_block:
            return -1
        a.position = block_at(order, a.block) * order.block_size
        a.end = min(a.position + order.block_size, order.n_rows)
        a.block += 1
        if order.subset != NULL and a.block < a.last_block:
            # The next block's row numbers lie anywhere: a cache miss for each block otherwise.
            skpar_prefetch_span(
                order.subset + block_at(order, a.block) * order.block_size,
                order.block_size * sizeof(int64_t),
            )
    i = a.position
    a.position += 1
    return order.subset[i] if order.subset != NULL else i


cdef inline Py_ssize_t take(
    Ahead* a, const real* x, const index* columns, Rows X, Order order
) noexcept nogil:
    """The next row to work on; the one AHEAD places after it is asked for."""
    cdef Py_ssize_t i = a.rows[a.head]
    cdef Py_ssize_t later = upcoming(a, order)
    a.rows[a.head] = later
    if later >= 0:
        fetch_row(x, columns, X, later)
    else:
        a.left -= 1
    a.head = (a.head + 1) % AHEAD
    return i


cdef inline void look_ahead(
    Ahead* a, const real* x, const index* columns, Rows X, Order order, Py_ssize_t lo, Py_ssize_t hi
) noexcept nogil:
    """Begin at block lo; rows up to block hi will be taken."""
    cdef Py_ssize_t k, i
    a.block, a.last_block = lo, hi
    a.position = a.end = a.head = 0
    a.left = 0
    for k in range(AHEAD):
        i = upcoming(a, order)
        a.rows[k] = i
        if i >= 0:
            a.left += 1
            fetch_row(x, columns, X, i)
