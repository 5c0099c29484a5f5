"""Rows that are scored and not trained on: split off, or given."""

import numpy as np
from sklearn.base import is_classifier
from sklearn.metrics import accuracy_score
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit
from sklearn.utils.validation import _check_sample_weight, validate_data

from skpar._data import Batch, check_sparse
from skpar._kernels.margins import margins

NO_VALIDATION_WEIGHT = (
    "The sample weights for validation set are all zero, consider using a different random state."
)


def split_rows(estimator, y, sample_weight):
    """(training rows, validation rows) for early stopping, sorted."""
    kind = StratifiedShuffleSplit if is_classifier(estimator) else ShuffleSplit
    split = kind(test_size=estimator.validation_fraction, random_state=estimator.random_state)
    train_rows, held_out = next(split.split(np.zeros((len(y), 1)), y))
    if len(train_rows) == 0 or len(held_out) == 0:
        raise ValueError(
            f"Splitting {len(y)} samples into a train set and a validation set with "
            f"validation_fraction={estimator.validation_fraction!r} led to an empty set "
            f"({len(train_rows)} and {len(held_out)} samples). Please either change "
            "validation_fraction, increase number of samples, or disable early_stopping."
        )
    if sample_weight is not None and not np.any(sample_weight[held_out] > 0):
        raise ValueError(NO_VALIDATION_WEIGHT)
    return np.sort(train_rows).astype(np.int64), np.sort(held_out).astype(np.int64)


def check_validation(estimator, X, X_val, y_val, sample_weight_val):
    """(X, y, sample_weight) of the validation set given to `fit`, or None."""
    if X_val is None or y_val is None:
        if X_val is None and y_val is None and sample_weight_val is None:
            return None
        missing = "X_val" if X_val is None else "y_val"
        raise ValueError(f"{missing} is missing: a validation set needs both X_val and y_val.")
    check_sparse(X_val)
    options = dict(accept_sparse="csr", dtype=X.dtype, order="C", reset=False)
    if not is_classifier(estimator):
        options |= dict(multi_output=True, y_numeric=True)
    X_val, y_val = validate_data(estimator, X_val, y_val, **options)
    if sample_weight_val is not None:
        sample_weight_val = _check_sample_weight(sample_weight_val, X_val, dtype=np.float64)
        if not np.any(sample_weight_val > 0):
            raise ValueError("sample_weight_val has no positive weight.")
    return X_val, y_val, sample_weight_val


def check_labels(y_val, classes):
    """Raise where validation rows have labels that no training row has."""
    unknown = np.setdiff1d(y_val, classes)
    if len(unknown):
        raise ValueError(
            f"y_val has labels that y has not: {unknown.tolist()}. Labels of y: "
            f"{np.asarray(classes).tolist()}."
        )


def scorer(batch, rows, sample_weight, metric):
    """score(w, intercept) over rows of a batch (all where None): metric(targets, margins)."""
    rows = np.arange(batch.shape[0]) if rows is None else rows
    weights = None if sample_weight is None else sample_weight[rows]

    def score(w, intercept):
        p = margins(batch.rows, w, intercept, 0, len(rows), rows)
        return metric(batch.targets[rows], p, weights)

    return score


def label_scorer(X, y, sample_weight, label):
    """The scorer of one label against the rest."""
    batch = Batch.of(X, np.where(y == label, 1.0, -1.0))
    return scorer(batch, None, sample_weight, accuracy)


def accuracy(targets, p, weights):
    """Share of margins on the right side of zero."""
    return accuracy_score(targets > 0, p > 0, sample_weight=weights)
