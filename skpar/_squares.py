"""Least squares of many targets: one Hessian serves them all.

The objective is quadratic and its Hessian is that of every target, so one read of the rows for
it and one for all gradients lead to all optima; a last read measures how near. The l1 penalty is
met by coordinate descent on the quadratic.
"""

import numpy as np

from skpar._auto import CAUTION, NOTHING
from skpar._gram import MULTIPLY_ADDS as GRAM_ADDS
from skpar._gram import gram_work
from skpar._kernels.outputs import sparse_combine, sparse_margins
from skpar._kernels.quadratic import descend
from skpar._newton import EXACT_PASSES, LEAST_WORK, MOST_COLUMNS, Frame, Matrix
from skpar._objective import Objective

# Targets whose fits one after another would cost as much as one Hessian of all rows.
TARGETS_PER_HESSIAN = 4
CHUNK_ROWS = 1024
# Multiply-adds in the time that it takes to read a number.
READ_WORTH = 4
SWEEPS = 2000
SWEEP_ENDED = 1e-9


def squares_pay(problem, batch, n_targets):
    """Whether the loss is a square and the Hessian of all rows is worth its cost."""
    d = batch.shape[1]
    work = gram_work(batch, batch.n_rows) + d**3 / (6 * GRAM_ADDS)
    shared = EXACT_PASSES * max(1.0, n_targets / TARGETS_PER_HESSIAN)
    return is_square(problem) and d <= MOST_COLUMNS and work <= shared * max(batch.work, LEAST_WORK)


def is_square(problem):
    """Whether the loss is half the squared error."""
    if problem.loss == "tweedie":
        return not problem.has_log_link
    return problem.loss == "squared_error"


