"""Weights of the classes: as given, or "balanced" by running counts of their rows."""

import numpy as np
from sklearn.utils import compute_class_weight


def class_counts(class_weight, classes, y, before=None):
    """Rows of each class, in y and `before`; None where no weight follows from them."""
    if class_weight != "balanced":
        return None
    counts = np.bincount(np.searchsorted(classes, y), minlength=len(classes))
    return counts if before is None else counts + before


def class_weights(class_weight, classes, counts):
    """A weight for each class; `counts` are needed for "balanced" only.

    Those are n_samples / (n_classes * count) over the classes that have rows, and 1 for the
    others: the mean weight of all rows counted is 1.
    """
    if class_weight is None:
        return np.ones(len(classes))
    if class_weight != "balanced":
        return compute_class_weight(class_weight, classes=classes, y=classes)
    seen = counts > 0
    return np.where(seen, counts.sum() / (max(1, seen.sum()) * np.maximum(counts, 1)), 1.0)
