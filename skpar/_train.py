"""The epoch loop: run, measure, record, stop or go on."""

import math
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

import numpy as np

from skpar._callbacks import EpochInfo, History, StoppingRule, report
from skpar._measures import is_large, mean_loss
from skpar._steps import blend, bound_for, resume

# "adaptive" gives up below this step size, as in scikit-learn.
SMALLEST_ADAPTIVE_STEP = 1e-6
ADAPTIVE_DIVISOR = 5.0
# partial_fit gives up after as many halvings of an automatic step.
MOST_HALVINGS = 60


@dataclass(frozen=True)
class Options:
    """When to stop, and what to say meanwhile."""

    max_iter: int
    tol: float | None
    n_iter_no_change: int
    verbose: int = 0
    early_stopping: bool = False


@dataclass(frozen=True)
class Watch:
    """Who looks on: `score(w, intercept)` on validation rows, and `heard`, called after each epoch
    with (w, intercept, history so far), which may end the fit by returning True."""

    score: object = None
    heard: object = None


NOBODY = Watch()


@dataclass
class Result:
    """What a fit leaves behind."""

    weights: object
    user_w: np.ndarray
    user_intercept: float
    n_iter: int
    history: dict
    eta0: float
    scheme: str
    n_workers: int
    finished: bool = True  # whether the stopping rule ended the fit, not `max_iter`
    kept: object = None  # what the next partial_fit goes on from


def users_weights(fit, weights, samples):
    """(w, intercept) that the user would get now: the average where it has begun."""
    average = fit.problem.average
    if weights.average is not None and average <= fit.start.t + samples - 1:
        return weights.average, weights.average_intercept
    return weights.w, weights.intercept


def check_finite(weights, epoch):
    """Raise where the weights overflowed, as scikit-learn does."""
    # One pass where all is well: the squares' sum is finite only if every weight is.
    intercepts = np.all(np.isfinite(weights.intercept))
    if intercepts and np.isfinite(np.vdot(weights.w, weights.w)):
        return
    if intercepts and np.all(np.isfinite(weights.w)):
        return
    raise ValueError(
        f"Floating-point under-/overflow occurred at epoch #{epoch}. Scaling input data with "
        "StandardScaler or MinMaxScaler might help. So might a smaller eta0."
    )


def mean_loss_met(fit, scheme, penalty):
    """The mean of the losses just before each step of the epoch, plus the penalty at its end.

    scikit-learn stops on this: it is steadier than the objective of the last iterate. Sample
    weights do not count, so that `tol` has one meaning, and passive-aggressive steps have no
    penalty in it.
    """
    if not fit.track_loss:
        return 0.0
    mean = scheme.loss_sum / fit.batch.n_rows
    if fit.problem.learning_rate in ("pa1", "pa2"):
        return mean
    return mean + penalty


class Log:
    """The epochs of a fit so far: their history, the best weights seen, and who is told.

    Of equal scores the earlier weights count as the best, or the later.
    """

    def __init__(self, fit, options, watch, later=False):
        self.fit, self.options, self.watch, self.later = fit, options, watch, later
        self.history, self.begin = History(), perf_counter()
        self.best_score, self.best = -math.inf, None
        self.looked_at = watch.score is not None or watch.heard is not None

    def add(self, user, seconds, objective, step_size):
        """Note an epoch of which the user gets (w, intercept), None where nobody looks at them.

        Returns (score, whether who looks on ends the fit).
        """
        options, watch, n_rows = self.options, self.watch, self.fit.batch.n_rows
        number = len(self.history.entries) + 1
        score = watch.score(*user) if watch.score is not None else math.nan
        info = EpochInfo(
            epoch=number,
            samples=number * n_rows,
            time=perf_counter() - self.begin,
            objective=objective,
            validation_score=score,
            step_size=step_size,
            rows_per_second=n_rows / max(seconds, 1e-9),
        )
        self.history.add(info)
        if options.verbose:
            report(info, options.max_iter)
        better = score > self.best_score or (self.later and score == self.best_score)
        if options.early_stopping and better:
            self.best_score, self.best = score, (user[0].copy(), user[1])
        ended = watch.heard is not None and watch.heard(user[0].copy(), user[1], self.history)
        return score, bool(ended)

    def result(self, weights, user, eta0, scheme, finished):
        """`Result`, with the best weights seen in the place of (w, intercept) where scores count."""
        n_iter = len(self.history.entries)
        w, intercept = user if self.best is None else self.best
        return Result(
            weights=replace(weights, t=self.fit.start.t + n_iter * self.fit.batch.shape[0]),
            user_w=w,
            user_intercept=intercept,
            n_iter=n_iter,
            history=self.history.arrays(),
            eta0=eta0,
            scheme=scheme.name,
            n_workers=scheme.n_workers,
            finished=finished,
        )


