"""A binary copy of a source: written while it is read first, memory-mapped from then on."""

import json
import os
import secrets
import zlib
from contextlib import suppress
from pathlib import Path
from time import time

import numpy as np
import scipy.sparse as sp

from skpar._durable import write_durably

FORMAT = 1
# Arrays begin at multiples of this, for the widest vector loads.
ALIGN = 64
PAGE = 4096
STALE_SECONDS = 600.0


class Copy:
    """A folder with a file of arrays and a file of their places for each part of a source.

    The places are written last, by rename, so a part is there as a whole or not at all; a run
    that was killed goes on with the parts that it finished. The manifest holds the stamp of
    the source: with another one the copy is thrown away.

    Parameters
    ----------
    folder : path-like
        Made if absent.
    stamp : str
        Changes when the source does.
    """

    def __init__(self, folder, stamp):
        self.folder, self.stamp = Path(folder), stamp

    def prepare(self):
        """Throw away the copy of another source, and what a killed run left half-written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        manifest = self.folder / "manifest.json"
        written = None
        with suppress(FileNotFoundError, json.JSONDecodeError):
            written = json.loads(manifest.read_text(encoding="utf-8"))
        now = {"format": FORMAT, "stamp": self.stamp}
        if written == now:
            self._sweep()
            return
        if written is None and any(self.folder.iterdir()):
            raise ValueError(
                f"the cache folder {self.folder} holds files that are not a cache; give an empty "
                "or a new folder"
            )
        for path in self.folder.glob("*-part-*"):
            path.unlink(missing_ok=True)
        write_durably(manifest, lambda file: file.write(json.dumps(now).encode()))

    def _sweep(self):
        """Remove what killed runs left; a living one writes to its file all the time."""
        for path in self.folder.glob("*.tmp"):
            with suppress(FileNotFoundError):
                if time() - path.stat().st_mtime > STALE_SECONDS:
                    path.unlink()

    def _paths(self, number):
        # The stamp in the name keeps apart what runs over different sources write at once.
        stem = f"{self.stamp[:12]}-part-{number:06d}"
        return self.folder / f"{stem}.bin", self.folder / f"{stem}.json"

    def chunks(self, number):
        """The chunks of a part, memory-mapped; None where it has not been written yet."""
        data, places = self._paths(number)
        index = _read_index(data, places)
        return None if index is None else (_mapped(data, entry) for entry in index["chunks"])

    def written(self, number, chunks):
        """Yield the chunks of a part and keep a copy, which counts once all have been seen."""
        data, places = self._paths(number)
        temporary = data.with_name(f"{data.name}.{secrets.token_hex(4)}.tmp")
        entries = []
        try:
            with open(temporary, "wb") as file:
                for chunk in map(_plain, chunks):
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


def _plain(chunk):
    """(X, y, sample_weight) as they will be read back: arrays, or a CSR matrix for X."""
    X, *others = chunk
    X = X.tocsr() if sp.issparse(X) else _plain_array(X, "X")
    return X, *(
        None if other is None else _plain_array(other, name)
        for other, name in zip(others, ("y", "sample_weight"), strict=True)
    )


def _plain_array(array, name):
    array = np.ascontiguousarray(array)
    if array.dtype.hasobject:
        if not all(isinstance(item, str) for item in array.ravel().tolist()):
            raise ValueError(
                f"{name} holds Python objects, of which no binary copy can be made; "
                "cache numbers or text, or put the cache after a transform that makes numbers: "
                "source.transform(vectorizer).cached(folder)"
            )
        array = array.astype(str)
    return array


def _append(file, chunk):
    """Write the arrays of a plain chunk at the end of a file; where they are, for json."""
    X, y, sample_weight = chunk
    if sp.issparse(X):
        named = {"data": X.data, "indices": X.indices, "indptr": X.indptr}
    else:
        named = {"X": X}
    named |= {"y": y, "sample_weight": sample_weight}
    places = {k: _append_array(file, a) for k, a in named.items() if a is not None}
    return {"shape": list(X.shape) if sp.issparse(X) else None, "arrays": places}


def _append_array(file, array):
    array = np.ascontiguousarray(array)
    file.write(b"\0" * (-file.tell() % ALIGN))
    begin = file.tell()
    file.write(array.ravel().view(np.uint8).data)
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
