"""Rows in memory: a dense or CSR view with targets and weights, cut into blocks and shards."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import scipy.sparse as sp

from skpar._kernels.records import Order, Rows

# Consecutive rows visited together: eight cost no accuracy on data in random order and save
# most cache misses. Where neighbouring labels are alike they would act as one long step.
BLOCK_ROWS = 8
MIXED_SHARE = 0.9
# Numbers read between two looks at the interpreter (signals): about a millisecond.
CHUNK_NUMBERS = 1 << 20


def check_sparse(X):
    """Raise ValueError if a sparse matrix's indices point outside it.

    Kernels, and scipy's own conversions, trust the indices; a wrong one reads memory that is
    not theirs. One pass: negative indices are found as huge unsigned ones.
    """
    if not sp.issparse(X) or X.format not in ("csr", "csc", "coo", "bsr"):
        return
    if X.format == "coo":
        _check_range(X.row, X.shape[0], "row")
        _check_range(X.col, X.shape[1], "column")
        return
    block = X.blocksize if X.format == "bsr" else (1, 1)
    rows, columns = X.shape[0] // block[0], X.shape[1] // block[1]
    names = ("row", "column")
    if X.format == "csc":
        rows, columns, names = columns, rows, names[::-1]
    _check_pointers(X, rows, names[0])
    _check_range(X.indices[: X.indptr[-1]], columns, names[1])


def _check_range(indices, size, name):
    if len(indices) == 0:
        return
    unsigned = indices.view(f"u{indices.dtype.itemsize}")
    if unsigned.max() >= size:
        at = int(np.argmax(unsigned >= size))
        raise ValueError(
            f"X is not a valid sparse matrix: {name} index {indices[at]} (entry {at}) is outside "
            f"0 to {size - 1}. Rebuild X from its rows, columns and values."
        )


def _check_pointers(X, n, name):
    starts = X.indptr
    room = min(len(X.indices), len(X.data))
    if len(starts) != n + 1 or starts[0] != 0:
        problem = f"it has {len(starts)} entries starting at {starts[0]}, not {n + 1} from 0"
    elif np.any(starts[1:] < starts[:-1]):
        problem = f"it decreases after {name} {int(np.argmax(starts[1:] < starts[:-1]))}"
    elif starts[-1] > room:
        problem = f"it ends at {starts[-1]}, past the {room} stored values"
    else:
        return
    raise ValueError(
        f"X is not a valid sparse matrix: indptr is wrong, {problem}. "
        "Rebuild X from its rows, columns and values."
    )


def blocks_are_mixed(targets):
    """Whether neighbouring targets differ as much as distant ones, so that blocks do no harm."""
    n = len(targets)
    at = _some_rows(n)
    distant = np.abs(targets[at] - targets[at[::-1]]).mean()
    near = np.abs(targets[at] - targets[np.minimum(at + 1, n - 1)]).mean()
    return near >= MIXED_SHARE * distant


@lru_cache(maxsize=4)  # a generator costs as much as an epoch of tiny data
def _some_rows(n):
    return np.random.default_rng(0).integers(0, max(n - 1, 1), size=min(n, 20_000))


@dataclass(frozen=True)
class Batch:
    """Rows to train on. `subset`, where given, lists the rows in use (sorted)."""

    values: np.ndarray  # (n, d), or the non-zeros of a CSR matrix
    targets: np.ndarray  # (n,) float64
    weights: np.ndarray | None  # (n,) float64
    columns: np.ndarray | None  # CSR only
    starts: np.ndarray | None  # CSR only, int64
    shape: tuple
    subset: np.ndarray | None = None
    partitioned = False  # whether the rows are elsewhere (`_partitions`)

    @classmethod
    def of(cls, X, targets, weights=None, subset=None):
        """A batch over a C-contiguous array or a CSR matrix that `check_sparse` has passed."""
        targets = np.ascontiguousarray(targets, dtype=np.float64)
        if weights is not None:
            weights = np.ascontiguousarray(weights, dtype=np.float64)
        if sp.issparse(X):
            starts = X.indptr.astype(np.int64, copy=False)
            columns = np.ascontiguousarray(X.indices)
            if columns.dtype not in (np.int32, np.int64):
                columns = columns.astype(np.int64)
            values = np.ascontiguousarray(X.data)
            return cls(values, targets, weights, columns, starts, X.shape, subset)
        return cls(np.ascontiguousarray(X), targets, weights, None, None, X.shape, subset)

    @property
    def sparse(self):
        return self.columns is not None

    @cached_property
    def n_rows(self):
        """Rows in use."""
        return self.shape[0] if self.subset is None else len(self.subset)

    @property
    def total_weight(self):
        """The sum of the weights of the rows in use, None where there are none."""
        if self.weights is None:
            return None
        return float(self.used_weights.sum())

    @cached_property
    def row_numbers(self):
        """Mean number of stored values a row."""
        if self.sparse:
            return max(1.0, len(self.values) / max(1, self.shape[0]))
        return float(max(1, self.shape[1]))

    @property
    def longest_row(self):
        """Stored values of the longest row."""
        if not self.sparse:
            return self.shape[1]
        return int(np.diff(self.starts).max(initial=0))

    @property
    def work(self):
        """Numbers read in an epoch."""
        return self.row_numbers * self.n_rows

    @cached_property
    def rows(self):
        """The kernels' view."""
        return Rows(self.values, self.targets, self.weights, self.columns, self.starts, self.shape)

    def __getstate__(self):
        return {k: v for k, v in self.__dict__.items() if k != "rows"}

    def __setstate__(self, state):
        self.__dict__.update(state)

    @cached_property
    def block_rows(self):
        """How many consecutive rows to visit together when shuffling."""
        return BLOCK_ROWS if blocks_are_mixed(self.used_targets) else 1

    @property
    def used_targets(self):
        return self.targets if self.subset is None else self.targets[self.subset]

    @property
    def used_weights(self):
        """None where there are none."""
        if self.weights is None or self.subset is None:
            return self.weights
        return self.weights[self.subset]

    def order(self, shuffle, seed, block_rows=None):
        """All blocks, in a random order that `seed` (a sequence of ints) determines."""
        block_rows = block_rows or (self.block_rows if shuffle else BLOCK_ROWS)
        return Order(self.n_rows, block_rows, seed if shuffle else None, self.subset)

    def sample(self, n, seed):
        """At most n rows in use as a matrix, drawn without replacement."""
        rows = np.arange(self.n_rows)
        if n < self.n_rows:
            rows = np.sort(
                np.random.default_rng(seed).choice(self.n_rows, n, replace=False, shuffle=False)
            )
        rows = rows if self.subset is None else self.subset[rows]
        return self.matrix()[rows]

    def matrix(self):
        """All rows, in use or not, as an array or a CSR matrix over the same memory."""
        if self.sparse:
            return sp.csr_matrix((self.values, self.columns, self.starts), self.shape)
        return self.values

    def take(self, rows):
        """The given rows as a batch with memory of its own."""
        weights = None if self.weights is None else self.weights[rows]
        return Batch.of(self.matrix()[rows], self.targets[rows], weights)

    def chunk_blocks(self, block_rows):
        """How many blocks make one uninterrupted call of a kernel."""
        return max(1, int(CHUNK_NUMBERS / (self.row_numbers * block_rows)))

    def shards(self, n_shards, shuffle, seed):
        """Split the rows into shards of equal size: contiguous, or of random blocks."""
        used = np.arange(self.shape[0]) if self.subset is None else self.subset
        if not shuffle or n_shards == 1:
            parts = np.array_split(used, n_shards)
        else:
            size = self.block_rows
            blocks = np.random.default_rng(seed).permutation(-(-len(used) // size))
            if len(blocks) < 8 * n_shards:
                size, blocks = 1, np.random.default_rng(seed).permutation(len(used))
            deal = np.empty(len(blocks), dtype=np.int64)
            deal[blocks] = np.arange(len(blocks)) % n_shards
            owner = np.repeat(deal, size)[: len(used)]
            parts = [used[owner == k] for k in range(n_shards)]
        return [replace(self, subset=part.astype(np.int64, copy=False)) for part in parts]