class ManySquares:
    """The epochs of a fit, as `AutoFit` gives them to `train_auto`.

    `fit.start` holds weights of shape (targets, features) and an intercept for each target; Y
    (rows, targets) stands for the targets of the batch, which has no subset.
    """

    stalled = False

    name = "full-gradient"

    def __init__(self, fit, Y, tol):
        self.problem, self.batch, self.Y = fit.problem, fit.batch, Y
        self.tol = 0.0 if tol is None else tol
        base = self.base = Objective(fit.problem, fit.batch, fit.team)
        self.d, self.dtype, self.has_intercept = base.d, base.dtype, base.has_intercept
        self.n_workers = base.workers_for(fit.batch.work)
        self.fixed_intercept = np.array(fit.start.intercept, dtype=np.float64)
        self.x = np.empty((base.size, Y.shape[1]))
        self.x[: self.d] = fit.start.w.T
        if self.has_intercept:
            self.x[-1] = fit.start.intercept
        self.values, self.gradient = np.full(Y.shape[1], np.inf), None
        self.step_size = self.eta0 = 1.0
        self.finished = False

    @property
    def value(self):
        """What the history records: the mean over the targets."""
        return float(self.values.mean())

    # -- reads of the rows ----------------------------------------------------------------

    def _look(self, x):
        """(objectives, gradients without l1) at x."""
        w, b = np.ascontiguousarray(x[: self.d], self.dtype), np.zeros(x.shape[1], self.dtype)
        if self.has_intercept:
            b[:] = x[self.d]

        def part(lo, hi):
            total, sums, rows = np.zeros(len(b)), np.zeros(x.shape), self.base._rows(lo, hi)
            with np.errstate(all="ignore"):  # what is not finite is seen in the sums
                for a in range(rows.start, rows.stop, CHUNK_ROWS):
                    self._add(w, b, a, min(a + CHUNK_ROWS, rows.stop), total, sums)
            return total, sums

        work = self.batch.work * (1.0 + len(b) / READ_WORTH)
        parts = self.base.in_spans(part, work=work)
        values, gradient = (sum(p[i] for p in parts) / self.base.n for i in (0, 1))
        coef = x[: self.d]
        gradient[: self.d] += self.problem.l2 * coef
        values = 0.5 * (values + self.problem.l2 * np.einsum("jk,jk->k", coef, coef))
        if self.problem.l1:
            values += self.problem.l1 * np.abs(coef).sum(axis=0)
        return np.where(np.isfinite(values), values, np.inf), gradient

    def _add(self, w, b, lo, hi, total, sums):
        """Add rows lo to hi to the sums of squares, and of residuals times rows."""
        batch, r = self.batch, np.empty((hi - lo, len(b)), self.dtype)
        if batch.sparse:
            sparse_margins(batch.rows, w, b, lo, hi, r)
        else:
            np.matmul(batch.values[lo:hi], w, out=r)
            r += b
        r -= self.Y[lo:hi]
        s = r
        if batch.weights is not None:
            s = (r * batch.weights[lo:hi, None]).astype(self.dtype, copy=False)
        total += np.einsum("ik,ik->k", s, r)
        if batch.sparse:
            sparse_combine(batch.rows, s, lo, hi, sums)
        else:
            sums[: self.d] += batch.values[lo:hi].T @ s
        if self.has_intercept:
            sums[self.d] += s.sum(axis=0, dtype=np.float64)

    # -- steps ----------------------------------------------------------------------------

    def _begin(self):
        n, weights = self.base.n, self.batch.weights
        weights = np.ones(n) if weights is None else weights
        self.floor = NOTHING * 0.5 * np.einsum("i,ik,ik->k", weights, self.Y, self.Y) / n
        self.frame = Frame(self.base)
        self.hessian = Matrix(self.base, self.frame, n)
        self.hessian.renew(weights)
        self.thresholds = np.zeros(len(self.x))
        self.thresholds[: self.d] = self.problem.l1 * self.frame.scale
        self.values, self.gradient = self._look(self.x)
        if not np.isfinite(self.values).all():
            k = int(np.argmin(np.isfinite(self.values)))
            raise ValueError(
                f"Floating-point under-/overflow occurred at epoch #1: the loss of target {k} "
                "overflows. Scale y."
            )
        self._aim()

    def _aim(self):
        """Choose the next directions, and see whether any is still worth a step."""
        g = _each(self.frame.gradient, self.gradient)
        if not self.problem.l1:
            self.direction = self.hessian.solve(-g)
            slopes = np.einsum("jk,jk->k", g, self.direction)
        else:
            z = _each(self.frame.coordinates, self.x)
            self.direction, slopes = self._descend(g, z)
        allowed = CAUTION * self.tol * np.abs(self.values) + self.floor
        self.finished = bool(np.all(-0.5 * slopes <= allowed))

    def _descend(self, g, z):
        """(directions, slopes) that meet the l1 penalty."""
        t, k = self.thresholds, self.x.shape[1]
        columns = [(np.ascontiguousarray(a), np.ascontiguousarray(b)) for a, b in zip(g.T, z.T)]

        def one(c, _):
            return descend(self.hessian.full(), *columns[c], t, SWEEPS, SWEEP_ENDED)

        work = k * float(len(t)) ** 2
        found = self.base.in_spans(one, [(c, c + 1) for c in range(k)], work)
        q = np.stack(found, axis=1)
        change = np.abs(z + q) - np.abs(z)
        return q, np.einsum("jk,jk->k", g, q) + t @ change

    def step(self, number):
        """One epoch; False where none was needed, because the optimum is reached."""
        if self.gradient is None:
            self._begin()
        if self.finished:
            return False
        x = self.x + _each(self.frame.weights, self.direction)
        values, gradient = self._look(x)
        better = values < self.values
        if not better.any():  # nothing but rounding is left
            self.finished = True
            return True
        self.x = np.where(better, x, self.x)
        self.values = np.where(better, values, self.values)
        self.gradient = np.where(better, gradient, self.gradient)
        self._aim()
        return True

    def weights(self):
        """(w, intercepts) that the user gets now."""
        w = np.ascontiguousarray(self.x[: self.d].T, self.dtype)
        return w, self.x[self.d].copy() if self.has_intercept else self.fixed_intercept


def _each(transform, columns):
    """A function of vectors, of each column."""
    return np.stack([transform(c) for c in np.ascontiguousarray(columns.T)], axis=1)
