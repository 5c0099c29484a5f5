"""learning_rate="auto" for many weight vectors: all of them in each read of the rows.

Wide sparse rows begin with stochastic steps; everything ends with full gradients (`_many`).
"""

from dataclasses import replace

import numpy as np

from skpar._auto import NOTHING
from skpar._data import Batch
from skpar._many import ManyDescent
from skpar._many_auto import find_many_step
from skpar._many_dual import ManyDual, suits
from skpar._many_hessian import has_blocks
from skpar._many_schemes import ManySteps
from skpar._many_state import INTERCEPT, SCALE
from skpar._outputs import ManyObjective, take
from skpar._schemes import Weights
from skpar._softmax_dual import DualSteps
from skpar._steps import SEARCH_ROWS

# Outputs at their optimum are left out of the passes once they are this share of those in work.
WORTH_LEAVING = 0.5
# Epochs of stochastic steps: they go on while each gains this much of the objective, for each
# unit of what `tol` allows.
MOST_EPOCHS = 6
WORTH_AN_EPOCH = 0.2
# The estimated distance may take this share of what `tol` allows.
CAUTION = 0.25
# The dual's bound may take this share of what `tol` allows; it must shrink by so much an epoch.
DUAL_CAUTION = 0.5
SHRINKING = 0.8


def starts_with_steps(X):
    """Whether stochastic steps come first: on wide sparse rows, which have no Hessian."""
    n, d = X.shape
    return n > SEARCH_ROWS and not has_blocks(n, d, X.nnz)


def narrow(fit, parts):
    """(fit, parts) of a sample of the rows and of the columns that occur there.

    A step size is sought on few rows, but a copy of weights of all columns costs more than they.
    """
    batch, start = fit.batch, fit.start
    n = batch.n_rows
    rows = np.sort(np.random.default_rng(fit.seed).permutation(n)[: 2 * SEARCH_ROWS])
    X, seen = batch.matrix()[rows], np.zeros(batch.shape[1], bool)
    seen[X.indices] = True
    columns, number = np.flatnonzero(seen), np.cumsum(seen) - 1
    X.indices = number[X.indices].astype(X.indices.dtype)
    X._shape = (len(rows), len(columns))
    codes, values, weights, classes, factors = parts
    codes, values, weights = (None if a is None else a[rows] for a in (codes, values, weights))
    w = np.ascontiguousarray(start.w[:, columns])
    own = replace(
        fit,
        batch=Batch.of(X, batch.targets[rows], weights),
        start=Weights(w, start.intercept.copy(), None, np.zeros(len(w)), start.t),
    )
    return own, (codes, values, weights, classes, factors)


