"""A partition of a Dask collection on its worker: rows, and labels as they were given."""

from dataclasses import dataclass, replace

import numpy as np
from sklearn.utils import check_array

from skpar._data import Batch, blocks_are_mixed, check_sparse


@dataclass
class Part:
    """A partition on its worker: a matrix without labels, and what was given as y and weights."""

    matrix: Batch
    y: np.ndarray
    weights: np.ndarray | None

    @classmethod
    def of(cls, X, y, weights, name):
        """Check a partition as `fit` checks rows in memory."""
        check_sparse(X)
        y = np.asarray(y).reshape(-1)
        if len(y) == 0:
            X = np.zeros((0, X.shape[1]))
        else:
            X = check_array(
                X, accept_sparse="csr", dtype=[np.float64, np.float32], order="C", input_name=name
            )
        if X.shape[0] != len(y):
            raise ValueError(f"{name} has {X.shape[0]} rows, that of y has {len(y)}.")
        if weights is not None:
            weights = np.asarray(weights, dtype=np.float64).reshape(-1)
        matrix = replace(Batch.of(X, np.zeros(len(y))), targets=None)
        return cls(matrix, y, weights)

    def describe(self, count_labels):
        """What the fit has to know of a partition."""
        m, y = self.matrix, self.y
        labels, counts = np.unique(y, return_counts=True) if count_labels else (None, None)
        codes = np.searchsorted(labels, y) if count_labels else y
        return Description(
            n_rows=m.shape[0],
            n_columns=m.shape[1],
            n_numbers=m.values.size,
            dtype=m.values.dtype,
            sparse=m.sparse,
            mixed=blocks_are_mixed(codes.astype(np.float64)) if len(y) else True,
            labels=labels,
            counts=counts,
        )

    def labelled(self, encoding):
        """The rows with the targets and weights of one binary or regression problem."""
        targets, weights = encoding.encode(self.y, self.weights, self.matrix.values.dtype)
        return replace(self.matrix, targets=targets, weights=weights)

    def sample(self, encoding, n, seed):
        """n random rows, with labels."""
        rows = np.sort(np.random.default_rng(seed).choice(len(self.y), n, replace=False))
        return self.labelled(encoding).take(rows)


@dataclass(frozen=True)
class Description:
    """A partition as `fit` sees it."""

    n_rows: int
    n_columns: int
    n_numbers: int
    dtype: object
    sparse: bool
    mixed: bool
    labels: np.ndarray | None
    counts: np.ndarray | None


@dataclass(frozen=True)
class ClassTargets:
    """One class against the rest."""

    positive: object
    own: float
    rest: float
    negative: float

    def encode(self, y, weights, dtype):
        mask = y == self.positive
        if self.own != 1.0 or self.rest != 1.0:
            by_class = np.where(mask, self.own, self.rest)
            weights = by_class if weights is None else by_class * weights
        return np.where(mask, 1.0, self.negative), weights


@dataclass(frozen=True)
class RealTargets:
    """y as it is."""

    def encode(self, y, weights, dtype):
        return y.astype(dtype).astype(np.float64), weights
