"""What a bug report needs: versions, threads, BLAS, and what the kernels run on."""

import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version

from skpar._kernels.build import compiler, cython_version
from skpar._kernels.rows import simd_level
from skpar._workers import local_team, thread_pools

# Extras that only developers install; they say nothing of how skpar runs.
DEVELOPERS = {"test", "lint", "docs", "dev"}


def show_versions():
    """Print what a bug report should say of this installation.

    That is the versions of skpar, Python and what skpar depends on, the number of cores and
    of threads that `n_jobs=-1` gives, the thread pools of BLAS and OpenMP, and the kernels' SIMD
    level and compiler. The environment variable `SKPAR_SIMD` (scalar, neon, sse2, avx2 or
    avx512) lowers the level of a process that sets it before it imports skpar.

    Examples
    --------
    >>> import skpar
    >>> skpar.show_versions()  # doctest: +ELLIPSIS
    skpar: ...
    """
    for title, entries in _sections():
        if title:
            print(f"\n{title}")
        for name, value in entries:
            print(f"{name:>16s}: {value}" if title else f"{name}: {value}")


def _sections():
    """(title, ((name, value), ...)) in the order of printing."""
    needed, optional = _requirements()
    yield "", [("skpar", version("skpar"))]
    yield "System", [("python", sys.version.replace("\n", " ")), ("machine", platform.platform())]
    yield "Dependencies", [(name, _version(name)) for name in needed]
    yield "Optional", [(name, _version(name)) for name in optional]
    yield (
        "Kernels",
        [
            ("SIMD", simd_level()),
            ("compiler", compiler()),
            ("Cython", cython_version()),
        ],
    )
    yield "Threads", [("cores", os.cpu_count()), ("n_jobs=-1", local_team(-1).threads)]
    for pool in thread_pools():
        kind = pool.get("internal_api", "unknown")
        names = ("user_api", "version", "architecture", "threading_layer", "num_threads")
        yield f"Thread pool {kind}", [(name, pool[name]) for name in names if pool.get(name)]


def _requirements():
    """Names of what skpar needs, and of what its extras for users add."""
    needed, optional = [], []
    for line in requires("skpar") or ():
        name = re.match(r"[\w.-]+", line)[0]
        extra = re.search(r"extra == ['\"](\w+)['\"]", line)
        if extra is None:
            needed.append(name)
        elif extra[1] not in DEVELOPERS and name not in ("skpar", *optional):
            optional.append(name)
    return needed, optional


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
