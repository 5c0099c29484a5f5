"""Descent of many weight vectors at once, by full gradients that share one read of the rows.

Limited-memory BFGS (Nocedal & Wright 2006, chapter 7) for each objective, with the Hessian of
each output from a sample of the rows where columns are few (Byrd, Chin, Neveitt & Nocedal 2011),
and its diagonal where they are many. With the softmax these are the blocks on the Hessian's
diagonal, and there is one objective for all. The l1 penalty is met by orthant-wise steps
(OWL-QN; Andrew & Gao 2007).
"""

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs

from skpar._newton import Frame, PlainFrame

MOST_COLUMNS = 1500
# Rows of a sampled Hessian for each column; its multiply-adds for each number read in a pass.
ROWS_PER_COLUMN = 3
MOST_WORK = 60
PAIRS_WITH_BLOCKS, PAIRS_WITH_DIAGONAL = 20, 8
# Steps after which the Hessian is taken anew: the first was that of weights 0, far away.
RENEWED_AT = (0, 3, 8, 20, 50, 100, 200)
ENOUGH = 0.1
MOST_TRIALS = 8
MOST_HALVINGS = 30
FLAT = 0.3
RATE_STEPS = 3
LEAST_RATE = 0.7
JITTER = 1e-9


class Blocks:
    """One factored Hessian for each output, of a sample of the rows."""

    pairs = PAIRS_WITH_BLOCKS

    def __init__(self, objective, frame):
        self.frame, self.factors = frame, []
        self.rng = np.random.default_rng(0)

    def renew(self, objective, curvatures):
        n, d = objective.n, objective.d
        cheap = int(MOST_WORK * objective.batch.work / max(1.0, d * d / 2) / 4)
        rows = min(n, max(ROWS_PER_COLUMN * d, cheap))
        offsets = self.rng.random(objective.k)

        def block(k, _):
            return self._factor(objective, curvatures[:, k].astype(np.float64), rows, offsets[k])

        self.factors = objective.base.in_spans(block, [(k, k + 1) for k in range(objective.k)])

    def _factor(self, objective, curvatures, m, offset):
        n, d, frame = objective.n, objective.d, self.frame
        rows, shares = np.arange(n), np.maximum(curvatures, 0.0)
        if m < n:
            # Rows drawn in proportion to their curvature (Xu, Yang, Roosta-Khorasani, Re &
            # Mahoney 2016), evenly spaced along its sum.
            odds = np.cumsum(shares + max(0.1 * float(shares.mean()), 1e-300))
            odds /= odds[-1]
            rows = np.minimum(np.searchsorted(odds, (np.arange(m) + offset) / m), n - 1)
            shares = shares[rows] / (np.diff(odds, prepend=0.0)[rows] * m)
        values = objective.batch.matrix()[rows]
        values = values.toarray() if objective.batch.sparse else values
        roots = np.sqrt(shares)[:, None]
        packed = np.empty((len(rows), objective.size), np.float32)
        packed[:, :d] = (values - frame.center) * frame.scale * roots
        if objective.has_intercept:
            packed[:, d:] = roots
        H = (packed.T @ packed).astype(np.float64) / n
        at = np.arange(d)
        H[at, at] += objective.problem.l2 * frame.scale**2
        at = np.arange(objective.size)
        shift = JITTER * max(float(np.mean(H[at, at])), 1e-300)
        for _ in range(20):
            H[at, at] += shift
            factor, failed = dpotrf(H, lower=0, clean=0)
            if failed == 0:
                return factor
            shift *= 10
        raise FloatingPointError("the Hessian is not finite")

    def only(self, kept):
        self.factors = [f for f, keep in zip(self.factors, kept, strict=True) if keep]

    def solve(self, q):
        columns = [dpotrs(f, q[:, k], lower=0)[0] for k, f in enumerate(self.factors)]
        return np.ascontiguousarray(np.stack(columns, axis=1))


