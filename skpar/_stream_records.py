"""The records of a stream: what was asked for, how far it is, a chunk on its way."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from skpar._chunks import n_rows_of


@dataclass
class Options:
    """What `fit_stream` was asked for."""

    classes: object
    n_epochs: int
    prefetch: int
    n_readers: int
    ordered: bool
    timeout: float | None
    early_stopping: bool
    n_iter_no_change: int
    tol: float
    seed: int
    seeds_estimator: bool
    checkpoint: object = None
    clock: object = None


@dataclass
class Place:
    """How far a run is; all that a checkpoint holds beside the estimator."""

    epoch: int = 0
    part: int = 0  # place in the epoch's order
    chunk: int = 0  # chunks of that part already trained
    chunks: int = 0  # in this epoch, as the next three
    rows: int = 0
    objective_sum: float = 0.0
    seconds: float = 0.0
    samples: int = 0
    total_seconds: float = 0.0
    best_score: float = -math.inf
    rule_score: float = -math.inf
    no_gain: int = 0
    stopped: bool = False
    history: list = field(default_factory=list)


class Item(NamedTuple):
    """A chunk on its way from a reader to the training."""

    part: int
    number: int
    label: str
    X: object
    y: object
    sample_weight: object


def arrays_of(entries):
    """A history, one array a key, of its entries."""
    return {key: np.array([e[key] for e in entries]) for key in (entries[0] if entries else ())}


def checked(X, y, sample_weight, classes):
    """A chunk whose X is a matrix of as many rows as y and sample_weight, all of known classes."""
    if not sp.issparse(X) and not (hasattr(X, "shape") and len(X.shape) == 2):
        X = np.asarray(X)  # rows of different lengths end here
        if X.ndim != 2:
            raise ValueError(
                f"X has {X.ndim} dimension{'s' * (X.ndim != 1)}, not 2: a chunk needs a matrix. "
                "Text needs a transform, as transform=HashingVectorizer()."
            )
    n = n_rows_of(X)
    for name, other in (("y", y), ("sample_weight", sample_weight)):
        if other is not None and n_rows_of(other) != n:
            raise ValueError(f"X has {n} rows and {name} has {n_rows_of(other)}")
    if classes is not None and y is not None:
        unknown = np.setdiff1d(np.asarray(y), classes)
        if len(unknown):
            raise ValueError(
                f"y has {unknown.tolist()[:5]}, not in classes={np.asarray(classes).tolist()}: give "
                "all labels that can come."
            )
    return X, y, sample_weight