def train(fit, scheme, options, watch=NOBODY, check=True):
    """Run epochs of `scheme` until the stopping rule, a callback or `max_iter` ends them.

    With early stopping the rule looks at the validation score, and the best weights seen are
    the user's.
    """
    log, rule = Log(fit, options, watch), StoppingRule(options.tol, options.n_iter_no_change)
    eta0, finished, sampled = fit.problem.eta0, False, is_large(fit)
    # A scheme of many weight vectors has a mean loss of its own.
    measure = getattr(scheme, "mean_loss", None) or partial(mean_loss, fit)
    for number in range(options.max_iter):
        started = perf_counter()
        scheme.epoch(number, eta0)
        seconds = perf_counter() - started
        samples = (number + 1) * fit.batch.n_rows
        weights = scheme.weights()
        if check:
            check_finite(weights, number + 1)
        user = w, intercept = users_weights(fit, weights, samples)
        penalty = fit.problem.penalty_value(w)
        objective = measure(w, intercept, sampled) + penalty
        step_size = fit.recipe(eta0).step_size(fit.start.t + samples)
        score, finished = log.add(user, seconds, objective, step_size)
        if finished:
            break
        if w is not weights.w:
            penalty = fit.problem.penalty_value(weights.w)
        met = -score if options.early_stopping else mean_loss_met(fit, scheme, penalty)
        if rule.no_more_gain(met):
            if fit.problem.learning_rate != "adaptive" or eta0 <= SMALLEST_ADAPTIVE_STEP:
                finished = True
                break
            eta0 /= ADAPTIVE_DIVISOR
            rule.restart()
    if sampled:
        log.history.end_at(measure(w, intercept) + fit.problem.penalty_value(w))
    return log.result(weights, user, fit.recipe(eta0).eta0, scheme, finished)


def train_auto(fit, auto, options, watch=NOBODY):
    """Run a whole fit of learning_rate="auto" until its end is certain or `max_iter` is met.

    `auto` is an `AutoFit`, or a `ManyFit` for many weight vectors at once.

    With early stopping it ends, too, when the validation score has not risen for
    `n_iter_no_change` epochs, and the best weights seen are the user's.
    """
    # Of equal scores the later weights are nearer to the optimum.
    log = Log(fit, options, watch, later=True)
    rule = StoppingRule(options.tol, options.n_iter_no_change)
    number, finished = 0, False
    while number < options.max_iter and not finished:
        started = perf_counter()
        if not auto.step(number) and number:
            break
        seconds = perf_counter() - started
        number += 1
        user = auto.weights() if log.looked_at else None
        score, ended = log.add(user, seconds, auto.value, auto.step_size)
        finished = auto.finished or (options.early_stopping and rule.no_more_gain(-score)) or ended
    user = auto.weights() if log.best is None else log.best
    weights = replace(fit.start, w=user[0], intercept=user[1])
    finished = (finished or auto.finished) and not auto.stalled
    return log.result(weights, user, auto.eta0, auto, finished)


def train_on(fit, make_scheme, options, kept):
    """One call of partial_fit with learning_rate="auto": an epoch with the step size kept.

    The first call finds the step. Where an epoch ends above both where it began and w = 0, it
    is repeated with half the step, from the user's weights.
    """
    most = bound_for(fit)
    fit, kept = resume(fit, kept)
    for _ in range(MOST_HALVINGS):
        tried = replace(fit, problem=replace(fit.problem, eta0=kept.step))
        result = train(tried, make_scheme(tried), options, check=False)
        left = blend(kept, result.weights, fit.batch.n_rows)
        value = mean_loss(fit, left.average, left.average_intercept)
        value += fit.problem.penalty_value(left.average)
        if value <= most * (1 + 1e-6) or most == 0.0:
            result.history["objective"][-1] = value
            user = dict(user_w=left.average, user_intercept=left.average_intercept)
            return replace(result, kept=left, eta0=kept.step, **user)
        # The iterate may be far from its average, and on these rows worse than any step.
        kept = replace(kept, step=0.5 * kept.step)
        start = replace(fit.start, w=kept.average.copy(), intercept=kept.average_intercept)
        fit = replace(fit, start=start)
    raise ValueError(
        "No step size lowers the objective on these rows: is a column of X or the targets many "
        "orders of magnitude larger than the others? Scale it (StandardScaler)."
    )
