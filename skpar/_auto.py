"""learning_rate="auto": no step size to tune, and an end that is known to be one.

Wide sparse rows start with a few epochs of the scheme's own stochastic steps, of a size found
on a sample; everything ends with full gradients (`_descent`), whose steps say how far the
optimum may still be. Losses with a kink are rounded off, less and less (Nesterov 2005).
"""

import math
from dataclasses import replace

import numpy as np

from skpar._descent import LESS_CARE, Descent
from skpar._dual import DualAscent, rough_leverage, suits
from skpar._least_squares import least_squares_for
from skpar._links import starting_intercept
from skpar._newton import coordinates_for, has_matrix
from skpar._objective import Objective
from skpar._sampled import start_from_sample
from skpar._schemes import Sequential
from skpar._small import SmallDescent, descent_for
from skpar._steps import SEARCH_ROWS, find_step, pack, value_at

KINKED = ("hinge", "epsilon_insensitive", "quantile")
# The model's promise must fall this far below what `tol` allows: it is an estimate.
CAUTION = 0.25
# A fit that cannot go on is said to stall where this many times what `tol` allows is promised.
STALLED = 10.0
# Near the end a step by the Hessian at hand often settles what a new one would, for less.
UNSURE_STEPS = 2
# Nothing is left to gain below this share of the objective at w = 0.
NOTHING = 1e-9
# Kinks are rounded over this share of the first loss, then ever less.
FIRST_WIDTH = 0.5
NARROWER = 0.1
STAGE_TOLERANCE = 0.1
# How much of what `tol` allows the rounding may take; it is a bound and needs no caution.
ROUNDING_SHARE = 0.5
LEAST_WIDTH = 1e-7
# Up to here ascent is faster than Newton's steps where there is a Hessian.
LOW_LEVERAGE = 0.5
# Rows that tell how large losses are.
VALUED_ROWS = 4096
# Epochs of stochastic steps before full gradients.
STOCHASTIC_EPOCHS = 2
SHORT_EPOCH = 1 << 22


