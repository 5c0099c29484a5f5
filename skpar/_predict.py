"""What a model says of many rows: scores, and what is made of them, in spans of rows at once.

The spans depend on the data alone and each is computed whole by one worker, so the result has
the same bits for any number of workers.
"""

from functools import partial
from itertools import count

import numpy as np
import scipy.sparse as sp

from skpar._data import check_sparse
from skpar._kernels.margins import score_sparse
from skpar._workers import limit_blas, local_team

# Work of one span, in numbers of a dense row read: some 0.15 ms, so that Ctrl-C is heard and a
# slow core holds nobody up. A worker starts for no less than a millisecond.
SPAN_WORK = 1 << 19
SPANS_PER_WORKER = 8
# A larger copy of the coefficients is not worth the cache misses that it saves.
MAX_TRANSPOSED_BYTES = 1 << 28


def score_rows(X, coef, intercept, n_jobs, finish=None):
    """finish(X @ coef.T + intercept), and whether that shows X to be finite.

    Parameters
    ----------
    X : ndarray or CSR of shape (n, d)
        Rows that nobody has looked at: NaN, inf and (in CSR) indices out of range are found
        on the way, which saves a pass over the data for each.
    coef : ndarray or sparse matrix of shape (k, d)
        One row a class.
    intercept : ndarray of shape (k,)
        One number a class.
    n_jobs : int or None
        As in joblib.
    finish : callable, default=None
        Makes of the (m, k) scores of a span an array of m rows; None takes them as they are.

    Returns
    -------
    result : ndarray of shape (n, ...)
        What `finish` made.
    finite : bool
        Whether all scores are finite, and with them all of X: a NaN or inf in a row makes its
        score one too, whatever the coefficients.

    Raises
    ------
    ValueError
        If X has another number of columns, or is not a valid CSR matrix.
    """
    (n, d), k = X.shape, coef.shape[0]
    if coef.shape[1] != d:
        raise ValueError(f"X has {d} features, but coef_ has {coef.shape[1]}: fit the model again")
    score, dtype = _scorer(X, coef, np.broadcast_to(intercept, (k,)))
    row_work = X.nnz / n * (2 + k / 2) if sp.issparse(X) else d * (1 + k / 8)
    rows = max(1, int(SPAN_WORK / max(1.0, row_work)))
    if n <= rows:
        scores = np.empty((n, k), dtype)
        finite = score(0, n, scores)
        return scores if finish is None else finish(scores), finite
    form = np.empty((0, k), dtype) if finish is None else finish(np.empty((0, k), dtype))
    result = np.empty((n, *form.shape[1:]), form.dtype)
    finite = [False] * -(-n // rows)

    def span(number):
        lo, hi = number * rows, min(n, (number + 1) * rows)
        scores = result[lo:hi] if finish is None else np.empty((hi - lo, k), dtype)
        finite[number] = score(lo, hi, scores)
        if finish is not None:
            result[lo:hi] = finish(scores)

    _visit(span, len(finite), n_jobs)
    return result, all(finite)


def _visit(span, n_spans, n_jobs):
    """span(0), ..., span(n_spans - 1), by as many workers as are worth their start."""
    width = max(1, n_spans // SPANS_PER_WORKER)
    team = local_team(n_jobs if width > 1 else 1)
    width = min(width, team.threads)
    turn, stopped = count(), []

    def worker():
        while not stopped and (number := next(turn)) < n_spans:
            span(number)

    # BLAS splits a product by its threads, which would change its bits.
    with limit_blas(), team.working(width):
        team.run(worker, [()] * width, partial(stopped.append, True))


def _scorer(X, coef, intercept):
    """(score, dtype): `score(lo, hi, out)` writes rows lo to hi and says whether all is finite."""
    dtype = np.result_type(X.dtype, coef.dtype, intercept.dtype)
    if sp.issparse(coef) or dtype not in (np.float64, np.float32):
        return partial(_score_by_product, X, coef.T, intercept), dtype
    coef = coef.astype(dtype, copy=False)
    intercept = np.ascontiguousarray(intercept, dtype)
    if not sp.issparse(X):
        X = np.asarray(X)  # slices of a memmap cost more than those of an array
        return partial(_score_dense, X, coef.T, intercept), dtype
    if len(X.indptr) != X.shape[0] + 1 or X.indptr[0] != 0:
        check_sparse(X)
    transposed = len(coef) > 1 and X.shape[1] <= X.nnz and coef.nbytes <= MAX_TRANSPOSED_BYTES
    coef = np.ascontiguousarray(coef.T if transposed else coef)
    return partial(_score_sparse, X, coef, intercept, transposed), dtype


def _score_dense(X, coef, intercept, lo, hi, out):
    x = X[lo:hi]
    if x.dtype != coef.dtype or x.strides[1] != x.itemsize:
        # Other dtypes and orders are copied a span at a time, within the cache.
        x = np.ascontiguousarray(x, coef.dtype)
    with np.errstate(all="ignore"):  # what is not finite is the caller's to report
        np.matmul(x, coef, out=out)
    out += intercept
    return bool(np.isfinite(out).all())


def _score_sparse(X, coef, intercept, transposed, lo, hi, out):
    starts = X.indptr[lo : hi + 1].astype(np.int64, copy=False)
    first, last = starts[0], starts[-1]
    columns = np.ascontiguousarray(X.indices[first:last])
    if columns.dtype not in (np.int32, np.int64):
        columns = columns.astype(np.int64)
    x = np.ascontiguousarray(X.data[first:last], coef.dtype)
    in_order = (starts[1:] >= starts[:-1]).all() and len(columns) == len(x) == last - first
    # Negative indices are huge unsigned ones.
    highest = columns.view(f"u{columns.itemsize}").max(initial=0)
    if not in_order or highest >= X.shape[1]:
        check_sparse(X)
    return score_sparse(x, columns, starts, coef, intercept, out, transposed)


def _score_by_product(X, coef, intercept, lo, hi, out):
    scores = X[lo:hi] @ coef
    out[...] = (scores.toarray() if sp.issparse(scores) else scores) + intercept
    return False  # nothing is known of what met a coefficient that is not stored
