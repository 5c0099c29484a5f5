"""Directions for `_many`: the curvature of each output, and the memory of the last steps.

Few columns: the Hessian of each output from a sample of the rows, factored; many columns: its
diagonal, taken into the coordinates. Both are corrected by limited-memory BFGS (Nocedal &
Wright 2006, chapter 7).
"""

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs

from skpar._newton import Frame as UnitFrame

MOST_COLUMNS = 1500
# Rows of a sampled Hessian for each column; its multiply-adds for each number read in a pass.
ROWS_PER_COLUMN = 3
MOST_WORK = 60
PAIRS_WITH_BLOCKS = 20
# With a diagonal, so many pairs as are worth their memory's time.
FEWEST_PAIRS, MOST_PAIRS, PAIR_NUMBERS = 6, 30, 1 << 22
# Steps after which the Hessian is taken anew: the first was that of weights 0, far away.
RENEWED_AT = (0, 3, 8, 20, 50, 100, 200)
JITTER = 1e-9
# Rows whose squares make the diagonals: a few percent do no harm.
SQUARED_ROWS = 20_000
LEAST_CURVATURE = 1e-10


def has_blocks(n, d, work):
    """Whether Hessians of sampled rows are worth their cost; `work` is the numbers of a pass."""
    cost = min(n, ROWS_PER_COLUMN * d) * d**2 / 2 + d**3 / 6
    return d <= MOST_COLUMNS and cost <= max(MOST_WORK * work, 1 << 24)


class Frame:
    """Coordinates z of weights x: columns are centred, each weight has a scale of its own.

    `scale` has the shape (size, k) or (size, 1), the intercept's last. The intercept's
    coordinate is that of centred columns; `center` is None where they are not.
    """

    def __init__(self, objective, scale, center=None):
        self.objective, self.scale, self.center = objective, scale, center

    def only(self, objective, kept):
        scale = self.scale if self.scale.shape[1] == 1 else _columns(self.scale, kept)
        return Frame(objective, scale, self.center)

    def weights(self, z):
        x = self.objective.room(len(z))

        def piece(at):
            np.multiply(z[at], self.scale[at], out=x[at])

        self.objective.in_pieces(piece)
        if self.center is not None:
            x[-1] -= self.center @ x[:-1]
        return x

    def coordinates(self, x):
        z = x / self.scale
        if self.center is not None:
            z[-1] += (self.center @ x[:-1]) / self.scale[-1]
        return z

    def gradient(self, g):
        """The gradient in z of a function whose gradient in x is g, in the place of g."""
        if self.center is not None:
            g[:-1] -= self.center[:, None] * g[-1]

        def piece(at):
            g[at] *= self.scale[at]

        self.objective.in_pieces(piece)
        return g


def unit_frame(objective):
    """The frame in which columns have unit deviation, as that of `_newton` for one output.

    Sparse columns are not centred, so that zeros stay zeros.
    """
    unit = UnitFrame(objective.base)
    scale = np.ones((objective.size, 1))
    scale[: objective.d, 0] = unit.scale
    centred = not objective.batch.sparse and objective.has_intercept
    return Frame(objective, scale, unit.center if centred else None)


