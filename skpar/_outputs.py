"""Many weight vectors over the same rows: their objectives and gradients in one read.

Weights are arrays of shape (features, outputs), the intercepts in a last row. The objectives
are one for each output (one-vs-rest, several targets), or one in all for the softmax. Sums have
the same bits for any number of workers, as in `_objective`.
"""

import numpy as np

from skpar._data import Batch
from skpar._kernels.outputs import Targets, output_losses, sparse_combine, sparse_margins
from skpar._objective import Objective

# Numbers of dense rows worked on together: they stay in the cache between the two products.
CHUNK_NUMBERS = 1 << 17
CHUNK_ROWS = 1024


def take(batch, rows):
    """A batch of its own with these positions of another."""
    rows = rows if batch.subset is None else batch.subset[rows]
    weights = None if batch.weights is None else batch.weights[rows]
    return Batch.of(batch.matrix()[rows], batch.targets[rows], weights)


class ManyPoint:
    """The objectives at weights x; the gradient is that of their sum."""

    __slots__ = ("gradient", "margins", "values", "x")

    def __init__(self, x, values, gradient, margins):
        self.x, self.values, self.gradient, self.margins = x, values, gradient, margins


class ManyObjective:
    """(1/n) sum_i s_i loss(y_ik, x_i.w_k + b_k) + l2/2 ||w_k||^2 for each output k.

    `softmax` puts (1/n) sum_i s_i (log sum_k exp(x_i.w_k + b_k) - its class's margin) in the
    place of the losses. `targets` is the arguments of `Targets`: (codes, values, weights,
    classes, factors). The batch has no subset.
    """

    def __init__(self, problem, batch, team, targets, softmax=False):
        self.problem, self.batch, self.softmax = problem, batch, softmax
        self.parts, self.targets = targets, Targets(*targets)
        self.base = Objective(problem, batch, team)
        self.loss = None if softmax else problem.loss_kernel()
        self.n, self.d, self.k = batch.n_rows, batch.shape[1], self.targets.k
        self.size, self.has_intercept = self.base.size, self.base.has_intercept
        self.dtype = batch.values.dtype
        self.n_objectives = 1 if softmax else self.k
        self.chunk = max(64, min(CHUNK_ROWS, CHUNK_NUMBERS // max(1, self.d)))
        if batch.sparse:
            self.chunk = CHUNK_ROWS

    def only(self, kept):
        """The objectives of some outputs (a mask)."""
        codes, values, weights, classes, factors = self.parts
        values = None if values is None else np.ascontiguousarray(values[:, kept])
        classes = None if classes is None else classes[kept]
        parts = codes, values, weights, classes, factors[kept]
        return ManyObjective(self.problem, self.batch, self.base.team, parts)

    def dots(self, a, b):
        """Inner products: one for each objective."""
        if self.softmax:
            return np.array([np.vdot(a, b)])
        return np.einsum("jk,jk->k", a, b)

    def _pieces(self, lo, hi):
        rows = self.base._rows(lo, hi)
        for a in range(rows.start, rows.stop, self.chunk):
            yield a, min(a + self.chunk, rows.stop)

    def at(self, x):
        """The point x, in one pass over the rows."""
        w = np.ascontiguousarray(x[: self.d], self.dtype)
        b = np.zeros(self.k, self.dtype)
        if self.has_intercept:
            b[:] = x[self.d]
        margins = np.empty((self.n, self.k), self.dtype)

        def part(lo, hi):
            totals, sums = np.zeros(self.n_objectives), np.zeros((self.size, self.k))
            slopes = np.empty((self.chunk, self.k), self.dtype)
            with np.errstate(all="ignore"):  # what is not finite is the solver's to see
                for a, z in self._pieces(lo, hi):
                    self._multiply(w, b, a, z, margins[a:z])
                    r = slopes[: z - a]
                    own = self.targets, margins[a:z], a, z, totals, r
                    output_losses(self.batch.rows, self.loss, *own)
                    self._combine(r, a, z, sums)
                    if self.has_intercept:
                        sums[self.d] += r.sum(axis=0, dtype=np.float64)
            return totals, sums

        parts = self.base.in_spans(part)
        gradient = parts[0][1]
        for _, other in parts[1:]:
            gradient += other
        gradient /= self.n
        coef = x[: self.d]
        gradient[: self.d] += self.problem.l2 * coef
        values = sum(totals for totals, _ in parts) / self.n
        values = values + 0.5 * self.problem.l2 * self.dots(coef, coef)
        return ManyPoint(x, values, gradient, margins)

    def margin_losses(self, x):
        """The losses alone, without penalty or gradient."""
        w = np.ascontiguousarray(x[: self.d], self.dtype)
        b = np.ascontiguousarray(x[self.d], self.dtype)

        def part(lo, hi):
            totals, margins = (
                np.zeros(self.n_objectives),
                np.empty((self.chunk, self.k), self.dtype),
            )
            with np.errstate(all="ignore"):
                for a, z in self._pieces(lo, hi):
                    p = margins[: z - a]
                    self._multiply(w, b, a, z, p)
                    output_losses(self.batch.rows, self.loss, self.targets, p, a, z, totals)
            return totals

        return sum(self.base.in_spans(part)) / self.n

    def _multiply(self, w, b, lo, hi, out):
        if self.batch.sparse:
            sparse_margins(self.batch.rows, w, b, lo, hi, out)
        else:
            np.matmul(self.batch.values[lo:hi], w, out=out)
            out += b

    def _combine(self, r, lo, hi, sums):
        if self.batch.sparse:
            sparse_combine(self.batch.rows, r, lo, hi, sums)
        else:
            sums[: self.d] += self.batch.values[lo:hi].T @ r

    def curvatures(self, margins):
        """Second derivatives of the losses, each by its own margin, of the shape of `margins`."""
        result = np.empty_like(margins)

        def part(lo, hi):
            rows, totals = self.base._rows(lo, hi), np.zeros(self.n_objectives)
            own = margins[rows], rows.start, rows.stop, totals, None, result[rows]
            output_losses(self.batch.rows, self.loss, self.targets, *own)

        self.base.in_spans(part)
        return result

    def along(self, margins, way, t):
        """(mean losses, their slopes) at margins + t way, t one for each objective."""
        steps = t.astype(self.dtype)

        def part(lo, hi):
            rows, totals = self.base._rows(lo, hi), np.zeros(self.n_objectives)
            at = margins[rows] + steps * way[rows]
            slopes = np.empty_like(at)
            own = at, rows.start, rows.stop, totals, slopes
            output_losses(self.batch.rows, self.loss, self.targets, *own)
            return totals, self.dots(slopes, way[rows]).astype(np.float64)

        parts = self.base.in_spans(part)
        return tuple(sum(p[i] for p in parts) / self.n for i in (0, 1))
