"""Text files in blocks of whole lines, and the svmlight format."""

import bz2
import gzip
import io
import lzma
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from skpar._chunks import cut, digest, file_stamp, pieces
from skpar._source import Schema, Source

OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
PROBE_BYTES = 1 << 20
LABEL_MARK = b"-1:"


def files_of(paths, suffixes, what):
    """The files of a path, a folder, a glob or a list of these, sorted within each."""
    paths = [paths] if isinstance(paths, (str, Path)) or hasattr(paths, "__fspath__") else paths
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = (p for p in path.rglob("*") if p.is_file())
            inside = (p for p in inside if not p.name.startswith((".", "_")))
            found += sorted(p for p in inside if p.name.lower().endswith(suffixes))
        elif path.exists():
            found.append(path)
        else:
            found += sorted(path.parent.glob(path.name)) if "*" in path.name else []
        if not found or (not path.exists() and "*" not in path.name):
            raise FileNotFoundError(f"no {what} file at {path}")
    return found


class TextFiles(Source):
    """Files of one row a line, cut into blocks of about chunk_rows lines.

    A plain file is cut by bytes, into blocks that several readers take; a compressed one can
    only be read from its start, so it is one part.
    """

    def __init__(self, files, chunk_rows, shuffle, skip_lines=0):
        super().__init__(chunk_rows, shuffle)
        self.files = files
        self.skip_lines = skip_lines
        self._line_bytes = None

    def block_bytes(self):
        """Bytes of about chunk_rows lines, judged by the first MiB."""
        if self._line_bytes is None:
            head = self.head()
            self._line_bytes = max(1.0, len(head) / max(1, head.count(b"\n")))
        return max(1, round(self._line_bytes * self.chunk_rows))

    def head(self):
        """The first lines of the first file that has any, those to be skipped left out."""
        for path in self.files:
            with opened(path) as file:
                self._skip(file)
                text = file.read(PROBE_BYTES)
                text += file.readline()
            if text.strip():
                return text
        raise ValueError(f"the files are empty: {', '.join(map(str, self.files))}")

    def _skip(self, file):
        for _ in range(self.skip_lines):
            file.readline()

    def parts(self):
        step, parts = self.block_bytes(), []
        for k, path in enumerate(self.files):
            size = path.stat().st_size
            if path.suffix in OPENERS:
                parts.append((k, 0, None))
            elif size:
                edges = np.linspace(0, size, max(1, round(size / step)) + 1).astype(int).tolist()
                parts += [(k, lo, hi) for lo, hi in pairwise(edges)]
        return parts

    def label(self, part):
        k, lo, hi = part
        where = "" if hi is None else f", bytes {lo} to {hi}"
        return f"{self.files[k]}{where}"

    def read(self, part):
        for text in self.blocks(part):
            chunk = self.parse(text)
            n = chunk[0].shape[0]
            if n:
                for lo, hi in pieces(n, self.chunk_rows):
                    yield chunk if hi - lo == n else cut(chunk, lo, hi)

    def blocks(self, part):
        """The text of a part: the lines that begin in it, or as many as make a chunk."""
        k, lo, hi = part
        with opened(self.files[k]) as file:
            if hi is None:
                self._skip(file)
                while text := file.read(self.block_bytes()):
                    yield text + file.readline()
            else:
                if lo == 0:
                    self._skip(file)
                else:
                    # Up to the end of a line that began before; the byte before a line is its end.
                    file.seek(lo - 1)
                    file.readline()
                begin = file.tell()
                if begin < hi:
                    yield file.read(hi - begin - 1) + file.readline()

    def parse(self, text):
        """(X, y, sample_weight) of whole lines."""
        raise NotImplementedError

    def stamps(self):
        """What changes when a file does."""
        return [self.chunk_rows, *map(file_stamp, self.files)]


def opened(path):
    """A file of bytes, uncompressed on the way if its name says so."""
    return OPENERS.get(path.suffix, io.open)(path, "rb")


