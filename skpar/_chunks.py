"""Chunks of rows, `(X, y, sample_weight)`: cut, joined, permuted; fingerprints of what they hold."""

import hashlib
import json

import numpy as np
import scipy.sparse as sp


def pieces(n_rows, chunk_rows):
    """Cut n_rows into equal spans of about chunk_rows (at most 1.5 times as many)."""
    n = max(1, round(n_rows / chunk_rows))
    edges = np.linspace(0, n_rows, n + 1).astype(int)
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))


def cut(chunk, lo, hi):
    """Rows lo to hi of (X, y, sample_weight)."""
    return tuple(None if part is None else take(part, slice(lo, hi)) for part in chunk)


def permuted(chunk, order):
    """(X, y, sample_weight) with its rows in the given order."""
    return tuple(None if part is None else take(part, order) for part in chunk)


def take(rows, which):
    """Rows of an array, a matrix, a frame or a list, by slice or places."""
    if hasattr(rows, "iloc"):
        return rows.iloc[which]
    if isinstance(rows, (list, tuple)):
        return rows[which] if isinstance(which, slice) else [rows[i] for i in which]
    return rows[which]


def n_rows_of(X):
    """Rows of an array, a matrix, a frame or a list."""
    return X.shape[0] if hasattr(X, "shape") else len(X)


def as_triple(item):
    """(X, y, sample_weight) of what a user's iterable gave: X, (X, y) or all three."""
    if not isinstance(item, tuple):
        return item, None, None
    if not 1 <= len(item) <= 3:
        raise ValueError(
            f"a chunk must be X, (X, y) or (X, y, sample_weight), not a tuple of {len(item)}"
        )
    return item + (None,) * (3 - len(item))


def joined(parts):
    """One X (or y, or sample_weight) of several that follow each other."""
    first = parts[0]
    if first is None or len(parts) == 1:
        return first
    if sp.issparse(first):
        return sp.vstack(parts, format="csr")
    if hasattr(first, "iloc"):
        import pandas as pd

        return pd.concat(parts, ignore_index=True)
    if isinstance(first, list):
        return [row for part in parts for row in part]
    return np.concatenate(parts)


def rechunked(chunks, chunk_rows):
    """Chunks of about chunk_rows rows: small ones joined, large ones cut."""
    held, rows = [], 0
    for chunk in chunks:
        held.append(chunk)
        rows += n_rows_of(chunk[0])
        if rows >= chunk_rows:
            whole = tuple(map(joined, zip(*held, strict=True)))
            yield from (cut(whole, lo, hi) for lo, hi in pieces(rows, chunk_rows))
            held, rows = [], 0
    if held:
        yield tuple(map(joined, zip(*held, strict=True)))


def digest(value):
    """A short fingerprint of anything that json can write."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def file_stamp(path):
    """What changes when a file does: its path, size and time of change."""
    stat = path.stat()
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]
