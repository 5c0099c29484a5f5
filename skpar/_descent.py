"""Descent by full gradients: Newton, quasi-Newton and their proximal forms, one step at a time.

The l1 penalty is met by a proximal Newton step (coordinate descent on the quadratic model; Lee,
Sun & Saunders 2014) where there is a Hessian, and by orthant-wise steps (OWL-QN; Andrew & Gao
2007) where there is only its diagonal.
"""

import numpy as np
from scipy.linalg import eigh

from skpar._kernels.quadratic import descend
from skpar._newton import Diagonal, Pairs, coordinates_for

# A step must win this share of what the model promised (Armijo).
ENOUGH, MOST_TRIALS = 0.1, 30
# The line search along known margins stops at this share of the initial slope.
FLAT = 0.1
# Coordinate descent crawls where columns say nearly the same: it may take as many sweeps as cost
# some 0.1 s, and ends when one changes the model by this little of what the first did.
LEAST_SWEEPS = 200
SWEEP_WORK, ENDED = 1 << 27, 1e-7
# The bound from the least curvature is many times the gap as a rule.
DOUBT = 30.0
# A bound may come nearer to what is allowed than an estimate.
STALE = 2.0
# Steps from which the rate of convergence is read where the model cannot be trusted.
# A long tail shows over more of them only: of the two rates the slower counts.
RATE_STEPS, LONG_RATE_STEPS = 3, 12
# With no more than the Hessian's diagonal gains slow down in the end, after the series was read.
LONG_TAIL = 2.0


# Losses that are straight somewhere (deviances of high power bend down): Newton's model is blind
# there, so it borrows a share of the curvature of a parabola above the loss (Hunter & Lange 2004):
# all of it at first, less after each full step, more after a shortened one, as Levenberg and
# Marquardt damp.
STRAIGHT = ("hinge", "huber", "modified_huber", "epsilon_insensitive", "quantile")
LESS_CARE, MORE_CARE, LEAST_CARE = 0.2, 5.0, 1e-6


