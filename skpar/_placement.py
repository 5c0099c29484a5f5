"""Shards that lie on other processes: what travels once, what travels every round, and in bytes.

A shard is placed once and named by a `Handle`; a call of a module-level function on it then
travels as one `bytes`, which no backend tries to be clever about (joblib would write arrays to
disk, Dask would scatter them), and whose length can be counted.
"""

import pickle
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Handle:
    """The name of a placed shard."""

    index: int


def handles(n):
    """The names of n shards."""
    return [Handle(k) for k in range(n)]


@dataclass
class Traffic:
    """Bytes between this process and its workers."""

    rounds: int = 0
    sent: int = 0
    received: int = 0
    placed: int = 0


def pack(function, arguments):
    """A call as bytes; the first argument, the shard, stays behind."""
    return pickle.dumps((function, arguments[1:]), protocol=5)


def perform(blob, shard):
    """Run a packed call on a shard: this is what workers do."""
    function, arguments = pickle.loads(blob)
    return pickle.dumps(function(shard, *arguments), protocol=5)


def cut(batch):
    """(matrix, labels) of the rows in use, in memory of their own: what is sent to a worker."""
    rows = np.arange(batch.shape[0]) if batch.subset is None else batch.subset
    own = batch.take(rows)
    return matrix_part(own), labels_part(own)


def matrix_key(batch):
    """What tells the matrix of one shard from another's, for as long as the shard lives."""
    if hasattr(batch, "source"):
        return batch.source.key
    return id(batch.values), id(batch.subset)


def labels_of(batch):
    """The labels part of `cut` alone; for a partition of a Dask collection, how to make it."""
    if hasattr(batch, "source"):
        return batch.encoding
    if batch.subset is None:
        return labels_part(batch)
    weights = None if batch.weights is None else batch.weights[batch.subset]
    return batch.targets[batch.subset], weights


def matrix_part(batch):
    """The batch without targets and weights: the same for every class of one-vs-rest."""
    return replace(batch, targets=None, weights=None)


def labels_part(batch):
    return batch.targets, batch.weights


def joined(matrix, labels):
    """The batch again."""
    if hasattr(matrix, "labelled"):
        return matrix.labelled(labels)
    targets, weights = labels
    return replace(matrix, targets=targets, weights=weights)


def size_of(part):
    """Bytes of the arrays in a matrix or labels part."""
    values = vars(part).values() if hasattr(part, "__dict__") else part
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))
