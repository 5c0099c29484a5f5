"""Softmax of wide sparse rows by dual coordinate ascent: no step size, and a bound on the gain left.

Shalev-Shwartz & Zhang 2013. The distance between the objective and its dual says how far the
optimum may be below, for the intercepts at hand; what they may still gain is estimated.
"""

from dataclasses import replace

import numpy as np

from skpar._kernels.dual import sum_rows, survey_rows
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


class DualSteps:
    """All outputs, the rows in random order, on one worker: each step looks at all outputs.

    Weights start at 0; `parts` is the arguments of `Targets`, with classes. As a scheme it has one
    block of outputs, which is itself.
    """

    name, n_workers = "dual-ascent", 1

    def __init__(self, fit, parts):
        self.fit, self.parts = fit, parts
        batch = fit.batch
        n, mean = batch.n_rows, np.zeros(batch.shape[1])
        sum_rows(batch.rows, np.arange(n), 1.0 / n, mean)
        along, self.norms = np.empty((2, n))
        survey_rows(batch.rows, mean, along, self.norms, 0, n)
        self.mean_norm = float(mean @ mean)
        weight = 1.0 if parts[2] is None else float(parts[2].max(initial=0.0))
        longest = weight * float(parts[4].max()) * float(self.norms.max(initial=0.0))
        # How far a row's step may move its margin.
        self.longest_step = longest / max(fit.problem.l2 * batch.n_rows, 1e-300)
        self.ill_conditioned = self.longest_step > MOST_STEP
        if not self.ill_conditioned:
            self._begin()

    def _begin(self):
        # Sums of many small steps: in double precision whatever the rows are.
        fit, n = self.fit, self.fit.batch.n_rows
        codes, _, weights, classes, factors = self.parts
        self.outputs = np.arange(len(factors))
        start = replace(fit.start, w=fit.start.w.astype(np.float64))
        state = ManyState.starting(start, self.outputs)
        places = np.full(len(factors), -1)
        places[classes] = self.outputs
        self.states, size = [state], state.w.shape[1]
        self.vectors, self.betas = np.zeros((7, size)), np.zeros((n, size))
        self.vectors[0, : state.k] = start.intercept
        self.dual = Dual(
            state.w, self.betas, self.vectors, self.norms, weights, factors, places[codes],
            1.0 / (fit.problem.l2 * n), k=state.k, intercept=fit.problem.fit_intercept,
            rounds=ROUNDS if self.longest_step <= LONG else MORE_ROUNDS,
        )  # fmt: skip

    @staticmethod
    def suits(fit, parts):
        """Whether there is a dual; `ill_conditioned` says whether its ascent would be slow."""
        problem, k = fit.problem, len(parts[4])
        if problem.loss != "log_loss" or problem.l1 or not problem.l2 or parts[0] is None:
            return False
        return fit.batch.n_rows * (k + 8) <= MOST_DUALS and not fit.start.w.any()

    @property
    def blocks(self):
        return [self]

    def epoch(self, number, steps=None):
        """A step for each row."""
        batch, size = self.fit.batch, self.fit.batch.block_rows
        n_blocks = -(-batch.n_rows // size)
        order = np.arange(n_blocks)
        if self.fit.shuffle:
            order = np.random.default_rng([self.fit.seed, number]).permutation(n_blocks)
        rows = (order[:, None] * size + np.arange(size)).ravel()
        rows = np.ascontiguousarray(rows[rows < batch.n_rows], np.int64)
        state = self.states[0]
        chunk = int(CHUNK / (batch.row_numbers * state.k))
        chunk = INTERCEPT_ROWS * max(1, chunk // INTERCEPT_ROWS)
        for lo in range(0, len(rows), chunk):
            self.dual.run(batch.rows, rows[lo : lo + chunk])
        state.of(INTERCEPT)[:] = self.vectors[0, : state.k]

    def gaps(self, value):
        """A bound on how far the minimum is below the objective `value` at the weights."""
        n, l2 = self.fit.batch.n_rows, self.fit.problem.l2
        state = self.states[0]
        b, sums, curves = self.vectors[:3, : state.k]
        terms = -b * sums / n - 0.5 * l2 * state.norms()[0]
        left = 0.0
        if self.fit.problem.fit_intercept:
            # The weights follow an intercept, by the mean row at least, which flattens the
            # minimum over them: its curvature is the Schur complement of that row.
            h = np.maximum(curves / n, 1e-12)
            left = (0.5 * (sums / n) ** 2 * (h * self.mean_norm + l2) / (h * l2)).sum()
        return np.maximum(value - (self.dual.entropies() / n + terms.sum()), 0.0) + CAUTION * left
