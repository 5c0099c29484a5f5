"""The epoch loop of many outputs: each output's fit ends by its own stopping rule."""

from dataclasses import replace
from time import perf_counter

import numpy as np

from skpar._callbacks import EpochInfo, History, StoppingRule, report
from skpar._measures import is_large
from skpar._train import (
    ADAPTIVE_DIVISOR,
    NOBODY,
    SMALLEST_ADAPTIVE_STEP,
    Result,
    check_finite,
    users_weights,
)


def train_many(fit, scheme, options, watch=NOBODY, check=True):
    """Run epochs of all outputs together until the fit of each has ended, as `train` ends it.

    Returns a list of `Result`, one an output; those of a softmax have one history. Of outputs
    that have losses of their own `watch.score(w, intercept)` gives one score each.
    """
    many = Many(fit, scheme, options, watch, check)
    for number in range(options.max_iter):
        many.epoch(number)
        if all(p.ended for p in many.everyone):
            break
    return many.results()


class Progress:
    """Where one objective stands: that of an output by itself, or of a softmax."""

    def __init__(self, options, eta0):
        self.history = History()
        self.rule = StoppingRule(options.tol, options.n_iter_no_change)
        self.eta0, self.best_score = eta0, -np.inf
        self.best = None  # weights
        self.end = None  # (`Weights`, the user's w and intercept) where the fit has ended
        self.seconds = 0.0
        self.ended = self.finished = False

    def judge(self, met, adaptive):
        """End the fit, or shorten its steps, where the rule sees no more gain."""
        if self.ended or not self.rule.no_more_gain(met):
            return
        if not adaptive or self.eta0 <= SMALLEST_ADAPTIVE_STEP:
            self.ended = self.finished = True
            return
        self.eta0 /= ADAPTIVE_DIVISOR
        self.rule.restart()