def diagonal_frame(objective, curvatures):
    """The frame in which the Hessians of these curvatures have ones on the diagonal, nearly."""
    d, batch, center = objective.d, objective.batch, None
    scale = np.empty((objective.size, objective.k))
    scale[d:] = curvatures.mean(axis=0, dtype=np.float64)
    if batch.sparse:
        scale[:d] = objective.mean_squares(curvatures)
    else:
        rows = np.arange(0, objective.n, -(-objective.n // SQUARED_ROWS))
        center = unit_frame(objective).center
        squares = (batch.values[rows] - (0.0 if center is None else center)) ** 2
        scale[:d] = squares.T @ curvatures[rows].astype(np.float64) / len(rows)
    l2 = objective.problem.l2

    def piece(at):
        part = scale[at]
        part[: max(0, d - at.start)] += l2
        np.maximum(part, 1e-300, out=part)
        np.divide(1.0, np.sqrt(part, out=part), out=part)

    objective.in_pieces(piece, 4)
    return Frame(objective, scale, center)


class Blocks:
    """One factored Hessian for each output, of a sample of the rows; steps corrected by pairs."""

    guesses = False  # whether full steps are rarely right

    def __init__(self, objective):
        self.frame, self.factors, self.pairs = unit_frame(objective), [], []
        self.rng = np.random.default_rng(0)

    def renew(self, objective, margins):
        n, d = objective.n, objective.d
        curvatures = objective.curvatures(margins)
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
        center = 0.0 if frame.center is None else frame.center
        packed[:, :d] = (values - center) * frame.scale[:d, 0] * roots
        if objective.has_intercept:
            packed[:, d:] = roots
        H = (packed.T @ packed).astype(np.float64) / n
        at = np.arange(d)
        H[at, at] += objective.problem.l2 * frame.scale[:d, 0] ** 2
        at = np.arange(objective.size)
        shift = JITTER * max(float(np.mean(H[at, at])), 1e-300)
        for _ in range(20):
            H[at, at] += shift
            factor, failed = dpotrf(H, lower=0, clean=0)
            if failed == 0:
                return factor
            shift *= 10
        raise FloatingPointError("the Hessian is not finite")

    def only(self, objective, kept):
        self.frame = self.frame.only(objective, kept)
        self.factors = [f for f, keep in zip(self.factors, kept, strict=True) if keep]
        self.pairs = [(_columns(s, kept), _columns(y, kept), r[kept]) for s, y, r in self.pairs]

    def forget(self):
        self.pairs = []

    def add(self, objective, step, change):
        sy, yy = objective.dots(step, change), objective.dots(change, change)
        ss = objective.dots(step, step)
        good = sy > 1e-12 * np.sqrt(ss * yy)
        rates = np.where(good, 1.0 / np.where(good, sy, 1.0), 0.0)
        self.pairs = [*self.pairs, (step, change, rates)][-PAIRS_WITH_BLOCKS:]

    def direction(self, objective, g):
        """Minus the inverse Hessian times g, by the two-loop recursion."""
        dots, q, shares = objective.dots, -g, []
        for s, y, r in reversed(self.pairs):
            shares.append(r * dots(s, q))
            q -= shares[-1] * y
        solved = [dpotrs(f, q[:, k], lower=0)[0] for k, f in enumerate(self.factors)]
        q = np.ascontiguousarray(np.stack(solved, axis=1))
        for s, y, r in self.pairs:
            q += s * (shares.pop() - r * dots(y, q))
        return q


class Diagonals:
    """The Hessians' diagonals, which the frame makes ones, and long pairs.

    The two-loop recursion in the coefficients of its vectors (Chen, Wang & Zhou 2014): one read
    of them for all inner products, one for the direction.
    """

    guesses = True

    def __init__(self, objective, curvatures):
        self.frame = diagonal_frame(objective, curvatures)
        numbers = objective.size * objective.k
        self.most = int(np.clip(PAIR_NUMBERS // numbers, FEWEST_PAIRS, MOST_PAIRS))
        self.forget()

    def renew(self, objective, margins):
        """Nothing: the frame stays that of the first curvatures."""

    def only(self, objective, kept):
        self.frame = self.frame.only(objective, kept)
        self.steps = [_columns(s, kept) for s in self.steps]
        self.changes = [_columns(y, kept) for y in self.changes]
        self.sy, self.yy = self.sy[:, :, kept], self.yy[:, :, kept]

    def forget(self):
        self.steps, self.changes, self.pending = [], [], False
        self.sy = self.yy = None

    @property
    def pairs(self):
        return self.steps

    def add(self, objective, step, change):
        if self.pending:
            self._inner_products(objective, change)
        self.steps.append(step)
        self.changes.append(change)
        if len(self.steps) > self.most:
            objective.release(self.steps.pop(0), self.changes.pop(0))
        self.pending = True

    def _inner_products(self, objective, g):
        """(s.g, y.g); those of a new pair go into the tables on the way."""
        m = len(self.steps)
        new = self.changes[-1:] if self.pending else []
        table = objective.products([*self.steps, *self.changes], [*new, g])
        if self.pending:
            self.sy = _grown(self.sy, table[:m, 0])
            self.yy = _grown(self.yy, table[m:, 0])
            self.pending = False
        return table[:m, -1], table[m:, -1]

    def direction(self, objective, g):
        """Minus the inverse Hessian times g."""
        sg, yg = self._inner_products(objective, g)
        m, sy, yy = len(self.steps), self.sy, self.yy
        if not m:
            return -g
        own, squares = np.einsum("iik->ik", sy), np.einsum("iik->ik", yy)
        good = own > LEAST_CURVATURE * squares
        # The columns of a row curve together, so that ones on the diagonal promise too much.
        pace = np.where(good[-1], own[-1] / np.where(good[-1], squares[-1], 1.0), 1.0)
        rates = np.where(good, 1.0 / np.where(good, own, 1.0), 0.0)
        down, up = np.zeros_like(sg), np.zeros_like(sg)
        for i in reversed(range(m)):
            down[i] = -rates[i] * (sg[i] + (down * sy[i]).sum(axis=0))
        for i in range(m):
            rest = (up * sy[:, i]).sum(axis=0) - pace * (yg[i] + (down * yy[i]).sum(axis=0))
            up[i] = down[i] - rates[i] * rest
        coef = np.concatenate([up, -pace * down, -pace[None]])
        return objective.combination(coef, [*self.steps, *self.changes, g])


def _grown(table, last):
    """A symmetric table of inner products with its newest row, at most as many as there are."""
    m = len(last)
    new = np.zeros((m, m, last.shape[1]))
    if table is not None and m > 1:
        new[:-1, :-1] = table[-(m - 1) :, -(m - 1) :]
    new[:, -1] = new[-1] = last
    return new


def _columns(array, kept):
    return np.ascontiguousarray(array[:, kept])
