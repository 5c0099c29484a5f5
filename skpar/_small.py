"""Small dense data: a step in one compiled call, where Python would take longer than the rows."""

import math

import numpy as np

from skpar._kernels.interior import Interior
from skpar._kernels.newton import Newton
from skpar._newton import Frame

# Numbers in X, and multiply-adds of a Gram matrix, up to which one core does a step in less time
# than workers take to wake.
MOST_NUMBERS = 1 << 17
MOST_WORK = 1 << 23
MOST_STEPS = 100


def descent_for(objective, x):
    """The solver of a small dense problem with l2 alone, None for any other."""
    problem, batch = objective.problem, objective.batch
    kind = {"hinge": HingeDescent, "log_loss": LogDescent}.get(problem.loss)
    if kind is None or problem.l1 or not problem.l2 or batch.sparse:
        return None
    numbers = batch.n_rows * batch.shape[1]
    if not 0 < numbers <= MOST_NUMBERS or numbers * batch.shape[1] > MOST_WORK:
        return None
    if batch.weights is not None and not (batch.weights.min() >= 0 and batch.total_weight > 0):
        return None
    return kind(objective, x)


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


class SmallDescent:
    """The best point so far and how far the minimum may be below; `move` takes one step."""

    step_size = 1.0

    def __init__(self, objective, x):
        self.objective = objective
        self.frame, Z = rows_in_frame(objective)
        batch, d = objective.batch, objective.d
        y, weights = batch.used_targets, batch.used_weights
        if weights is None:
            c = np.full(objective.n, 1.0 / objective.n)
        else:
            used = weights > 0
            Z, y, c = Z[used], y[used], weights[used] / objective.n
        l2 = np.zeros(objective.size)
        l2[:d] = objective.l2 * self.frame.scale**2
        self.z, self.steps = self.frame.coordinates(x), 0
        self._begin(Z, y, c, l2)

    @property
    def x(self):
        """The best weights and intercept, of the original columns."""
        return self.frame.weights(self.z)

    def move(self):
        """Take a step; False where rounding leaves none."""
        self.steps += 1
        if self.steps > MOST_STEPS or not self.points.step():
            return False
        self.objective.passes += 1
        self._look()
        return True


class HingeDescent(SmallDescent):
    """Interior points: the gap is a bound, from the dual."""

    share = 0.5  # of what `tol` allows

    def _begin(self, Z, y, c, l2):
        self.value, self.bound = math.inf, -math.inf
        if not self.z.any():
            self.value = float(c.sum())
        self.points = Interior(Z, y, c, l2, self.z, self.objective.has_intercept)
        self._look()

    def _look(self):
        points = self.points
        if points.primal < self.value:
            self.value, self.z = points.primal, points.u.copy()
        self.bound = max(self.bound, points.dual)

    @property
    def gap(self):
        return self.value - self.bound


class LogDescent(SmallDescent):
    """Newton steps: the gap is the model's, at the curvature of the very point."""

    share = 0.25  # it is an estimate

    def _begin(self, Z, y, c, l2):
        self.points = Newton(Z, y, c, l2, self.z)
        self._look()

    def _look(self):
        points = self.points
        self.value, self.z, self.step_size = points.value, points.u, points.length

    @property
    def gap(self):
        # Outliers may rule the curvature at the start and drop out of it with the first step.
        if self.steps == 0 and self.points.slope != 0.0:
            return math.inf
        return -0.5 * self.points.slope