class Diagonals:
    """The diagonals of the Hessians."""

    pairs = PAIRS_WITH_DIAGONAL

    def __init__(self, objective, frame):
        self.frame, self.diagonal = frame, None

    def renew(self, objective, curvatures):
        if self.diagonal is not None:
            return
        d, batch, frame = objective.d, objective.batch, self.frame
        C = curvatures.astype(np.float64)
        X = batch.matrix()
        # Squares of a few thousand rows: a few percent do no harm.
        rows = np.arange(0, objective.n, max(1, objective.n // 20_000))
        squares = X[rows].power(2) if batch.sparse else (X[rows] - frame.center) ** 2
        spread = np.asarray(squares.T @ C[rows]) / len(rows) + objective.problem.l2
        mean = C.mean(axis=0)
        self.diagonal = np.empty((objective.size, objective.k))
        self.diagonal[d:] = mean
        self.diagonal[:d] = spread * (frame.scale**2)[:, None]
        least = 1e-3 * self.diagonal.mean(axis=0)
        self.diagonal = np.maximum(self.diagonal, np.maximum(least, 1e-300))

    def only(self, kept):
        self.diagonal = np.ascontiguousarray(self.diagonal[:, kept])

    def solve(self, q):
        return q / self.diagonal


def has_blocks(batch):
    """Whether Hessians of sampled rows are worth their cost."""
    d = batch.shape[1]
    cost = min(batch.n_rows, ROWS_PER_COLUMN * d) * d**2 / 2 + d**3 / 6
    return d <= MOST_COLUMNS and cost <= max(MOST_WORK * batch.work, 1 << 24)


class ManyDescent:
    """Minimise a `ManyObjective` plus l1 ||w||_1 from x: `aim`, look at `gap`, then `move`."""

    def __init__(self, objective, x, l1=0.0):
        self.objective, self.l1 = objective, l1
        frame = PlainFrame if objective.batch.sparse else Frame
        self.frame = frame(objective.base)
        self.scale, self.center = self.frame.scale[:, None], self.frame.center
        blocks = has_blocks(objective.batch) and not l1
        self.hessian = (Blocks if blocks else Diagonals)(objective, self.frame)
        self.thresholds = np.zeros((objective.size, 1))
        self.thresholds[: objective.d] = l1 * self.scale
        self.pairs, self.gains, self.steps = [], [], 0
        self.failures = np.zeros(objective.n_objectives, int)
        self._arrive(objective.at(x))

    # -- coordinates ----------------------------------------------------------------------

    def _weights(self, z):
        x, d = z.copy(), self.objective.d
        x[:d] *= self.scale
        x[d:] -= self.center @ x[:d]
        return x

    def _arrive(self, point):
        d = self.objective.d
        self.point, self.values = point, point.values + self._absolute(point.x)
        self.z, self.g = point.x.copy(), point.gradient.copy()
        self.z[:d] /= self.scale
        self.z[d:] += self.center @ point.x[:d]
        if self.objective.has_intercept:
            self.g[:d] -= self.center[:, None] * self.g[d:]
        self.g[:d] *= self.scale

    def _absolute(self, x):
        if not self.l1:
            return 0.0
        sizes = np.abs(x[: self.objective.d])
        return self.l1 * (sizes.sum() if self.objective.softmax else sizes.sum(axis=0))

    def only(self, kept):
        """Go on with some of the outputs (a mask)."""
        self.objective = self.objective.only(kept)
        self.hessian.only(kept)
        self.pairs = [
            (np.ascontiguousarray(s[:, kept]), np.ascontiguousarray(y[:, kept]), r[kept])
            for s, y, r in self.pairs
        ]
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
        if self.steps in RENEWED_AT or not self.pairs:
            curvatures = self.objective.curvatures(self.point.margins)
            self.hessian.renew(self.objective, curvatures)
        dots, pseudo = self.objective.dots, self.g
        if self.l1:
            pseudo = self.pseudo = self._pseudo_gradient()
        q, shares = -pseudo, []
        for s, y, r in reversed(self.pairs):
            shares.append(r * dots(s, q))
            q -= shares[-1] * y
        q = self.hessian.solve(q)
        for s, y, r in self.pairs:
            q += s * (shares.pop() - r * dots(y, q))
        if self.l1:
            q[(q * pseudo >= 0.0) & (self.thresholds > 0)] = 0.0
        self.slopes = dots(pseudo, q)
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
            self._arrive(trial)
        self.steps += 1
        self.gains = [*self.gains[-RATE_STEPS:], values - self.values]
        if failed.all():
            self.pairs = []
            return
        step, change = self.z - z, self.g - g
        dots = self.objective.dots
        sy, ss, yy = dots(step, change), dots(step, step), dots(change, change)
        good = sy > 1e-12 * np.sqrt(ss * yy)
        rates = np.where(good, 1.0 / np.where(good, sy, 1.0), 0.0)
        self.pairs = [*self.pairs, (step, change, rates)][-self.hessian.pairs :]

    def _try(self, z):
        point = self.objective.at(self._weights(z))
        values = point.values + self._absolute(point.x)
        return point, np.where(np.isfinite(values), values, np.inf)

    def _search(self):
        """(share of the full step, point): the full one, or the best along known margins."""
        t = np.ones_like(self.values)
        for _ in range(MOST_HALVINGS):
            trial, values = self._try(self.z + t * self.direction)
            bad = ~(values <= self.values + ENOUGH * t * self.slopes) & (t > 0.0)
            if not bad.any():
                return t, trial
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
                return t, trial
            t = np.where(bad, 0.5 * t, t)
            t[t < 1e-8] = 0.0
        return np.zeros_like(t), None
