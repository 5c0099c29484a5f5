"""The validation score of a stream: summed over its chunks."""

import numpy as np
from sklearn.base import is_classifier, is_regressor


def score_chunks(estimator, chunks):
    """Accuracy of a classifier, R2 of a regressor, else the rows' mean of `estimator.score`.

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
        return _r2(estimator, chunks)
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
