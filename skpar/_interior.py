"""The hinge loss on small dense data: interior points, with a bound that proves the end."""

import math

import numpy as np

from skpar._kernels.interior import Interior
from skpar._newton import Frame

# Numbers in X, and multiply-adds of a Gram matrix, up to which one core does a step in less time
# than workers take to wake.
MOST_NUMBERS = 1 << 17
MOST_WORK = 1 << 23
MOST_STEPS = 100


def is_small(problem, batch):
    """Whether `HingeDescent` serves: l2 alone, dense, and no work for several workers."""
    if problem.loss != "hinge" or problem.l1 or not problem.l2 or batch.sparse:
        return False
    numbers = batch.n_rows * batch.shape[1]
    return 0 < numbers <= MOST_NUMBERS and numbers * batch.shape[1] <= MOST_WORK


def rows_in_frame(objective):
    """(frame, its coordinates of the rows): once for all weight vectors of one fit."""
    batch, team = objective.batch, objective.team
    memo = {} if team is None else team.memo
    values, subset, *kept = memo.get("framed", (None, None))
    if values is not batch.values or subset is not batch.subset:
        frame = Frame(objective)
        rows = batch.values if batch.subset is None else batch.values[batch.subset]
        Z = np.ones((objective.n, objective.size))
        np.subtract(rows, frame.center, out=Z[:, : objective.d])
        Z[:, : objective.d] *= frame.scale
        kept = frame, Z
        memo["framed"] = (batch.values, batch.subset, *kept)
    return kept


class HingeDescent:
    """The best point so far and the best lower bound; `move` takes one step."""

    step_size = 1.0

    def __init__(self, objective, x):
        self.objective = objective
        self.frame, Z = rows_in_frame(objective)
        batch, d = objective.batch, objective.d
        y, weights = batch.used_targets, batch.weights
        if weights is None:
            c = np.full(objective.n, 1.0 / objective.n)
        else:
            weights = weights if batch.subset is None else weights[batch.subset]
            used = weights > 0
            Z, y, c = Z[used], y[used], weights[used] / objective.n
        l2 = np.zeros(objective.size)
        l2[:d] = objective.l2 * self.frame.scale**2
        start = self.frame.coordinates(x)
        self.points = Interior(Z, y, c, l2, start, objective.has_intercept)
        self.steps, self.bound = 0, -math.inf
        self.value, self.z = math.inf, start
        if not start.any():
            self.value = float(c.sum())
        self._look()

    def _look(self):
        points = self.points
        if points.primal < self.value:
            self.value, self.z = points.primal, points.u.copy()
        self.bound = max(self.bound, points.dual)

    @property
    def x(self):
        """The best weights and intercept, of the original columns."""
        return self.frame.weights(self.z)

    @property
    def gap(self):
        """The objective is no further than this above its minimum."""
        return self.value - self.bound

    def move(self):
        """Take a step; False where rounding leaves none."""
        self.steps += 1
        if self.steps > MOST_STEPS or not self.points.step():
            return False
        self.objective.passes += 1
        self._look()
        return True
