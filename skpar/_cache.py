"""A binary copy of a source: written while it is read first, memory-mapped from then on."""

import json
import os
import secrets
import uuid
import zlib
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from skpar._source import Wrapped, digest

FORMAT = 1
# Arrays begin at multiples of this, for the widest vector loads.
ALIGN = 64
PAGE = 4096


def fsync_folder(folder):
    """Make a rename in a folder survive a power cut, where the system lets us."""
    if os.name == "nt":  # Windows opens no folders; its renames are journalled
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_durably(path, write):
    """Call `write(file)` on a temporary file beside `path`, fsync it and rename it to `path`.

    Whoever reads `path` finds all of the old content or all of the new, whenever we die.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    fsync_folder(path.parent)


class Cached(Wrapped):
    """A source with a copy: a file of arrays and a file of their places for each part.

    The places are written last, by rename, so a part is there as a whole or not at all; a run
    that was killed goes on with the parts that it finished. The manifest holds the
    fingerprint of the source: with another one the copy is thrown away.
    """

    def __init__(self, inner, folder):
        super().__init__(inner)
        self.folder = Path(folder)
        self._known = inner.fingerprint()
        if self._known is None and _has_nameless_map(inner):
            raise ValueError(
                "cached cannot know when the function given to map (or the transformer) changes: "
                "give map a key, and transform a transformer whose state is arrays and text."
            )
        # Without a fingerprint the copy serves this object only.
        self._stamp = digest([FORMAT, inner.chunk_rows, self._known or uuid.uuid4().hex])
        self._parts = None
        self._prepared = False

    @property
    def folder_stamp(self):
        """What the names of this copy's files begin with."""
        return self._stamp[:12]

    def fingerprint(self):
        return self._known

    def parts(self):
        if not self._prepared:
            self._prepare()
        if self._parts is None:
            self._parts = list(enumerate(self.inner.parts()))
        return self._parts

    def label(self, part):
        return self.inner.label(part[1])

    def _prepare(self):
        """Throw away the copy of another source, and what a killed run left half-written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        manifest = self.folder / "manifest.json"
        written = {}
        with suppress(FileNotFoundError, json.JSONDecodeError):
            written = json.loads(manifest.read_text(encoding="utf-8"))
        if written.get("stamp") != self._stamp:
            if not manifest.exists() and any(self.folder.iterdir()):
                raise ValueError(
                    f"the cache folder {self.folder} holds files that are not a cache; "
                    "give an empty or a new folder"
                )
            for path in self.folder.glob("*-part-*"):
                path.unlink(missing_ok=True)
            text = json.dumps({"stamp": self._stamp, "format": FORMAT, "source": self._known})
            write_durably(manifest, lambda file: file.write(text.encode()))
        self._prepared = True

    def _paths(self, number):
        stem = f"{self.folder_stamp}-part-{number:06d}"
        return self.folder / f"{stem}.bin", self.folder / f"{stem}.json"

    def read(self, part):
        number, original = part
        data, places = self._paths(number)
        index = _read_index(data, places)
        if index is not None:
            for entry in index["chunks"]:
                yield _mapped(data, entry)
            return
        yield from self._copied(original, data, places)

    def _copied(self, original, data, places):
        temporary = data.with_name(f"{data.name}.{secrets.token_hex(4)}.tmp")
        entries = []
        try:
            with open(temporary, "wb") as file, closing(self.inner.read(original)) as chunks:
                for chunk in chunks:
                    entries.append(_append(file, chunk))
                    yield chunk
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
            os.replace(temporary, data)
        finally:
            # Gone after the rename; otherwise the part was not read to its end.
            temporary.unlink(missing_ok=True)
        text = json.dumps({"size": size, "chunks": entries}).encode()
        write_durably(places, lambda file: file.write(b"%08x" % zlib.crc32(text) + text))


def _has_nameless_map(source):
    """Whether a fingerprint is missing for what was done to the rows, not for the rows."""
    return isinstance(source, Wrapped) and (
        source.inner.fingerprint() is not None or _has_nameless_map(source.inner)
    )


def _read_index(data, places):
    """The places of a finished part; None where it is absent or damaged."""
    try:
        raw = places.read_bytes()
        size = data.stat().st_size
    except FileNotFoundError:
        return None
    if len(raw) < 8 or raw[:8] != b"%08x" % zlib.crc32(raw[8:]):
        return None
    index = json.loads(raw[8:])
    return index if index["size"] == size else None


def _append(file, chunk):
    """Write the arrays of a chunk at the end of a file; where they are, for json."""
    X, y, sample_weight = chunk
    if sp.issparse(X):
        X = X.tocsr()
        named = {"data": X.data, "indices": X.indices, "indptr": X.indptr}
    else:
        named = {"X": np.ascontiguousarray(X)}
    named |= {"y": y, "sample_weight": sample_weight}
    entry = {"shape": list(X.shape) if sp.issparse(X) else None, "arrays": {}}
    for name, array in named.items():
        if array is not None:
            entry["arrays"][name] = _append_array(file, _plain(array, name))
    return entry


def _plain(array, name):
    array = np.ascontiguousarray(array)
    if array.dtype.hasobject:
        items = array.ravel().tolist()
        if not all(isinstance(item, str) for item in items):
            raise ValueError(
                f"{name} holds Python objects, of which no binary copy can be made; "
                "cache numbers or text, or put the cache after a transform that makes numbers: "
                "source.transform(vectorizer).cached(folder)"
            )
        array = array.astype(str)
    return array


def _append_array(file, array):
    file.write(b"\0" * (-file.tell() % ALIGN))
    begin = file.tell()
    file.write(memoryview(array).cast("B") if array.size and array.dtype.kind != "U" else array.tobytes())
    return {"offset": begin, "dtype": array.dtype.str, "shape": list(array.shape)}


def _mapped(path, entry):
    arrays = {name: _map(path, place) for name, place in entry["arrays"].items()}
    if entry["shape"] is not None:
        parts = (arrays["data"], arrays["indices"], arrays["indptr"])
        X = sp.csr_matrix(parts, shape=tuple(entry["shape"]))
    else:
        X = arrays["X"]
    return X, arrays.get("y"), arrays.get("sample_weight")


def _map(path, place):
    shape, dtype = tuple(place["shape"]), np.dtype(place["dtype"])
    if 0 in shape:
        return np.empty(shape, dtype)
    array = np.memmap(path, dtype, "r", offset=place["offset"], shape=shape)
    # Pages come from the disk here, in the reader, and not under the hands of the training.
    bytes_ = np.frombuffer(array, np.uint8)
    np.add.reduce(bytes_[::PAGE])
    return np.asarray(array)
