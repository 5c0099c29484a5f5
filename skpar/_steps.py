"""The automatic step size: sought on a sample of rows, and kept from one partial_fit to the next."""

import math
from dataclasses import dataclass, replace

import numpy as np

from skpar._measures import largest_norm
from skpar._objective import Objective
from skpar._schemes import Fit, Sequential, Weights

# Rows on which a step size is sought, half of them to judge it, and how it grows.
SEARCH_ROWS = 1000
SEARCH_FACTOR = 4.0
MOST_SEARCH = 24
AVERAGE_POWER = 4.0


def find_step(fit, averaged=False):
    """The step size whose one pass over a sample leaves the least objective on another sample.

    It judges the average over the pass where that is what the user gets.

    It starts where no row can overshoot, one over the largest curvature of a row, and grows
    while the other sample gains. A start at a typical row's size diverges on heavy tails.
    """
    batch, problem = fit.batch, fit.problem
    rows = np.arange(batch.n_rows) if batch.subset is None else batch.subset
    rows = np.random.default_rng(fit.seed).permutation(rows)[: 2 * SEARCH_ROWS]
    half = max(1, len(rows) // 2)
    parts = np.sort(rows[:half]), np.sort(rows[-half:])
    train, judge = (replace(batch, subset=part) for part in parts)
    judged = Objective(problem, judge)
    largest = largest_norm(train) + float(problem.fit_intercept)
    weight = 1.0 if batch.weights is None else max(float(batch.weights[parts[0]].max()), 1e-12)
    step = 1.0 / max(problem.curvature * weight * largest, 1e-12)
    best, best_value = step, math.inf
    for _ in range(MOST_SEARCH):
        tried = replace(problem, eta0=step, average=int(averaged))
        start = Weights(fit.start.w.copy(), fit.start.intercept)
        start.average = np.zeros_like(start.w) if averaged else None
        scheme = Sequential(Fit(tried, train, fit.team, fit.seed, fit.shuffle, start))
        scheme.epoch(0, step)
        got = scheme.weights()
        w, b = (got.average, got.average_intercept) if averaged else (got.w, got.intercept)
        value = _value(judged, w, b)
        if not value < best_value:
            break
        best, best_value, step = step, value, step * SEARCH_FACTOR
    return best


@dataclass
class Kept:
    """What one call of partial_fit leaves for the next: the iterate, its average, the step."""

    step: float
    w: np.ndarray
    intercept: float
    average: np.ndarray
    average_intercept: float
    samples: float


def resume(fit, kept):
    """(fit to go on with, Kept): from the iterate that the last call left, averaging anew.

    Weights that are not the average which that call gave its user begin a new history.
    """
    start = fit.start
    known = kept is not None and np.array_equal(kept.average.astype(start.w.dtype), start.w)
    if not known:
        step = find_step(fit, averaged=True) if kept is None else kept.step
        kept = Kept(step, start.w, start.intercept, start.w, start.intercept, 0.0)
    weights = Weights(kept.w.copy(), kept.intercept, np.zeros_like(start.w), 0.0, start.t)
    problem = replace(fit.problem, average=max(1, int(start.t)))
    return replace(fit, start=weights, problem=problem, track_loss=False), kept


def blend(kept, weights, n_rows):
    """The polynomial-decay average of all iterates so far (Shamir & Zhang 2013), from this call's.

    Early iterates are forgotten; calls of any size weigh by their rows.
    """
    share = 1.0 - (kept.samples / (kept.samples + n_rows)) ** AVERAGE_POWER
    average = kept.average + share * (weights.average - kept.average)
    intercept = kept.average_intercept
    intercept += share * (weights.average_intercept - intercept)
    own = weights.w.copy(), weights.intercept
    return Kept(kept.step, *own, average, intercept, kept.samples + n_rows)


def bound_for(fit):
    """The most that the objective may be after a call: where it began, or that of w = 0."""
    objective = Objective(fit.problem, fit.batch, fit.team)
    zero = _value(objective, np.zeros_like(fit.start.w), 0.0)
    return max(zero, _value(objective, fit.start.w, fit.start.intercept))


def _value(objective, w, intercept):
    x = pack(objective, w, intercept)
    return value_at(objective, x, objective.margins(x))


def value_at(objective, x, margins):
    value = objective.value(x, margins)
    value += objective.problem.l1 * float(np.abs(x[: objective.d]).sum())
    return value if math.isfinite(value) else math.inf


def pack(objective, w, intercept):
    """Weights and intercept in one float64 vector."""
    x = np.empty(objective.size)
    x[: objective.d] = w
    if objective.has_intercept:
        x[objective.d] = intercept
    return x
