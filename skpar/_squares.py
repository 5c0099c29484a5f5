"""Least squares of many targets: one Hessian serves them all.

The objective is quadratic and its Hessian is that of every target, so one read of the rows for
it and one for all gradients lead to all optima; a last read measures how near. The l1 penalty is
met by coordinate descent on the quadratic.
"""

import numpy as np

from skpar._auto import CAUTION, NOTHING
from skpar._kernels.quadratic import descend
from skpar._newton import EXACT_WORK, LEAST_WORK, MOST_COLUMNS, Frame, Matrix
from skpar._outputs import ManyObjective

# Targets whose fits one after another would cost as much as one Hessian of all rows.
TARGETS_PER_HESSIAN = 4
SWEEPS = 2000
SWEEP_ENDED = 1e-9


def squares_pay(problem, batch, n_targets):
    """Whether the loss is a square and the Hessian of all rows is worth its cost."""
    d = batch.shape[1]
    work = batch.n_rows * batch.row_numbers**2 / 2 + d**3 / 6
    shared = EXACT_WORK * max(1.0, n_targets / TARGETS_PER_HESSIAN)
    return is_square(problem) and d <= MOST_COLUMNS and work <= shared * max(batch.work, LEAST_WORK)


def is_square(problem):
    """Whether the loss is half the squared error."""
    if problem.loss == "tweedie":
        return not problem.has_log_link
    return problem.loss == "squared_error"


class ManySquares:
    """The epochs of a fit, as `AutoFit` gives them to `train_auto`.

    `fit.start` holds weights of shape (targets, features) and an intercept for each target;
    `targets` is the arguments of `Targets`.
    """

    name = "full-gradient"

    def __init__(self, fit, targets, tol):
        self.tol = 0.0 if tol is None else tol
        self.problem = fit.problem
        self.objective = ManyObjective(fit.problem, fit.batch, fit.team, targets)
        self.base, self.d = self.objective.base, self.objective.d
        self.n_workers = self.base.workers_for(fit.batch.work)
        self.fixed_intercept = np.array(fit.start.intercept, dtype=np.float64)
        self.x = np.empty((self.objective.size, self.objective.k))
        self.x[: self.d] = fit.start.w.T
        if self.objective.has_intercept:
            self.x[-1] = fit.start.intercept
        self.values, self.point = np.full(self.objective.k, np.inf), None
        self.step_size = self.eta0 = 1.0
        self.finished = False

    @property
    def value(self):
        """What the history records: the mean over the targets."""
        return float(self.values.mean())

    # -- coordinates ----------------------------------------------------------------------

    def _each(self, transform, columns):
        return np.stack([transform(c) for c in np.ascontiguousarray(columns.T)], axis=1)

    def _values_at(self, point):
        values = point.values
        if self.problem.l1:
            values = values + self.problem.l1 * np.abs(point.x[: self.d]).sum(axis=0)
        return np.where(np.isfinite(values), values, np.inf)

    # -- steps ----------------------------------------------------------------------------

    def _begin(self):
        objective, weights = self.objective, self.objective.batch.weights
        still = np.zeros((objective.n, objective.k), objective.dtype)
        self.floor = NOTHING * objective.along(still, still, np.zeros(objective.k))[0]
        self.frame = Frame(self.base)
        self.hessian = Matrix(self.base, self.frame, objective.n)
        self.hessian.renew(np.ones(objective.n) if weights is None else weights)
        self.thresholds = np.zeros(objective.size)
        self.thresholds[: self.d] = self.problem.l1 * self.frame.scale
        self.point = objective.at(self.x)
        self.values = self._values_at(self.point)
        if not np.isfinite(self.values).all():
            k = int(np.argmin(np.isfinite(self.values)))
            raise ValueError(
                f"Floating-point under-/overflow occurred at epoch #1: the loss of target {k} "
                "overflows. Scale y."
            )
        self._aim()

    def _aim(self):
        """Choose the next directions, and see whether any is still worth a step."""
        g = self._each(self.frame.gradient, self.point.gradient)
        if not self.problem.l1:
            self.direction = self.hessian.solve(-g)
            slopes = np.einsum("jk,jk->k", g, self.direction)
        else:
            z = self._each(self.frame.coordinates, self.x)
            self.direction, slopes = self._descend(g, z)
        allowed = CAUTION * self.tol * np.abs(self.values) + self.floor
        self.finished = bool(np.all(-0.5 * slopes <= allowed))

    def _descend(self, g, z):
        """(directions, slopes) that meet the l1 penalty."""
        t, k = self.thresholds, self.objective.k
        columns = [(np.ascontiguousarray(a), np.ascontiguousarray(b)) for a, b in zip(g.T, z.T)]

        def one(c, _):
            return descend(self.hessian.H, *columns[c], t, SWEEPS, SWEEP_ENDED)

        work = k * float(self.objective.size) ** 2
        found = self.base.in_spans(one, [(c, c + 1) for c in range(k)], work)
        q = np.stack(found, axis=1)
        change = np.abs(z + q) - np.abs(z)
        return q, np.einsum("jk,jk->k", g, q) + t @ change

    def step(self, number):
        """One epoch; False where none was needed, because the optimum is reached."""
        if self.point is None:
            self._begin()
        if self.finished:
            return False
        point = self.objective.at(self.x + self._each(self.frame.weights, self.direction))
        values = self._values_at(point)
        better = values < self.values
        if not better.any():  # nothing but rounding is left
            self.finished = True
            return True
        mixed = [(self.x, point.x), (self.values, values)]
        mixed += [(self.point.gradient, point.gradient)]
        self.x, self.values, gradient = (np.where(better, new, old) for old, new in mixed)
        point.gradient = gradient
        self.point = point
        self._aim()
        return True

    def weights(self):
        """(w, intercepts) that the user gets now."""
        w = np.ascontiguousarray(self.x[: self.d].T, self.objective.dtype)
        has = self.objective.has_intercept
        return w, self.x[self.d].copy() if has else self.fixed_intercept
