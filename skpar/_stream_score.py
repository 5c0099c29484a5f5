"""The validation score of a stream: summed over its chunks."""

import numpy as np
from sklearn.base import is_classifier, is_regressor

from skpar._links import check_targets, half_deviance, own_deviance


def score_chunks(estimator, chunks):
    """Accuracy of a classifier, R2 or D2 of a regressor, else the rows' mean of `estimator.score`.

    All rows together, as `estimator.score` would give on one matrix.

    Parameters
    ----------
    estimator : object
        Fitted.
    chunks : iterable of (X, y, sample_weight)
        The rows.

    Returns
    -------
    score : float
        Larger is better.
    """
    if is_regressor(estimator):
        problem = deviance_of(estimator)
        return _r2(estimator, chunks) if problem is None else _d2(estimator, problem, chunks)
    total = met = 0.0
    for X, y, sample_weight in chunks:
        if is_classifier(estimator):
            weights = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight)
            met += float(weights @ (estimator.predict(X) == np.asarray(y)))
            total += float(weights.sum())
        else:
            met += X.shape[0] * float(estimator.score(X) if y is None else estimator.score(X, y))
            total += X.shape[0]
    if total == 0:
        raise ValueError("the validation source has no rows, or no weight on any")
    return met / total


def deviance_of(estimator):
    """The problem of a regressor of ours that fits a deviance; None of others."""
    problem = estimator._problem() if hasattr(estimator, "_problem") else None
    return problem if problem is not None and problem.has_log_link else None


def _d2(estimator, problem, chunks):
    """The share of the deviance explained; the mean over the targets where there are several."""
    power, weight, total, own, left = problem.power_in_use, 0.0, 0.0, 0.0, 0.0
    for X, y, sample_weight in chunks:
        y = np.asarray(y, dtype=np.float64)
        check_targets(problem, y, "y of the validation rows: y")
        weights = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight)
        owns = own_deviance(power, y)
        weight += weights.sum()
        total += weights @ y
        own += weights @ owns
        left += weights @ half_deviance(power, owns, y, 1.0, estimator.predict(X))
    if weight == 0:
        raise ValueError("the validation source has no rows, or no weight on any")
    of_mean = half_deviance(power, own, total, weight, total / weight)
    return float(np.mean(1.0 - left / np.maximum(of_mean, np.finfo(float).tiny)))


def _r2(estimator, chunks):
    # Sums of y minus the first chunk's mean, so that a large mean does not swallow the digits.
    shift, total, first, second, squares = None, 0.0, 0.0, 0.0, 0.0
    for X, y, sample_weight in chunks:
        y = np.asarray(y, dtype=np.float64)
        weights = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight)
        shift = y.mean(axis=0) if shift is None else shift
        total += weights.sum()
        first += weights @ (y - shift)
        second += weights @ (y - shift) ** 2
        squares += weights @ (y - estimator.predict(X)) ** 2
    if total == 0:
        raise ValueError("the validation source has no rows, or no weight on any")
    spread = second - first**2 / total
    return float(np.mean(1.0 - squares / np.maximum(spread, np.finfo(float).tiny)))
