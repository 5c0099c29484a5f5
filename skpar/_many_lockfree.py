"""Workers that share the matrices of all outputs, without locks, through copies.

As `_lockfree` with copies of all columns: now and then a worker adds what it has learned to the
shared matrix. Shared are the weights without the scale that l2 leaves of them, which is a
function of the sample number.
"""

from itertools import count

import numpy as np

from skpar._kernels.many import run_many
from skpar._kernels.shared import Lock
from skpar._lockfree import LEAST_ROWS_OF_ALL, MAX_DISAGREEMENT, cuts
from skpar._many_schemes import ManySteps
from skpar._many_split import NUMBERS_A_COLUMN
from skpar._many_state import (
    AVERAGE_INTERCEPT,
    INTERCEPT,
    L1_TOTAL,
    LOSS_SUM,
    RATIO,
    SCALE,
    ManyState,
    Meeting,
)
from skpar._measures import curvatures, sampled_matrix
from skpar._schedules import MIN_MERGE_ROWS, SAFE_PRODUCT, merge_rows

# The softmax may curve twice as much as the log loss of each output by itself (Boehning 1992).
SOFTMAX_FACTOR = 2.0


class ManyLockFree(ManySteps):
    """`n_rows` workers for each block of the outputs."""

    def __init__(self, fit, parts, softmax=False, n_blocks=1, n_rows=1, merge_every="auto",
                 locked=False):  # fmt: skip
        super().__init__(fit, parts, softmax, n_blocks)
        self.name = "locked" if locked else "lock-free"
        self.n_rows, self.merge_every = n_rows, merge_every
        self.n_workers = n_rows * self.n_blocks
        self.t = fit.start.t
        for block in self.blocks:
            (state,) = block.states
            shared, lock = ManyState.like(state), Lock() if locked else None
            block.states += [ManyState.like(state) for _ in range(n_rows - 1)]
            for own in block.states:
                own.meeting = Meeting(shared, ManyState.like(state), 1, 1.0, lock)
        self.top = 0.0
        if merge_every == "auto":
            top = curvatures(fit, sampled_matrix(fit)).max(initial=0.0)
            self.top = float(top) * (SOFTMAX_FACTOR if softmax else 1.0)

    def _meet_how(self, step):
        """(rows between two meetings of a worker, the share of what it learned that it adds)."""
        if self.merge_every != "auto":
            return self.merge_every, 1.0
        batch = self.fit.batch
        rows = merge_rows(self.n_rows, step, self.top)
        least = max(MIN_MERGE_ROWS, LEAST_ROWS_OF_ALL // self.n_rows)
        rows = max(rows, least, int(NUMBERS_A_COLUMN * batch.shape[1] / batch.row_numbers))
        product = self.n_rows * rows * step * self.top
        share = SAFE_PRODUCT / product if product > 0 else 1.0
        return rows, float(np.clip(share, 1.0 / self.n_rows, 1.0))

    def _train(self, number, recipe, blocks):
        fit = self.fit
        block_rows = None
        if self.merge_every != "auto":
            block_rows = min(fit.batch.block_rows, self.merge_every)
        order = fit.batch.order(fit.shuffle, [fit.seed, number], block_rows)
        how = self._meet_how(recipe.step_size(self.t + 0.5 * fit.batch.n_rows))
        for block in blocks:
            for state in block.states:
                state.meeting.rows, state.meeting.share = how
        for lo, hi in cuts(recipe, order, self.t, 0, order.n_blocks):
            self._share(blocks, recipe, order, lo, hi)
        self.t += fit.batch.n_rows

    def _share(self, blocks, recipe, order, lo, hi):
        """All workers through blocks lo to hi of the order, whose scales begin at 1."""
        fit, stopped = self.fit, []
        chunk = self._chunk(recipe, order, lo, hi)
        begun = [_begin(block) for block in blocks]
        cursors = [count(lo, chunk) for _ in blocks]

        def work(at, state):
            block, cursor = blocks[at], cursors[at]
            while (first := next(cursor)) < hi and not stopped:
                self._set_clock(state, recipe, order, (lo, first), begun[at])
                own = fit.batch.rows, block.targets, order, state, recipe
                run_many(*own, first, min(first + chunk, hi), block.softmax)

        tasks = [(at, state) for at, block in enumerate(blocks) for state in block.states]
        fit.team.run(work, tasks, lambda: stopped.append(True))
        for at, block in enumerate(blocks):
            end = block.states[0].meeting.shared
            self._set_clock(end, recipe, order, (lo, hi), begun[at])
            _end(block)

    def _chunk(self, recipe, order, lo, hi):
        """Blocks that a worker takes at a time: about a millisecond's, and not below a meeting."""
        size, meet_rows = order.block_size, self.blocks[0].states[0].meeting.rows
        share = max(1, (hi - lo) // (8 * self.n_rows))
        chunk = self.fit.batch.chunk_blocks(size) * 8 // self.blocks[0].states[0].w.shape[1]
        chunk = max(min(max(1, chunk), share), min(meet_rows // size, share), 1)
        shrink = recipe.l2 * recipe.step_size(self.t + lo * size) * size * self.n_rows
        if shrink > 0:
            chunk = min(chunk, max(1, int(MAX_DISAGREEMENT / shrink)))
        return chunk

    def _set_clock(self, state, recipe, order, blocks, l1_before):
        """What of a state is a function of the sample number: at the second of two blocks."""
        first, now = (self.t + block * order.block_size for block in blocks)
        last = self.t + self.fit.batch.n_rows
        steps = recipe.sum_of_steps(first, min(now, last)) * state.vectors[RATIO]
        state.t = now
        state.vectors[SCALE] = np.exp(-recipe.l2 * steps)
        state.vectors[L1_TOTAL] = l1_before + recipe.l1 * steps


# What workers and the shared state have in common when they begin.
COMMON = [SCALE, INTERCEPT, RATIO, L1_TOTAL]


def _begin(block):
    """Give all workers of a block the weights and averages of its first; returns its l1 total."""
    master, *others = block.states
    master.settle()
    master.averaged /= len(block.states)
    for state in others:
        met = state.vectors[LOSS_SUM].copy()
        state.become(master)
        state.averaged, state.vectors[LOSS_SUM] = master.averaged, met
    for state in (master.meeting.shared, *(own.meeting.snapshot for own in block.states)):
        _copy(state, master)
    return master.vectors[L1_TOTAL].copy()


def _copy(to, state):
    """Weights, and what goes with them; no averages."""
    to.w[:] = state.w
    if state.received is not None:
        to.received[:] = state.received
    to.vectors[COMMON] = state.vectors[COMMON]


def _end(block):
    """Give the first worker of a block what all have reached together."""
    master, *others = block.states
    for state in block.states:
        state.vectors[SCALE] = 1.0
        state.settle()
    counts = [state.averaged for state in block.states]
    if master.average is not None and sum(counts) > 0:
        shares = np.array(counts) / sum(counts)
        average = sum(s * x.average for s, x in zip(shares, block.states, strict=True))
        master.average[:] = average
        at = AVERAGE_INTERCEPT
        intercepts = [s * x.vectors[at] for s, x in zip(shares, block.states, strict=True)]
        master.vectors[at] = np.sum(intercepts, axis=0)
    master.averaged = sum(counts)
    for state in others:
        master.vectors[LOSS_SUM] += state.vectors[LOSS_SUM]
        state.vectors[LOSS_SUM] = 0.0
    shared = master.meeting.shared
    _copy(master, shared)
    master.settle()
