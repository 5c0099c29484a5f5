"""What a source is: parts that readers read apart, chunks of rows in each, a schema."""

from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from uuid import uuid4

import numpy as np

from skpar._cache import Copy
from skpar._chunks import as_triple, digest
from skpar._state import described

SHUFFLES = (True, False, "chunks", "rows")


@dataclass(frozen=True)
class Schema:
    """What a source knows of its rows before reading them; None is "not known".

    Attributes
    ----------
    n_features : int or None
        Columns of X.
    n_rows : int or None
        Rows of an epoch.
    dtype : numpy.dtype or None
        Type of the numbers in X.
    sparse : bool or None
        Whether X is a CSR matrix.
    feature_names : tuple of str or None
        Names of the columns of X.
    """

    n_features: int | None = None
    n_rows: int | None = None
    dtype: np.dtype | None = None
    sparse: bool | None = None
    feature_names: tuple | None = None


@contextmanager
def reading(source, part):
    """The chunks of a part as triples, from whatever `read` returns; closed on leaving."""
    chunks = source.read(part)
    try:
        yield map(as_triple, chunks)
    finally:
        if hasattr(chunks, "close"):
            chunks.close()


class Source(ABC):
    """Rows in chunks, for :func:`skpar.fit_stream`; the functions of `skpar.sources` make them.

    A source is cut into parts that several readers can read at once; a part holds one chunk or
    a few. Iterating over a source gives its chunks, `(X, y, sample_weight)`, in their order.

    Parameters
    ----------
    chunk_rows : int
        About how many rows make a chunk.
    shuffle : bool, "chunks" or "rows"
        What `fit_stream` puts in random order: in each epoch the parts ("chunks"), the rows
        inside each chunk ("rows"), both (True) or neither (False).
    """

    def __init__(self, chunk_rows, shuffle):
        if not isinstance(chunk_rows, Integral) or chunk_rows < 1:
            raise ValueError(f"chunk_rows must be a positive integer, got {chunk_rows!r}")
        if shuffle not in SHUFFLES:
            raise ValueError(f"shuffle must be one of {SHUFFLES}, got {shuffle!r}")
        self.chunk_rows = int(chunk_rows)
        self.shuffle = shuffle

    @property
    @abstractmethod
    def schema(self):
        """What is known of the rows before they are read, a `Schema`."""

    @abstractmethod
    def parts(self):
        """Descriptors of the parts, in the order of the source."""

    @abstractmethod
    def read(self, part):
        """Yield `(X, y, sample_weight)` of each chunk of a part; called in a reader's thread."""

    def label(self, part):
        """Words for a part, for messages."""
        return str(part)

    def fingerprint(self):
        """A text that changes when the rows do; None where that cannot be known."""
        return None

    def close(self):
        """Called when a stream ends early: wake up a reader that waits in `read`."""
        return

    def __iter__(self):
        for part in self.parts():
            with reading(self, part) as chunks:
                yield from chunks

    def map(self, function, *, key=None):
        """The same source with `function(X, y, sample_weight)` applied to each chunk.

        It runs in the readers, so it must be safe to call from several threads at once where
        `n_readers` is more than 1.

        Parameters
        ----------
        function : callable
            Gets X, y and sample_weight and returns X, (X, y) or (X, y, sample_weight).
        key : str, default=None
            A name for what the function does, to be changed when the function is; needed for
            `cached`, which could not know otherwise when its copy is out of date.

        Returns
        -------
        source : Source
            The new source.
        """
        return Mapped(self, function, key)

    def transform(self, transformer):
        """The same source with X put through a transformer, in the readers.

        Parameters
        ----------
        transformer : object with `transform`
            A fitted or stateless one of scikit-learn's.

        Returns
        -------
        source : Source
            The new source.
        """
        return Transformed(self, transformer)

    def cached(self, folder):
        """The same source with a binary copy in `folder`, memory-mapped from the second read on.

        Parameters
        ----------
        folder : str or path-like
            Where to write; made if absent, and not removed afterwards.

        Returns
        -------
        source : Source
            The new source.
        """
        return Cached(self, folder)


class Wrapped(Source):
    """A source made of another; what it does not change is the other's."""

    def __init__(self, inner):
        super().__init__(inner.chunk_rows, inner.shuffle)
        self.inner = inner

    @property
    def schema(self):
        return self.inner.schema

    def parts(self):
        return self.inner.parts()

    def label(self, part):
        return self.inner.label(part)

    def close(self):
        self.inner.close()


class Mapped(Wrapped):
    """Chunks that a function has changed."""

    def __init__(self, inner, function, key):
        super().__init__(inner)
        if not callable(function):
            raise TypeError(f"map needs a function of (X, y, sample_weight), got {function!r}")
        self.function, self.key = function, key

    @property
    def schema(self):
        return Schema()

    def read(self, part):
        with reading(self.inner, part) as chunks:
            for chunk in chunks:
                yield as_triple(self.function(*chunk))

    def fingerprint(self):
        inner = self.inner.fingerprint()
        return None if inner is None or self.key is None else digest([inner, "map", self.key])


class Transformed(Wrapped):
    """Chunks whose X a transformer has changed."""

    def __init__(self, inner, transformer):
        super().__init__(inner)
        if not hasattr(transformer, "transform"):
            raise TypeError(
                f"transform needs an object with a method transform, got {transformer!r}"
            )
        self.transformer = transformer

    @property
    def schema(self):
        return Schema(n_rows=self.inner.schema.n_rows)

    def read(self, part):
        with reading(self.inner, part) as chunks:
            for X, y, sample_weight in chunks:
                yield self.transformer.transform(X), y, sample_weight

    def fingerprint(self):
        inner, own = self.inner.fingerprint(), described(self.transformer)
        return None if inner is None or own is None else digest([inner, "transform", own])


class Cached(Wrapped):
    """Chunks from a binary copy, which the first read of each part writes."""

    def __init__(self, inner, folder):
        super().__init__(inner)
        self._known = inner.fingerprint()
        if self._known is None and _has_nameless_map(inner):
            raise ValueError(
                "cached cannot know when the function given to map (or the transformer) changes: "
                "give map a key, and transform a transformer whose state is arrays and text."
            )
        # Without a fingerprint the copy serves this object only.
        self.copy = Copy(folder, digest([inner.chunk_rows, self._known or uuid4().hex]))
        self._parts = None

    def fingerprint(self):
        return self._known

    def parts(self):
        if self._parts is None:
            self.copy.prepare()
            self._parts = list(enumerate(self.inner.parts()))
        return self._parts

    def label(self, part):
        return self.inner.label(part[1])

    def read(self, part):
        number, original = part
        chunks = self.copy.chunks(number)
        if chunks is not None:
            yield from chunks
            return
        with reading(self.inner, original) as chunks:
            yield from self.copy.written(number, chunks)


def _has_nameless_map(source):
    """Whether a fingerprint is missing for what was done to the rows, not for the rows."""
    return isinstance(source, Wrapped) and (
        source.inner.fingerprint() is not None or _has_nameless_map(source.inner)
    )
