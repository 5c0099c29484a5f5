"""Files that are there as a whole or not at all, whenever the process or the machine dies."""

import os
import secrets
from contextlib import suppress
from pathlib import Path


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

    Whoever reads `path` finds all of the old content or all of the new.
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
