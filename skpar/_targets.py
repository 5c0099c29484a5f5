"""Several targets at once: y of shape (rows, targets) for the regressors."""

from functools import partial

import numpy as np
import scipy.sparse as sp
from sklearn.metrics import d2_pinball_score, d2_tweedie_score, r2_score
from sklearn.utils import check_random_state, column_or_1d

from skpar._base import MAX_SEED
from skpar._data import Batch
from skpar._least_squares import MOST_COLUMNS as LEAST_SQUARES_COLUMNS
from skpar._many_auto import train_many_on
from skpar._many_fit import ManyFit
from skpar._many_hessian import MOST_COLUMNS
from skpar._newton import has_matrix
from skpar._predict import score_rows
from skpar._squares import ManySquares, squares_pay
from skpar._together import stacked
from skpar._train import Watch, train_auto
from skpar._train_many import train_many, unstacked
from skpar._validation import scorer
from skpar._workers import limit_blas, local_team

# Losses that full gradients descend without rounding off; beyond power 2 Tweedie's is not convex.
TOGETHER = ("squared_error", "squared_epsilon_insensitive", "poisson", "gamma", "tweedie")

# Targets and columns from which one read for all of them saves more than it costs: measured.
SOME, MANY, WIDE = 4, 8, 200


class SeveralTargets:
    """Fits of one target or of several; mixed into the regressors."""

    split = "auto"  # as of classes, which may ask for another one

    def _fit_together(self, batch, y, starts, validation, tasks):
        """Results of all targets in the same reads of the rows."""
        score = None
        if validation is not None:
            score = target_scorer(explained(self._problem()), self.n_jobs, *validation)
        targets = y.astype(batch.values.dtype, copy=False)
        return train_together(self, batch, targets, starts, score, tasks.listener(0, whole_moment))

    def _fit_steps(self, X, y, sample_weight, starts, validation=None, tasks=None):
        """Results of several targets in one read of each row, where that is possible."""
        by_steps = tasks is None or (tasks.root is None and self.learning_rate != "auto")
        plan = steps_together(self, X, len(starts)) if by_steps and len(starts) > 1 else None
        if plan is None:
            return self._fit_apart(X, y, sample_weight, starts, validation, tasks)
        y = y.astype(X.dtype, copy=False)
        train_rows, held_out = self._training_rows(y, sample_weight, validation)
        if held_out is not None:
            weights = None if sample_weight is None else sample_weight[held_out]
            validation = X[held_out], y[held_out], weights
        score = None
        if validation is not None:
            score = target_scorer(explained(self._problem()), self.n_jobs, *validation)
        batch = Batch.of(X, y[:, 0], sample_weight, train_rows)
        n_epochs = 1 if tasks is None else None
        return train_by_steps(self, batch, y, starts, plan, n_epochs, score)

    def _fit_apart(self, X, y, sample_weight, starts, validation=None, tasks=None):
        """Results of one target after another; without tasks of one epoch."""
        n_epochs = 1 if tasks is None else None
        train_rows, held_out = self._training_rows(y, sample_weight, validation)
        seeds = check_random_state(self.random_state).randint(MAX_SEED, size=len(starts))
        columns, metric, results = columns_of(y), explained(self._problem()), []
        with self._team() as team:
            for k, (start, seed) in enumerate(zip(starts, seeds, strict=True)):
                target = columns[:, k].astype(X.dtype, copy=False)
                batch, score = Batch.of(X, target, sample_weight, train_rows), None
                if held_out is not None:
                    score = scorer(batch, held_out, sample_weight, metric)
                elif validation is not None:
                    rows = Batch.of(validation[0], columns_of(validation[1])[:, k])
                    score = scorer(rows, None, validation[2], metric)
                watch, kept = Watch(score), self._kept_of(k)
                if tasks is not None:
                    heard = tasks.listener(k, partial(moment, starts, results))
                    watch, kept = Watch(score, heard), None
                own = batch, start, int(seed), n_epochs, team
                results.append(self._train_one(*own, watch, kept))
                if tasks is not None:
                    tasks.end_model()
        return results

    def _keep_targets(self, results, X, y):
        self._keep(results, X.dtype)
        if y.ndim == 1:
            self.coef_ = self.coef_.ravel()


def as_targets(y, name="y"):
    """y of one dimension, or of two where there are several targets."""
    if sp.issparse(y):
        raise TypeError(f"{name} is a sparse matrix: give {name}.toarray().")
    # One column is one target, as for scikit-learn's SGDRegressor and MLPRegressor.
    return column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y


def columns_of(y):
    """y with two dimensions."""
    return y.reshape(len(y), -1)


def check_n_targets(y, n_targets, before, name="y"):
    """Raise ValueError where y has another number of targets than there were before."""
    found = columns_of(y).shape[1]
    if found != n_targets:
        raise ValueError(f"{name} has {found} target(s), but {before} had {n_targets}.")


