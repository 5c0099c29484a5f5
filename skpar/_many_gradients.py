"""Steps of all outputs for the gradients of a batch of rows, as `_gradients` for one output."""

import numpy as np

from skpar._data import BLOCK_ROWS, Batch
from skpar._gradients import batch_rows, rows_of_blocks
from skpar._kernels.outputs import Targets, output_losses
from skpar._many_lockfree import SOFTMAX_FACTOR
from skpar._many_schemes import ManySteps
from skpar._many_state import AVERAGE_INTERCEPT, INTERCEPT, LOSS_SUM
from skpar._measures import sample_of
from skpar._merging import Sample


class ManyGradients(ManySteps):
    """All shards compute the gradient of their part of a batch at the same weights.

    The batches are those of one visiting order of all rows; parts are summed in their order. So
    the number of shards makes no difference but for rounding, and workers none.
    """

    def __init__(self, fit, parts, softmax=False, n_shards=1, batch_size="auto"):
        super().__init__(fit, parts, softmax)
        self.name, self.n_shards = "gradient-averaging", n_shards
        self.n_workers = min(n_shards, fit.team.size)
        batch = fit.batch
        self.batch_size = batch_rows(batch_size, batch)
        self.block_rows = np.gcd(batch.block_rows if fit.shuffle else BLOCK_ROWS, self.batch_size)
        self.used = np.arange(batch.shape[0]) if batch.subset is None else batch.subset
        self.matrix, self.t, self.largest_step = batch.matrix(), fit.start.t, None
        self.loss = None if softmax else fit.problem.loss_kernel()

    def _train(self, number, recipe, blocks):
        if self.largest_step is None:
            sample = Sample(self.fit.problem, sample_of(self.fit.batch, self.fit.seed))
            largest = 1.0 / max(sample.smoothness(self.batch_size, self.fit.seed), 1e-300)
            self.largest_step = largest / (SOFTMAX_FACTOR if self.softmax else 1.0)
        visits = np.arange(-(-len(self.used) // self.block_rows))
        if self.fit.shuffle:
            visits = np.random.default_rng([self.fit.seed, number]).permutation(visits)
        rows = self.used[rows_of_blocks(visits, self.block_rows, len(self.used))]
        for lo in range(0, len(rows), self.batch_size):
            self._step(rows[lo : lo + self.batch_size], recipe)

    def _gradient(self, rows, w, intercept):
        """(losses, gradient, the intercepts' gradient) summed over some rows."""
        codes, values, weights, classes, factors = self.parts
        codes, values, weights = (
            None if a is None else np.ascontiguousarray(a[rows]) for a in (codes, values, weights)
        )
        targets, X = Targets(codes, values, weights, classes, factors), self.matrix[rows]
        margins = np.ascontiguousarray(X @ w + intercept, w.dtype)
        slopes, totals = np.empty_like(margins), np.zeros(self.n_objectives)
        own = Batch.of(X, np.zeros(len(rows))).rows, self.loss, targets, margins
        output_losses(*own, 0, len(rows), totals, slopes)
        gradient = np.asarray(X.T @ slopes, dtype=np.float64)
        return totals, gradient, slopes.sum(axis=0, dtype=np.float64)

    def _step(self, rows, recipe):
        problem, (state,) = self.fit.problem, self.blocks[0].states
        w, intercept = state.w[:, : self.k], state.of(INTERCEPT)
        plain = np.ascontiguousarray(w)
        tasks = [(part, plain, intercept) for part in np.array_split(rows, self.n_shards)]
        sums = self.fit.team.run(self._gradient, [task for task in tasks if len(task[0])])
        losses, gradient, slopes = (sum(own) for own in zip(*sums, strict=True))
        state.of(LOSS_SUM)[: len(losses)] += losses
        step = min(recipe.step_size(self.t) * len(rows), self.largest_step)
        new = (1.0 - step * problem.l2) * plain - (step / len(rows)) * gradient
        if problem.l1 != 0.0:
            new = np.sign(new) * np.maximum(np.abs(new) - step * problem.l1, 0.0)
        w[:] = new
        intercept -= (step / len(rows)) * recipe.intercept_rate * slopes
        self.t += len(rows)
        self._average(state, len(rows))

    def _average(self, state, n_rows):
        """The mean of the iterates, each as often as it saw rows."""
        seen = min(n_rows, self.t - self.fit.problem.average)
        if state.average is None or seen <= 0:
            return
        state.averaged += seen
        share = seen / state.averaged
        state.average += (share * (state.w - state.average)).astype(state.w.dtype)
        means = state.of(AVERAGE_INTERCEPT)
        means += share * (state.of(INTERCEPT) - means)
