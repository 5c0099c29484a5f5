"""The softmax by stochastic steps: one worker, all classes in one read of a row."""

import math
from dataclasses import replace

import numpy as np

from skpar._auto import SEARCH_FACTOR, SEARCH_ROWS
from skpar._kernels.outputs import Targets
from skpar._kernels.softmax import SoftmaxState, run_softmax
from skpar._outputs import ManyObjective, take
from skpar._schemes import Weights

# The softmax curves at most half as much as its row's squared norm (Boehning 1992).
CURVATURE = 0.5
MOST_SEARCH = 24
# An epoch's objective on large data is that of one row in so many.
SAMPLED = 8


class Softmax:
    """One worker, one weight vector for each class: what `train` asks of a scheme.

    `fit.start` holds weights of shape (classes, features); `factors` are the classes' weights.
    Targets of the batch are class numbers.
    """

    name, n_workers = "sequential", 1

    def __init__(self, fit, factors):
        self.fit, self.factors = fit, factors
        batch, start = fit.batch, fit.start
        codes = batch.targets.astype(np.int64)
        self.targets = Targets(codes, None, batch.weights, None, factors)
        w = np.array(start.w.T, order="C", dtype=batch.values.dtype)
        average = None if start.average is None else np.array(start.average.T, order="C")
        self.state = SoftmaxState(
            w,
            np.array(start.intercept, dtype=np.float64),
            start.t,
            np.zeros_like(w) if fit.problem.l1 else None,
            average,
            np.array(start.average_intercept, dtype=np.float64) if average is not None else None,
        )
        self.state.averaged = max(0.0, start.t - fit.problem.average)
        self._objective = self._sample = None

    def epoch(self, number, eta0):
        fit = self.fit
        order = fit.batch.order(fit.shuffle, [fit.seed, number])
        recipe = fit.recipe(eta0, average=fit.problem.average)
        self.state.loss_sum = 0.0
        chunk = max(1, fit.batch.chunk_blocks(order.block_size) // self.targets.k)
        for lo in range(0, order.n_blocks, chunk):
            hi = min(lo + chunk, order.n_blocks)
            run_softmax(fit.batch.rows, self.targets, order, self.state, recipe, lo, hi)
        self.loss_sum = self.state.loss_sum

    def weights(self):
        s = self.state
        s.settle()
        average = None if s.average is None else np.ascontiguousarray(s.average.T)
        mean = 0.0 if average is None else s.average_intercept.copy()
        w = np.ascontiguousarray(s.w.T)
        return Weights(w, s.intercept.copy(), average, mean, self.fit.start.t)

    def mean_loss(self, w, intercept, sampled=False):
        """The loss part of the objective over the rows in use, or over one in eight."""
        if sampled:
            if self._sample is None:
                rows = np.arange(0, self.fit.batch.n_rows, SAMPLED)
                self._sample = _smooth(self.fit, take(self.fit.batch, rows), self.factors)
            return _loss(self._sample, w, intercept)
        if self._objective is None:
            self._objective = _smooth(self.fit, self.fit.batch, self.factors)
        return _loss(self._objective, w, intercept)


def _smooth(fit, batch, factors):
    """The objective without its penalty."""
    if batch.subset is not None:
        batch = take(batch, np.arange(batch.n_rows))
    parts = batch.targets.astype(np.int64), None, batch.weights, None, factors
    problem = replace(fit.problem, alpha=0.0, fit_intercept=True)
    return ManyObjective(problem, batch, fit.team, parts, softmax=True)


def _loss(objective, w, intercept):
    x = np.vstack([w.T, intercept])
    value = float(objective.margin_losses(x)[0])
    return value if math.isfinite(value) else math.inf


def softmax_step(fit, step, factors):
    """(step size, the most that the objective may be after an epoch) for a call of partial_fit.

    Found as `_auto.find_step` finds it: the best of one pass over a sample, judged on another.
    """
    objective = _smooth(fit, fit.batch, factors)
    penalty = fit.problem.penalty_value
    start, zero = fit.start, np.zeros_like(fit.start.w)
    value = _loss(objective, start.w, start.intercept) + penalty(start.w)
    most = max(value, _loss(objective, zero, np.zeros(len(zero))))
    if step is not None:
        return step, most
    rows = np.random.default_rng(fit.seed).permutation(fit.batch.n_rows)[: 2 * SEARCH_ROWS]
    half = max(1, len(rows) // 2)
    train, judge = (take(fit.batch, np.sort(part)) for part in (rows[:half], rows[-half:]))
    judged = _smooth(fit, judge, factors)
    best = step = 1.0 / max(CURVATURE * _largest(train, factors), 1e-12)
    best_value = math.inf
    for _ in range(MOST_SEARCH):
        tried = replace(fit, problem=replace(fit.problem, eta0=step), batch=train)
        scheme = Softmax(tried, factors)
        scheme.epoch(0, step)
        got = scheme.weights()
        value = _loss(judged, got.w, got.intercept) + penalty(got.w)
        if not value < best_value:
            break
        best, best_value, step = step, value, step * SEARCH_FACTOR
    return best, most


def _largest(batch, factors):
    """The largest squared norm of a row, times the most that a row weighs."""
    X = batch.matrix()
    squares = np.asarray(X.multiply(X).sum(axis=1) if batch.sparse else (X * X).sum(axis=1))
    weight = 1.0 if batch.weights is None else float(batch.weights.max(initial=0.0))
    return (float(squares.max(initial=0.0)) + 1.0) * weight * float(factors.max())
