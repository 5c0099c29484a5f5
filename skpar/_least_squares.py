"""Squared error with l2 and few columns: the normal equations, from one read of the rows."""

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs

from skpar._gram import Gram, symmetric
from skpar._small import SmallDescent

# Up to here the products of the columns cost less than the passes of other solvers.
MOST_COLUMNS = 800
# Rows from which a centre is taken; centring by the means of all rows follows, without a read.
CENTER_ROWS = 64
# Columns of unit length that are nearer to dependent than this: products hold too few digits.
LEAST_PIVOT = 1e-9
# Where less than this share of the targets' spread is left, so do the sums of what is left, and
# the objective is summed anew.
LEAST_LEFT = 1e-4
MOST_PRODUCT = 1e150


def least_squares_for(objective, x):
    """The solver, or None where the products of columns would be dear or inexact."""
    problem, batch = objective.problem, objective.batch
    if problem.loss != "squared_error" or problem.l1 or batch.sparse or objective.d > MOST_COLUMNS:
        return None
    if batch.weights is not None and not (batch.weights.min() >= 0 and batch.total_weight > 0):
        return None
    solver = LeastSquares(objective, x)
    return solver if solver.solve() else None


class LeastSquares(SmallDescent):
    """`solve`, then look at `value`; `move` goes to the solution in one step."""

    share = 1.0

    def __init__(self, objective, x):
        self.objective, self.start, self.moved = objective, x, False
        d = self.d = objective.d
        self.center, self.target = self._center()
        gram = Gram(objective, self.center, np.ones(d), self.target)
        A = symmetric(gram.sum(None, objective.batch.used_weights, 1.0 / objective.n))
        self.usable = bool(np.all(np.abs(A) < MOST_PRODUCT))  # False for NaN
        self.weight, m, my = A[d, d], np.zeros(d), 0.0
        if objective.has_intercept and self.usable:
            m, my = A[:d, d] / self.weight, A[d, d + 1] / self.weight
        self.G = A[:d, :d] - self.weight * np.multiply.outer(m, m)
        self.g = A[:d, d + 1] - self.weight * m * my
        self.spread = A[d + 1, d + 1] - self.weight * my**2
        self.center, self.target = self.center + m, self.target + my

    def _center(self):
        """A point among the rows, and one among the targets; 0 where there is no intercept."""
        objective, batch = self.objective, self.objective.batch
        if not objective.has_intercept:
            return np.zeros(self.d), 0.0
        at = np.linspace(0, objective.n - 1, min(objective.n, CENTER_ROWS)).astype(int)
        rows = at if batch.subset is None else batch.subset[at]
        return batch.values[rows].mean(axis=0, dtype=np.float64), float(batch.targets[rows].mean())

    def solve(self):
        """Find the solution; False where it cannot be trusted."""
        A = self.G.copy()
        at = np.arange(self.d)
        A[at, at] += self.objective.l2
        if not self.usable or not np.all(A[at, at] > 0):
            return False
        lengths = np.sqrt(A[at, at])
        A /= np.outer(lengths, lengths)
        factor, failed = dpotrf(A, lower=0, clean=0)
        if failed or factor[at, at].min(initial=1.0) ** 2 < LEAST_PIVOT:
            return False
        right = self.g / lengths
        w = dpotrs(factor, right, lower=0)[0]
        w += dpotrs(factor, right - A @ w, lower=0)[0]
        self.w = w / lengths
        x = self._packed(self.w)
        self.best = self._loss(self.w)
        if self.best > LEAST_LEFT * self.spread / 2:
            self.best += 0.5 * self.objective.l2 * float(self.w @ self.w)
        else:
            self.best = self.objective.value(x, self.objective.margins(x))
        start = self.start[: self.d]
        self.value = self._loss(start) + 0.5 * self.objective.l2 * float(start @ start)
        if self.objective.has_intercept:
            off = self.start[self.d] - (self.target - float(start @ self.center))
            self.value += 0.5 * self.weight * off**2
        self.value_at_zero = 0.5 * self.spread
        return True

    def _loss(self, w):
        """The mean loss with the best intercept."""
        return 0.5 * float(w @ (self.G @ w) - 2.0 * (self.g @ w) + self.spread)

    @property
    def gap(self):
        return self.value - self.best

    @property
    def x(self):
        """The weights and intercept reached."""
        return self._packed(self.w) if self.moved else self.start

    def _packed(self, w):
        if not self.objective.has_intercept:
            return w.copy()
        return np.append(w, self.target - float(w @ self.center))

    def move(self):
        """Go to the solution."""
        self.moved, self.value = True, self.best
        self.objective.passes += 1
        return True
