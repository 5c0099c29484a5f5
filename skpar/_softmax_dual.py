"""Many outputs by dual coordinate ascent: no step size, and a bound on what is left to gain.

Shalev-Shwartz & Zhang 2013. The distance between the objective and its dual says how far the
optimum may be below, for the intercepts at hand; what they may still gain is estimated.
"""

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from skpar._kernels.softmax_dual import Dual
from skpar._many_state import INTERCEPT, ManyState

# A step of a row moves its own margin by this much at most, in units of the loss's slope; where
# it would be more (a weak penalty, long or heavy rows) the dual is ill-conditioned.
MOST_STEP = 16.0
# Numbers of the dual variables.
MOST_DUALS = 1 << 24
# Newton rounds of a row's step, short and long.
ROUNDS, MORE_ROUNDS, LONG = 2, 4, 2.0
# Multiply-adds between two looks at the interpreter; rows between two steps of the intercepts.
CHUNK = 1 << 22
INTERCEPT_ROWS = 32
# What the intercepts may gain is estimated.
CAUTION = 2.0


def squared_norms(batch):
    """Of sparse rows."""
    squares = batch.values.astype(np.float64) ** 2
    return sp.csr_matrix((squares, batch.columns, batch.starts), batch.shape) @ np.ones(
        batch.shape[1]
    )


def longest_step(fit, parts, norms):
    """How far a row's step may move its margin."""
    weight = 1.0 if parts[2] is None else float(parts[2].max(initial=0.0))
    l2 = fit.problem.l2 * fit.batch.n_rows
    return weight * float(parts[4].max()) * float(norms.max(initial=0.0)) / max(l2, 1e-300)


class DualBlock:
    """Some of the outputs: their weights, and the dual variables of all rows."""

    def __init__(self, fit, parts, outputs, softmax, norms):
        # Sums of many small steps: in double precision whatever the rows are.
        n, start = fit.batch.n_rows, replace(fit.start, w=fit.start.w.astype(np.float64))
        codes, _, weights, classes, factors = parts
        places = np.full(len(factors) if softmax else int(classes.max()) + 1, -1, np.int64)
        places[classes[outputs]] = np.arange(len(outputs))
        state = ManyState.starting(start, outputs)
        self.outputs, self.states = outputs, [state]
        size = state.w.shape[1]
        self.vectors = np.zeros((8, size))
        self.vectors[0, : state.k] = np.asarray(start.intercept)[outputs]
        rounds = ROUNDS if longest_step(fit, parts, norms) <= LONG else MORE_ROUNDS
        own = dict(softmax=softmax, intercept=fit.problem.fit_intercept, rounds=rounds)
        self.dual = Dual(
            state.w, np.zeros((n, size)), self.vectors, norms, weights,
            np.ascontiguousarray(factors[outputs]), places[codes],
            1.0 / (fit.problem.l2 * n), k=state.k, **own,
        )  # fmt: skip

    def settle(self):
        state = self.states[0]
        state.of(INTERCEPT)[:] = self.vectors[0, : state.k]


class DualSteps:
    """All outputs, the rows in random order; outputs of one-vs-rest may be split among workers.

    Weights start at 0; `parts` is the arguments of `Targets`, with classes.
    """

    name = "dual-ascent"

    def __init__(self, fit, parts, softmax, n_blocks, norms):
        self.fit, self.softmax, self.k = fit, softmax, len(parts[4])
        self.n_workers = 1 if softmax else min(n_blocks, self.k)
        blocks = np.array_split(np.arange(self.k), self.n_workers)
        mean = np.bincount(fit.batch.columns, fit.batch.values) / fit.batch.n_rows
        self.mean_norm = float(mean @ mean)
        self.blocks = [DualBlock(fit, parts, own, softmax, norms) for own in blocks]

    @staticmethod
    def suits(fit, parts, norms):
        """Whether the dual is there and well-conditioned enough."""
        problem, k = fit.problem, len(parts[4])
        if problem.loss != "log_loss" or problem.l1 or not problem.l2 or parts[0] is None:
            return False
        small = fit.batch.n_rows * (k + 8) <= MOST_DUALS
        return small and not fit.start.w.any() and longest_step(fit, parts, norms) <= MOST_STEP

    def epoch(self, number, steps=None):
        """A step for each row."""
        batch, size = self.fit.batch, self.fit.batch.block_rows
        n_blocks = -(-batch.n_rows // size)
        order = np.arange(n_blocks)
        if self.fit.shuffle:
            order = np.random.default_rng([self.fit.seed, number]).permutation(n_blocks)
        rows = (order[:, None] * size + np.arange(size)).ravel()
        rows = np.ascontiguousarray(rows[rows < batch.n_rows], np.int64)
        chunk = int(CHUNK / (batch.row_numbers * self.k))
        chunk = INTERCEPT_ROWS * max(1, chunk // INTERCEPT_ROWS)
        stopped = []

        def work(block):
            for lo in range(0, len(rows), chunk):
                if stopped:
                    return
                block.dual.run(batch.rows, rows[lo : lo + chunk])
            block.settle()

        self.fit.team.run(work, [(b,) for b in self.blocks], lambda: stopped.append(True))

    def gaps(self, values):
        """Bounds on how far the minima are below the objectives `values` at the weights."""
        n, l2 = self.fit.batch.n_rows, self.fit.problem.l2
        entropies = self.fit.team.run(
            lambda block: block.dual.entropies(), [(b,) for b in self.blocks]
        )
        duals, left = np.empty(len(values)), np.empty(len(values))
        for block, entropy in zip(self.blocks, entropies, strict=True):
            state = block.states[0]
            b, sums, curves = block.vectors[:3, : state.k]
            squares = state.norms()[0]
            terms = -b * sums / n - 0.5 * l2 * squares
            gains = np.zeros_like(sums)
            if self.fit.problem.fit_intercept:
                # The weights follow an intercept, by the mean row at least, which flattens the
                # minimum over them: its curvature is the Schur complement of that row.
                h = np.maximum(curves / n, 1e-12)
                gains = 0.5 * (sums / n) ** 2 * (h * self.mean_norm + l2) / (h * l2)
            if self.softmax:
                terms, gains = terms.sum(keepdims=True), gains.sum(keepdims=True)
            own = slice(None) if self.softmax else block.outputs
            duals[own], left[own] = entropy / n + terms, CAUTION * gains
        return np.maximum(values - duals, 0.0) + left
