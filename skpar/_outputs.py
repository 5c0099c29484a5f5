"""Many weight vectors over the same rows: their objectives and gradients in one read.

Weights are arrays of shape (features, outputs), the intercepts in a last row. The objectives
are one for each output (one-vs-rest, several targets), or one in all for the softmax. Sums have
the same bits for any number of workers, as in `_objective`.
"""

import numpy as np

from skpar._data import Batch
from skpar._kernels.outputs import Targets, output_losses, sparse_combine, sparse_margins
from skpar._kernels.vectors import combination, products
from skpar._objective import SPAN_NUMBERS, Objective

# Numbers of dense rows worked on together: they stay in the cache between the two products.
CHUNK_NUMBERS = 1 << 17
CHUNK_ROWS = 1024
# Vectors of more numbers are worked on in parts, at most so many.
VECTOR_NUMBERS = 1 << 16
MOST_PARTS = 16
# Multiply-adds in the time that it takes to read a number.
READ_WORTH = 4
# Rows of a vector worked on together.
PIECE = 1024


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
        # A number read is worth k multiply-adds, some of which it takes to read it.
        self.work, self.sums = batch.work * (1.0 + self.k / READ_WORTH), []
        if batch.sparse:
            self.chunk = CHUNK_ROWS
            self.base.spans = self._spans()

    def _spans(self):
        """Spans of sparse rows: each has gradients of its own, which must cost less than it."""
        most = min(MOST_PARTS, self.work / (2 * SPAN_NUMBERS), self.batch.work / (8 * self.d))
        blocks, spans = self.base.order.n_blocks, 2 * int(max(1, most))
        edges = np.linspace(0, blocks, min(blocks, spans) + 1).astype(int).tolist()
        return list(zip(edges[:-1], edges[1:], strict=True))

    def only(self, kept):
        """The objectives of some outputs (a mask)."""
        codes, values, weights, classes, factors = self.parts
        values = None if values is None else np.ascontiguousarray(values[:, kept])
        classes = None if classes is None else classes[kept]
        parts = codes, values, weights, classes, factors[kept]
        return ManyObjective(self.problem, self.batch, self.base.team, parts)

    # -- vectors of all outputs -----------------------------------------------------------

    def dots(self, a, b):
        """Inner products: one for each objective."""
        return self.products([a], [b])[0, 0]

    def _flat(self, arrays):
        """Of the softmax's one objective all numbers are alike."""
        return [a.reshape(-1, 1) for a in arrays] if self.softmax else arrays

    def _in_parts(self, function, rows, vectors):
        """`function(lo, hi)` over parts of so many rows of so many vectors."""
        work = self.size * self.k * vectors
        parts = int(np.clip(self.size * self.k // VECTOR_NUMBERS, 1, MOST_PARTS))
        edges = np.linspace(0, rows, parts + 1).astype(int).tolist()
        return self.base.in_spans(function, list(zip(edges[:-1], edges[1:], strict=True)), work)

    def products(self, left, right):
        """Inner products of each with each, for each objective: (left, right, objectives)."""
        left, right = self._flat(left), self._flat(right)

        def part(lo, hi):
            return products(left, right, lo, hi)

        vectors = max(len(left), len(right))
        return sum(self._in_parts(part, len(right[0]), vectors))

    def combination(self, coef, arrays):
        """sum_a coef_a arrays_a, coef one for each objective."""
        result = np.empty_like(arrays[0])
        to, arrays = self._flat([result])[0], self._flat(arrays)

        def part(lo, hi):
            combination(coef, arrays, lo, hi, to)

        self._in_parts(part, len(to), len(arrays))
        return result

    # -- rows -----------------------------------------------------------------------------

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
            sums = own_sums[lo]
            totals = np.zeros(self.n_objectives)
            slopes = np.empty((self.chunk, self.k), self.dtype)
            sums.fill(0.0)
            with np.errstate(all="ignore"):  # what is not finite is the solver's to see
                for a, z in self._pieces(lo, hi):
                    self._multiply(w, b, a, z, margins[a:z])
                    r = slopes[: z - a]
                    own = self.targets, margins[a:z], a, z, totals, r
                    output_losses(self.batch.rows, self.loss, *own)
                    self._combine(r, a, z, sums)
                    if self.has_intercept:
                        sums[self.d] += r.sum(axis=0, dtype=np.float64)
            return totals

        if not self.sums:
            self.sums = [np.empty((self.size, self.k)) for _ in self.base.spans]
        own_sums = {lo: sums for (lo, _), sums in zip(self.base.spans, self.sums, strict=True)}
        values = sum(self.base.in_spans(part, None, self.work)) / self.n
        gradient = self._gradient(x)
        coef = x[: self.d]
        values = values + 0.5 * self.problem.l2 * self.dots(coef, coef)
        return ManyPoint(x, values, gradient, margins)

    def _gradient(self, x):
        """The mean of the spans' sums, and the penalty's."""
        gradient, l2 = np.empty((self.size, self.k)), self.problem.l2

        def part(lo, hi):
            for a in range(lo, hi, PIECE):
                z = min(a + PIECE, hi)
                piece = gradient[a:z]
                np.copyto(piece, self.sums[0][a:z])
                for other in self.sums[1:]:
                    piece += other[a:z]
                piece /= self.n
                if l2:
                    z = min(z, self.d)
                    gradient[a:z] += l2 * x[a:z]

        self._in_parts(part, self.size, len(self.sums) + 2)
        return gradient

    @property
    def n_workers(self):
        return self.base.workers_for(self.work)

    def values(self, x, l1=0.0):
        """The objectives at x, with an l1 penalty of this strength; infinite for overflows."""
        w = x[: self.d]
        values = self.margin_losses(x) + 0.5 * self.problem.l2 * self.dots(w, w)
        if l1:
            sizes = np.abs(w).sum(axis=0)
            values = values + l1 * (sizes.sum() if self.softmax else sizes)
        return np.where(np.isfinite(values), values, np.inf)

    def margin_losses(self, x):
        """The losses alone, without penalty or gradient."""
        w = np.ascontiguousarray(x[: self.d], self.dtype)
        b = np.zeros(self.k, self.dtype)
        if self.has_intercept:
            b[:] = x[self.d]

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

        return sum(self.base.in_spans(part, None, self.work)) / self.n

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
            return totals, _row_dots(slopes, way[rows], self.softmax)

        parts = self.base.in_spans(part)
        return tuple(sum(p[i] for p in parts) / self.n for i in (0, 1))


def _row_dots(a, b, together):
    if together:
        return np.array([np.vdot(a, b)], np.float64)
    return np.einsum("ik,ik->k", a, b).astype(np.float64)
