"""partial_fit with learning_rate="auto" for many outputs: one step size for all, found on a sample."""

import math
from dataclasses import replace

import numpy as np

from skpar._many_schemes import ManySteps
from skpar._schemes import Weights
from skpar._steps import MOST_SEARCH, SEARCH_FACTOR, SEARCH_ROWS, Kept, blend
from skpar._train_many import train_many

# The softmax curves at most half as much as its row's squared norm (Boehning 1992).
SOFTMAX_CURVATURE = 0.5
MOST_HALVINGS = 60
SLACK = 1e-6


def take_parts(parts, rows):
    """The arguments of `Targets` for some rows."""
    codes, values, weights, classes, factors = parts
    codes, values, weights = (
        None if a is None else np.ascontiguousarray(a[rows]) for a in (codes, values, weights)
    )
    return codes, values, weights, classes, factors


def find_many_step(fit, parts, softmax, averaged=True):
    """The step size whose one pass over a sample leaves the least objectives on another sample.

    As `_steps.find_step` finds it for one output; the outputs' objectives are added up. It judges
    the average over the pass where that is what the user gets.
    """
    batch, problem = fit.batch, fit.problem
    rows = np.arange(batch.shape[0]) if batch.subset is None else batch.subset
    rows = np.random.default_rng(fit.seed).permutation(rows)[: 2 * SEARCH_ROWS]
    half = max(1, len(rows) // 2)
    samples = [np.sort(part) for part in (rows[:half], rows[-half:])]
    tasks = [
        (
            replace(fit, batch=batch.take(part), start=_fresh(fit.start, averaged)),
            take_parts(parts, part),
        )
        for part in samples
    ]
    (train, train_parts), judge = tasks
    judge = ManySteps(*judge, softmax)
    curvature = SOFTMAX_CURVATURE if softmax else problem.curvature
    best = step = 1.0 / max(curvature * _largest(train.batch, train_parts), 1e-12)
    best_value = math.inf
    for _ in range(MOST_SEARCH):
        own = replace(problem, eta0=step, average=int(averaged))
        own = replace(train, problem=own, track_loss=False)
        scheme = ManySteps(own, train_parts, softmax)
        scheme.epoch(0, np.full(scheme.k, step))
        judge.blocks[0].states = scheme.blocks[0].states
        value = float((judge.losses(averaged, False) + judge.penalties(averaged)).sum())
        value = value if math.isfinite(value) else math.inf
        if not value < best_value:
            break
        best, best_value, step = step, value, step * SEARCH_FACTOR
    return best


def _fresh(start, averaged):
    """The same weights, not averaged yet and with no rows seen."""
    zeros = np.zeros_like(start.w) if averaged else None
    return Weights(start.w.copy(), np.array(start.intercept), zeros, np.zeros(len(start.w)))


def _largest(batch, parts):
    """The largest squared norm of a row, times the most that a row weighs."""
    X = batch.matrix()
    squares = np.asarray(X.multiply(X).sum(axis=1) if batch.sparse else (X * X).sum(axis=1))
    weight = 1.0 if parts[2] is None else float(parts[2].max(initial=0.0))
    return (float(squares.max(initial=0.0)) + 1.0) * weight * float(parts[4].max())


def train_many_on(fit, parts, make_scheme, options, kept, softmax=False):
    """One call of partial_fit with learning_rate="auto", as `train_on` for one output.

    `make_scheme(fit)` makes the scheme; `kept` has a `Kept` for each output, None at first.
    """
    measure = ManySteps(fit, parts, softmax)
    start, zero = fit.start, np.zeros_like(fit.start.w)
    most = measure.objectives_at(start.w, np.asarray(start.intercept))
    most = np.maximum(most, measure.objectives_at(zero, np.zeros(len(zero))))
    kept = _resumed(fit, parts, kept, softmax)
    begin = Weights(kept.w.copy(), kept.intercept.copy(), zero, np.zeros(len(zero)), start.t)
    problem = replace(fit.problem, average=max(1, int(start.t)))
    for _ in range(MOST_HALVINGS):
        own = replace(problem, eta0=kept.step)
        tried = replace(fit, start=begin, problem=own, track_loss=False)
        scheme = make_scheme(tried)
        result = train_many(tried, scheme, options, check=False)
        got = scheme.weights()
        left = blend(kept, got, fit.batch.n_rows)
        values = measure.objectives_at(left.average, left.average_intercept)
        good = (values <= most * (1 + SLACK)) | (most == 0.0)
        if good.all():
            return _results(result, left, values)
        kept = replace(kept, step=0.5 * kept.step)
        # As in `train_on`: an iterate may be far from its average, and worse than any step.
        bad = np.broadcast_to(~good, len(zero))
        begin.w[bad], begin.intercept[bad] = kept.average[bad], kept.average_intercept[bad]
    raise ValueError(
        "No step size lowers the objective on these rows: is a column of X many orders of "
        "magnitude larger than the others? Scale it (StandardScaler)."
    )


def _resumed(fit, parts, kept, softmax):
    """One `Kept` of matrices: where the last call left the iterates, or a new beginning."""
    start = fit.start
    own = (start.w, np.array(start.intercept))
    if kept is None:
        return Kept(find_many_step(fit, parts, softmax), *own, *own, 0.0)
    average = np.array([k.average for k in kept])
    if not np.array_equal(average.astype(start.w.dtype), start.w):
        return Kept(kept[0].step, *own, *own, 0.0)
    return Kept(
        kept[0].step,
        np.array([k.w for k in kept]),
        np.array([k.intercept for k in kept]),
        average,
        np.array([k.average_intercept for k in kept]),
        kept[0].samples,
    )


def _results(results, left, values):
    """A `Result` for each output, with what the next call goes on from."""
    finished = []
    for i, result in enumerate(results):
        own = left.w[i], float(left.intercept[i]), left.average[i], float(left.average_intercept[i])
        kept = Kept(left.step, *own, left.samples)
        result.history["objective"][-1] = values[i if len(values) > 1 else 0]
        user = dict(user_w=kept.average, user_intercept=kept.average_intercept)
        finished.append(replace(result, kept=kept, eta0=left.step, **user))
    return finished
