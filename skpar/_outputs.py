"""Many weight vectors over the same rows: their objectives and gradients in one read.

Weights are arrays of shape (features, outputs), the intercepts in a last row. The objectives
are one for each output (one-vs-rest, several targets), or one in all for the softmax. Sums have
the same bits for any number of workers, as in `_objective`.
"""

from dataclasses import replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from skpar._data import Batch
from skpar._kernels.outputs import Targets, output_losses, sparse_combine, sparse_margins
from skpar._objective import SPAN_NUMBERS, Objective
from skpar._vectors import MOST_PARTS, Vectors, cut

# Numbers of dense rows worked on together: they stay in the cache between the two products.
CHUNK_NUMBERS = 1 << 17
CHUNK_ROWS = 1024
# Multiply-adds in the time that it takes to read a number.
READ_WORTH = 4
# Non-zeros of rows that are copied by columns.
MOST_TURNED = 1 << 26
# Numbers read in the time of a loss.
LINE_WORTH = 8


def take(batch, rows):
    """A batch of its own with these positions of another."""
    return batch.take(rows if batch.subset is None else batch.subset[rows])


class ManyPoint:
    """The objectives at weights x; the gradient is that of their sum."""

    __slots__ = ("gradient", "margins", "penalties", "values", "x")

    def __init__(self, x, losses, penalties, gradient, margins):
        self.x, self.gradient, self.margins = x, gradient, margins
        self.values, self.penalties = losses + penalties, penalties

    def only(self, kept):
        """Of some outputs (a mask), without the gradient."""
        x, margins = (np.ascontiguousarray(a[:, kept]) for a in (self.x, self.margins))
        losses, penalties = (self.values - self.penalties)[kept], self.penalties[kept]
        return ManyPoint(x, losses, penalties, None, margins)


