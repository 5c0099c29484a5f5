"""What is measured on the rows: the mean loss, and how sharply the objective may curve."""

import numpy as np

from skpar._kernels.margins import total_loss
from skpar._problem import SPARSE_INTERCEPT_RATE

CURVATURE_ROWS = 5000
CURVATURE_NUMBERS = 1 << 18
FREQUENCY_ROWS = 20_000
POWER_ITERATIONS = 8


def mean_loss(fit, w, intercept):
    """The loss part of the objective, summed in an order that does not depend on workers."""
    batch = fit.batch
    loss = fit.problem.loss_kernel()
    chunk = batch.chunk_blocks(1)
    spans = [(lo, min(lo + chunk, batch.n_rows)) for lo in range(0, batch.n_rows, chunk)]

    def share(part):
        return [total_loss(batch.rows, loss, w, intercept, lo, hi, batch.subset) for lo, hi in part]

    if not fit.team.on_threads or len(spans) < 2:
        sums = share(spans)
    else:
        width = min(fit.team.threads, len(spans))
        parts = fit.team.run(share, [(spans[k::width],) for k in range(width)])
        sums = np.empty(len(spans))
        for k, part in enumerate(parts):
            sums[k::width] = part
    return float(np.sum(sums)) / batch.n_rows


def frequent_columns(batch, least_share, most, seed):
    """Columns that at least this share of the rows have, at most so many, from a sample."""
    X = batch.sample(FREQUENCY_ROWS, seed)
    columns, counts = np.unique(X.indices, return_counts=True)
    kept = counts >= least_share * X.shape[0]
    columns, counts = columns[kept], counts[kept]
    if len(columns) > most:
        columns = np.sort(columns[np.argsort(-counts, kind="stable")[:most]])
    return columns.astype(np.int64)


def curvatures(fit, columns=None):
    """How sharply the objective may curve along each of `columns` (all), the intercept last.

    The smaller of two bounds: the Hessian's top eigenvalue (eight power iterations) and its
    absolute row sums (Gershgorin), which tell hot columns from cold ones. Both come from a
    sample of the rows and the loss's largest second derivative; a few percent do no harm.
    """
    batch = fit.batch
    X = batch.sample(
        min(CURVATURE_ROWS, 500 + int(CURVATURE_NUMBERS / batch.row_numbers)), fit.seed
    )
    if columns is not None:
        X = X[:, columns]
    rng = np.random.default_rng(fit.seed)
    v, top = rng.standard_normal(X.shape[1]).astype(X.dtype), 0.0
    for _ in range(POWER_ITERATIONS):
        norm = np.linalg.norm(v)
        if not np.isfinite(norm) or norm == 0.0:
            break
        u = X @ (v / norm)
        top = float(u @ u) / X.shape[0]
        v = X.T @ u
    sizes = abs(X)
    row_sums = sizes.T @ (sizes @ np.ones(X.shape[1], X.dtype)) / X.shape[0]
    intercept = SPARSE_INTERCEPT_RATE if batch.sparse else 1.0
    weight = 1.0 if batch.weights is None else float(np.mean(batch.weights))
    bounds = np.append(np.minimum(top, row_sums), intercept if fit.problem.fit_intercept else 0.0)
    return fit.problem.curvature * max(weight, 0.0) * bounds.astype(np.float64)
