"""learning_rate="auto" for many weight vectors: all of them in each read of the rows."""

import numpy as np

from skpar._auto import CAUTION, NOTHING
from skpar._many import ManyDescent
from skpar._outputs import ManyObjective, take

# Outputs at their optimum are left out of the passes once they are this share of those in work.
WORTH_LEAVING = 0.25


class ManyFit:
    """The epochs of a fit, as `AutoFit` gives them to `train_auto`.

    `fit.start` holds weights of shape (outputs, features) and an intercept for each output;
    `targets` is the arguments of `Targets`, its rows those of the batch in use.
    """

    def __init__(self, fit, targets, tol, softmax=False):
        batch = fit.batch
        if batch.subset is not None:
            batch = take(batch, np.arange(batch.n_rows))
        self.tol = 0.0 if tol is None else tol
        self.softmax, self.problem = softmax, fit.problem
        self.objective = ManyObjective(fit.problem, batch, fit.team, targets, softmax)
        self.fixed_intercept = np.array(fit.start.intercept, dtype=np.float64)
        self.x = np.empty((self.objective.size, self.objective.k))
        self.x[: self.objective.d] = fit.start.w.T
        if self.objective.has_intercept:
            self.x[-1] = fit.start.intercept
        self.values = np.full(self.objective.n_objectives, np.inf)
        self.active = np.arange(self.objective.n_objectives)
        self.descent = None
        self.name, self.n_workers = "full-gradient", self.objective.base.workers_for(batch.work)
        self.step_size = self.eta0 = 1.0
        self.finished = False

    @property
    def value(self):
        """What the history records: the softmax's objective, or the mean over the outputs."""
        return float(self.values.mean())

    def _aim(self):
        """Choose the next directions; leave out what has reached its optimum."""
        descent = self.descent
        descent.aim()
        if self.softmax:
            self.x = descent.point.x
        else:
            self.x[:, self.active] = descent.point.x
        self.values[self.active] = descent.values
        allowed = CAUTION * self.tol * np.abs(descent.values) + NOTHING * self.scale[self.active]
        done = (descent.gap <= allowed) | descent.stuck
        self.finished = bool(done.all())
        if not self.finished and done.sum() > WORTH_LEAVING * len(done):
            self.active = self.active[~done]
            descent.only(~done)
            descent.aim()

    def step(self, number):
        """One epoch; False where none was needed, because the optimum is reached."""
        if self.descent is None:
            zero = np.zeros((self.objective.n, self.objective.k), self.objective.dtype)
            still = np.zeros(self.objective.n_objectives)
            self.scale = self.objective.along(zero, zero, still)[0]
            self.descent = ManyDescent(self.objective, self.x, self.problem.l1)
            self._aim()
        if self.finished:
            return False
        self.descent.move()
        self._aim()
        return True

    def weights(self):
        """(w, intercepts) that the user gets now."""
        d = self.objective.d
        w = np.ascontiguousarray(self.x[:d].T, self.objective.dtype)
        intercept = self.x[d].copy() if self.objective.has_intercept else self.fixed_intercept
        return w, intercept
