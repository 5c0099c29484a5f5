"""Workers that share one weight vector: what is private, what is shared, how often they meet."""

import numpy as np

from skpar._kernels.lockfree import run_shared
from skpar._kernels.records import State, padded
from skpar._kernels.shared import Shared
from skpar._measures import curvatures, frequent_columns, sampled_matrix
from skpar._schedules import MAX_MERGE_ROWS, MIN_MERGE_ROWS, merge_rows, safe_steps
from skpar._schemes import Weights

# Merging a column costs about as much as one stored value of a row; the merges of the columns
# that all workers meet often, and those of the others, may each add this share; the latter up
# to MOST_SHARE where they would be too rare otherwise.
MERGE_SHARE = 0.05
MOST_SHARE = 0.2
# Cache lines that change hands cost more than a few rows; but of all workers together no more
# than so many rows should be unknown to the others.
LEAST_ROWS_OF_ALL = 128
# A column in fewer rows than this is seldom met twice between two merges.
LEAST_FREQUENCY = 1 / 256
MAX_HOT_COLUMNS = 1 << 14
# Copies of all columns must meet at least so many times in a worker's share of an epoch, or
# columns of few rows fall behind; else these are written in place.
LEAST_MERGES = 4
# Writing in place costs more than a second worker saves on less work (stored values) each.
LEAST_WORK_IN_PLACE = 1 << 21
# Adding the shared weights to their average may cost this share of the rows in between.
AVERAGE_SHARE = 0.25
# Workers stand at different samples, so the scale that l2 leaves of weights differs between them:
# over what they have in hand at a time by this at most, and since it was written out by exp(-1).
MAX_DISAGREEMENT = 0.1
MAX_SHRINK = 1.0
# Steps that shrink weights by more than this each time leave nothing for others to add to.
MAX_STEP_SHRINK = 0.1


def sharing_is_safe(fit, n_epochs):
    """Whether l2 shrinks weights slowly enough for their scale to be a function of time."""
    recipe = fit.recipe(fit.problem.eta0)
    first, last = fit.start.t, fit.start.t + n_epochs * fit.batch.n_rows
    step = max(recipe.step_size(first), recipe.step_size(last))
    return fit.problem.l2 * step < MAX_STEP_SHRINK


def rows_between_merges(batch, n_columns, share=MERGE_SHARE):
    """How many rows pay for merging so many columns."""
    return int(n_columns / (share * batch.row_numbers))


def copies_meet(batch, n_workers):
    """Whether copies of all columns would be merged often enough."""
    rows = rows_between_merges(batch, batch.shape[1], MOST_SHARE)
    return rows * n_workers * LEAST_MERGES <= batch.n_rows


