"""Descent of many weight vectors at once, by full gradients that share one read of the rows.

Quasi-Newton steps (`_many_hessian`) for each objective. With the softmax the outputs' Hessians
are the blocks on the Hessian's diagonal, and there is one objective for all. The l1 penalty is
met by orthant-wise steps (OWL-QN; Andrew & Gao 2007).
"""

import numpy as np

from skpar._many_hessian import RENEWED_AT, Blocks, Diagonals, has_blocks

ENOUGH = 0.1
MOST_TRIALS = 8
MOST_HALVINGS = 30
FLAT = 0.3
RATE_STEPS = 3
LEAST_RATE = 0.7


class ManyDescent:
    """Minimise a `ManyObjective` plus l1 ||w||_1 from x: `aim`, look at `gap`, then `move`."""

    def __init__(self, objective, x, l1=0.0):
        self.objective, self.l1 = objective, l1
        point = objective.at(x)
        if has_blocks(objective.batch) and not l1:
            self.hessian = Blocks(objective)
        else:
            self.hessian = Diagonals(objective, objective.curvatures(point.margins))
        self.gains, self.steps = [], 0
        self.failures = np.zeros(objective.n_objectives, int)
        self._arrive(point)

    def _arrive(self, point, z=None):
        frame = self.hessian.frame
        self.point, self.values = point, point.values + self._absolute(point.x)
        self.z = frame.coordinates(point.x) if z is None else z
        self.g = frame.gradient(point.gradient)
        if self.l1:
            self.thresholds = self.l1 * frame.scale
            self.thresholds[self.objective.d :] = 0.0

    def _absolute(self, x):
        if not self.l1:
            return 0.0
        sizes = np.abs(x[: self.objective.d])
        return self.l1 * (sizes.sum() if self.objective.softmax else sizes.sum(axis=0))

    def only(self, kept):
        """Go on with some of the outputs (a mask)."""
        self.objective = self.objective.only(kept)
        self.hessian.only(kept)
        self.gains = [g[kept] for g in self.gains]
        self.failures = self.failures[kept]
        p, columns = self.point, np.ascontiguousarray
        self.point = type(p)(
            columns(p.x[:, kept]), p.values[kept], columns(p.gradient[:, kept]),
            columns(p.margins[:, kept]),
        )  # fmt: skip
        self._arrive(self.point)

    # -- direction ------------------------------------------------------------------------

    def aim(self):
        """Choose the directions; `gap` then says how far the optima may be below."""
        if self.steps in RENEWED_AT or not self.hessian.pairs:
            self.hessian.renew(self.objective, self.point.margins)
        pseudo = self.g
        if self.l1:
            pseudo = self.pseudo = self._pseudo_gradient()
        q = self.hessian.direction(self.objective, pseudo)
        if self.l1:
            q[(q * pseudo >= 0.0) & (self.thresholds > 0)] = 0.0
        self.slopes = self.objective.dots(pseudo, q)
        uphill = ~(self.slopes < 0.0)
        if uphill.any():
            q, self.slopes = np.where(uphill, 0.0, q), np.where(uphill, 0.0, self.slopes)
        self.direction = q

    def _pseudo_gradient(self):
        z, t, g = self.z, self.thresholds, self.g
        low, high = g - t, g + t
        at_zero = np.where(low > 0, low, np.where(high < 0, high, 0.0))
        return np.where(t == 0.0, g, np.where(z > 0, high, np.where(z < 0, low, at_zero)))

    @property
    def gap(self):
        """Estimates of the objectives' distances from their minima (as in `_descent`)."""
        promised = -0.5 * self.slopes
        if len(self.gains) < 2:
            return np.where(self.slopes == 0.0, promised, np.inf)
        # A renewed Hessian may quicken the pace again: of the last gains the larger counts, and
        # no rate below the least.
        gains = np.maximum(self.gains[-RATE_STEPS - 1 :], 0.0)
        rate = (gains[-1] / np.maximum(gains[0], 1e-300)) ** (1.0 / (len(gains) - 1))
        rate = np.clip(rate, LEAST_RATE, 0.95)
        return np.maximum(promised, gains[-2:].max(axis=0) * rate / (1.0 - rate))

    @property
    def stuck(self):
        """Objectives that no step lowers."""
        return self.failures >= 2

    # -- step -----------------------------------------------------------------------------

    def move(self):
        """Take the steps: one pass over the rows where their full lengths are right, else more."""
        values, z, g = self.values, self.z, self.g
        t, trial = (self._project if self.l1 else self._search)()
        failed = t == 0.0
        self.failures = np.where(failed, self.failures + 1, 0)
        if trial is not None:
            self._arrive(*trial)
        self.steps += 1
        self.gains = [*self.gains[-RATE_STEPS:], values - self.values]
        if failed.all():
            self.hessian.forget()
        else:
            self.hessian.add(self.objective, self.z - z, self.g - g)

    def _try(self, z):
        point = self.objective.at(self.hessian.frame.weights(z))
        values = point.values + self._absolute(point.x)
        return point, np.where(np.isfinite(values), values, np.inf)

    def _search(self):
        """(share of the full step, point): the full one, or the best along known margins."""
        t = np.ones_like(self.values)
        for _ in range(MOST_HALVINGS):
            z = self.z + t * self.direction
            trial, values = self._try(z)
            bad = ~(values <= self.values + ENOUGH * t * self.slopes) & (t > 0.0)
            if not bad.any():
                return t, (trial, z)
            if np.isfinite(values).all() and np.isfinite(trial.margins).all():
                t = np.where(bad, t * self._along(trial, t), t)
            else:
                t = np.where(bad, 0.1 * t, t)
            t[t < 1e-10] = 0.0
        return np.zeros_like(t), None

    def _along(self, trial, t):
        """The share of the way to `trial` at which each objective is least, nearly; or 0."""
        objective, x, d = self.objective, self.point.x, self.objective.d
        way, margins = trial.x - x, trial.margins - self.point.margins
        low, high = np.zeros_like(t), np.ones_like(t)
        best, at = np.zeros_like(t), np.full_like(t, 0.5)
        dots, l2 = objective.dots, objective.problem.l2
        xx, xw, ww = dots(x[:d], x[:d]), dots(x[:d], way[:d]), dots(way[:d], way[:d])
        for _ in range(MOST_TRIALS):
            losses, slopes = objective.along(self.point.margins, margins, at)
            values = losses + 0.5 * l2 * (xx + 2 * at * xw + at**2 * ww)
            slopes = slopes + l2 * (xw + at * ww)
            gained = values <= self.values + ENOUGH * at * t * self.slopes
            best = np.where(gained, at, best)
            if np.all((best > 0) & (np.abs(slopes) <= FLAT * np.abs(t * self.slopes))):
                break
            low, high = np.where(slopes > 0, low, at), np.where(slopes > 0, at, high)
            at = 0.5 * (low + high)
        return best

    def _project(self):
        """Steps that stay in the orthant of the pseudo-gradient, halved until they gain."""
        sign = np.where(self.z != 0, np.sign(self.z), -np.sign(self.pseudo))
        t = np.ones_like(self.values)
        for _ in range(MOST_HALVINGS):
            z = self.z + t * self.direction
            z[(z * sign < 0) & (self.thresholds > 0)] = 0.0
            trial, values = self._try(z)
            gain = 1e-4 * self.objective.dots(self.pseudo, z - self.z)
            bad = ~(values <= self.values + gain) & (t > 0.0)
            if not bad.any():
                return t, (trial, z)
            t = np.where(bad, 0.5 * t, t)
            t[t < 1e-8] = 0.0
        return np.zeros_like(t), None
