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
RATE_STEPS = 4
# Of what the distance shrinks to in a step, at best: with Hessians, with their diagonals, and of
# orthant-wise steps, which creep where the set of zeros changes, for a while and again.
LEAST_RATE, LEAST_RATE_DIAGONAL, LEAST_RATE_L1 = 0.5, 0.7, 0.8


class ManyDescent:
    """Minimise a `ManyObjective` plus l1 ||w||_1 from x: `aim`, look at `gap`, then `move`."""

    def __init__(self, objective, x, l1=0.0):
        self.objective, self.l1 = objective, l1
        point = objective.at(x)
        if has_blocks(objective.n, objective.d, objective.batch.work) and not l1:
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
        point.gradient = None  # it is `g` now
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
        self.hessian.only(self.objective, kept)
        self.gains = [g[kept] for g in self.gains]
        self.failures = self.failures[kept]
        self.point = self.point.only(kept)
        self.z, self.g = (np.ascontiguousarray(v[:, kept]) for v in (self.z, self.g))
        self.values = self.values[kept]
        if self.l1:
            self.thresholds = np.ascontiguousarray(self.thresholds[:, kept])

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
        # The gains of the last third of the steps and of the third before say how fast the
        # distance shrinks: single gains are too uneven to tell.
        m, least = max(2, len(self.gains) // 3), LEAST_RATE
        if self.hessian.guesses:
            least = LEAST_RATE_L1 if self.l1 else LEAST_RATE_DIAGONAL
        else:
            m = min(m, RATE_STEPS)  # Hessians make the pace even
        gains = np.maximum(self.gains, 0.0)
        late, before = gains[-m:].sum(axis=0), gains[-2 * m : -m].sum(axis=0)
        rate = np.clip(late / np.maximum(before, 1e-300), least, 0.95)
        windows = late * rate / (1.0 - rate)
        # Where the last gains shrink more slowly than those before, the windows do not show it yet.
        last = gains[-RATE_STEPS:]
        rate = (last[-1] / np.maximum(last[0], 1e-300)) ** (1.0 / (len(last) - 1))
        rate = np.clip(rate, least, 0.95)
        steps = last[-2:].max(axis=0) * rate / (1.0 - rate)
        return np.maximum(promised, np.maximum(windows, steps))

    @property
    def stuck(self):
        """Objectives that no step lowers."""
        return self.failures >= 2

    # -- step -----------------------------------------------------------------------------

    def move(self):
        """Take the steps: one pass over the rows where their full lengths are right, else more."""
        values, z, g = self.values, self.z, self.g
        if self.l1:
            t, trial = self._project()
        else:
            t, trial = self._look_ahead() if self.hessian.guesses else self._search()
        failed = t == 0.0
        self.failures = np.where(failed, self.failures + 1, 0)
        if trial is not None:
            self.objective.release(self.point.x, self.point.margins)
            self._arrive(*trial)
        self.steps += 1
        self.gains.append(values - self.values)
        if failed.all():
            self.hessian.forget()
        else:
            # In the old arrays' memory: new pages cost more than the sums.
            def piece(at):
                np.subtract(self.z[at], z[at], out=z[at])
                np.subtract(self.g[at], g[at], out=g[at])

            self.objective.in_pieces(piece, 4)
            self.hessian.add(self.objective, z, g)

    def _try(self, z):
        point = self.objective.at(self.hessian.frame.weights(z))
        values = point.values + self._absolute(point.x)
        return point, np.where(np.isfinite(values), values, np.inf)

    def _search(self):
        """(share of the full step, point): the full one, or the best along known margins."""
        t, x, margins = np.ones_like(self.values), self.point.x, self.point.margins
        for _ in range(MOST_HALVINGS):
            z = self.z + t * self.direction
            trial, values = self._try(z)
            bad = ~(values <= self.values + ENOUGH * t * self.slopes) & (t > 0.0)
            if not bad.any():
                return t, (trial, z)
            if np.isfinite(values).all() and np.isfinite(trial.margins).all():
                share = self._along(trial.x - x, trial.margins - margins, t, 0.5)
                t = np.where(bad, t * share, t)
            else:
                t = np.where(bad, 0.1 * t, t)
            t[t < 1e-10] = 0.0
        return np.zeros_like(t), None

    def _look_ahead(self):
        """The best step along the direction, whose margins cost half a pass, the gradient another.

        Where the Hessian is a guess, so is the length of the direction.
        """
        objective, point = self.objective, self.point
        way = self.hessian.frame.weights(self.direction)
        margins = objective.margins(way)
        t = self._along(way, margins, np.ones_like(self.values), 1.0)
        if not t.any():
            return t, None
        z = self.direction

        def piece(at):
            for ahead, here in ((z[at], self.z[at]), (way[at], point.x[at])):
                ahead *= t
                ahead += here

        objective.in_pieces(piece, 4)
        margins *= t.astype(margins.dtype)
        margins += point.margins
        trial = objective.at(way, margins)
        worse = ~(trial.values <= self.values)
        if worse.any():  # by rounding, near the end: these stay where they are
            t[worse] = 0.0
            if objective.softmax or not t.any():
                return np.zeros_like(t), None
            for ahead, here in ((z, self.z), (way, point.x), (margins, point.margins)):
                ahead[:, worse] = here[:, worse]
            trial = objective.at(way, margins)
        return t, (trial, z)

    def _along(self, way, margins, full, start):
        """The share of the way at which each objective is least, nearly; or 0.

        `full` is how much of the direction the way is, `margins` those of the way.
        """
        objective, x, d = self.objective, self.point.x, self.objective.d
        low, high = np.zeros_like(full), np.full_like(full, np.inf if start == 1.0 else 1.0)
        best, at, slope = np.zeros_like(full), np.full_like(full, start), full * self.slopes
        dots, l2 = objective.dots, objective.problem.l2
        xw, ww = dots(x[:d], way[:d]), dots(way[:d], way[:d])
        base = self.values  # with the penalty at x in it
        for _ in range(MOST_TRIALS):
            losses, slopes = objective.along(self.point.margins, margins, at)
            values = losses + self.point.penalties + l2 * (at * xw + 0.5 * at**2 * ww)
            slopes = slopes + l2 * (xw + at * ww)
            best = np.where(values <= base + ENOUGH * at * slope, at, best)
            if np.all((best > 0) & (np.abs(slopes) <= FLAT * np.abs(slope)) | (slope == 0.0)):
                break
            low, high = np.where(slopes > 0, low, at), np.where(slopes > 0, at, high)
            with np.errstate(all="ignore"):
                at = _between(low, high, at * slope / (slope - slopes))
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


def _between(low, high, guess):
    """The guess, held so far from both ends that the span halves; beyond the lower end if open.

    A secant alone creeps where the slope levels off.
    """
    closed = np.isfinite(high)
    width = np.where(closed, high, 0.0) - low
    least = np.where(closed, low + 0.1 * width, 1.5 * low)
    most = np.where(closed, low + 0.5 * width, 4.0 * low)
    return np.clip(np.where(np.isfinite(guess), guess, most), least, most)