class AutoFit:
    """The phases of a fit: `step` runs one epoch; the attributes say where it stands."""

    def __init__(self, fit, make_scheme, tol):
        self.fit, self.make_scheme = fit, make_scheme
        self.problem = fit.problem
        self.tol = 0.0 if tol is None else tol
        self.objective = Objective(fit.problem, fit.batch, fit.team)
        self.x = pack(self.objective, fit.start.w, fit.start.intercept)
        self.fixed_intercept = fit.start.intercept
        self.descent, self.scheme, self.value = None, None, math.inf
        self.margins = None  # at x, where known
        self.step_size = self.eta0 = 1.0
        self.name, self.n_workers = "full-gradient", self.objective.workers_for(self.objective.work)
        self.width, self.unsure = 0.0, 0
        self.converged = self.stuck = self.small_failed = False
        self.stochastic, self.dual = 0, None
        if fit.batch.sparse:
            self._prepare_start()

    def _prepare_start(self):
        """Sparse rows: ascent of the dual where it is fast, else some stochastic steps."""
        newton = has_matrix(self.fit.batch)
        most = LOW_LEVERAGE if newton else math.inf
        if suits(self.objective, self.fit.start) and rough_leverage(self.objective) <= most:
            self.dual = DualAscent(self.fit, self.objective, self.tol, self.x)
            if not self.dual.hopeless(0.0):
                self.name, self.n_workers = "dual-ascent", 1
                return
            self.dual = None
        if newton:
            return
        # With a log link one step too long overflows; full gradients look before they leap.
        if self.fit.batch.n_rows > SEARCH_ROWS and not self.problem.has_log_link:
            self.stochastic = STOCHASTIC_EPOCHS
            self._prepare_steps()

    def _prepare_steps(self):
        self.eta0 = find_step(self.fit)
        self.problem = replace(self.problem, eta0=self.eta0)
        fit = replace(self.fit, problem=self.problem)
        # Several workers cost more to set up than they save in a few short epochs.
        short = fit.batch.work < SHORT_EPOCH
        self.scheme = Sequential(fit) if short else self.make_scheme(fit)
        self.name, self.n_workers = self.scheme.name, self.scheme.n_workers

    # -- dual ascent ----------------------------------------------------------------------

    def _dual_epoch(self, number):
        dual = self.dual
        dual.epoch(number)
        self.x, self.value, self.margins = dual.x, dual.value, dual.margins
        allowed = self.tol * abs(dual.value) + NOTHING * dual.value_at_zero
        self.converged = dual.gap <= allowed
        if not self.converged and dual.hopeless(allowed):
            self.dual = None

    # -- stochastic steps -----------------------------------------------------------------

    def _stochastic_epoch(self, number):
        self.scheme.epoch(number, self.eta0)
        weights = self.scheme.weights()
        x = pack(self.objective, weights.w, weights.intercept)
        self.stochastic -= 1
        margins = self.objective.margins(x)
        value = value_at(self.objective, x, margins)
        if value < self.value:
            self.x, self.value, self.margins = x, value, margins
        else:
            self.stochastic = 0
        recipe = replace(self.fit, problem=self.problem).recipe(self.eta0)
        self.step_size = recipe.step_size(1.0 + (number + 1) * self.fit.batch.n_rows)

    # -- full gradients -------------------------------------------------------------------

    def _begin(self):
        self.descent = least_squares_for(self.objective, self.x)
        if self.descent is not None:
            self.floor = NOTHING * self.descent.value_at_zero
            return
        self.floor = NOTHING * self._value_at_zero()
        self.descent = None if self.small_failed else descent_for(self.objective, self.x)
        if self.descent is not None:
            return
        if self.problem.loss in KINKED:
            self._round()
        else:
            coordinates = coordinates_for(self.objective)
            if self._may_sample(coordinates[1]):
                given = self.objective, coordinates[0], self.x, self.problem.l1
                self.x = start_from_sample(*given)
            given = self.objective, self.x, self.problem.l1, coordinates
            self.descent = Descent(*given, margins=self.margins)
        if not self.descent.point.finite:
            raise ValueError(
                "Floating-point under-/overflow occurred at epoch #1: the loss of the targets (up "
                f"to {np.abs(self.fit.batch.targets).max():.3g}) overflows. Scale y."
            )

    def _may_sample(self, hessian):
        """Whether the first steps may be those of a sample: Newton's, from 0."""
        fresh = self.margins is None and not self.fit.start.w.any()
        bent = self.problem.loss != "squared_error" and self.problem.convex
        return fresh and bent and hessian.exact

    def _value_at_zero(self):
        """The mean loss of no coefficients: the size of losses on (some of) these rows."""
        batch = self.fit.batch
        rows = np.arange(0, batch.n_rows, max(1, batch.n_rows // VALUED_ROWS))
        some = Objective(
            self.problem,
            replace(batch, subset=rows if batch.subset is None else batch.subset[rows]),
        )
        y = some.batch.used_targets
        constants = {starting_intercept(self.problem, y)}
        if self.problem.fit_intercept and not self.problem.has_log_link:
            constants.add(float(y.mean()))
        margins = [np.full(some.n, constant) for constant in constants]
        return min(float(some.along(p, np.zeros_like(p), 0.0)[0]) for p in margins)

    def _round(self):
        """Go on with the kink rounded off less than before."""
        if self.width == 0.0:
            scale = self._value_at_zero() if self.problem.loss != "hinge" else 1.0
            self.width = FIRST_WIDTH * (scale if scale > 0 else 1.0)
            self.least_width = LEAST_WIDTH * self.width
        else:
            self.width *= NARROWER
        loss = self.problem.rounded(self.width)
        objective = Objective(self.problem, self.fit.batch, self.fit.team, loss)
        objective.passes = self.objective.passes
        given = [objective, self.x, self.problem.l1]
        if self.descent is not None:
            given += [(self.descent.frame, self.descent.hessian.anew(objective))]
        self.descent = Descent(*given, care=1.0 if self.descent is None else LESS_CARE)

    def _true_value(self):
        """The objective at the point, whatever loss the descent minimises."""
        if not self.width:
            return self.descent.value
        point = self.descent.point
        exact = self.objective.along(point.margins, point.margins, 0.0)[0]
        return self.descent.value - point.loss + exact

    def _aim(self):
        """Choose the next direction; where the end is reached, say so or round off less."""
        if isinstance(self.descent, SmallDescent):
            self.value = self.descent.value
            allowed = self.descent.share * self.tol * self.value
            self.converged = self.descent.gap <= allowed + self.floor
            return
        while True:
            descent = self.descent
            descent.aim()
            value = self._true_value()
            if value < self.value or not self.width:
                self.value, self.x = value, descent.point.x
            allowed = self.tol * abs(value)
            rounding = value - descent.value
            near = descent.gap <= CAUTION * allowed + self.floor
            near = near and not descent.doubtful(allowed + self.floor)
            if near and rounding <= ROUNDING_SHARE * allowed + self.floor:
                if descent.sure(CAUTION * allowed + self.floor):
                    self.converged = True
                    return
                if descent.gains:
                    self.unsure += 1
                    if self.unsure <= UNSURE_STEPS and not self.width:
                        return
                    descent.renew()
                    near = descent.gap <= CAUTION * allowed + self.floor
                    self.converged = near
                    return
            near = near or descent.gap <= STAGE_TOLERANCE * rounding
            if not self.width or not (near or descent.stuck) or self.width <= self.least_width:
                self.stuck = descent.stuck
                return
            if not descent.gains and not descent.stuck:
                return
            self._round()

    def step(self, number):
        """One epoch; False where none was needed, because the optimum is reached."""
        if self.dual is not None:
            self._dual_epoch(number)
            return True
        if self.stochastic:
            self._stochastic_epoch(number)
            return True
        if self.descent is None:
            self._begin()
            self._aim()
        if self.converged or self.stuck:
            return False
        if not self.descent.move() and isinstance(self.descent, SmallDescent):
            # Rounding ends it short of what `tol` asks for.
            self.x, self.small_failed = self.descent.x, True
            self._begin()
        self.step_size = self.descent.step_size
        self._aim()
        return True

    @property
    def finished(self):
        return self.converged or self.stuck

    @property
    def stalled(self):
        """Whether it ended because no step gained, with more to gain than `tol` allows."""
        if self.converged or not self.stuck or isinstance(self.descent, SmallDescent):
            return False
        # Near the end rounding stops a step that promises a little.
        promised = -0.5 * self.descent.slope
        return promised > STALLED * (self.tol * abs(self.value) + self.floor)

    def weights(self):
        """(w, intercept) that the user gets now."""
        if isinstance(self.descent, SmallDescent):
            self.x = self.descent.x
        w, b = self.objective.split(self.x)
        return w, b if self.objective.has_intercept else self.fixed_intercept
