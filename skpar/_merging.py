"""How the models of several shards become one: averaging, corrected by curvature.

K shards that each train B rows from the same weights and are averaged move, along a direction
in which the objective curves by lambda, as far as B rows do: c = 1 - (1 - eta lambda)^B of the
way to the optimum. One worker would have seen all K B rows: 1 - (1 - c)^K of the way. So the
mean change is multiplied, direction by direction, by phi = (1 - (1 - c)^K) / c: by 1 where a
round reaches the optimum anyway (the models agree but for noise, which the mean removes) and by
K, which is adding the changes, where the steps are too small for shards to meet each other's
effect. Adding against averaging: Ma et al. 2015, arXiv:1502.03508.

The curvatures are those of a sample of rows at the current weights. A correction that would
make the sample's objective worse than the shards' own is halved until it does not.
"""

import numpy as np

from skpar._kernels.gradients import loss_and_gradient
from skpar._problem import SPARSE_INTERCEPT_RATE

# Models of more columns keep this many directions of the sharpest curvature; in the others
# columns count as independent.
FULL_COLUMNS = 200
DIRECTIONS = 32
WIDE_COLUMNS = 4096
WIDE_DIRECTIONS = 4
POWER_ITERATIONS = 3
POWER_STEPS = 8
# The sample's noise makes a good merge look this much worse at most.
TOLERANCE = 1.05
HALVINGS = 4
# Losses with a corner have no second derivative: the corner is spread over a typical distance.
CORNERS = {"hinge": 1.0, "perceptron": 0.0}
INSENSITIVE = ("epsilon_insensitive", "squared_epsilon_insensitive")


class Sample:
    """A sample of rows: its objective and curvatures, always summed in the same order."""

    def __init__(self, problem, batch):
        self.problem, self.batch = problem, batch
        self.order = batch.order(False, [0])
        self.loss = problem.loss_kernel()
        self.X = batch.matrix()
        rate = SPARSE_INTERCEPT_RATE if batch.sparse else 1.0
        self.intercept_rate = rate if problem.fit_intercept else 0.0

    def objective(self, w, intercept, curvatures=None, margins=None):
        """The objective over the sample; fills the rows' curvatures and margins where given."""
        loss = loss_and_gradient(
            self.batch.rows,
            self.loss,
            w,
            intercept,
            self.order,
            0,
            self.order.n_blocks,
            np.zeros(len(w)),
            margins,
            curvatures,
        )[0]
        return loss / self.batch.n_rows + self.problem.penalty_value(w)

    def curvatures(self, w, intercept):
        """The second derivative of each row's loss, a corner spread over a typical distance."""
        second, p = np.empty(self.batch.n_rows), np.empty(self.batch.n_rows)
        self.objective(w, intercept, second, p)
        y = self.batch.targets
        if self.problem.loss in CORNERS:
            # Labels are -1, 1 here: these losses are hinges.
            gap = np.abs(CORNERS[self.problem.loss] - y * p)
        elif self.problem.loss == "epsilon_insensitive":
            gap = np.abs(np.abs(p - y) - self.problem.epsilon)
        else:
            return second
        width = max(gap.mean(), 1e-12)
        weights = 1.0 if self.batch.weights is None else self.batch.weights
        return weights * (gap <= width) / (2.0 * width)

    def smoothness(self, rows, seed):
        """How sharply the mean loss of `rows` random rows may curve, penalty included.

        lambda + R / rows: the largest eigenvalue of the Hessian, and what single rows add, as
        the mean curvature along a row weighted by itself, which sees heavy tails.
        """
        X, n, rate = self.X, self.batch.n_rows, self.intercept_rate
        c = self.problem.curvature * np.ones(n)
        if self.batch.weights is not None:
            c *= self.batch.weights
        squares = X.multiply(X).sum(axis=1) if self.batch.sparse else (X * X).sum(axis=1)
        along = c * (np.asarray(squares, dtype=np.float64).ravel() + rate)
        v, b, top = np.random.default_rng(seed).standard_normal(X.shape[1]), 1.0, 0.0
        for _ in range(2 * POWER_STEPS):
            norm = np.sqrt(v @ v + b * b)
            if not np.isfinite(norm) or norm == 0.0:
                break
            v, b = v / norm, b / norm
            u = X @ v + np.sqrt(rate) * b
            top = float(u @ (c * u)) / n
            v, b = X.T @ (c * u), np.sqrt(rate) * float((c * u).sum())
        single = float(along @ along) / max(float(along.sum()), 1e-300)
        return top + single / rows + self.problem.l2

    def spectrum(self, w, intercept, seed):
        """(V, values, rest): directions, their curvatures, and the other directions' by column.

        The last row of V is the intercept's, scaled so that its step is that of the columns.
        """
        return self.directions(self.curvatures(w, intercept), seed)

    def directions(self, curvatures, seed):
        """`spectrum` for given second derivatives of the rows' losses."""
        scale = np.sqrt(curvatures / self.batch.n_rows)
        last = np.sqrt(self.intercept_rate) * scale
        if self.batch.sparse:
            A = self.X.multiply(scale[:, None]).tocsr()
        else:
            A = self.X * scale[:, None]
        d = A.shape[1]
        if d <= FULL_COLUMNS:
            A = np.column_stack([A.toarray() if self.batch.sparse else A, last])
            values, V = np.linalg.eigh(A.T @ A)
            return V, np.maximum(values, 0.0), None
        k = min(DIRECTIONS if d <= WIDE_COLUMNS else WIDE_DIRECTIONS, self.batch.n_rows)
        V = np.random.default_rng(seed).standard_normal((d + 1, k))
        for _ in range(POWER_ITERATIONS):
            V = np.linalg.qr(V)[0]
            U = A @ V[:-1] + last[:, None] * V[-1]
            V = np.vstack([A.T @ U, last @ U])
        V = np.linalg.qr(V)[0]
        U = A @ V[:-1] + last[:, None] * V[-1]
        values, rotation = np.linalg.eigh(U.T @ U)
        V, values = V @ rotation, np.maximum(values, 0.0)
        squares = A.multiply(A).sum(axis=0) if self.batch.sparse else (A * A).sum(axis=0)
        diagonal = np.append(np.asarray(squares).ravel(), last @ last)
        return V, values, np.maximum(diagonal - (V * V) @ values, 0.0)


