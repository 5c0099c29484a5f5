"""Wide sparse rows: ascent of the dual, one row's variable at a time, with a certified gap.

Stochastic dual coordinate ascent (Shalev-Shwartz & Zhang 2013) needs no step size, and the
difference between the objective and its dual bounds how far the optimum may be. With fewer rows
than columns it works on the smaller problem: nothing but the weights themselves has the length
of the columns.
"""

import math
from itertools import pairwise

import numpy as np

from skpar._kernels.dual import DualState, ascend, margins, shares, sum_rows, survey_rows
from skpar._kernels.records import Order
from skpar._scratch import Scratch

SMOOTH = (
    "huber", "log_loss", "modified_huber", "squared_epsilon_insensitive", "squared_error",
    "squared_hinge",
)  # fmt: skip
# Rows from which the centre of the columns is taken: a few percent do no harm.
CENTER_ROWS = 1500
# A step moves its row's margin by at most a share q / (1 + q curvature) of the loss's slope. Where
# q is large, weights hang on many rows each and ascent is slow.
MOST_LEVERAGE = 100.0
# Ascent goes on while it would end within as many epochs at the pace of the last.
MOST_EPOCHS = 20
MOST_TURNS = 20
# Rows visited together: more of them act as one long step, which ascent does not have.
BLOCK_ROWS = 16
# Passes that end with no sum, to be shared out, and half as much of them is worth a worker.
PARTS, WORTH = 8, 2
# Between these leverages the first visit of all rows gains much, but never enough.
LEAST_OPENING, MOST_OPENING = 0.03, 2.0
# After a gap of so many times what is allowed a visit and a half end far from the aim.
FAR = 20.0
# Within so many times the gap allowed the rows with the most of it suffice.
NEAR = 3.0
# The best intercept is taken to be within at most so many times its last move, and steps towards it
# grow up to so many of Newton's.
MOST_DRIFT = 10.0
MOST_STRIDE = 16.0
# The intercept is placed until a step would gain this share of what `tol` allows, or of all.
FLAT, FLAT_OF_TOL = 1e-11, 1e-3


def suits(objective, start):
    """Whether ascent may be tried: the loss must be smooth, the penalty l2, the weights fresh."""
    problem, batch = objective.problem, objective.batch
    return (
        batch.sparse
        and problem.loss in SMOOTH
        and problem.l2 > 0.0
        and problem.l1 == 0.0
        and not start.w.any()
        and (batch.weights is None or batch.weights.min() >= 0.0)
    )


def side_by_side(objective, function, n):
    """function(lo, hi) over parts of n rows, shared out among the workers."""
    edges = np.linspace(0, n, PARTS + 1).astype(int).tolist()
    objective.in_spans(function, list(pairwise(edges)), WORTH * objective.batch.work)


def rough_leverage(objective):
    """What `DualAscent.leverage` is at most: without a center."""
    values = objective.batch.values
    mean = float(values @ values) / max(1, objective.batch.shape[0])
    return objective.problem.curvature * mean / (objective.l2 * objective.n)


