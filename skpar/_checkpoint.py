"""Checkpoints of a stream: one .npz of plain arrays and a json text, written by rename."""

import json
import re
import zipfile
from pathlib import Path
from time import perf_counter

import numpy as np

from skpar._durable import write_durably

FORMAT = 1
UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "chunk": 0, "chunks": 0}


class CheckpointError(ValueError):
    """A checkpoint that cannot be used, and why."""


def save(path, groups, meta):
    """Write a checkpoint.

    Parameters
    ----------
    path : path-like
        The file; the one that is there stays whole until the new one is.
    groups : dict of str to dict of str to ndarray
        Arrays by group and name, none of objects.
    meta : dict
        Whatever else, for json.
    """
    text = json.dumps({"format": FORMAT, **meta}).encode()
    arrays = {f"{group}/{k}": a for group, named in groups.items() for k, a in named.items()}

    def write(file):
        np.savez(file, meta=np.frombuffer(text, np.uint8), **arrays)

    write_durably(path, write)


def load(path):
    """(groups, meta) of a checkpoint; executes no code from it.

    Raises
    ------
    CheckpointError
        If the file is not a checkpoint of this format.
    """
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            meta = json.loads(file["meta"].tobytes())
            groups = {}
            for name in file.files:
                group, _, key = name.partition("/")
                if key:
                    groups.setdefault(group, {})[key] = file[name]
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is not a checkpoint of fit_stream: {error}") from error
    if meta.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is a checkpoint of format {meta.get('format')}; this skpar writes {FORMAT}"
        )
    return groups, meta


def compare(path, written, now):
    """Raise CheckpointError where a checkpoint is of another run, saying in what they differ."""
    for key, value in now.items():
        before = written.get(key)
        if value is None or before is None or value == before:
            continue
        what = f"the {key}"
        if isinstance(value, dict):
            names = [k for k in value if value[k] != before.get(k)]
            what = f"the {key} ({', '.join(names)})"
        raise CheckpointError(
            f"the checkpoint {path} is of another run: {what} differed. Remove the file to start "
            "anew, or give the checkpoint another name."
        )


class Clock:
    """When the next checkpoint is due: after so many seconds or so many chunks.

    Parameters
    ----------
    every : str
        Such as "60 s", "5 min" or "100 chunks".
    """

    def __init__(self, every):
        found = (
            re.fullmatch(r"\s*(\d+\.?\d*)\s*([a-z]+)\s*", every) if isinstance(every, str) else None
        )
        if found is None or found[2] not in UNITS or not float(found[1]) > 0:
            raise ValueError(
                f'checkpoint_every must be a text such as "60 s", "5 min" or "100 chunks", got '
                f"{every!r}"
            )
        self.amount, self.unit = float(found[1]), UNITS[found[2]]
        self.restart()

    def restart(self):
        """Begin to count."""
        self.begin, self.chunks = perf_counter(), 0

    def due(self):
        """Whether a checkpoint is due after one more chunk."""
        self.chunks += 1
        if self.unit:
            return perf_counter() - self.begin >= self.amount * self.unit
        return self.chunks >= self.amount


def checked_path(checkpoint):
    """The checkpoint's path, in a folder that exists."""
    path = Path(checkpoint)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder of the checkpoint, {path.parent}, does not exist")
    if path.is_dir():
        raise IsADirectoryError(f"checkpoint={str(path)!r} is a folder; give the name of a file")
    return path


def found(checkpoint):
    """(path, what it holds), None where no checkpoint is wanted or there is none yet."""
    if checkpoint is None:
        return None, None
    path = checked_path(checkpoint)
    return path, load(path) if path.exists() else None
