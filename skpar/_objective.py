"""The objective over all rows: value, gradient and curvature, summed in spans side by side.

The spans are a function of the data alone and their sums are added in order, so every number
here has the same bits for any number of workers.
"""

from itertools import count

import numpy as np

from skpar._kernels.gradients import (
    column_moments,
    curved_product,
    loss_along,
    loss_and_gradient,
    majorants,
)
from skpar._kernels.margins import margins

# Numbers read by one span: a fraction of a millisecond, so that workers end together.
SPAN_NUMBERS = 1 << 17
MOST_SPANS = 64
# A second worker pays once a pass has this many numbers for each.
NUMBERS_PER_WORKER = 1 << 18
# Wide sparse rows: every span needs a gradient of its own, which must cost less than its rows.
SPAN_SHARE = 4
# A stored number of a sparse row takes the time of so many of a dense one.
SPARSE_COST = 3
BLOCK = 64
# Fewer margins than this are read faster than a worker wakes.
LINE_ROWS = 1 << 14


class Point:
    """The objective at weights: `x` holds w, then the intercept where there is one."""

    __slots__ = ("curvatures", "gradient", "loss", "margins", "value", "x")

    def __init__(self, x, value, loss, gradient, margins, curvatures):
        self.x, self.value, self.loss, self.gradient = x, value, loss, gradient
        self.margins, self.curvatures = margins, curvatures

    @property
    def finite(self):
        return np.isfinite(self.value) and bool(np.all(np.isfinite(self.gradient)))


class Objective:
    """(1/n) sum_i s_i loss(y_i, x_i.w + b) + l2/2 ||w||^2 over the rows of a batch.

    The l1 part of the penalty is not smooth and belongs to the solver.
    """

    def __init__(self, problem, batch, team=None, loss=None):
        self.problem, self.batch, self.team = problem, batch, team
        self.loss = problem.loss_kernel() if loss is None else loss
        self.l2 = problem.l2
        self.n, self.d = batch.n_rows, batch.shape[1]
        self.has_intercept = problem.fit_intercept
        self.size = self.d + int(self.has_intercept)
        self.dtype = batch.values.dtype
        self.work = batch.work * (SPARSE_COST if batch.sparse else 1)
        self.order = batch.order(False, None, BLOCK)
        self.spans = self._cut()
        self.passes = 0

    def _cut(self):
        blocks, work = self.order.n_blocks, self.work
        spans = min(MOST_SPANS, work / SPAN_NUMBERS)
        if self.batch.sparse:
            spans = min(spans, max(2.0, work / (SPAN_SHARE * self.d)))
        spans = int(max(1, min(blocks, spans)))
        edges = np.linspace(0, blocks, spans + 1).astype(int)
        return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))

    def workers_for(self, work):
        """Workers worth waking for so many numbers or multiply-adds."""
        if self.team is None or not self.team.on_threads:
            return 1
        return int(max(1, min(self.team.threads, work // NUMBERS_PER_WORKER)))

    def in_spans(self, function, spans=None, work=None):
        """[function(*span) for each span], the free worker taking the next."""
        spans = self.spans if spans is None else spans
        width = min(self.workers_for(self.work if work is None else work), len(spans))
        if width == 1:
            return [function(*span) for span in spans]
        results, turn = [None] * len(spans), count()
        stopped = []

        def work():
            while (k := next(turn)) < len(spans) and not stopped:
                results[k] = function(*spans[k])

        self.team.run(work, [()] * width, lambda: stopped.append(True))
        return results

    def _rows(self, lo, hi):
        """The slice of a per-row array that blocks lo to hi fill."""
        return slice(lo * BLOCK, min(hi * BLOCK, self.n))

    def split(self, x):
        """(w in the data's dtype, intercept)."""
        intercept = float(x[self.d]) if self.has_intercept else 0.0
        return np.ascontiguousarray(x[: self.d], self.dtype), intercept

    def margins(self, x):
        """X w + b for all rows, in half a pass."""
        w, b = self.split(x)
        out = np.empty(self.n)

        def part(lo, hi):
            rows = self._rows(lo, hi)
            own = rows.start, rows.stop, self.batch.subset
            out[rows] = margins(self.batch.rows, w, b, *own)

        self.in_spans(part)
        self.passes += 0.5
        return out

    def value(self, x, margins):
        """The objective where the margins are known; no row is read."""
        coef = x[: self.d]
        return self.along(margins, margins, 0.0)[0] + 0.5 * self.l2 * float(coef @ coef)

    def at(self, x, margins=None):
        """The point x: one pass over the rows, half a one where its margins are known."""
        w, b = self.split(x)
        known = margins is not None
        margins = margins if known else np.empty(self.n)
        curvatures = np.empty(self.n)

        def part(lo, hi):
            gradient, rows = np.zeros(self.size), self._rows(lo, hi)
            own = gradient, margins[rows], curvatures[rows], known
            total, slope = loss_and_gradient(
                self.batch.rows, self.loss, w, b, self.order, lo, hi, *own
            )
            if self.has_intercept:
                gradient[self.d] = slope
            return total, gradient

        parts = self.in_spans(part)
        gradient = parts[0][1]
        for _, other in parts[1:]:
            gradient += other
        gradient /= self.n
        coef = x[: self.d]
        gradient[: self.d] += self.l2 * coef
        loss = sum(total for total, _ in parts) / self.n
        value = loss + 0.5 * self.l2 * float(coef @ coef)
        self.passes += 0.5 if known else 1
        return Point(x, value, loss, gradient, margins, curvatures)

    def product(self, curvatures, v):
        """(Hessian of the losses with these curvatures + l2) v, and the margins X v."""
        w, b = self.split(v)
        margins = np.empty(self.n)

        def part(lo, hi):
            result, rows = np.zeros(self.size), self._rows(lo, hi)
            entry = curved_product(
                self.batch.rows, curvatures[rows], w, b, self.order, lo, hi, result, margins[rows]
            )
            if self.has_intercept:
                result[self.d] = entry
            return result

        result = sum(self.in_spans(part)) / self.n
        result[: self.d] += self.l2 * v[: self.d]
        self.passes += 1
        return result, margins

    def along(self, margins, way, t, loss=None):
        """The mean loss at margins + t way and its two derivatives in t; no row is read."""
        loss = self.loss if loss is None else loss

        def part(lo, hi):
            rows = self._rows(lo, hi)
            return loss_along(
                self.batch.rows, loss, margins, way, t, rows.start, rows.stop, self.batch.subset
            )

        spans = self.spans
        if self.n < LINE_ROWS:
            spans = [(0, self.order.n_blocks)]
        return np.sum(self.in_spans(part, spans), axis=0) / self.n

    def majorants(self, margins):
        """What stands in for curvatures where the loss is straight."""
        out = np.empty(self.n)

        def part(lo, hi):
            rows = self._rows(lo, hi)
            own = margins, out, rows.start, rows.stop, self.batch.subset
            majorants(self.batch.rows, self.loss, *own)

        self.in_spans(part)
        return out

    def moments(self, factors=None):
        """(sum_i a_i x_ij, sum_i a_i x_ij^2) / n over the rows; a is 1 where not given."""

        def part(lo, hi):
            sums = np.zeros((2, self.d))
            own = None if factors is None else factors[self._rows(lo, hi)]
            column_moments(self.batch.rows, self.order, lo, hi, sums[0], sums[1], own)
            return sums

        self.passes += 1
        return sum(self.in_spans(part)) / self.n