def fits_together(problem, batch, k):
    """Whether "auto" descends for all k targets in the same reads of the rows."""
    if squares_pay(problem, batch, k):
        # Of short dense rows one target takes one read.
        return k > 2 or batch.sparse or batch.shape[1] > LEAST_SQUARES_COLUMNS
    if problem.loss not in TOGETHER or not problem.convex or problem.l1:
        return False
    if batch.sparse:
        return k >= MANY and not has_matrix(batch)
    return k >= SOME and WIDE <= batch.shape[1] <= MOST_COLUMNS


def train_together(estimator, batch, Y, starts, score, heard):
    """Results of all targets, by full gradients that share the reads."""
    mean = None if score is None else (lambda w, b: float(score(w, b).mean()))
    Y = np.ascontiguousarray(Y, dtype=np.float64)
    with estimator._team() as team:
        fit, options = estimator._task(batch, stacked(starts), 0, None, team)
        with limit_blas(), team.working(team.size):
            if squares_pay(fit.problem, batch, len(starts)):
                auto = ManySquares(fit, Y, options.tol)
            else:
                parts = None, Y, batch.weights, None, np.ones(Y.shape[1])
                auto = ManyFit(fit, parts, options.tol)
            return unstacked(train_auto(fit, auto, options, Watch(mean, heard)))


def steps_together(estimator, X, k):
    """(blocks of targets, shards of rows) where stochastic steps share the reads, else None."""
    problem = estimator._problem()
    # The step size of a deviance follows from the mean of its targets.
    if problem.has_log_link and problem.learning_rate in ("auto", "optimal"):
        return None
    team, work = _team(estimator), X.nnz if sp.issparse(X) else X.size
    n_workers = team.threads if estimator._shared_memory else team.size
    return estimator._plan_many(n_workers, X.shape[0], (work, k, X.dtype, X.shape[1]), False)


def train_by_steps(estimator, batch, Y, starts, plan, n_epochs, score):
    """Results of all targets, by stochastic steps that share the reads; in `n_epochs` or more."""
    Y = np.ascontiguousarray(Y, dtype=np.float64)
    seed = int(check_random_state(estimator.random_state).randint(MAX_SEED))
    parts = None, Y, batch.weights, None, np.ones(Y.shape[1])
    make_scheme = partial(estimator._make_many, parts=parts, softmax=False, plan=plan)
    with _team(estimator) as team:
        fit, options = estimator._task(batch, stacked(starts), seed, n_epochs, team)
        with limit_blas(), team.working(team.threads):
            if fit.problem.learning_rate == "auto":
                kept = [estimator._kept_of(k) for k in range(len(starts))]
                kept = None if kept[0] is None else kept
                return train_many_on(fit, parts, make_scheme, options, kept)
            return train_many(fit, make_scheme(fit), options, Watch(score))


def _team(estimator):
    """Rows and all targets are here: threads, whatever the backend."""
    return estimator._team() if estimator._shared_memory else local_team(estimator.n_jobs)


def target_scorer(metric, n_jobs, X, Y, sample_weight):
    """score(w, intercept) of all targets: metric(targets, margins, weights) of each."""

    def score(w, intercept):
        margins, _ = score_rows(X, w, intercept, n_jobs)
        pairs = zip(Y.T, margins.T, strict=True)
        return np.array([metric(y, p, sample_weight) for y, p in pairs])

    return score


def whole_moment(k, w, intercept, history):
    """Fitted attributes between two epochs of all targets."""
    return dict(coef_=w, intercept_=intercept, history_=history.arrays())


def moment(starts, results, k, w, intercept, history):
    """Fitted attributes while target k is trained."""
    if len(starts) == 1:
        return dict(coef_=w, intercept_=np.array([intercept]), history_=history.arrays())
    pairs = [(r.user_w, r.user_intercept) for r in results] + [(w, intercept)]
    pairs += [(s.w, s.intercept) for s in starts[k + 1 :]]
    coef, intercepts = (np.array(values) for values in zip(*pairs, strict=True))
    return dict(coef_=coef, intercept_=intercepts, history_=history.arrays())


def explained(problem):
    """metric(targets, margins, weights): the share that is explained of the squared error, the
    deviance or the quantile loss of a constant."""
    if problem.loss == "quantile":
        return partial(_pinball_explained, problem.quantile)
    if problem.has_log_link:
        return partial(_deviance_explained, problem.power_in_use)
    return _r2


def deviance_explained(power, y, mean, weights=None):
    """D2 of predicted means; the mean of the targets' where there are several."""
    pairs = zip(columns_of(y).T, columns_of(mean).T, strict=True)
    scores = [d2_tweedie_score(a, b, sample_weight=weights, power=power) for a, b in pairs]
    return float(np.mean(scores))


def _r2(targets, predictions, weights):
    return r2_score(targets, predictions, sample_weight=weights)


def _deviance_explained(power, targets, p, weights):
    return d2_tweedie_score(targets, np.exp(p), sample_weight=weights, power=power)


def _pinball_explained(level, targets, p, weights):
    return d2_pinball_score(targets, p, sample_weight=weights, alpha=level)