class ManyObjective(Vectors):
    """(1/n) sum_i s_i loss(y_ik, x_i.w_k + b_k) + l2/2 ||w_k||^2 for each output k.

    `softmax` puts (1/n) sum_i s_i (log sum_k exp(x_i.w_k + b_k) - its class's margin) in the
    place of the losses. `targets` is the arguments of `Targets`: (codes, values, weights,
    classes, factors). The batch has no subset.
    """

    def __init__(self, problem, batch, team, targets, softmax=False, columns=None):
        self.problem, self.batch, self.softmax = problem, batch, softmax
        self.parts, self.targets = targets, Targets(*targets)
        self.base = Objective(problem, batch, team)
        self.loss = None if softmax else problem.loss_kernel()
        self.n, self.d, self.k = batch.n_rows, batch.shape[1], self.targets.k
        self.size, self.has_intercept = self.base.size, self.base.has_intercept
        self.dtype = batch.values.dtype
        super().__init__(self.base.in_spans, self.size, self.k, softmax)
        self.n_objectives = 1 if softmax else self.k
        self.chunk = max(64, min(CHUNK_ROWS, CHUNK_NUMBERS // max(1, self.d)))
        # A number read is worth k multiply-adds, some of which it takes to read it.
        self.work = batch.work * (1.0 + self.k / READ_WORTH)
        # Whether gradients come from the columns: where these are not too much memory.
        self.turned = batch.sparse and len(batch.values) <= MOST_TURNED
        self._columns = columns
        if batch.sparse:
            self.chunk = CHUNK_ROWS
            self._span_rows()

    def _span_rows(self):
        """Spans of sparse rows; where gradients are summed by rows, each has sums of its own."""
        parts = np.clip(self.work / SPAN_NUMBERS, 1, MOST_PARTS)
        if not self.turned:
            parts = 2 * max(1, min(parts / 2, self.batch.work / (8 * self.d)))
        self.base.spans = cut(self.base.order.n_blocks, int(parts))

    @property
    def columns(self):
        """Sparse rows by columns, made where they are first needed."""
        if self._columns is None:
            self._columns = Batch.of(self.batch.matrix().T.tocsr(), np.zeros(self.d))
        return self._columns

    @cached_property
    def column_spans(self):
        """Spans of columns: one costs its numbers, and its row of the result."""
        cost = self.columns.starts + np.arange(self.d + 1)
        parts = len(self.base.spans)
        edges = np.searchsorted(cost, np.linspace(0, cost[-1], parts + 1)[1:-1])
        return list(pairwise(np.unique([0, *edges, self.d]).tolist()))

    def only(self, kept):
        """The objectives of some outputs (a mask)."""
        codes, values, weights, classes, factors = self.parts
        values = None if values is None else np.ascontiguousarray(values[:, kept])
        classes = None if classes is None else classes[kept]
        parts = codes, values, weights, classes, factors[kept]
        own = self.problem, self.batch, self.base.team, parts
        return ManyObjective(*own, columns=self._columns)

    def _pieces(self, lo, hi):
        rows = self.base._rows(lo, hi)
        for a in range(rows.start, rows.stop, self.chunk):
            yield a, min(a + self.chunk, rows.stop)

    def _split(self, x):
        """(weights, intercepts) in the data's dtype."""
        b = np.zeros(self.k, self.dtype)
        if self.has_intercept:
            b[:] = x[self.d]
        return np.ascontiguousarray(x[: self.d], self.dtype), b

    def margins(self, x):
        """X w + b for all rows and outputs, in half a pass."""
        (w, b), margins = self._split(x), self.room(self.n, self.dtype)

        def part(lo, hi):
            for a, z in self._pieces(lo, hi):
                self._multiply(w, b, a, z, margins[a:z])

        self.base.in_spans(part, None, self.work)
        return margins

    def at(self, x, margins=None):
        """The point x: one pass over the rows, half a one where its margins are known."""
        known = margins is not None
        margins = margins if known else self.room(self.n, self.dtype)
        both = self._by_columns if self.turned else self._by_rows
        losses, gradient = both(self._split(x), margins, known)
        coef, l2, d = x[: self.d], self.problem.l2, self.d
        if l2:

            def piece(at):
                gradient[at][: max(0, d - at.start)] += l2 * x[at.start : min(at.stop, d)]

            self.in_pieces(piece)
        return ManyPoint(x, losses, 0.5 * l2 * self.dots(coef, coef), gradient, margins)

    def _by_rows(self, weights, margins, known):
        """(mean losses, their gradient): rows are read once for both."""

        def part(lo, hi):
            totals, sums = np.zeros(self.n_objectives), np.zeros((self.size, self.k))
            slopes = np.empty((self.chunk, self.k), self.dtype)
            with np.errstate(all="ignore"):  # what is not finite is the solver's to see
                for a, z in self._pieces(lo, hi):
                    r = slopes[: z - a]
                    self._look(weights, margins, known, (a, z), totals, r)
                    self._combine(r, a, z, sums)
                    if self.has_intercept:
                        sums[self.d] += r.sum(axis=0, dtype=np.float64)
            return totals, sums

        parts = self.base.in_spans(part, None, self.work)
        gradient = parts[0][1]
        for _, other in parts[1:]:
            gradient += other
        gradient /= self.n
        return sum(totals for totals, _ in parts) / self.n, gradient

    def _by_columns(self, weights, margins, known):
        """The same, the gradient from the columns: no sums of its own for each span."""
        slopes = self.room(self.n, self.dtype)

        def part(lo, hi):
            totals = np.zeros(self.n_objectives)
            with np.errstate(all="ignore"):
                for a, z in self._pieces(lo, hi):
                    self._look(weights, margins, known, (a, z), totals, slopes[a:z])
            return totals

        losses = sum(self.base.in_spans(part, None, self.work)) / self.n
        gradient = self.room(self.size)
        gradient[self.d :] = slopes.sum(axis=0, dtype=np.float64) / self.n
        slopes *= slopes.dtype.type(1.0 / self.n)
        self._sum_columns(self.columns, slopes, gradient)
        self.release(slopes)
        return losses, gradient

    def _look(self, weights, margins, known, rows, totals, slopes):
        a, z = rows
        if not known:
            self._multiply(*weights, a, z, margins[a:z])
        own = self.targets, margins[a:z], a, z, totals, slopes
        output_losses(self.batch.rows, self.loss, *own)

    def _sum_columns(self, columns, r, out):
        """out_j = sum_i x_ij r_i, from the columns."""
        still, direct = np.zeros(self.k, self.dtype), out.dtype == self.dtype

        def part(lo, hi):
            for a in range(lo, hi, CHUNK_ROWS):
                z = min(a + CHUNK_ROWS, hi)
                to = out[a:z] if direct else np.empty((z - a, self.k), self.dtype)
                sparse_margins(columns.rows, r, still, a, z, to)
                if not direct:
                    out[a:z] = to

        self.base.in_spans(part, self.column_spans, self.work)

    def mean_squares(self, factors):
        """sum_i a_ik x_ij^2 / n of sparse rows, shape (d, k); a of the data's dtype."""
        result = np.zeros((self.d, self.k))
        if not self.turned:
            X = self.batch.matrix()
            return np.asarray(X.power(2).T @ factors, np.float64) / self.n
        squares = replace(self.columns, values=self.columns.values**2)
        self._sum_columns(squares, factors / factors.dtype.type(self.n), result)
        return result

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
        w, b = self._split(x)

        def part(lo, hi):
            totals = np.zeros(self.n_objectives)
            margins = np.empty((self.chunk, self.k), self.dtype)
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

        parts = self.base.in_spans(part, None, LINE_WORTH * self.n * self.k)
        return tuple(sum(p[i] for p in parts) / self.n for i in (0, 1))


def _row_dots(a, b, together):
    if together:
        return np.array([np.vdot(a, b)], np.float64)
    return np.einsum("ik,ik->k", a, b).astype(np.float64)