def worthwhile_workers(batch, n_workers):
    """At most `n_workers`, as many as make an epoch shorter than one would."""
    if not batch.sparse or copies_meet(batch, n_workers):
        return n_workers
    in_place = int(min(n_workers, batch.work // LEAST_WORK_IN_PLACE))
    fewer = range(min(n_workers, batch.n_rows), 1, -1)
    copying = next((k for k in fewer if copies_meet(batch, k)), 1)
    return max(1, copying, in_place)


def work_to_the_end(rows, order, state, shared, recipe, snapshot, places):
    """A worker's part of an epoch, in calls short enough for signals to be heard in between."""
    while not shared.done():
        run_shared(rows, order, state, shared, recipe, snapshot, places)


def cuts(recipe, order, t, lo, hi):
    """Cut an epoch that begins after t samples where l2 would shrink the unscaled weights beyond
    what floats hold."""
    first = t + lo * order.block_size
    shrink = recipe.l2 * recipe.sum_of_steps(first, t + hi * order.block_size)
    if shrink <= MAX_SHRINK or hi - lo == 1:
        yield lo, hi
    else:
        middle = (lo + hi) // 2
        yield from cuts(recipe, order, t, lo, middle)
        yield from cuts(recipe, order, t, middle, hi)


class LockFree:
    """Workers share one weight vector (Niu et al. 2011), through copies or directly.

    Each worker trains its own copy of the columns that most rows have and now and then adds
    what it learned to the shared weights (Zhang & Re 2014); it writes the other columns in
    place. Dense rows have copies of all columns, sparse ones with `merge_every=1` of none.
    With `locked` every touch of the shared weights holds a lock.
    """

    def __init__(self, fit, n_workers, merge_every, *, locked=False):
        self.fit = fit
        self.name = "locked" if locked else "lock-free"
        self.n_workers = n_workers
        self.merge_every = merge_every
        start, batch = fit.start, fit.batch
        whole = not batch.sparse or (merge_every != 1 and copies_meet(batch, n_workers))
        sample = sampled_matrix(fit) if merge_every != 1 else None
        hot, slots = self._hot_columns(whole, sample)
        self.shared = Shared(
            start.w,
            whole=whole,
            hot_columns=hot,
            slots=slots,
            average=None if start.average is None else start.average.copy(),
            keep_l1=fit.problem.l1 != 0.0,
            locked=locked,
        )
        self.shared.intercept[0] = start.intercept
        self.shared.average_intercept = start.average_intercept
        self.shared.average_from = fit.problem.average
        self.shared.averaged = max(0.0, start.t - fit.problem.average)
        self.t = start.t
        size = start.w.size if whole else len(hot)
        self.states = [State(np.zeros(size, start.w.dtype), 0.0) for _ in range(n_workers)]
        self.snapshots = [padded(state.w) for state in self.states]
        room = 0 if whole else batch.longest_row
        self.places = [np.zeros(room, dtype=np.uintp) for _ in range(n_workers)]
        self.curvatures, self.limited_for = None, None
        if merge_every == "auto" and size:
            self.curvatures = curvatures(fit, sample if whole else sample[:, hot])

    def _hot_columns(self, whole, sample):
        """(columns merged often, their places), None for all columns."""
        batch = self.fit.batch
        n_columns = batch.shape[1]
        if not batch.sparse or (whole and rows_between_merges(batch, n_columns) <= MAX_MERGE_ROWS):
            return None, None
        if not whole and self.merge_every == 1:
            return np.zeros(0, dtype=np.int64), None
        hot = frequent_columns(sample, LEAST_FREQUENCY, MAX_HOT_COLUMNS)
        slots = np.full(n_columns, -1, dtype=np.int16)
        slots[hot] = np.arange(len(hot))
        return hot, slots

    def _plan(self, step):
        """How often to merge and to average, at the step size of the epoch's middle."""
        batch, shared = self.fit.batch, self.shared
        rows = self.merge_every
        if rows == "auto":
            top = 0.0 if self.curvatures is None else self.curvatures.max()
            rows = merge_rows(self.n_workers, step, top)
            least = max(MIN_MERGE_ROWS, LEAST_ROWS_OF_ALL // self.n_workers)
            rows = max(rows, least, rows_between_merges(batch, shared.n_hot))
        all_rows = rows
        if shared.whole and shared.hot_columns is not None:
            often_enough = batch.n_rows // (self.n_workers * LEAST_MERGES)
            all_rows = min(rows_between_merges(batch, batch.shape[1]), often_enough)
            all_rows = max(rows, all_rows)
        # Where nothing but the intercept is merged, its line should not change hands every row.
        shared.merge_rows = rows if shared.n_hot else max(rows, 8)
        shared.merge_all_rows = all_rows
        shared.average_rows = max(rows, int(batch.shape[1] / (AVERAGE_SHARE * batch.row_numbers)))
        if self.curvatures is not None and self.limited_for != (rows, all_rows):
            self.limited_for = rows, all_rows
            between = np.full(len(self.curvatures), all_rows)
            between[-1] = rows
            if shared.hot_columns is not None:
                between[shared.hot_columns if shared.whole else slice(None)] = rows
            safe = safe_steps(self.n_workers, between, self.curvatures)
            # float32 must be able to hold them; beyond 1e30 no step is damped.
            safe = np.minimum(safe, 1e30).astype(shared.w.dtype)
            shared.limit_steps(safe[:-1].copy(), float(safe[-1]), 1.0 / self.n_workers)

    def epoch(self, number, eta0):
        fit = self.fit
        block_rows = None
        if self.merge_every != "auto":
            block_rows = min(fit.batch.block_rows, self.merge_every)
        order = fit.batch.order(fit.shuffle, [fit.seed, number], block_rows)
        recipe = fit.recipe(eta0, average=fit.problem.average)
        # Merges themselves look at the step of the moment.
        self._plan(recipe.step_size(self.t + 0.5 * fit.batch.n_rows))
        for state in self.states:
            state.loss_sum = 0.0
        for lo, hi in cuts(recipe, order, self.t, 0, order.n_blocks):
            self._run(order, recipe, lo, hi)
        self.t += fit.batch.n_rows
        self.loss_sum = sum(state.loss_sum for state in self.states)

    def _run(self, order, recipe, lo, hi):
        fit, shared = self.fit, self.shared
        # Small enough that a slow core does not keep the others waiting, and not below a merge.
        share = max(1, (hi - lo) // (8 * self.n_workers))
        merge_blocks = max(1, shared.merge_rows // order.block_size)
        chunk = min(fit.batch.chunk_blocks(order.block_size), share)
        chunk = max(chunk, min(merge_blocks, share))
        first = self.t + lo * order.block_size
        shrink = recipe.l2 * recipe.step_size(first) * order.block_size * self.n_workers
        if shrink > 0:
            chunk = min(chunk, max(1, int(MAX_DISAGREEMENT / shrink)))
        shared.chunk_blocks = chunk
        shared.begin(first, lo, hi)
        workers = zip(self.states, self.snapshots, self.places, strict=True)
        arguments = [(fit.batch.rows, order, s, shared, recipe, *own) for s, *own in workers]
        fit.team.run(work_to_the_end, arguments, self._stop)
        shared.end(recipe, self.t + min(hi * order.block_size, order.n_rows))

    def _stop(self):
        self.shared.cursor[8] = 1

    def weights(self):
        """The shared weights and their average."""
        shared = self.shared
        average, intercept = None, float(shared.intercept[0])
        if shared.average is not None:
            average = shared.average
        return Weights(shared.w, intercept, average, shared.average_intercept, self.fit.start.t)
