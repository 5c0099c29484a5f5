"""Where to go from a point: coordinates, curvature and the direction of descent.

Few columns: the Hessian itself (or that of a sample of rows), factored; steps between two
factorisations are corrected by limited-memory BFGS pairs. Many columns: the Hessian's diagonal
and more pairs. References: Nocedal & Wright 2006, chapter 7; Byrd, Chin, Neveitt & Nocedal 2011
(sampled Hessians); Xu, Yang, Roosta-Khorasani, Re & Mahoney 2016 (sampling by curvature).
"""

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs

from skpar._gram import MULTIPLY_ADDS, Gram, gram_work, symmetric

# Columns beyond which a dense Hessian is out of the question.
MOST_COLUMNS = 3000
# A sampled Hessian needs this many rows a column to point the right way.
ROWS_PER_COLUMN = 10
# What a Hessian may cost, in passes over the rows: up to the first it has all rows, a sample may
# cost the second, and beyond the third there is none.
EXACT_PASSES = 25
SAMPLE_PASSES = 8
MOST_PASSES = 40
LEAST_WORK = 1 << 14
PAIRS_WITH_HESSIAN = 10
PAIRS_WITH_DIAGONAL = 30
# The Hessian is renewed when the rows' curvatures have changed by this share of their sum.
RENEW_SHARE = 0.3
RENEW_SHARE_SAMPLED = 0.3
JITTER = 1e-10
# Mean squares beyond this overflow in their products.
MOST_SQUARE = 1e150


def checked_moments(objective):
    """Means and mean squares of the columns; raises where they overflow."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean, square = objective.moments()
    if not np.all(square < MOST_SQUARE):
        column = int(np.argmin(square < MOST_SQUARE))
        largest = float(np.abs(objective.batch.matrix()[:, [column]]).max())
        raise ValueError(
            f"Floating-point under-/overflow occurred at epoch #1: column {column} of X has "
            f"numbers up to {largest:.3g}, whose squares overflow. Scaling input data with "
            "StandardScaler or MinMaxScaler might help."
        )
    return mean, square


class Frame:
    """Coordinates z in which columns are centred and of unit deviation: w = z scale.

    The intercept's coordinate is that of centred columns. Sparse columns are neither centred
    nor scaled: their diagonal preconditioner does as much, and zeros stay zeros.
    """

    def __init__(self, objective):
        d = objective.d
        self.d, self.has_intercept = d, objective.has_intercept
        mean, square = checked_moments(objective)
        if objective.batch.sparse or not self.has_intercept:
            self.center, spread = np.zeros(d), square
        else:
            self.center, spread = mean, square - mean**2
        # Below this share of the mean square a column is constant but for rounding.
        constant = ~(spread > 1e-12 * square)
        spread = np.where(constant, np.where(square > 0, square, 1.0), spread)
        # With the penalty's curvature beside the loss's (at most 1/4 for the log loss) a column of
        # next to no spread does not outweigh all others in the Hessian.
        self.scale = 1.0 / np.sqrt(spread + 4.0 * objective.l2)
        self.scale[~np.isfinite(self.scale)] = 1.0

    def weights(self, z):
        """x, the weights and intercept of the original columns."""
        x = z.copy()
        x[: self.d] *= self.scale
        if self.has_intercept:
            x[self.d] -= self.center @ x[: self.d]
        return x

    def coordinates(self, x):
        z = x.copy()
        z[: self.d] /= self.scale
        if self.has_intercept:
            z[self.d] += self.center @ x[: self.d]
        return z

    def gradient(self, g):
        """The gradient in z of a function whose gradient in x is g."""
        result = g.copy()
        if self.has_intercept:
            result[: self.d] -= self.center * g[self.d]
        result[: self.d] *= self.scale
        return result


class PlainFrame:
    """The coordinates themselves: for columns so many that even a copy of a vector counts."""

    def __init__(self, objective):
        self.center, self.scale = np.zeros(objective.d), np.ones(objective.d)

    def weights(self, z):
        return z

    def coordinates(self, x):
        return x

    def gradient(self, g):
        return g


class Matrix:
    """The Hessian in a frame's coordinates, of all rows or of a sample, factored."""

    def __init__(self, objective, frame, rows):
        self.objective, self.frame, self.rows_wanted = objective, frame, rows
        self.exact = rows >= objective.n
        self.pairs = PAIRS_WITH_HESSIAN
        self.gram = Gram(objective, frame.center, frame.scale)
        self.room = np.empty((objective.size, objective.size), order="F")
        self.curvatures = self.point = None
        self.rng = np.random.default_rng(0)

    def outdated(self, curvatures):
        if self.curvatures is None:
            return True
        if self.objective.problem.loss == "squared_error":
            return False
        share = RENEW_SHARE if self.exact else RENEW_SHARE_SAMPLED
        return np.abs(curvatures - self.curvatures).sum() > share * self.curvatures.sum()

    def renew(self, curvatures):
        objective, frame = self.objective, self.frame
        size, at = objective.size, np.arange(objective.d)
        self.curvatures = curvatures
        rows, factors = self._sample(curvatures)
        H = self.gram.sum(rows, factors, 1.0 / objective.n)[:size, :size]
        if not self.exact:
            # A sample may miss the few rows that have a column at all.
            H[at, at] = np.maximum(H[at, at], spreads(objective, frame, curvatures)[0])
        H[at, at] += objective.l2 * frame.scale**2
        self.H, self.both = H, None
        self._factor()

    def _factor(self):
        """Cholesky; a share of the diagonal is added where the matrix is singular."""
        at = np.arange(len(self.H))
        shift = JITTER * np.maximum(self.H[at, at], 1e-300)
        for _ in range(20):
            A = self.room
            A.T[...] = self.H  # the lower triangle, in the order of LAPACK
            A[at, at] += shift
            self.factor, failed = dpotrf(A, lower=1, overwrite_a=1, clean=0)
            if failed == 0:
                self.H[at, at] += shift
                return
            shift = 10 * shift
        raise FloatingPointError("the Hessian is not finite")

    def _sample(self, curvatures):
        """(row positions or None for all, factors): some are drawn in proportion to curvature."""
        n, m = self.objective.n, self.rows_wanted
        if self.exact:
            return None, curvatures
        odds = np.cumsum(curvatures + max(0.1 * float(curvatures.mean()), 1e-300))
        odds /= odds[-1]
        rows = np.searchsorted(odds, (np.arange(m) + self.rng.random()) / m)
        rows = np.minimum(rows, n - 1)
        return rows, curvatures[rows] / (np.diff(odds, prepend=0.0)[rows] * m)

    def anew(self, objective):
        return Matrix(objective, self.frame, self.rows_wanted)

    def full(self):
        """Both triangles of the Hessian."""
        if self.both is None:
            self.both = symmetric(self.H)
        return self.both

    def solve(self, q):
        return dpotrs(self.factor, q, lower=1)[0]


