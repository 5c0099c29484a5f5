"""Wide sparse rows and many independent outputs: dual ascent of all of them in one read.

`_dual` for each output; the workers share out the outputs, so that each reads the rows once for
its own and nobody waits for a lock.
"""

from itertools import pairwise

import numpy as np

from skpar._dual import FLAT, FLAT_OF_TOL, MOST_EPOCHS, MOST_LEVERAGE, MOST_TURNS, Center
from skpar._dual import suits as suits_one
from skpar._kernels.duals import DualsState, ascend, losses, margins, padded
from skpar._kernels.outputs import Targets

# Numbers of the dual variables, which are kept beside as many margins, twice.
MOST_NUMBERS = 1 << 26
PIECE_COLUMNS = 4096
ROUNDING = 1e-9

# Numbers read in an epoch from which outputs are shared out.
SHARED_WORK = 1 << 20


def suits(objective, start):
    """Whether ascent may be tried: as `_dual.suits`, of one-vs-rest or several targets."""
    fits = objective.n * objective.k <= MOST_NUMBERS
    return not objective.softmax and fits and suits_one(objective.base, start)


class Block:
    """The outputs of one worker."""

    def __init__(self, ascent, parts):
        center, batch = ascent.center, ascent.fit.batch
        self.ascent, self.targets, self.k = ascent, Targets(*parts), len(parts[4])
        own = center.along, center.squares, center.square
        self.state = DualsState(batch.rows, ascent.size, self.k, *own)
        kp = self.state.k
        self.margins = np.zeros((batch.n_rows, kp))
        self.value, self.bound = np.full(kp, np.inf), np.full(kp, -np.inf)
        self.rose = False
        self.value_at_zero = self._place_shift()[0]

    def epoch(self, order):
        """Ascent along the order, then a look at where that led."""
        ascent = self.ascent
        rows, loss = ascent.fit.batch.rows, ascent.objective.loss
        chunk = max(1, ascent.fit.batch.chunk_blocks(order.block_size) // self.k)
        for lo in range(0, order.n_blocks, chunk):
            hi = min(lo + chunk, order.n_blocks)
            ascend(rows, loss, self.targets, order, self.state, lo, hi)
        margins(rows, self.state, self.margins)
        self._look()

    def _look(self):
        """The objectives, and those of the duals, which lie below them; see `_dual`."""
        state, n = self.state, self.ascent.objective.n
        loss, bend = self._place_shift()
        share = state.sums / state.size
        squares = np.einsum("jk,jk->k", state.v, state.v)
        squares += share * (share * state.center_square - 2.0 * state.v_center)
        value = loss + 0.5 * self.ascent.objective.problem.l2 * squares
        tangent = self._losses(state.margin, np.zeros(state.k))[0]
        apart = np.einsum("ik,ik->k", state.dual, self.margins)
        apart -= np.einsum("ik,ik->k", state.dual, state.margin)
        tangent -= (apart + state.sums * state.shift) / n
        gap = loss - tangent
        gap += (state.sums / n) ** 2 / np.where(bend > 0.0, bend, np.inf)
        self.bound = np.maximum(self.bound, value - gap)
        self.rose = bool(np.any(value > self.value * (1.0 + ROUNDING)))
        self.value = value

    @property
    def gap(self):
        """The objectives less the best bounds from below."""
        return (self.value - self.bound)[: self.k]

    def _losses(self, at, shift):
        totals = np.zeros((3, self.state.k))
        losses(self.ascent.objective.loss, self.targets, at, shift, totals)
        return totals / self.ascent.objective.n

    def _place_shift(self):
        """The best intercepts: (mean losses there, their second derivatives)."""
        state, shift = self.state, self.state.shift.copy()
        value, slope, bend = self._losses(self.margins, shift)
        if not self.ascent.objective.has_intercept:
            return value, np.zeros_like(bend)
        # What fills the last group has no slope: its step is 0.
        step = slope / np.maximum(bend, 1e-12)
        for _ in range(MOST_TURNS):
            step[slope * step <= self.ascent.flat * np.abs(value)] = 0.0
            if not step.any():
                break
            there = self._losses(self.margins, shift - step)
            good = there[0] <= value
            shift = np.where(good, shift - step, shift)
            value, slope, bend = np.where(good, there, (value, slope, bend))
            step = np.where(good, slope / np.maximum(bend, 1e-12), 0.5 * step)
        state.shift[:] = shift
        return value, bend

    def put_weights(self, w, intercept):
        """The weights into rows of (outputs, columns), and the intercepts."""
        state, center = self.state, self.ascent.center.means
        share = state.sums / state.size
        along = np.zeros(state.k)
        for a in range(0, len(center), PIECE_COLUMNS):
            at = slice(a, min(a + PIECE_COLUMNS, len(center)))
            piece = state.v[at] - np.multiply.outer(center[at], share)
            along += center[at] @ piece
            w[:, at] = piece[:, : self.k].T
        if self.ascent.objective.has_intercept:
            intercept[:] = (state.shift - along)[: self.k]


class ManyDual:
    """Epochs of ascent of all outputs from weights 0."""

    def __init__(self, fit, objective, tol=0.0):
        self.fit, self.objective = fit, objective
        self.flat = max(FLAT, FLAT_OF_TOL * tol)
        self.size = objective.problem.l2 * objective.n
        self.center = Center(fit.batch, objective.base, self.size)
        self.leverage = fit.problem.curvature * self.center.leverage
        self.gaps, self.blocks = [], []
        if self.leverage > MOST_LEVERAGE:
            return
        team, k = fit.team, objective.k
        self.n_workers = 1
        if team is not None and team.on_threads and objective.work >= SHARED_WORK:
            self.n_workers = max(1, min(team.threads, k // 2))
        edges = np.linspace(0, padded(k) // padded(1), self.n_workers + 1).astype(int) * padded(1)
        edges = np.minimum(edges, k)
        self.spans = [slice(a, z) for a, z in pairwise(edges.tolist()) if z > a]
        self.blocks = self._side_by_side(lambda span: Block(self, self._parts(span)), self.spans)

    def _side_by_side(self, function, items):
        """[function(item)], a worker for each."""
        if len(items) == 1:
            return [function(items[0])]
        results = [None] * len(items)

        def work(at, item):
            results[at] = function(item)

        self.fit.team.run(work, list(enumerate(items)), lambda: None)
        return results

    def _parts(self, span):
        codes, values, weights, classes, factors = self.objective.parts
        values = None if values is None else np.ascontiguousarray(values[:, span])
        classes = None if classes is None else classes[span]
        return codes, values, weights, classes, factors[span]

    def epoch(self, number):
        """One read of the rows by each worker."""
        fit = self.fit
        order = fit.batch.order(fit.shuffle, [fit.seed, number])
        self._side_by_side(lambda block: block.epoch(order), self.blocks)
        self.gaps.append(self.gap)

    @property
    def values(self):
        """The objectives of the outputs."""
        return np.concatenate([b.value[: b.k] for b in self.blocks])

    @property
    def gap(self):
        """Bounds of the objectives' distances from their minima."""
        return np.concatenate([b.gap for b in self.blocks])

    @property
    def values_at_zero(self):
        """The mean losses of no coefficients."""
        return np.concatenate([b.value_at_zero[: b.k] for b in self.blocks])

    def hopeless(self, allowed):
        """Whether too many epochs would pass until the gaps are what is allowed.

        The objective may rise where a row's step is long; gradients never do that.
        """
        if self.leverage > MOST_LEVERAGE or any(b.rose for b in self.blocks):
            return True
        if len(self.gaps) < 2:
            return False
        last, now = (float(np.max(g / allowed)) for g in self.gaps[-2:])
        if now <= 1.0:
            return False
        return not now < last or np.log(now) > MOST_EPOCHS * np.log(last / now)

    def weights(self, dtype):
        """(w of shape (outputs, columns), intercepts)."""
        w = np.empty((self.objective.k, self.objective.d), dtype)
        intercept = np.zeros(self.objective.k)
        self._side_by_side(
            lambda at: at[1].put_weights(w[at[0]], intercept[at[0]]),
            list(zip(self.spans, self.blocks, strict=True)),
        )
        return w, intercept
