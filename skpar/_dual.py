"""Wide sparse rows: ascent of the dual, one row's variable at a time, with a certified gap.

Stochastic dual coordinate ascent (Shalev-Shwartz & Zhang 2013) needs no step size, and the
difference between the objective and its dual bounds how far the optimum may be. With fewer rows
than columns it works on the smaller problem: nothing but the weights themselves has the length
of the columns.
"""

import numpy as np

from skpar._kernels.dual import DualState, ascend, sum_rows

SMOOTH = (
    "huber", "log_loss", "modified_huber", "squared_epsilon_insensitive", "squared_error",
    "squared_hinge",
)  # fmt: skip
# Rows from which the centre of the columns is taken: a few percent do no harm.
CENTER_ROWS = 1500
# A step moves its row's margin by at most a share q / (1 + q curvature) of the loss's slope. Where
# q is large, weights hang on many rows each and ascent is slow.
MOST_LEVERAGE = 30.0
# Ascent goes on while it would end within as many epochs at the pace of the last.
MOST_EPOCHS = 12
MOST_TURNS = 20
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


class Center:
    """The columns' means over a sample of rows; the rows' products with them, and squares."""

    def __init__(self, batch, objective, size):
        n, d = objective.n, objective.d
        factors, self.means = np.zeros(batch.shape[0]), np.zeros(d)
        self.along, self.squares = np.zeros(batch.shape[0]), np.zeros(batch.shape[0])
        rows = np.arange(n) if batch.subset is None else batch.subset
        if objective.has_intercept:
            sample = rows[:: max(1, n // CENTER_ROWS)]
            factors[sample] = 1.0 / len(sample)
        sum_rows(batch.rows, factors, self.means, self.squares)
        if objective.has_intercept:
            x = np.zeros(objective.size)
            x[:d] = self.means
            self.along[rows] = objective.margins(x)
        self.square = float(self.means @ self.means)
        centred = float((self.squares[rows] - 2.0 * self.along[rows]).mean()) + self.square
        self.leverage = centred / size


class DualAscent:
    """Epochs of ascent from weights 0: `epoch`, then look at `value`, `gap` and `x`."""

    def __init__(self, fit, objective, tol=0.0):
        self.fit, self.objective = fit, objective
        self.flat = max(FLAT, FLAT_OF_TOL * tol)
        batch, n = fit.batch, objective.n
        self.used = slice(None) if batch.subset is None else batch.subset
        size = objective.l2 * n
        self.center = Center(batch, objective, size)
        self.state = DualState(batch.rows, size, self.center.along, self.center.squares)
        self.state.center_square = self.center.square
        self.leverage = fit.problem.curvature * self.center.leverage
        # The best weights seen, and room for the next: the objective may rise for an epoch.
        self.x, self.spare = np.zeros(objective.size), np.zeros(objective.size)
        self.margins, self.value, self.bound, self.gaps = None, np.inf, -np.inf, []
        self.value_at_zero = self._shift(np.zeros(n))[0]

    def epoch(self, number):
        """The best dual variable of each row, in random order; then the best intercept."""
        fit, objective = self.fit, self.objective
        order = fit.batch.order(fit.shuffle, [fit.seed, number])
        chunk = fit.batch.chunk_blocks(order.block_size)
        for lo in range(0, order.n_blocks, chunk):
            hi = min(lo + chunk, order.n_blocks)
            ascend(fit.batch.rows, objective.loss, order, self.state, lo, hi)
        self._look()

    @property
    def gap(self):
        """The objective less the best bound from below."""
        return self.value - self.bound

    def _look(self):
        """Weights, their objective and the dual's, which lies below every objective."""
        state, objective, d = self.state, self.objective, self.objective.d
        x, w = self.spare, self.spare[:d]
        np.multiply(self.center.means, -state.sum / state.size, out=w)
        w += state.v
        if objective.has_intercept:
            x[d] = -float(w @ self.center.means)
        margins = objective.margins(x)
        loss, bend = self._shift(margins)
        x[d:] += state.shift
        margins += state.shift
        value = loss + 0.5 * objective.l2 * float(w @ w)
        # loss(p) + conjugate(-a) + a p for a = -loss'(u): the loss at p above its tangent at u.
        dual, own = state.dual[self.used], state.margin[self.used]
        tangent = objective.along(own, own, 0.0)[0] - float(dual @ (margins - own)) / objective.n
        gap = loss - tangent
        if bend > 0.0:
            # At the optimum the dual variables sum to 0.
            gap += (state.sum / objective.n) ** 2 / bend
        self.bound = max(self.bound, value - gap)
        if value < self.value:
            self.x, self.spare = x, self.x
            self.margins, self.value = margins, value
        self.gaps.append(self.gap)

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
        if len(self.gaps) < 2 or self.gaps[-1] <= allowed:
            return False
        pace = np.log(self.gaps[-2] / self.gaps[-1]) if self.gaps[-1] > 0 else np.inf
        return pace <= 0 or np.log(self.gaps[-1] / max(allowed, 1e-300)) > MOST_EPOCHS * pace