def spreads(objective, frame, curvatures):
    """(the diagonal of the losses' Hessian in a frame, the intercept's part of it)"""
    sums, spread = objective.moments(curvatures)
    mean = float(curvatures.mean())
    if not objective.batch.sparse:
        spread = spread - 2 * frame.center * sums + frame.center**2 * mean
    return np.maximum(spread, 0) * frame.scale**2, mean


class Diagonal:
    """The Hessian's diagonal, which is all of it that fits where columns are many."""

    exact = False

    def __init__(self, objective, frame):
        self.objective, self.frame = objective, frame
        self.pairs = PAIRS_WITH_DIAGONAL
        self.diagonal = None

    def outdated(self, curvatures):
        return self.diagonal is None

    def renew(self, curvatures):
        objective, d = self.objective, self.objective.d
        own, mean = spreads(objective, self.frame, curvatures)
        self.diagonal = np.full(objective.size, mean)
        self.diagonal[:d] = own + objective.l2 * self.frame.scale**2
        self.diagonal = np.maximum(self.diagonal, 1e-300)

    def anew(self, objective):
        return Diagonal(objective, self.frame)

    def solve(self, q):
        return q / self.diagonal


def has_matrix(batch):
    """Whether a Hessian of all rows, or of a sample of them, is worth its cost."""
    n, d = batch.n_rows, batch.shape[1]
    least = gram_work(batch, min(n, ROWS_PER_COLUMN * d)) + d**3 / (6 * MULTIPLY_ADDS)
    return d <= MOST_COLUMNS and least <= MOST_PASSES * max(batch.work, LEAST_WORK)


def coordinates_for(objective):
    """(frame, Hessian): a `Matrix` of as many rows as pay, or a `Diagonal`."""
    n, d, batch = objective.n, objective.d, objective.batch
    if not has_matrix(batch):
        frame = PlainFrame(objective) if batch.sparse else Frame(objective)
        return frame, Diagonal(objective, frame)
    passes, rows = gram_work(batch, n) / max(batch.work, LEAST_WORK), n
    if passes > EXACT_PASSES:
        rows = max(min(n, ROWS_PER_COLUMN * d), int(n * SAMPLE_PASSES / passes))
    frame = Frame(objective)
    return frame, Matrix(objective, frame, rows)


class Pairs:
    """The inverse Hessian from the last steps: the two-loop recursion of limited-memory BFGS."""

    def __init__(self, most):
        self.most, self.steps, self.changes = most, [], []

    def clear(self):
        self.steps, self.changes = [], []

    def add(self, step, change):
        if step @ change > 1e-12 * np.sqrt((step @ step) * (change @ change)):
            self.steps.append(step)
            self.changes.append(change)
            del self.steps[: -self.most], self.changes[: -self.most]

    def direction(self, gradient, solve):
        q, shares = -gradient, []
        for s, y in zip(reversed(self.steps), reversed(self.changes)):
            share = (s @ q) / (s @ y)
            shares.append(share)
            q = q - share * y
        q = solve(q)
        for s, y, share in zip(self.steps, self.changes, reversed(shares)):
            q = q + s * (share - (y @ q) / (s @ y))
        return q