class Descent:
    """Minimise an `Objective` plus l1 ||w||_1 from x; `aim`, look at `gap`, then `move`."""

    def __init__(self, objective, x, l1=0.0, coordinates=None, margins=None, care=1.0):
        self.objective, self.l1 = objective, l1
        self.frame, self.hessian = coordinates or coordinates_for(objective)
        self.pairs = Pairs(self.hessian.pairs)
        self.thresholds = np.zeros(objective.size)
        self.thresholds[: objective.d] = l1 * self.frame.scale
        self._arrive(objective.at(x, margins))
        self.gains, self.step_size, self.stuck = [], 1.0, False
        self.asked = None  # steps after which an estimate must do
        self.straight = objective.problem.loss in STRAIGHT or not objective.problem.convex
        self.care = care if self.straight else 0.0

    def _arrive(self, point):
        self.point = point
        self.z = self.frame.coordinates(point.x)
        self.g = self.frame.gradient(point.gradient)
        self.value = point.value + self._absolute(point.x)

    def _absolute(self, x):
        return self.l1 * float(np.abs(x[: self.objective.d]).sum()) if self.l1 else 0.0

    # -- direction ------------------------------------------------------------------------

    def aim(self):
        """Choose the direction; `gap` then says how far the optimum may be below."""
        curvatures = self.point.curvatures
        if self.care:
            parabolas = self.objective.majorants(self.point.margins)
            curvatures = np.maximum(curvatures, self.care * parabolas)
        if self.hessian.outdated(curvatures):
            self.hessian.renew(curvatures)
            self.hessian.point = self.point
            if self.hessian.exact:
                self.pairs.clear()
        if not self.l1:
            self.direction = self.pairs.direction(self.g, self.hessian.solve)
            self.slope = float(self.g @ self.direction)
        elif isinstance(self.hessian, Diagonal):
            self._aim_in_orthant()
        else:
            sweeps = max(LEAST_SWEEPS, SWEEP_WORK // self.objective.size**2)
            H = self.hessian.full()
            self.direction = descend(H, self.g, self.z, self.thresholds, sweeps, ENDED)
            change = np.abs(self.z + self.direction) - np.abs(self.z)
            self.slope = float(self.g @ self.direction + self.thresholds @ change)
        if not self.slope < 0.0:
            self.direction, self.slope = np.zeros_like(self.z), 0.0

    def _aim_in_orthant(self):
        z, t = self.z, self.thresholds
        low, high = self.g - t, self.g + t
        pseudo = np.where(z > 0, high, np.where(z < 0, low, 0.0))
        at_zero = (z == 0.0) & (t > 0.0)
        pseudo[at_zero] = np.where(low > 0, low, np.where(high < 0, high, 0.0))[at_zero]
        pseudo[t == 0.0] = self.g[t == 0.0]
        direction = self.pairs.direction(pseudo, self.hessian.solve)
        direction[(direction * pseudo >= 0.0) & (t > 0.0)] = 0.0
        self.pseudo, self.direction = pseudo, direction
        self.slope = float(pseudo @ direction)

    def sure(self, allowed):
        """Whether the curvature at this very point says, too, that no more than this is left.

        Outliers may rule the curvature at the start and drop out of it with the first step.
        """
        if self.objective.problem.loss == "squared_error" or self.slope == 0.0:
            return True
        if not self.gains:
            return False
        if not self.hessian.exact or self.hessian.point is self.point:
            return True
        return not (self.l1 or self.straight) and self._bound() <= STALE * allowed

    def _bound(self):
        """What a Newton step from here may gain, by a Hessian that was summed elsewhere.

        Where no row's curvature has shrunk by more than a factor, the Hessian has not either.
        """
        old, new = self.hessian.curvatures, self.point.curvatures
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = float(np.nanmax(old / new, initial=1.0))  # NaN: weight 0, or flat for good
        return 0.5 * factor * float(self.g @ self.hessian.solve(self.g))

    def renew(self):
        """The Hessian of this very point, and the direction by it."""
        self.hessian.curvatures = None
        self.aim()

    @property
    def gap(self):
        """An estimate of the objective's distance from its minimum.

        A Newton step promises half its slope. Where the curvature is a guess, the gains of the
        last steps count too: they shrink by a steady rate, so their sum is a geometric series.
        """
        # With l1 the slope is that of the whole model step: the same half bounds its gain.
        promised = -0.5 * self.slope
        if self.hessian.exact and not self.straight:
            return promised
        if len(self.gains) < 2:
            return promised if self.slope == 0.0 else np.inf
        if len(self.gains) < RATE_STEPS and isinstance(self.hessian, Diagonal) and not self.l1:
            return max(promised, 2.0 * self._ritz_gap())
        rate = max(self._rate(RATE_STEPS), self._rate(LONG_RATE_STEPS))
        rate = min(max(rate, 0.1), 0.98)
        tail = LONG_TAIL if isinstance(self.hessian, Diagonal) else 1.0
        return max(promised, tail * self.gains[-1] * rate / (1.0 - rate))

    def doubtful(self, allowed):
        """Whether a bound on the gap is so far above `allowed` that an estimate is not believed.

        The objective curves by l2 at least, so it is at most |gradient|^2 / (2 l2) above its
        minimum. Where l2 is tiny that says little: as many steps again are all that it may ask for.
        """
        l2, d, g = self.objective.l2, self.objective.d, self.point.gradient
        if self.l1 or l2 <= 0.0 or not isinstance(self.hessian, Diagonal) or self.straight:
            return False
        if self.asked is None:
            self.asked = 2 * len(self.gains) + RATE_STEPS
        return len(self.gains) < self.asked and g[:d] @ g[:d] > 2.0 * l2 * DOUBT * allowed

    def _rate(self, steps):
        """The mean factor from one gain to the next over the last steps."""
        last = self.gains[-steps - 1 :]
        return (max(last[-1], 0.0) / max(last[0], 1e-300)) ** (1.0 / (len(last) - 1))

    def _ritz_gap(self):
        """The gap if the least curvature were the least in the span of the steps so far.

        Gains often grow over the first steps, which a geometric series cannot read.
        """
        S, Y = np.array(self.pairs.steps), np.array(self.pairs.changes)
        if len(S) < 2:
            return np.inf
        A, B = S @ Y.T, (S * self.hessian.diagonal) @ S.T
        least = eigh(0.5 * (A + A.T), B, eigvals_only=True)[0]
        if least <= 0.0:
            return np.inf
        return 0.5 * float(self.g @ self.hessian.solve(self.g)) / least

    # -- step -----------------------------------------------------------------------------

    def move(self):
        """Take the step: one pass over the rows where its full length is right, else two."""
        if self.slope == 0.0:
            return self._stop()
        if self.l1 and isinstance(self.hessian, Diagonal):
            trial, step = self._project()
        elif isinstance(self.hessian, Diagonal):
            trial, step = self._look_ahead()
        else:
            trial, step = self._search()
        if trial is None:
            return self._stop()
        value, z, g = self.value, self.z, self.g
        self._arrive(trial)
        self.gains.append(value - self.value)
        self.step_size = step
        if self.straight:
            self.care *= LESS_CARE if step == 1.0 else MORE_CARE
            self.care = min(max(self.care, LEAST_CARE), 1.0)
        self.pairs.add(self.z - z, self.g - g)
        return True

    def _stop(self):
        """No descent: forget the pairs and look again with a new Hessian, once."""
        if self.pairs.steps:
            self.pairs.clear()
            if not isinstance(self.hessian, Diagonal):
                self.hessian.renew(self.point.curvatures)
            return True
        if self.straight and self.care < 1.0:
            self.care = 1.0
            return True
        if not (self.hessian.exact or isinstance(self.hessian, Diagonal)):
            # The sample does not have what rules here; the diagonal is that of all rows.
            self.hessian = Diagonal(self.objective, self.frame)
            self.pairs = Pairs(self.hessian.pairs)
            return True
        self.stuck = True
        return False

    def _try(self, z):
        point = self.objective.at(self.frame.weights(z))
        return point, point.value + self._absolute(point.x)

    def _look_ahead(self):
        """The best step along the line: its margins cost half a pass, the gradient there another.

        Without a Hessian the length of the direction is a guess, so the full step is not tried.
        """
        objective, x = self.objective, self.point.x
        way = self.frame.weights(self.z + self.direction) - x
        margins = objective.margins(way)
        t = self._along(way, margins, self.slope, start=1.0)
        if t == 0.0:
            return None, 0.0
        at = self.z + t * self.direction
        trial = objective.at(self.frame.weights(at), self.point.margins + t * margins)
        value = trial.value + self._absolute(trial.x)
        return (trial, t) if trial.finite and value < self.value else (None, 0.0)

    def _search(self):
        """The full step, or the best along its line, whose margins are known by then."""
        trial, value = self._try(self.z + self.direction)
        if trial.finite and value <= self.value + ENOUGH * self.slope:
            return trial, 1.0
        scale = 1.0
        while not (trial.finite and np.all(np.isfinite(trial.margins))):
            scale *= 1e-2
            if scale < 1e-12:
                return None, 0.0
            trial, value = self._try(self.z + scale * self.direction)
        margins = trial.margins - self.point.margins
        t = self._along(trial.x - self.point.x, margins, self.slope * scale)
        if t == 0.0:
            return None, 0.0
        trial, value = self._try(self.z + t * scale * self.direction)
        return (trial, t * scale) if value < self.value else (None, 0.0)

    def _along(self, way, margins, slope, start=0.5):
        """The share of the `way`, whose margins are given, at which the objective is least, nearly."""
        objective, x, d = self.objective, self.point.x, self.objective.d
        low, high, t, best = 0.0, 4.0 if start == 1.0 else 1.0, start, 0.0
        for _ in range(MOST_TRIALS):
            total, first, second = objective.along(self.point.margins, margins, t)
            here = x[:d] + t * way[:d]
            value = total + 0.5 * objective.l2 * float(here @ here) + self._absolute(here)
            if value <= self.value + ENOUGH * t * slope:
                best = t
            if self.l1:
                if best:
                    return best
                t *= 0.5
                continue
            first += objective.l2 * float(here @ way[:d])
            second += objective.l2 * float(way[:d] @ way[:d])
            low, high = (low, t) if first > 0 else (t, high)
            if best and abs(first) <= FLAT * -slope:
                break
            t = t - first / second if second > 0 else 0.5 * (low + high)
            if not low < t < high:
                t = 0.5 * (low + high)
        return best

    def _project(self):
        """Steps that stay in the orthant of the pseudo-gradient, halved until they gain."""
        sign = np.where(self.z != 0, np.sign(self.z), -np.sign(self.pseudo))
        step = 1.0
        for _ in range(MOST_TRIALS):
            z = self.z + step * self.direction
            z[(z * sign < 0) & (self.thresholds > 0)] = 0.0
            trial, value = self._try(z)
            if trial.finite and value <= self.value + 1e-4 * float(self.pseudo @ (z - self.z)):
                return trial, step
            step *= 0.5
        return None, 0.0
