"""Several targets at once: y of shape (rows, targets) for the regressors."""

from functools import partial

import numpy as np
import scipy.sparse as sp
from sklearn.metrics import d2_pinball_score, d2_tweedie_score, r2_score
from sklearn.utils import column_or_1d

from skpar._many import MOST_COLUMNS
from skpar._many_fit import ManyFit
from skpar._newton import has_matrix
from skpar._predict import score_rows
from skpar._squares import ManySquares, squares_pay
from skpar._together import stacked, unstacked
from skpar._train import Watch, train_auto
from skpar._workers import limit_blas

# Losses that full gradients descend without rounding off; beyond power 2 Tweedie's is not convex.
TOGETHER = ("squared_error", "squared_epsilon_insensitive", "poisson", "gamma", "tweedie")

# Targets and columns from which one read for all of them saves more than it costs: measured.
SOME, MANY, WIDE = 4, 8, 200


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
        return True
    if problem.loss not in TOGETHER or not problem.convex or problem.l1:
        return False
    if batch.sparse:
        return k >= MANY and not has_matrix(batch.n_rows, batch)
    return k >= SOME and WIDE <= batch.shape[1] <= MOST_COLUMNS


def train_together(estimator, batch, Y, starts, score, heard):
    """Results of all targets, by full gradients that share the reads."""
    Y = np.ascontiguousarray(Y, dtype=np.float64)
    with estimator._team() as team:
        fit, options = estimator._task(batch, stacked(starts), 0, None, team)
        targets = None, Y, batch.weights, None, np.ones(Y.shape[1])
        with limit_blas(), team.working(team.size):
            squares = squares_pay(fit.problem, batch, len(starts))
            auto = (ManySquares if squares else ManyFit)(fit, targets, options.tol)
            return unstacked(train_auto(fit, auto, options, Watch(score, heard)))


def whole_scorer(metric, n_jobs, X, Y, sample_weight):
    """score(w, intercept) of all targets: the mean of metric(targets, margins, weights)."""

    def score(w, intercept):
        margins, _ = score_rows(X, w, intercept, n_jobs)
        pairs = zip(Y.T, margins.T, strict=True)
        return float(np.mean([metric(y, p, sample_weight) for y, p in pairs]))

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
