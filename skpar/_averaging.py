"""Shards that train apart: their models are averaged.

Everything here is a function of the seed and of the number of shards, so that the result is the
same bits for any number of workers on any backend.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from skpar._data import BLOCK_ROWS
from skpar._kernels.records import State
from skpar._lockfree import LockFree
from skpar._measures import sample_of
from skpar._merging import Merger
from skpar._schemes import Weights, new_state, run_blocks
from skpar._workers import Team, limit_blas

# A worker with less than this to do an epoch costs more to wake, several times an epoch, than it
# saves.
MIN_NUMBERS_PER_SHARD = 1 << 19
ROUND_ROWS = 1 << 15
MAX_ROUNDS = 16


def train_lock_free(shard, task, state, number, eta0, span, stopped=None):
    """One epoch of one shard by threads of this node that share its weights."""
    start = Weights(state.w, state.intercept, state.average, state.average_intercept, state.t)
    with Team(task.inner, shared_memory=True) as team, team.working(task.inner):
        fit = replace(task.fit, batch=shard, team=team, start=start)
        fit.seed = int(np.random.default_rng([fit.seed, task.shard]).integers(1 << 31))
        # What was averaged before counts as it does on the other nodes, not once a thread.
        scheme = LockFree(fit, task.inner, "auto")
        scheme.epoch(number, eta0)
    got = scheme.weights()
    trained = new_state(replace(fit, start=got), state.t + shard.n_rows)
    trained.averaged = max(0.0, trained.t - fit.problem.average)
    trained.loss_sum = scheme.loss_sum
    return trained


def train_round(shard, task, state, number, eta0, span, stopped=None):
    """One round of one shard; a function of its arguments alone, wherever it runs."""
    fit = replace(task.fit, batch=shard)
    order = shard.order(fit.shuffle, [fit.seed, number, task.shard], task.block_rows)
    recipe = fit.recipe(eta0, average=fit.problem.average)
    begin, end = span
    end = order.n_blocks if end is None else min(end, order.n_blocks)
    run_blocks(fit, state, order, recipe, stopped, (begin, end))
    return state


@dataclass
class Task:
    """What a shard's rounds have in common."""

    fit: object  # without rows, team or weights: they do not travel
    shard: int
    block_rows: int
    inner: int = 1  # threads of its worker that train it without locks


class ModelAveraging:
    """Shards train apart for a round, then their models are averaged (Zinkevich et al. 2010).

    Shards, their orders, the rounds and the order of the sums are functions of the seed, so the
    result is the same bits for any number of workers on any backend. The step size is that of
    the samples that all shards have seen together, and `_merging` makes of the shards' mean what
    one worker would have reached.
    """

    name = "model-averaging"

    def __init__(self, fit, n_shards, inner=None):
        self.fit = fit
        self.train = train_round if inner is None else train_lock_free
        self.shards = shards_of(fit, n_shards)
        self.shares = shares_of(self.shards)
        self.block_rows = fit.batch.block_rows if fit.shuffle else BLOCK_ROWS
        bare = replace(fit, batch=None, team=None, start=None, shards=None)
        self.tasks = [Task(bare, k, self.block_rows, inner) for k in range(n_shards)]
        self.t = fit.start.t
        self.states = [new_state(fit, self.t) for _ in self.shards]
        for state in self.states:
            state.averaged /= n_shards
        self.n_workers = min(n_shards, fit.team.size)
        self.spans = round_spans(self.shards, self.block_rows) if inner is None else [(0, None)]
        self.merger = None
        if fit.problem.learning_rate not in ("pa1", "pa2"):  # which have no step size
            effective = 1.0 / sum(share**2 for share in self.shares)
            self.merger = Merger(fit.problem, sample_of(fit.batch, fit.seed), effective, fit.seed)

    def epoch(self, number, eta0):
        self.loss_sum = 0.0
        if self.fit.shards is None:
            self.fit.shards = self.fit.team.place(self.shards)
        with limit_blas():
            # Curvatures settle as the model does.
            if self.merger is not None and number & (number - 1) == 0:
                w, _ = self.states[0].plain()
                self.merger.look(w, self.states[0].intercept)
            for span in self.spans:
                self._round(number, eta0, span)

    def _round(self, number, eta0, span):
        stopped = [False]

        def stop():
            stopped[0] = True

        before = self.states[0].plain()[0].copy(), self.states[0].intercept
        flag = stopped if self.fit.team.on_threads else None
        arguments = [
            (shard, task, state, number, eta0, span, flag)
            for shard, task, state in zip(self.fit.shards, self.tasks, self.states, strict=True)
        ]
        self.states = self.fit.team.run(self.train, arguments, stop)
        self.loss_sum += sum(state.loss_sum for state in self.states)
        self._merge(before, eta0)

    def _merge(self, before, eta0):
        mean = State.mean(self.states, self.shares)
        seen = sum(state.t - self.t for state in self.states)
        if self.merger is not None:
            step = self.fit.recipe(eta0).step_size(self.t + 0.5 * seen)
            rows = seen / len(self.states)
            means = mean.w, mean.intercept
            w, mean.intercept = self.merger.merge(before, means, self.states, step, rows)
            mean.w[:] = w
        self.t += seen
        counts = [state.averaged for state in self.states]
        self.states = [mean.copy(t=self.t) for _ in counts]
        for state, averaged in zip(self.states, counts, strict=True):
            state.averaged = averaged

    def weights(self):
        s = self.states[0]
        w, average = s.plain()
        result = Weights(w, s.intercept, average, s.average_intercept, self.fit.start.t)
        if average is not None and s.averaged == 0.0 and self.t > self.fit.problem.average:
            # The count of all shards has just passed the sample from which to average.
            result.average, result.average_intercept = w.copy(), s.intercept
        return result


def round_spans(shards, block_rows, most=MAX_ROUNDS):
    """The rounds of an epoch as spans of blocks, at most so many.

    Shards of fewer rows differ more from each other, and more shards lose more by meeting
    late. Nothing here may depend on the workers.
    """
    rows = shards[0].n_rows
    n_rounds = int(np.clip(ROUND_ROWS * len(shards) / rows, 1, max(1, min(most, MAX_ROUNDS))))
    ends = [-(-rows * r // (n_rounds * block_rows)) for r in range(n_rounds)]
    return list(pairwise([*ends, None]))


def shards_of(fit, n_shards):
    """The rows dealt to shards; the same rows for every class of one-vs-rest."""
    if fit.batch.partitioned:
        return fit.batch.shards(n_shards, fit.shuffle, [fit.seed])
    if "subsets" not in fit.team.memo:
        shards = fit.batch.shards(n_shards, fit.shuffle, [fit.seed])
        fit.team.memo["subsets"] = [shard.subset for shard in shards]
    return [replace(fit.batch, subset=subset) for subset in fit.team.memo["subsets"]]


def shares_of(shards):
    """How much each shard's model counts: its rows, or their sample weights."""
    rows = np.array([shard.n_rows for shard in shards], dtype=float)
    weights = [shard.total_weight for shard in shards]
    totals = rows if weights[0] is None or sum(weights) <= 0 else np.array(weights)
    return list(totals / totals.sum())