class Center:
    """The columns' means over a sample of rows; the rows' products with them, and squares."""

    def __init__(self, batch, objective, size, means=None):
        n, self.means = objective.n, np.zeros(objective.d) if means is None else means
        self.along, self.squares = np.empty(batch.shape[0]), np.empty(batch.shape[0])
        used = slice(None) if batch.subset is None else batch.subset
        if objective.has_intercept:
            # Blocks of rows are read faster than rows far apart.
            blocks = np.arange(0, n, BLOCK_ROWS * max(1, n // CENTER_ROWS))
            sample = (blocks[:, None] + np.arange(BLOCK_ROWS)).ravel()
            sample = sample[sample < n]
            sample = sample if batch.subset is None else batch.subset[sample]
            sum_rows(batch.rows, sample, 1.0 / len(sample), self.means)

        def part(lo, hi):
            survey_rows(batch.rows, self.means, self.along, self.squares, lo, hi)

        side_by_side(objective, part, batch.shape[0])
        self.square = float(self.means @ self.means)
        centred = float((self.squares[used] - 2.0 * self.along[used]).mean()) + self.square
        self.leverage = centred / size


class DualAscent:
    """Epochs of ascent from weights 0: `epoch`, then look at `value`, `gap` and `x`.

    The weights are written into `x`, where it is given.
    """

    def __init__(self, fit, objective, tol=0.0, x=None):
        self.fit, self.objective, self.tol = fit, objective, tol
        self.scratch = Scratch(2 * objective.d)
        means, v = np.split(self.scratch.array, 2)
        self.flat = max(FLAT, FLAT_OF_TOL * tol)
        batch, n = fit.batch, objective.n
        self.used = slice(None) if batch.subset is None else batch.subset
        size = objective.l2 * n
        self.center = Center(batch, objective, size, means)
        self.state = DualState(batch.rows, size, self.center.along, self.center.squares, v)
        self.state.center_square = self.center.square
        self.leverage = fit.problem.curvature * self.center.leverage
        # The best weights seen, and their margins: the objective may rise for an epoch.
        self.x, self.margins = np.zeros(objective.size) if x is None else x, None
        self.value, self.bound, self.gaps = np.inf, -np.inf, []
        self.last, self.partial = None, False
        self.value_at_zero = self._shift(np.zeros(n))[0]
        # The intercept when last looked at, its move before that, and the length of its steps.
        self.placed, self.moved, self.stride = self.state.shift, 0.0, 1.0

    def epoch(self, number):
        """The best dual variable of each row, in random order; then the best intercept.

        Near the end only the rows with most of the gap are visited.
        """
        batch, seed = self.fit.batch, [self.fit.seed, number]
        near = self.last is not None and self.gap <= NEAR * self.tol * self.value
        self.partial = near and not self.partial
        if number > 0:
            self._step_intercept(self.stride)
        if self.partial:
            rows = self._rows_left()
            self._ascend(Order(len(rows), BLOCK_ROWS, seed if self.fit.shuffle else None, rows))
        else:
            order = batch.order(self.fit.shuffle, seed, BLOCK_ROWS)
            self._ascend(order)
            if number == 0 and LEAST_OPENING < self.leverage < MOST_OPENING:
                self._open(order, seed)
        self._look()

    def _open(self, order, seed):
        """More of the first epoch, where one visit of each row cannot do: no look in between.

        The rows visited first knew least and are visited once more. If that moved them so far that
        the end cannot be near, all rows are.
        """
        state = self.state
        dual, margin = state.dual.copy(), state.margin.copy()
        self._step_intercept()
        self._ascend(order, 0.5)
        # Half of each row's part of the gap, to second order, of half the rows.
        gap = float((state.dual - dual) @ (margin - state.margin)) / self.objective.n
        if gap > FAR * self.tol * self.value_at_zero:
            self._step_intercept()
            self._ascend(self.fit.batch.order(self.fit.shuffle, [*seed, 1], BLOCK_ROWS))

    def _step_intercept(self, stride=1.0):
        """Newton's step at the margins that rows had when they were visited, or some of them."""
        if self.objective.has_intercept:
            own = self.state.margin[self.used]
            _, slope, bend = self.objective.along(own, np.ones(len(own)), 0.0)
            self.state.shift -= stride * slope / bend if bend > 0.0 else 0.0

    def _ascend(self, order, share=1.0):
        chunk, n_blocks = self.fit.batch.chunk_blocks(order.block_size), order.n_blocks
        end = math.ceil(share * n_blocks)
        for lo in range(0, end, chunk):
            hi = min(lo + chunk, end)
            ascend(self.fit.batch.rows, self.objective.loss, order, self.state, lo, hi)

    def _rows_left(self):
        """The rows with more than the mean share of the gap, which hold most of it."""
        batch, share = self.fit.batch, np.empty(self.objective.n)
        shares(batch.rows, self.objective.loss, self.state, self.last, share, batch.subset)
        rows = np.flatnonzero(share > share.mean())
        return rows if batch.subset is None else batch.subset[rows]

    @property
    def gap(self):
        """The objective less the best bound from below."""
        return self.value - self.bound

    def _look(self):
        """The objective of the weights and the dual's, which lies below every objective."""
        state, objective, center = self.state, self.objective, self.center
        batch, p = self.fit.batch, np.empty(objective.n)
        share = state.sum / state.size
        # Anew, as the ascent's own sum gathers rounding errors.
        state.v_center = float(center.means @ state.v)
        square = float(state.v @ state.v)
        square += share * (share * center.square - 2.0 * state.v_center)

        def part(lo, hi):
            margins(batch.rows, state, p, lo, hi, batch.subset)

        side_by_side(objective, part, objective.n)
        loss, bend = self._shift(p)
        p += state.shift
        value = loss + 0.5 * objective.l2 * square
        # loss(p) + conjugate(-a) + a p for a = -loss'(u): the loss at p above its tangent at u.
        dual, own = state.dual[self.used], state.margin[self.used]
        tangent = objective.along(own, own, 0.0)[0] - float(dual @ (p - own)) / objective.n
        gap = loss - tangent
        if bend > 0.0:
            # At the optimum the dual variables sum to 0. Until then the bound hangs on how far the
            # best intercept is: Newton's step or, as weights that may move far take it with them,
            # some times its last move.
            excess, drift = abs(state.sum) / objective.n, min(self.leverage, MOST_DRIFT)
            gap += excess * max(excess / bend, drift * abs(state.shift - self.placed))
        self.bound = max(self.bound, value - gap)
        # An intercept that goes on one way, and hardly slower, is far from where it belongs.
        move = state.shift - self.placed
        far = move * self.moved > 0.5 * self.moved**2
        self.stride = min(2.0 * self.stride, MOST_STRIDE) if far else 1.0
        self.last, self.placed, self.moved = p, state.shift, move
        if value < self.value:
            self.value, self.margins = value, p
            self._write_weights(share)
        self.gaps.append(self.gap)

    def _write_weights(self, share):
        """w = v less its share of the centre, and the intercept of rows that are not centred."""
        state, center, d = self.state, self.center, self.objective.d
        np.multiply(center.means, -share, out=self.x[:d])
        self.x[:d] += state.v
        self.x[d:] = state.shift - state.v_center + share * center.square

    def _shift(self, margins):
        """Place the intercept, where there is one; (mean loss, its second derivative)."""
        if not self.objective.has_intercept:
            return self.objective.along(margins, margins, 0.0)[0], 0.0
        self.state.shift, loss, bend = self._best_shift(margins)
        return loss, bend

    def _best_shift(self, margins):
        """(the intercept with the least loss at margins that lack one, that loss, its bend).

        Newton's steps, halved where they overshoot.
        """
        objective, shift = self.objective, self.state.shift
        ones = np.ones(objective.n)
        value, slope, bend = objective.along(margins, ones, shift)
        for _ in range(MOST_TURNS):
            step = slope / max(bend, 1e-12)
            if slope * step <= self.flat * abs(value):
                break
            for _ in range(MOST_TURNS):
                there = objective.along(margins, ones, shift - step)
                if there[0] <= value:
                    break
                step *= 0.5
            else:
                break
            shift -= step
            value, slope, bend = there
        return shift, value, bend

    def hopeless(self, allowed):
        """Whether too many epochs would pass until the gap is what is allowed."""
        if self.leverage > MOST_LEVERAGE:
            return True
        if len(self.gaps) < 2 or self.partial or self.gaps[-1] <= allowed:
            return False
        pace = np.log(self.gaps[-2] / self.gaps[-1]) if self.gaps[-1] > 0 else np.inf
        return pace <= 0 or np.log(self.gaps[-1] / max(allowed, 1e-300)) > MOST_EPOCHS * pace