class Svmlight(TextFiles):
    """`label index:value ...` lines, as CSR."""

    def __init__(self, files, n_features, zero_based, dtype, chunk_rows, shuffle):
        super().__init__(files, chunk_rows, shuffle)
        self.dtype = np.dtype(dtype)
        self._zero_based = zero_based
        self._n_features = n_features
        self._options = [n_features, zero_based, self.dtype.str]
        self._parse_lines = _parser()

    @property
    def zero_based(self):
        """Whether the first column is 0; "auto" looks for a 0 in the first MiB."""
        if self._zero_based == "auto":
            _, columns, _, _ = self._parse_lines(self.head())
            self._zero_based = len(columns) > 0 and int(columns.min()) == 0
        return self._zero_based

    @property
    def n_features(self):
        """Columns; counted by reading everything once where not given."""
        if self._n_features is None:
            last = -1
            for part in super().parts():
                with closing(self.blocks(part)) as blocks:
                    for text in blocks:
                        _, columns, _, _ = self._parse_lines(text)
                        last = max(last, int(columns.max())) if len(columns) else last
            self._n_features = last + (1 if self.zero_based else 0)
        return self._n_features

    def parts(self):
        # Before readers share this object: what has to be looked up is looked up once.
        _ = self.n_features, self.zero_based
        return super().parts()

    @property
    def schema(self):
        return Schema(n_features=self._n_features, dtype=self.dtype, sparse=True)

    def parse(self, text):
        y, columns, values, starts = self._parse_lines(text)
        if not self.zero_based:
            columns = columns - 1
        n_features = self.n_features
        if len(columns):
            low, high = int(columns.min()), int(columns.max())
            if low < 0 or high >= n_features:
                first, extra = (0, 1) if self.zero_based else (1, 0)
                raise ValueError(
                    f"a column index is {(low if low < 0 else high) + 1 - first}; with "
                    f"n_features={n_features} and zero_based={self.zero_based} they go from "
                    f"{first} to {n_features - extra}. Give the right n_features and zero_based."
                )
        index = np.int32 if max(n_features, len(columns)) < 2**31 else np.int64
        parts = (values.astype(self.dtype, copy=False), columns.astype(index, copy=False), starts)
        return sp.csr_matrix(parts, shape=(len(y), n_features)), y, None

    def fingerprint(self):
        return digest([*self.stamps(), self._options])


def _parser():
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        return parse_with_sklearn
    return parse_lines


def parse_lines(text):
    """(labels, columns, values, row starts) by pyarrow, which parses without the GIL.

    Its CSV reader splits rows of equal length only, so each `index:value` becomes a row of two
    fields, and each label one with the index -1. Lines with anything else go the slow way.
    """
    # One byte is looked for ten times faster than two. Empty lines, and lines that begin with a
    # space, make labels without a value, which pyarrow refuses.
    if b"#" in text or b"q" in text or b"," in text:
        return parse_with_sklearn(text)
    import pyarrow as pa
    from pyarrow import csv

    text = text.replace(b"\r", b"").replace(b"\t", b" ").strip()
    if not text:
        return np.empty(0), np.empty(0, np.int32), np.empty(0), np.zeros(1, np.int32)
    rows = LABEL_MARK + text.replace(b"\n", b"\n" + LABEL_MARK).replace(b" ", b"\n")
    if b"+" in rows:  # fast_float takes no plus sign
        rows = rows.replace(b":+", b":")
    try:
        table = csv.read_csv(
            pa.BufferReader(rows),
            read_options=csv.ReadOptions(
                column_names=["column", "value"], use_threads=False, block_size=1 << 22
            ),
            parse_options=csv.ParseOptions(delimiter=":", quote_char=False),
            convert_options=csv.ConvertOptions(
                column_types={"column": pa.int32(), "value": pa.float64()}, null_values=[]
            ),
        )
    except pa.ArrowInvalid:
        # The other parser knows more, and its message speaks of the lines of the file.
        return parse_with_sklearn(text)
    columns, values = table["column"].to_numpy(), table["value"].to_numpy()
    # A column of the file may be -1 by mistake: then there are more marks than lines.
    labels = np.flatnonzero(columns == -1)
    if len(labels) != text.count(b"\n") + 1:
        raise ValueError("a column index is negative")
    inside = np.ones(len(columns), dtype=bool)
    inside[labels] = False
    starts = np.append(labels - np.arange(len(labels)), len(columns) - len(labels))
    return values[labels], columns[inside], values[inside], starts


def parse_with_sklearn(text):
    """The same by scikit-learn: the definition, and whatever the quick way does not take."""
    from sklearn.datasets import load_svmlight_file

    X, y = load_svmlight_file(io.BytesIO(text), zero_based=True)
    return y, X.indices, X.data, X.indptr