def gain(n_shards, rows, step, curvatures):
    """phi of the module's docstring: from 1 (average) to `n_shards` (add)."""
    exponent = -rows * np.log1p(-np.minimum(step * curvatures, 0.99))
    one = -np.expm1(-exponent)
    return np.where(one < 1e-8, n_shards, -np.expm1(-n_shards * exponent) / np.maximum(one, 1e-300))


class Merger:
    """Turns the mean of the shards' models into that of one worker that saw all their rows."""

    def __init__(self, problem, batch, n_shards, seed):
        self.n_shards = n_shards
        self.seed = seed
        self.sample = Sample(problem, batch)
        self.l2 = problem.l2
        self.keeps_zeros = problem.l1 != 0.0
        self.parts = None

    def look(self, w, intercept):
        """Measure the curvatures at these weights, for the merges to come."""
        V, values, rest = self.sample.spectrum(w, intercept, self.seed)
        self.parts = V, values + self.l2, None if rest is None else rest + self.l2

    def merge(self, before, mean, states, step, rows):
        """The merged (w, intercept) of a round of `rows` rows a shard that began at `before`."""
        V, values, rest = self.parts
        root = np.sqrt(self.sample.intercept_rate) or 1.0
        change = np.append(mean[0] - before[0], (mean[1] - before[1]) / root)
        along = V.T @ change
        extra = V @ ((gain(self.n_shards, rows, step, values) - 1.0) * along)
        if rest is not None:
            extra += (gain(self.n_shards, rows, step, rest) - 1.0) * (change - V @ along)
        worst = max(
            self.sample.objective(*before),
            *(self.sample.objective(s.w, s.intercept) for s in states[:2]),
        )
        for _ in range(HALVINGS):
            w = mean[0] + extra[:-1].astype(mean[0].dtype)
            if self.keeps_zeros:
                # Each shard has paid the l1 penalty: nothing may be carried across zero.
                w = np.where(w * mean[0] > 0.0, w, 0.0).astype(w.dtype)
            intercept = mean[1] + float(extra[-1]) * root
            if self.sample.objective(w, intercept) <= TOLERANCE * worst:
                return w, intercept
            extra *= 0.5
        return mean
