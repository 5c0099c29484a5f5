"""Who owns the weights: one worker, or all workers together (`_averaging` has the shards).

A scheme trains one epoch when told and gives the weights when asked; it knows nothing of
objectives, stopping or users.
"""

from dataclasses import dataclass, field

import numpy as np

from skpar._kernels.sgd import Shared, State, run, run_shared
from skpar._measures import column_curvatures
from skpar._schedules import merge_rows, safe_steps

# A worker with less than this to do an epoch costs more to wake than it saves.
MIN_NUMBERS_PER_WORKER = 1 << 15
MIN_ROWS_PER_WORKER = 512
# A merge (or a sweep, where rows are written directly) touches every column: at most twice as
# many columns as the rows between two of them have numbers.
MERGE_SHARE = 0.5
# Replicas beyond this many bytes per worker give way to writes into the shared weights.
MAX_REPLICA_BYTES = 1 << 28
INTERCEPT_ROWS = 32


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


def new_state(fit, t, *, replica=True, l1_per_row=True):
    """A worker's private weights: a copy of the starting ones, or none for direct writes."""
    start, problem = fit.start, fit.problem
    l1 = problem.l1 != 0.0 and l1_per_row
    state = State(
        start.w.copy() if replica else start.w[:0].copy(),
        start.intercept,
        t=t,
        average=None if start.average is None else start.average.copy(),
        average_intercept=start.average_intercept,
        received=np.zeros_like(start.w) if l1 else None,
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


class LockFree:
    """Workers share one weight vector (Niu et al. 2011), through replicas or directly.

    With replicas each worker trains its own copy and now and then adds what it learned to the
    shared weights (Zhang & Re 2014); with `merge_every=1` on sparse rows each row is written
    straight into them. With `locked` every touch of the shared weights holds a lock.
    """

    def __init__(self, fit, n_workers, merge_every, *, locked=False):
        self.fit = fit
        self.name = "locked" if locked else "lock-free"
        self.n_workers = n_workers
        self.merge_every = merge_every
        self.direct = self._writes_directly()
        self.shared = Shared(fit.start.w.copy(), direct=self.direct, locked=locked)
        self.shared.intercept[0] = fit.start.intercept
        self.t = fit.start.t
        self.states = [self._new_state() for _ in range(n_workers)]
        self.snapshots = [None if self.direct else fit.start.w.copy() for _ in self.states]
        self.block_rows = fit.batch.block_rows
        if merge_every != "auto":
            self.block_rows = min(self.block_rows, merge_every)
        auto = merge_every == "auto" and not self.direct
        self.curvatures = column_curvatures(fit) if auto else None
        self.shared.average_from = fit.problem.average

    def _new_state(self):
        state = new_state(self.fit, self.t, replica=not self.direct, l1_per_row=False)
        # What was averaged before this fit counts once, not once a worker.
        state.averaged /= self.n_workers
        return state

    def _writes_directly(self):
        batch = self.fit.batch
        if not batch.sparse:
            return False
        if self.merge_every != "auto":
            return self.merge_every == 1
        return self.fit.start.w.nbytes > MAX_REPLICA_BYTES

    def _plan_merges(self, step):
        batch, shared = self.fit.batch, self.shared
        if self.direct:
            rows = int(batch.shape[1] / (MERGE_SHARE * batch.row_numbers))
        elif self.merge_every != "auto":
            rows = self.merge_every
        else:
            rows = merge_rows(self.n_workers, step, self.curvatures.max())
            rows = max(rows, int(batch.shape[1] / (MERGE_SHARE * batch.row_numbers)))
        often = min(INTERCEPT_ROWS, rows)
        shared.weight_blocks = max(1, rows // self.block_rows)
        shared.intercept_blocks = max(1, often // self.block_rows)
        if self.curvatures is not None:
            safe = safe_steps(self.n_workers, rows, self.curvatures[:-1])
            # float32 must be able to hold them; beyond 1e30 no step is damped.
            safe = np.minimum(safe, 1e30).astype(shared.w.dtype)
            safe_intercept = safe_steps(self.n_workers, often, self.curvatures[-1])
            shared.limit_steps(safe, float(safe_intercept), 1.0 / self.n_workers)

    def _plan_chunks(self, order):
        per_worker = max(1, order.n_blocks // (8 * self.n_workers))
        chunk = min(self.fit.batch.chunk_blocks(order.block_size), per_worker)
        # At least one merge's rows, so that a chunk does not cut replicas short.
        self.shared.chunk_blocks = max(1, chunk, min(self.shared.weight_blocks, per_worker))

    def epoch(self, number, eta0):
        fit, shared = self.fit, self.shared
        order = fit.batch.order(fit.shuffle, [fit.seed, number], self.block_rows)
        recipe = fit.recipe(eta0, average=fit.problem.average)
        # The step of the epoch's middle; merges themselves look at the step of the moment.
        self._plan_merges(recipe.step_size(self.t + 0.5 * fit.batch.n_rows))
        self._plan_chunks(order)
        shared.cursor[:] = 0
        for state in self.states:
            state.loss_sum = 0.0
        arguments = [
            (fit.batch.rows, order, state, shared, recipe, snapshot, self.t)
            for state, snapshot in zip(self.states, self.snapshots, strict=True)
        ]
        fit.team.run(run_shared, arguments, self._stop)
        self.t += fit.batch.n_rows
        self.loss_sum = sum(state.loss_sum for state in self.states)

    def _stop(self):
        self.shared.cursor[1] = 1

    def weights(self):
        """The shared weights, and the workers' averages weighted by the rows in each."""
        result = Weights(self.shared.w, float(self.shared.intercept[0]), t=self.fit.start.t)
        if self.fit.start.average is not None:
            counts = np.array([state.averaged for state in self.states])
            counts = counts if counts.sum() > 0 else np.ones(len(counts))
            shares = counts / counts.sum()
            pairs = list(zip(shares, self.states, strict=True))
            result.average = sum(share * s.average for share, s in pairs).astype(result.w.dtype)
            result.average_intercept = float(sum(share * s.average_intercept for share, s in pairs))
        return result
