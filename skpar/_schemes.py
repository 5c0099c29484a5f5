"""Who owns the weights: one worker, or all workers together (`_averaging` has the shards).

A scheme trains one epoch when told and gives the weights when asked; it knows nothing of
objectives, stopping or users.
"""

from dataclasses import dataclass, field

import numpy as np

from skpar._kernels.records import State
from skpar._kernels.sgd import run

# A worker with less than this to do an epoch costs more to wake than it saves.
MIN_NUMBERS_PER_WORKER = 1 << 15
MIN_ROWS_PER_WORKER = 512


@dataclass
class Weights:
    """Plain numbers: weights, intercept, their averages and the sample count."""

    w: np.ndarray
    intercept: float = 0.0
    average: np.ndarray | None = None
    average_intercept: float = 0.0
    t: float = 1.0


@dataclass
class Fit:
    """What every scheme is given."""

    problem: object
    batch: object
    team: object
    seed: int
    shuffle: bool = True
    start: Weights = field(default_factory=lambda: Weights(np.zeros(0)))
    track_loss: bool = False  # whether passes sum the losses that they meet
    shards: list | None = None  # placed with the team, where a scheme trains shards apart

    def recipe(self, eta0, average=0):
        """The compiled step."""
        return self.problem.recipe(
            self.batch.sparse, eta0, average=average, track_loss=self.track_loss
        )


def usable_workers(n_workers, batch, least_rows, least_numbers=MIN_NUMBERS_PER_WORKER):
    """Fewer workers for small data, so that more cores are never slower."""
    by_numbers = batch.work // least_numbers
    by_rows = batch.n_rows // least_rows
    return int(max(1, min(n_workers, by_numbers, by_rows)))


def new_state(fit, t):
    """A worker's private weights: a copy of the starting ones."""
    start, problem = fit.start, fit.problem
    state = State(
        start.w,
        start.intercept,
        t=t,
        average=None if start.average is None else start.average.copy(),
        average_intercept=start.average_intercept,
        received=np.zeros_like(start.w) if problem.l1 != 0.0 else None,
    )
    state.averaged = max(0.0, t - problem.average)
    return state


def run_blocks(fit, state, order, recipe, stopped=None, span=None):
    """The sequential pass, in calls of about a millisecond so that signals are heard."""
    chunk = fit.batch.chunk_blocks(order.block_size)
    begin, end = span or (0, order.n_blocks)
    for lo in range(begin, end, chunk):
        if stopped is not None and stopped[0]:
            return
        run(fit.batch.rows, order, state, recipe, lo, min(lo + chunk, end))


class Sequential:
    """One worker, one weight vector: the definition that the others are held to."""

    name = "sequential"

    def __init__(self, fit):
        self.fit = fit
        self.n_workers = 1
        self.state = new_state(fit, fit.start.t)

    def epoch(self, number, eta0):
        fit = self.fit
        order = fit.batch.order(fit.shuffle, [fit.seed, number])
        recipe = fit.recipe(eta0, average=fit.problem.average)
        self.state.loss_sum = 0.0
        run_blocks(fit, self.state, order, recipe)
        self.loss_sum = self.state.loss_sum

    def weights(self):
        s = self.state
        w, average = s.plain()
        return Weights(w, s.intercept, average, s.average_intercept, self.fit.start.t)
