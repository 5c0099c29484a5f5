"""One step for all shards: their gradients over a batch of rows are summed.

The batches are those of one visiting order of all rows, whoever owns the rows, so a fit does not
depend on the number of shards but for rounding. Shards are summed in their order: the bits
depend on the seed and on the number of shards, not on the workers.

scikit-learn's schedules give the step eta of one sample. A batch of B rows takes the place of B
steps, so its mean gradient is multiplied by eta B, as long as that stays below what the
curvature allows: 1 / L, with L = lambda + R / B for batches of B rows (Gower et al. 2019,
arXiv:1901.09401). lambda is the largest eigenvalue of the mean Hessian and R what a single row
may have, both bounded from a sample of rows.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from skpar._data import BLOCK_ROWS
from skpar._kernels.gradients import loss_and_gradient
from skpar._measures import sample_of
from skpar._merging import Sample
from skpar._schemes import Weights
from skpar._workers import limit_blas

# "auto": a batch reads at least this many numbers, and there are 32 to 256 in an epoch.
BATCH_NUMBERS = 1 << 18
FEWEST_BATCHES = 32
MOST_BATCHES = 256
# A worker's part of a batch.
MIN_NUMBERS_PER_PART = 1 << 17


def batch_rows(batch_size, batch):
    """The rows of a batch: a number, or what "auto" makes of the data. Workers do not count."""
    n = batch.n_rows
    if batch_size != "auto":
        return min(batch_size, n)
    rows = np.clip(BATCH_NUMBERS / batch.row_numbers, n / MOST_BATCHES, n / FEWEST_BATCHES)
    return max(1, int(rows) // BLOCK_ROWS * BLOCK_ROWS)


def least_part(batch_size, batch):
    """The least numbers a worker reads in an epoch if its part of each batch is worth waking it."""
    return MIN_NUMBERS_PER_PART * max(1, batch.n_rows // batch_rows(batch_size, batch))


@dataclass(frozen=True)
class Plan:
    """How the blocks of all rows belong to shards and batches."""

    seed: int
    shuffle: bool
    block_rows: int
    n_blocks: int
    n_shards: int
    blocks_per_batch: int
    firsts: tuple | None = None  # of each shard its first block, where shards are partitions

    @property
    def n_batches(self):
        return -(-self.n_blocks // self.blocks_per_batch)

    def first_block(self, shard):
        """With shuffle, shards own consecutive blocks; without, every n-th."""
        if self.firsts is not None:
            return self.firsts[shard]
        return self.n_blocks * shard // self.n_shards

    def blocks(self, shard):
        """The blocks of a shard, ascending."""
        if self.shuffle:
            return np.arange(self.first_block(shard), self.first_block(shard + 1))
        return np.arange(shard, self.n_blocks, self.n_shards)

    def visits(self, shard, number):
        """(blocks of a shard as it counts them, in the order of epoch `number`, batch edges)."""
        if self.shuffle:
            order = np.random.default_rng([self.seed, number]).permutation(self.n_blocks)
            first, last = self.first_block(shard), self.first_block(shard + 1)
            mine = np.flatnonzero((order >= first) & (order < last))
            local = order[mine] - first
        elif self.firsts is None:
            mine = np.arange(shard, self.n_blocks, self.n_shards)
            local = np.arange(len(mine))
        else:  # every partition gives each batch its share
            local = np.arange(self.first_block(shard + 1) - self.first_block(shard))
            mine = (local + 0.5) * (self.n_blocks / len(local))
        edges = np.arange(self.n_batches + 1) * self.blocks_per_batch
        return local, np.searchsorted(mine, edges)


def rows_of_blocks(blocks, block_rows, n_rows):
    """The rows of the given blocks; the last block of all may be short."""
    rows = (blocks[:, None] * block_rows + np.arange(block_rows)).ravel()
    return rows[rows < n_rows]


@lru_cache(maxsize=8)
def visiting_order(plan, shard, number, n_rows):
    """(rows of a shard in the order of an epoch, the position where each batch ends)."""
    local, edges = plan.visits(shard, number)
    rows = rows_of_blocks(local, plan.block_rows, n_rows)
    edges = edges * plan.block_rows
    missing = len(local) * plan.block_rows - n_rows
    if missing:
        short = np.flatnonzero(local == len(local) - 1)[0]
        edges = edges - np.where(edges > short * plan.block_rows, missing, 0)
    return rows, edges


def gradient_of(shard, plan, index, problem, number, at, w, intercept):
    """(rows, sum of the losses, its gradient, the intercept's) of a shard's part of a batch."""
    rows, edges = visiting_order(plan, index, number, shard.n_rows)
    rows = rows[edges[at] : edges[at + 1]]
    gradient = np.zeros(len(w))
    if len(rows) == 0:
        return 0, 0.0, gradient, 0.0
    part = replace(shard, subset=rows if shard.subset is None else shard.subset[rows])
    order = part.order(False, [0])
    loss = problem.loss_kernel()
    sums = loss_and_gradient(shard.rows, loss, w, intercept, order, 0, order.n_blocks, gradient)
    return len(rows), sums[0], gradient, sums[1]


class GradientAveraging:
    """All shards compute the gradient of a batch at the same weights, then one step is taken.

    w <- w - eta G with G the weighted mean of the shards' gradients: synchronous mini-batch SGD.
    """

    name = "gradient-averaging"

    def __init__(self, fit, n_shards, batch_size):
        self.fit = fit
        self.n_workers = min(n_shards, fit.team.size)
        size = fit.batch.block_rows if fit.shuffle else BLOCK_ROWS
        self.batch_size = batch_rows(batch_size, fit.batch)
        size = math.gcd(size, self.batch_size)
        if fit.batch.partitioned:
            self.shards = fit.batch.shards(n_shards, fit.shuffle, [fit.seed])
            firsts = np.cumsum([0, *(-(-shard.n_rows // size) for shard in self.shards)])
            firsts = tuple(int(first) for first in firsts)
        else:
            firsts = None
        n_blocks = firsts[-1] if firsts else -(-fit.batch.n_rows // size)
        self.plan = Plan(
            fit.seed, fit.shuffle, size, n_blocks, n_shards, self.batch_size // size, firsts
        )
        if firsts is None:
            self.shards = self._cut()
        start = fit.start
        self.w, self.intercept = start.w.copy(), start.intercept
        self.average = None if start.average is None else start.average.astype(np.float64)
        self.average_intercept = start.average_intercept
        self.t = start.t
        self.averaged = max(0.0, self.t - fit.problem.average)
        self.largest_step = None

    def _cut(self):
        fit, plan = self.fit, self.plan
        batch = fit.batch
        used = np.arange(batch.shape[0]) if batch.subset is None else batch.subset
        if "subsets" not in fit.team.memo:
            fit.team.memo["subsets"] = [
                used[rows_of_blocks(plan.blocks(k), plan.block_rows, len(used))]
                for k in range(plan.n_shards)
            ]
        return [replace(batch, subset=rows) for rows in fit.team.memo["subsets"]]

    def _limit(self):
        """1 / L of the module's docstring."""
        fit = self.fit
        sample = Sample(fit.problem, sample_of(fit.batch, fit.seed))
        return 1.0 / max(sample.smoothness(self.batch_size, fit.seed), 1e-300)

    def epoch(self, number, eta0):
        fit = self.fit
        with limit_blas():
            if self.largest_step is None:
                self.largest_step = self._limit()
            if fit.shards is None:
                fit.shards = fit.team.place(self.shards)
            self.loss_sum = 0.0
            recipe = fit.recipe(eta0)
            for at in range(self.plan.n_batches):
                self._step(number, at, recipe)

    def _step(self, number, at, recipe):
        fit, plan = self.fit, self.plan
        arguments = [
            (shard, plan, k, fit.problem, number, at, self.w, self.intercept)
            for k, shard in enumerate(fit.shards)
        ]
        sums = fit.team.run(gradient_of, arguments)
        rows = sum(part[0] for part in sums)
        self.loss_sum += sum(part[1] for part in sums)
        gradient = sum(part[2] for part in sums) / rows
        slope = sum(part[3] for part in sums) / rows
        step = min(recipe.step_size(self.t) * rows, self.largest_step)
        w = (1.0 - step * fit.problem.l2) * self.w - step * gradient
        if fit.problem.l1 != 0.0:
            w = np.sign(w) * np.maximum(np.abs(w) - step * fit.problem.l1, 0.0)
        self.w = w.astype(self.w.dtype)
        self.intercept -= step * recipe.intercept_rate * slope
        self.t += rows
        self._average(rows)

    def _average(self, rows):
        """The mean of the iterates, each as often as it saw rows."""
        seen = min(rows, self.t - self.fit.problem.average)
        if self.average is None or seen <= 0:
            return
        self.averaged += seen
        share = seen / self.averaged
        self.average += share * (self.w - self.average)
        self.average_intercept += share * (self.intercept - self.average_intercept)

    def weights(self):
        average = None if self.average is None else self.average.astype(self.w.dtype)
        return Weights(self.w, self.intercept, average, self.average_intercept, self.fit.start.t)
