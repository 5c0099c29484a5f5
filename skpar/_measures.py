"""What is measured on the rows: the mean loss, and how sharply the objective may curve."""

import numpy as np

from skpar._kernels.margins import total_loss
from skpar._problem import SPARSE_INTERCEPT_RATE

# Beyond this many stored values the objective of an epoch is that of a sample of the rows.
EXACT_NUMBERS = 1 << 18
SAMPLE_ROWS = 2048
SAMPLE_SHARE = 1 / 64
SAMPLE_SPANS = 16
# Below this many stored values waking workers costs more than they save on a sample.
SERIAL_NUMBERS = 1 << 23
SAMPLED_ROWS = 5000
LEAST_ROWS = 500
SAMPLED_NUMBERS = 1 << 18
# A sample that a scheme keeps, to look at it in every round.
KEPT_ROWS, LEAST_KEPT_ROWS, KEPT_NUMBERS = 2000, 250, 1 << 20
# Up to so many columns an array of counts is cheaper than sorting.
COUNTED_COLUMNS = 1 << 20
POWER_ITERATIONS = 8


def is_large(fit):
    """Whether the exact objective would cost a good part of an epoch's time, every epoch."""
    return fit.batch.work > EXACT_NUMBERS


def sample_spans(batch):
    """Spans of rows spread evenly over the data, always the same: what stands for all of them."""
    step = max(1, batch.n_rows // SAMPLE_SPANS)
    rows = max(SAMPLE_ROWS, SAMPLE_SHARE * batch.n_rows)
    chunk = max(1, min(step, int(rows / SAMPLE_SPANS)))
    return [(lo, min(lo + chunk, batch.n_rows)) for lo in range(0, batch.n_rows, step)]


def mean_loss(fit, w, intercept, sampled=False):
    """The loss part of the objective, summed in an order that does not depend on workers.

    With `sampled` it is that of spans of rows spread evenly over the data, always the same.
    """
    if fit.shards is not None:
        share = 1 / len(fit.shards) if sampled else None
        arguments = [(shard, fit.problem, w, intercept, share) for shard in fit.shards]
        sums = np.sum(fit.team.run(shard_loss, arguments), axis=0)
        return float(sums[0] / sums[1])
    batch = fit.batch
    loss = fit.problem.loss_kernel()
    chunk = batch.chunk_blocks(1)
    if chunk >= batch.n_rows and not sampled:
        total = total_loss(batch.rows, loss, w, intercept, 0, batch.n_rows, batch.subset)
        return total / batch.n_rows
    spans = [(lo, min(lo + chunk, batch.n_rows)) for lo in range(0, batch.n_rows, chunk)]
    if sampled:
        spans = sample_spans(batch)

    def share(part):
        return [total_loss(batch.rows, loss, w, intercept, lo, hi, batch.subset) for lo, hi in part]

    if len(spans) < 2 or (sampled and batch.work < SERIAL_NUMBERS):
        sums = share(spans)
    else:
        width = min(fit.team.threads, len(spans))
        parts = fit.team.run(share, [(spans[k::width],) for k in range(width)])
        sums = np.empty(len(spans))
        for k, part in enumerate(parts):
            sums[k::width] = part
    return float(np.sum(sums)) / sum(hi - lo for lo, hi in spans)


def shard_loss(shard, problem, w, intercept, share=None):
    """(sum of the losses, rows) of one shard, or of this share of a sample's spans.

    The spans depend on its rows alone.
    """
    loss = problem.loss_kernel()
    chunk = step = shard.chunk_blocks(1)
    if share is not None:
        n_spans = max(1, int(SAMPLE_SPANS * share))
        step = max(1, shard.n_rows // n_spans)
        rows = max(SAMPLE_ROWS * share, SAMPLE_SHARE * shard.n_rows)
        chunk = max(1, min(step, int(rows / n_spans)))
    spans = [(lo, min(lo + chunk, shard.n_rows)) for lo in range(0, shard.n_rows, step)]
    rows, subset = shard.rows, shard.subset
    total = sum(total_loss(rows, loss, w, intercept, lo, hi, subset) for lo, hi in spans)
    return total, sum(hi - lo for lo, hi in spans)


def kept_rows(batch):
    return int(np.clip(KEPT_NUMBERS / batch.row_numbers, LEAST_KEPT_ROWS, KEPT_ROWS))


def sample_rows(batch, seed):
    """Numbers of at most 2,000 rows in use."""
    n = kept_rows(batch)
    rows = np.arange(batch.shape[0]) if batch.subset is None else batch.subset
    if n < len(rows):
        rows = np.sort(np.random.default_rng([seed, n]).choice(rows, n, replace=False))
    return rows


def sample_of(batch, seed):
    """As many rows as a batch of their own."""
    if batch.partitioned:
        return batch.sample_batch(kept_rows(batch), seed)
    return batch.take(sample_rows(batch, seed))


def sampled_matrix(fit):
    """A few thousand rows, for what `frequent_columns` and `curvatures` estimate."""
    rows = LEAST_ROWS + int(SAMPLED_NUMBERS / fit.batch.row_numbers)
    return fit.batch.sample(min(SAMPLED_ROWS, rows), fit.seed)


def frequent_columns(X, least_share, most):
    """Columns that at least this share of the rows of X have, at most so many."""
    if X.shape[1] <= COUNTED_COLUMNS:
        counts = np.bincount(X.indices, minlength=X.shape[1])
        columns = np.arange(X.shape[1])
    else:
        columns, counts = np.unique(X.indices, return_counts=True)
    kept = counts >= max(1.0, least_share * X.shape[0])
    columns, counts = columns[kept], counts[kept]
    if len(columns) > most:
        columns = np.sort(columns[np.argsort(-counts, kind="stable")[:most]])
    return columns.astype(np.int64)


def curvatures(fit, X):
    """How sharply the objective may curve along each column of X, the intercept last.

    The smaller of two bounds: the Hessian's top eigenvalue (eight power iterations) and its
    absolute row sums (Gershgorin), which tell hot columns from cold ones. Both come from a
    sample X of the rows and the loss's largest second derivative; a few percent do no harm.
    """
    batch = fit.batch
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


def largest_norm(batch):
    """The largest squared norm of the rows of a batch that has a subset."""
    if not batch.sparse:
        rows = batch.values[batch.subset]  # a sample of rows
        return float(np.einsum("ij,ij->i", rows, rows, dtype=np.float64).max(initial=0.0))
    starts, ends = batch.starts[batch.subset], batch.starts[batch.subset + 1]
    sizes = ends - starts
    first = np.cumsum(sizes) - sizes
    at = np.arange(sizes.sum()) + np.repeat(starts - first, sizes)
    squares = batch.values[at].astype(np.float64) ** 2
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return float(np.bincount(owner, squares, len(sizes)).max(initial=0.0))
