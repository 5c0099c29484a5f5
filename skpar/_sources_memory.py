"""Sources of what is in memory, mapped into it, or made by Python code."""

import mmap
import zlib

import numpy as np
import scipy.sparse as sp

from skpar._chunks import as_triple, digest, n_rows_of, pieces, rechunked, take
from skpar._source import Schema, Source

PAGE = 4096
FINGERPRINT_ROWS = 64


def place_in_file(array):
    """(file name, byte of its first element) of a np.memmap or a view of one; None for others."""
    root = array
    while isinstance(root, np.ndarray) and not isinstance(root.base, mmap.mmap):
        root = root.base
    if not isinstance(root, np.memmap) or root.filename is None or root.mode == "c":
        return None  # copy on write: the file does not know what was written
    if any(stride < 0 for stride in array.strides):
        return None
    return root.filename, root.offset + array.ctypes.data - root.ctypes.data


def rows_between(rows, lo, hi):
    """Rows lo to hi, of a np.memmap through a map of its own.

    The pages of a large map count as memory of this process until the map goes; these go with
    the chunk. They are touched here, so that the disk is waited for in the reader.
    """
    place = None if rows is None else place_in_file(rows)
    if place is None or lo == hi:
        return None if rows is None else take(rows, slice(lo, hi))
    filename, offset = place
    shape = (hi - lo, *rows.shape[1:])
    extent = sum((n - 1) * stride for n, stride in zip(shape, rows.strides, strict=True))
    first = offset + lo * rows.strides[0]
    raw = np.memmap(filename, np.uint8, "r", first, (extent + rows.itemsize,))
    np.add.reduce(raw[::PAGE])
    return np.ndarray(shape, rows.dtype, raw, strides=rows.strides)


class Arrays(Source):
    """Rows of arrays, memory maps, sparse matrices or frames."""

    def __init__(self, X, y, sample_weight, chunk_rows, shuffle):
        super().__init__(chunk_rows, shuffle)
        n = n_rows_of(X)
        for name, other in (("y", y), ("sample_weight", sample_weight)):
            if other is not None and n_rows_of(other) != n:
                raise ValueError(f"X has {n} rows and {name} has {n_rows_of(other)}")
        self.rows = (X.tocsr() if sp.issparse(X) else X, y, sample_weight)

    @property
    def schema(self):
        X = self.rows[0]
        two = getattr(X, "ndim", 0) == 2
        columns = getattr(X, "columns", None)
        return Schema(
            n_features=X.shape[1] if two else None,
            n_rows=n_rows_of(X),
            dtype=getattr(X, "dtype", None),
            sparse=sp.issparse(X),
            feature_names=None if columns is None else tuple(columns),
        )

    def parts(self):
        n = n_rows_of(self.rows[0])
        return pieces(n, self.chunk_rows) if n else []

    def read(self, part):
        yield tuple(rows_between(rows, *part) for rows in self.rows)

    def label(self, part):
        return f"rows {part[0]} to {part[1]}"

    def fingerprint(self):
        """Shapes, types and the bytes of some rows: whoever changes others changes the model."""
        return digest([self.chunk_rows, *map(_stamp, self.rows)])


def _stamp(rows):
    if rows is None:
        return None
    if sp.issparse(rows):
        return ["sparse", rows.shape, _stamp(rows.data), _stamp(rows.indices)]
    n = n_rows_of(rows)
    some = take(rows, np.unique(np.linspace(0, n - 1, FINGERPRINT_ROWS).astype(int))) if n else []
    text = some.tobytes() if hasattr(some, "tobytes") else repr(some).encode()
    if getattr(getattr(rows, "dtype", None), "hasobject", False):
        text = repr(some.tolist()).encode()
    return [
        n,
        str(getattr(rows, "shape", None)),
        str(getattr(rows, "dtype", None)),
        zlib.crc32(text),
    ]


class Iterable(Source):
    """Chunks that Python code makes, in its own order."""

    def __init__(self, chunks, chunk_rows, shuffle, fingerprint):
        super().__init__(1 if chunk_rows is None else chunk_rows, shuffle)
        self.shuffle = "rows" if shuffle in (True, "rows") else False
        self.rebatch = chunk_rows is not None
        self.chunks = chunks
        self._fingerprint = fingerprint
        if not callable(chunks) and not hasattr(chunks, "__iter__"):
            raise TypeError(
                "iterable needs an iterable of (X, y) or a function that returns one, got "
                f"{chunks!r}"
            )
        self._used = False

    @property
    def schema(self):
        return Schema()

    def parts(self):
        return [0]

    def read(self, part):
        iterator = iter(self.chunks() if callable(self.chunks) else self.chunks)
        if iterator is self.chunks:
            if self._used:
                raise ValueError(
                    "this iterator can be read only once: give a function that returns a new "
                    "one, or keep a copy of it with .cached(folder)"
                )
            self._used = True
        try:
            items = map(as_triple, iterator)
            yield from rechunked(items, self.chunk_rows) if self.rebatch else items
        finally:
            if iterator is not self.chunks and hasattr(iterator, "close"):
                iterator.close()

    def label(self, part):
        return "the iterable"

    def fingerprint(self):
        return self._fingerprint


class DaskArrays(Source):
    """Row blocks of Dask arrays, each computed by the reader that needs it."""

    def __init__(self, X, y, sample_weight, chunk_rows, shuffle):
        super().__init__(chunk_rows, shuffle)
        arrays = [a for a in (X, y, sample_weight) if a is not None]
        for array in arrays:
            if not hasattr(array, "rechunk") or np.isnan(array.shape[0]):
                raise TypeError(
                    "dask_array needs Dask arrays of known length; call compute_chunk_sizes() "
                    f"on the others, got {array!r}"
                )
            if array.shape[0] != X.shape[0]:
                raise ValueError(f"X has {X.shape[0]} rows and another has {array.shape[0]}")
        spans = pieces(X.shape[0], self.chunk_rows)
        sizes = tuple(hi - lo for lo, hi in spans)
        self.spans = spans
        self.arrays = tuple(
            a if a is None else a.rechunk({0: sizes, **dict.fromkeys(range(1, a.ndim), -1)})
            for a in (X, y, sample_weight)
        )

    @property
    def schema(self):
        X = self.arrays[0]
        return Schema(n_features=X.shape[1], n_rows=X.shape[0], dtype=X.dtype)

    def parts(self):
        return list(range(len(self.spans)))

    def read(self, part):
        # The reader's own thread does the work: Dask's pool beside ours would crowd the cores.
        yield tuple(
            None if a is None else a.blocks[part].compute(scheduler="synchronous")
            for a in self.arrays
        )

    def label(self, part):
        return f"Dask rows {self.spans[part][0]} to {self.spans[part][1]}"

    def fingerprint(self):
        return digest([self.chunk_rows, *(None if a is None else a.name for a in self.arrays)])