class Many:
    """A call of `train_many`."""

    def __init__(self, fit, scheme, options, watch, check):
        self.fit, self.scheme, self.options, self.watch = fit, scheme, options, watch
        self.check, self.sampled = check, is_large(fit)
        self.n_workers = scheme.n_workers
        self.everyone = [Progress(options, fit.problem.eta0) for _ in range(scheme.n_objectives)]
        self.each = self.everyone  # those in the scheme, in its order
        self.adaptive = fit.problem.learning_rate == "adaptive"

    def _leave(self):
        """Leave out of the reads what has ended, where that makes them shorter."""
        kept = [i for i, p in enumerate(self.each) if not p.ended]
        # Scores are those of all outputs.
        if self.watch.score is None and self.scheme.may_leave(len(kept)):
            self._settle()
            self.scheme = self.scheme.only(np.array(kept))
            self.each = [self.each[i] for i in kept]

    def epoch(self, number):
        self._leave()
        fit, scheme = self.fit, self.scheme
        active = [i for i, p in enumerate(self.each) if not p.ended]
        steps = np.array([0.0 if p.ended else p.eta0 for p in self.each])
        started = perf_counter()
        scheme.epoch(number, np.broadcast_to(steps, scheme.k))
        seconds = perf_counter() - started
        samples = (number + 1) * fit.batch.n_rows
        averaged = self._is_averaged(samples)
        penalties = scheme.penalties(averaged)
        # A weight that is not finite leaves no penalty that is.
        if self.check and not np.isfinite(penalties[active] + scheme.intercepts(active)).all():
            check_finite(scheme.weights(), number + 1)
        objectives = scheme.losses(averaged, self.sampled) + penalties
        scores = self._scores(number, samples)
        now = perf_counter() - started
        for i in active:
            p = self.each[i]
            p.seconds += now / len(active)
            p.history.add(
                EpochInfo(
                    epoch=number + 1,
                    samples=samples,
                    time=p.seconds,
                    objective=float(objectives[i]),
                    validation_score=float(scores[i]),
                    step_size=fit.recipe(p.eta0).step_size(fit.start.t + samples),
                    rows_per_second=len(active) * fit.batch.n_rows / max(seconds, 1e-9),
                )
            )
        self._report(active)
        self._judge(active, scores, penalties if not averaged else scheme.penalties(False))

    def _is_averaged(self, samples):
        """Whether the user gets the average after so many samples: see `users_weights`."""
        start, average = self.fit.start, self.fit.problem.average
        return start.average is not None and average <= start.t + samples - 1

    def _scores(self, number, samples):
        """The validation scores; keeps the best weights, and calls who listens to a softmax."""
        scores, watch = np.full(len(self.each), np.nan), self.watch
        if watch.score is None and watch.heard is None:
            return scores
        w, intercept = users_weights(self.fit, self.scheme.weights(), samples)
        if watch.score is not None:
            scores[:] = watch.score(w, intercept)
        for i, p in enumerate(self.each):
            if self.options.early_stopping and not p.ended and scores[i] > p.best_score:
                own = slice(None) if self.scheme.softmax else slice(i, i + 1)
                p.best_score, p.best = scores[i], (w[own].copy(), intercept[own].copy())
        self.heard = w, intercept
        return scores

    def _report(self, active):
        if self.options.verbose:
            last = [self.each[i].history.entries[-1] for i in active]
            means = {key: np.mean([entry[key] for entry in last]) for key in last[0]}
            means |= {key: last[0][key] for key in ("epoch", "samples")}
            means["time"] = sum(p.seconds for p in self.everyone)
            report(EpochInfo(**means), self.options.max_iter)

    def _judge(self, active, scores, penalties):
        """Apply the stopping rules to what was met in the epoch: see `mean_loss_met`."""
        fit, watch = self.fit, self.watch
        if watch.heard is not None and watch.heard(*self.heard, self.each[0].history):
            self.each[0].ended = self.each[0].finished = True
            return
        met = np.zeros(len(self.each))
        if fit.track_loss:
            met = self.scheme.loss_sum / fit.batch.n_rows
            if fit.problem.learning_rate not in ("pa1", "pa2"):
                met = met + penalties
        for i in active:
            value = -scores[i] if self.options.early_stopping else met[i]
            self.each[i].judge(value, self.adaptive)

    def _settle(self):
        """Take the weights of what has ended, and the objectives over all rows."""
        everything = self.scheme.weights()
        users = [self._user(everything, p, i) for i, p in enumerate(self.each)]
        exact = self._exact(users) if self.sampled else None
        for i, p in enumerate(self.each):
            if p.ended:
                p.end = users[i]
                if self.sampled:
                    p.history.end_at(float(exact[i]))

    def results(self):
        """A `Result` for each output."""
        for p in self.each:
            p.ended = True
        self._settle()
        results = []
        for p in self.everyone:
            weights, w, intercept = p.end
            if p.best is not None:
                w, intercept = p.best
            whole = Result(
                weights=weights,
                user_w=w,
                user_intercept=intercept,
                n_iter=len(p.history.entries),
                history=p.history.arrays(),
                eta0=self.fit.recipe(p.eta0).eta0,
                scheme=self.scheme.name,
                n_workers=self.n_workers,
                finished=p.finished,
            )
            results.extend(unstacked(whole))
        return results

    def _user(self, everything, p, i):
        """(`Weights`, w, intercept) of an objective, as it stood when its fit ended."""
        own = slice(None) if self.scheme.softmax else slice(i, i + 1)
        n_epochs, batch = len(p.history.entries), self.fit.batch
        part = replace(everything, w=everything.w[own], intercept=everything.intercept[own])
        part.t = self.fit.start.t + n_epochs * batch.shape[0]
        if part.average is not None:
            part.average = everything.average[own]
            part.average_intercept = everything.average_intercept[own]
        return part, *users_weights(self.fit, part, n_epochs * batch.n_rows)

    def _exact(self, users):
        """The objectives over all rows."""
        if self.fit.start.average is None:
            return self.scheme.losses(False, False) + self.scheme.penalties(False)
        w, intercept = (np.concatenate(both) for both in zip(*(own[1:] for own in users)))
        return self.scheme.objectives_at(w, intercept)


def unstacked(result):
    """A list of results, each of one weight vector, for one of matrices."""
    whole, parts = result.weights, []
    for k, (w, b) in enumerate(zip(result.user_w, result.user_intercept, strict=True)):
        own = replace(whole, w=whole.w[k], intercept=float(whole.intercept[k]))
        if whole.average is not None:
            own.average = whole.average[k]
            own.average_intercept = float(whole.average_intercept[k])
        parts.append(replace(result, user_w=w, user_intercept=float(b), weights=own))
    return parts