class ManyFit:
    """The epochs of a fit, as `AutoFit` gives them to `train_auto`.

    `fit.start` holds weights of shape (outputs, features) and an intercept for each output;
    `parts` is the arguments of `Targets`, its rows those of the batch in use. Stochastic steps
    split the outputs into `n_blocks`, which changes no bit.
    """

    stalled = False

    def __init__(self, fit, parts, tol, softmax=False, n_blocks=1):
        batch = fit.batch
        if batch.subset is not None:
            batch = take(batch, np.arange(batch.n_rows))
        self.fit = replace(fit, batch=batch)
        self.tol = 0.0 if tol is None else tol
        self.softmax, self.problem = softmax, fit.problem
        self.objective = ManyObjective(fit.problem, batch, fit.team, parts, softmax)
        self.fixed_intercept = np.array(fit.start.intercept, dtype=np.float64)
        self.x = None
        self.values = np.full(self.objective.n_objectives, np.inf)
        self.active = np.arange(self.objective.n_objectives)
        self.descent, self.scheme, self.dual = None, None, None
        self.name, self.n_workers = "full-gradient", self.objective.n_workers
        self.step_size = self.eta0 = 1.0
        self.gap, self.finished = np.inf, False
        if batch.sparse and starts_with_steps(batch.matrix()):
            self._prepare_start(parts, n_blocks)
        if self.dual is None:
            self.x = self._packed(fit.start)
        if fit.start.w.any():
            self.values = self.objective.values(self.x, fit.problem.l1)

    def _prepare_start(self, parts, n_blocks):
        """Ascent of the duals where it is fast, else stochastic steps."""
        if suits(self.objective, self.fit.start):
            self.dual = ManyDual(self.fit, self.objective, self.tol)
            if not self.dual.hopeless(None):
                self.name, self.n_workers = "dual-ascent", self.dual.n_workers
                return
            self.dual = None
        # With a log link one step too long overflows; full gradients look before they leap.
        if not self.problem.has_log_link:
            self._prepare_steps(parts, n_blocks)

    def _packed(self, weights):
        x = np.empty((self.objective.size, self.objective.k))
        x[: self.objective.d] = weights.w.T
        if self.objective.has_intercept:
            x[-1] = weights.intercept
        return x

    @property
    def value(self):
        """What the history records: the softmax's objective, or the mean over the outputs."""
        return float(self.values.mean())

    # -- dual ascent ----------------------------------------------------------------------

    def _dual_epoch(self, number):
        dual = self.dual
        dual.epoch(number)
        self.values = dual.values
        allowed = self.tol * np.abs(self.values) + NOTHING * dual.values_at_zero
        self.finished = bool(np.all(dual.gap <= allowed))
        if not self.finished and dual.hopeless(allowed):
            start = self.fit.start
            w, intercept = dual.weights(start.w.dtype)
            self.x = self._packed(replace(start, w=w, intercept=intercept))
            self.dual = None

    # -- stochastic steps -----------------------------------------------------------------

    def _prepare_steps(self, parts, n_blocks):
        start = replace(self.fit.start, average=None)
        problem = replace(self.problem, average=0)
        self.fit = replace(self.fit, problem=problem, start=start, track_loss=False)
        if self.softmax and DualSteps.suits(self.fit, parts):
            self.scheme = DualSteps(self.fit, parts)
        if self.scheme is None or self.scheme.ill_conditioned:
            self.eta0 = find_many_step(*narrow(self.fit, parts), self.softmax, averaged=False)
            self.fit = replace(self.fit, problem=replace(problem, eta0=self.eta0))
            self.scheme = ManySteps(self.fit, parts, self.softmax, n_blocks)
        self.name, self.n_workers = self.scheme.name, self.scheme.n_workers

    def _iterate(self):
        """The weights of the stochastic steps."""
        objective = self.objective
        x = objective.room(objective.size)
        for block in self.scheme.blocks:
            state, own = block.states[0], slice(block.outputs[0], block.outputs[-1] + 1)

            def piece(at, state=state, own=own):
                rows = slice(at.start, min(at.stop, objective.d))
                scale = state.of(SCALE)
                np.multiply(state.w[rows, : state.k], scale, out=x[rows, own])

            objective.in_pieces(piece)
            if objective.has_intercept:
                x[-1, own] = state.of(INTERCEPT)
        return x

    def _stochastic_epoch(self, number):
        scheme = self.scheme
        scheme.epoch(number, np.full(self.objective.k, self.eta0))
        x = self._iterate()
        values = self.objective.values(x, self.problem.l1)
        gain = float((self.values - values).sum())
        if gain > 0.0:
            x, self.x, self.values = self.x, x, values
        self.objective.release(x)
        if isinstance(scheme, DualSteps):
            self._judge_dual(scheme.gaps(values), values, gain > 0.0)
            return
        worth = WORTH_AN_EPOCH * self.tol * float(values.sum())
        if not gain > worth or number + 1 >= MOST_EPOCHS:
            self.scheme = None
        recipe = self.fit.recipe(self.eta0)
        self.step_size = recipe.step_size(1.0 + (number + 1) * self.fit.batch.n_rows)

    def _judge_dual(self, gaps, values, gained):
        """End the fit where the bounds allow it, or the dual ascent where they shrink no more."""
        allowed = DUAL_CAUTION * self.tol * np.abs(values)
        self.finished = bool(np.all(gaps <= allowed)) and gained
        shrinks = float(gaps.sum()) < SHRINKING * self.gap
        self.gap = float(gaps.sum())
        if not (self.finished or shrinks):
            self.scheme = None

    # -- full gradients -------------------------------------------------------------------

    def _begin(self):
        objective = self.objective
        zero = np.zeros((objective.n, objective.k), objective.dtype)
        self.floor = NOTHING * objective.along(zero, zero, np.zeros(objective.n_objectives))[0]
        x = self.x.copy()  # the descent's own, in whose memory it works
        self.descent = ManyDescent(objective, x, self.problem.l1)
        self._aim()

    def _aim(self):
        """Choose the next directions; leave out what has reached its optimum."""
        descent = self.descent
        descent.aim()
        if self.softmax:
            self.x = descent.point.x
        elif len(self.active) == len(self.values):
            np.copyto(self.x, descent.point.x)
        else:
            self.x[:, self.active] = descent.point.x
        self.values[self.active] = descent.values
        allowed = CAUTION * self.tol * np.abs(descent.values) + self.floor[self.active]
        done = (descent.gap <= allowed) | descent.stuck
        self.finished = bool(done.all())
        if not self.finished and done.sum() > WORTH_LEAVING * len(done):
            self.active = self.active[~done]
            descent.only(~done)
            descent.aim()

    def step(self, number):
        """One epoch; False where none was needed, because the optimum is reached."""
        if self.finished:
            return False
        if self.dual is not None:
            self._dual_epoch(number)
            return True
        if self.scheme is not None:
            self._stochastic_epoch(number)
            return True
        if self.descent is None:
            self._begin()
        if self.finished:
            return False
        self.descent.move()
        self.step_size = 1.0
        self._aim()
        return True

    def weights(self):
        """(w, intercepts) that the user gets now."""
        if self.dual is not None and self.dual.gaps:
            w, intercept = self.dual.weights(self.objective.dtype)
            return w, intercept if self.objective.has_intercept else self.fixed_intercept
        d = self.objective.d
        w = np.ascontiguousarray(self.x[:d].T, self.objective.dtype)
        intercept = self.x[d].copy() if self.objective.has_intercept else self.fixed_intercept
        return w, intercept
