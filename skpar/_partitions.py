"""Rows that lie on a Dask cluster: a partition is a shard, and stays where it is.

Dask arrays and DataFrames are computed partition by partition on the cluster and kept there;
this process sees a description of each and a sample of rows. Dask computes the partitions of a
lost worker again.
"""

from dataclasses import dataclass
from functools import wraps

import numpy as np
import scipy.sparse as sp

from skpar._data import BLOCK_ROWS, Batch
from skpar._parts import Part


def is_collection(X):
    """Whether X is a Dask array or DataFrame; imports nothing."""
    return type(X).__module__.partition(".")[0] in ("dask", "dask_expr") and hasattr(
        X, "__dask_graph__"
    )


def the_client():
    """The distributed client in use, or None: then Dask's collections live in this process."""
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None


@dataclass(frozen=True)
class Shard:
    """A partition as schemes see it; its rows are elsewhere."""

    source: object  # a future of the Part
    encoding: object
    n_rows: int
    total_weight: float | None


class Partitions:
    """The rows of a fit on a Dask cluster.

    Parameters
    ----------
    client : distributed.Client
        Where the collections are, or will be, computed.
    X, y, sample_weight : Dask collections
        With the same partitions.
    count_labels : bool
        Whether y holds class labels.
    """

    def __init__(self, client, X, y, sample_weight, *, count_labels):
        import dask
        from distributed import wait

        self.client = client
        framed = hasattr(X, "columns")
        # For the names and the number of features, which scikit-learn looks for.
        self.meta = X._meta_nonempty if framed else np.zeros((1, X.shape[1]))
        xs, ys = blocks_of(X, "X"), blocks_of(y, "y")
        ws = (
            [None] * len(xs) if sample_weight is None else blocks_of(sample_weight, "sample_weight")
        )
        for name, blocks in (("y", ys), ("sample_weight", ws)):
            if len(blocks) != len(xs):
                raise ValueError(
                    f"X has {len(xs)} partitions and {name} has {len(blocks)}: rechunk or "
                    "repartition them alike."
                )
        make = dask.delayed(Part.of, pure=True)
        parts = [
            make(x, y_, w, f"Partition {k} of X")
            for k, (x, y_, w) in enumerate(zip(xs, ys, ws, strict=True))
        ]
        futures = client.compute(parts)
        wait(futures)
        descriptions = client.gather(
            [client.submit(Part.describe, part, count_labels, pure=False) for part in futures]
        )
        kept = [(f, d) for f, d in zip(futures, descriptions, strict=True) if d.n_rows]
        if not kept:
            raise ValueError("X has no rows.")
        self.parts, self.descriptions = map(list, zip(*kept, strict=True))
        self._check_alike()

    def _check_alike(self):
        first = self.descriptions[0]
        for k, other in enumerate(self.descriptions):
            for name in ("n_columns", "dtype", "sparse"):
                if getattr(other, name) != getattr(first, name):
                    raise ValueError(
                        f"The partitions of X differ: {name} is {getattr(first, name)} in the "
                        f"first and {getattr(other, name)} in partition {k}."
                    )

    @property
    def shape(self):
        return sum(d.n_rows for d in self.descriptions), self.descriptions[0].n_columns

    @property
    def dtype(self):
        return self.descriptions[0].dtype

    def labels(self):
        """(labels, how many rows have each)."""
        pairs = [(d.labels, d.counts) for d in self.descriptions]
        labels = np.unique(np.concatenate([found for found, _ in pairs]))
        counts = np.zeros(len(labels), dtype=np.int64)
        for found, n in pairs:
            counts[np.searchsorted(labels, found)] += n
        return labels, counts

    def batch(self, encoding):
        """All rows, with the labels of one problem."""
        return PartitionedBatch(self, encoding)


class PartitionedBatch:
    """What schemes ask of a `Batch`, for rows that are not here."""

    subset = None
    partitioned = True

    def __init__(self, rows, encoding):
        self._rows, self._encoding = rows, encoding
        self.shape = rows.shape
        self.n_rows = self.shape[0]
        self.sparse = rows.descriptions[0].sparse
        self.work = sum(d.n_numbers for d in rows.descriptions)
        self.row_numbers = max(1.0, self.work / self.n_rows)
        self.block_rows = BLOCK_ROWS if all(d.mixed for d in rows.descriptions) else 1
        self.n_shards = len(rows.parts)
        self._totals = self._weight_totals()

    def _weight_totals(self):
        rows = self._rows
        totals = [
            rows.client.submit(_weight_total, part, self._encoding, pure=False)
            for part in rows.parts
        ]
        return rows.client.gather(totals)

    def shards(self, n_shards, shuffle, seed):
        """The partitions."""
        rows = self._rows
        return [
            Shard(part, self._encoding, d.n_rows, total)
            for part, d, total in zip(rows.parts, rows.descriptions, self._totals, strict=True)
        ]

    def sample_batch(self, n, seed):
        """At most n random rows, from every partition its share."""
        rows, client = self._rows, self._rows.client
        share = min(1.0, n / self.n_rows)
        parts = client.gather(
            [
                client.submit(
                    Part.sample,
                    part,
                    self._encoding,
                    max(1, int(share * d.n_rows)),
                    [seed, k],
                    pure=False,
                )
                for k, (part, d) in enumerate(zip(rows.parts, rows.descriptions, strict=True))
            ]
        )
        stack = sp.vstack if self.sparse else np.concatenate
        X = stack([part.matrix() for part in parts])
        weights = [part.weights for part in parts]
        weights = None if weights[0] is None else np.concatenate(weights)
        X = X.tocsr() if self.sparse else X
        return Batch.of(X, np.concatenate([part.targets for part in parts]), weights)


def _weight_total(part, encoding):
    weights = part.labelled(encoding).weights
    return None if weights is None else float(weights.sum())


def blocks_of(collection, name):
    """The partitions of a Dask collection as delayed values; arrays are cut along rows only."""
    if not is_collection(collection):
        raise TypeError(
            f"X is a Dask collection, {name} is {type(collection).__name__}: give a Dask "
            "collection with the same partitions."
        )
    if hasattr(collection, "chunks") and getattr(collection, "ndim", 1) > 1:
        collection = collection.rechunk({1: -1})
    return np.ravel(collection.to_delayed()).tolist()


def computed(*collections):
    """The collections in memory, where no cluster holds them."""
    import dask

    return dask.compute(*collections)


def blockwise(method):
    """Let a method of rows take Dask arrays and DataFrames too: lazily, partition by partition."""

    @wraps(method)
    def call(self, X):
        if not is_collection(X):
            return method(self, X)
        import dask
        import dask.array as da

        framed = hasattr(X, "columns")
        like = method(self, X._meta_nonempty if framed else np.zeros((1, X.shape[1]), X.dtype))
        lengths = [np.nan] * X.npartitions if framed else X.chunks[0]
        run, model = dask.delayed(_call), dask.delayed(self)
        parts = [
            da.from_delayed(run(method, model, block), (n, *like.shape[1:]), like.dtype)
            for block, n in zip(blocks_of(X, "X"), lengths, strict=True)
        ]
        return da.concatenate(parts, allow_unknown_chunksizes=True)

    return call


def _call(method, model, block):
    return method(model, block)
