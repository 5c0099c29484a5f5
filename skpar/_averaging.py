"""Shards that train apart: their models are averaged.

Everything here is a function of the seed and of the number of shards, so that the result is the
same bits for any number of workers on any backend.
"""

from dataclasses import replace

from skpar._kernels.sgd import State
from skpar._schemes import Weights, new_state, run_blocks

# Averaged models of fewer rows each are further from the optimum after an epoch than one model
# of all rows: a second worker would halve the time of an epoch and double their number.
MIN_ROWS_PER_SHARD = 1 << 15


def train_shard(fit, state, number, eta0, shard, average_from, stopped=None):
    """One epoch of one shard; a function of its arguments alone, wherever it runs."""
    order = fit.batch.order(fit.shuffle, [fit.seed, number, shard])
    recipe = fit.recipe(eta0, average=average_from)
    run_blocks(fit, state, order, recipe, stopped)
    return state


class ModelAveraging:
    """Shards train apart for an epoch, then their models are averaged (Zinkevich et al. 2010).

    Shards, their orders and the order of the sum are functions of the seed, so the result is
    the same bits for any number of workers on any backend. Each shard counts its own samples:
    the step size is that of the n / K rows that its model has seen.
    """

    name = "model-averaging"

    def __init__(self, fit, n_shards):
        self.fit = fit
        shards = fit.batch.shards(n_shards, fit.shuffle, [fit.seed])
        self.parts = [replace(fit, batch=shard, team=None) for shard in shards]
        total = sum(shard.n_rows for shard in shards)
        self.shares = [shard.n_rows / total for shard in shards]
        t = 1.0 + (fit.start.t - 1.0) / n_shards
        self.states = [new_state(part, t) for part in self.parts]
        # `average` counts samples of the whole fit, a shard counts its own.
        self.average_from = -(-fit.problem.average // n_shards)
        for state in self.states:
            state.averaged = max(0.0, t - self.average_from)
        self.n_workers = min(n_shards, fit.team.size)

    def epoch(self, number, eta0):
        stopped = [False]

        def stop():
            stopped[0] = True

        flag = stopped if self.fit.team.on_threads else None
        arguments = [
            (part, state, number, eta0, k, self.average_from, flag)
            for k, (part, state) in enumerate(zip(self.parts, self.states, strict=True))
        ]
        self.states = self.fit.team.run(train_shard, arguments, stop)
        self.loss_sum = sum(state.loss_sum for state in self.states)
        self._average()

    def _average(self):
        mean = State.mean(self.states, self.shares)
        counts = [(state.t, state.averaged) for state in self.states]
        self.states = [mean.copy(t=t) for t, _ in counts]
        for state, (_, averaged) in zip(self.states, counts, strict=True):
            state.averaged = averaged

    def weights(self):
        s = self.states[0]
        return Weights(s.w, s.intercept, s.average, s.average_intercept, self.fit.start.t)
