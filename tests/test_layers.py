"""Each module imports only from those to its right (CONTRIBUTING.md has the picture)."""

import ast
from pathlib import Path

import pytest

import skpar

ROOT = Path(skpar.__file__).parent
LAYERS = [  # from the top down; a module may import what stands below its own line
    # streams: nothing below imports from here
    {"stream"},
    {"_streaming", "sources"},
    {"_checkpoint", "_stream_progress", "_stream_score", "_sources_memory", "_tables"},
    {"_queue", "_text", "_stream_records"},
    {"_source"},
    {"_cache"},
    {"_chunks", "_durable", "_state"},
    # estimators
    {"estimators"},
    {"_classifier", "_regressor"},
    {"_targets"},
    {"_together"},
    {"_many_fit"},
    {"_decisions"},
    {"_collections"},
    {"_base"},
    {"_fitted", "_validation", "_partitions", "_class_weights"},
    {"_parts"},
    {"_many_auto"},
    {"_train_many"},
    {"_train"},
    {"_squares"},
    {"_few_rows"},
    {"_auto"},
    {"_sampled", "_steps"},
    {"_many_gradients"},
    {"_many_averaging", "_many_lockfree"},
    {"_averaging", "_gradients"},
    {"_descent", "_least_squares", "_many", "_many_dual", "_softmax_dual", "_lockfree"}
    | {"_many_schemes"},
    {"_dual", "_many_hessian", "_small"},
    {"_newton", "_outputs", "_merging"},
    {"_gram"},
    {"_vectors", "_objective", "_predict", "_schemes", "_show_versions"},
    {"_measures", "_workers"},
    {"_dask"},
    {"_cluster"},
    {"_placement"},
    {
        "_problem",
        "_links",
        "_data",
        "_schedules",
        "_callbacks",
        "_docs",
        "_bridge",
        "callbacks",
        "_sparsify",
        "_many_split",
        "_scratch",
    },
    {"_many_state"},
    {"_kernels"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
HOME = {  # libraries that belong to one room, or to a few
    "joblib": {"_workers", "_cluster"},
    "threadpoolctl": {"_workers"},
    "threading": {"_workers", "_queue"},
    "queue": {"_workers", "_queue"},
    "concurrent": {"_workers", "_dask", "_queue"},
    "multiprocessing": {"_workers", "_queue"},
    "pyarrow": {"_tables", "_text"},
    "dask": {"_dask", "_partitions"},
    "distributed": {"_dask", "_partitions"},
    "ray": {"_cluster"},
    "matplotlib": {"display"},
    "sklearn": {
        "estimators",
        "_classifier",
        "_together",
        "_targets",
        "_regressor",
        "_base",
        "_parts",
        "_class_weights",
        "_collections",
        "_validation",
        "_bridge",
        "_decisions",
        "_sparsify",
        "display",
        "_callbacks",
        "stream",
        "_stream_progress",
        "_stream_score",
        "_text",
    },
}
MODULES = sorted(
    {p.stem for p in ROOT.glob("*.py")}
    | {p.name for p in ROOT.iterdir() if p.is_dir() and list(p.glob("*.py"))}
)


def imports(source, inside=()):
    """Dotted names that a source imports; relative ones come back as skpar...

    `inside` holds the packages of the source below skpar.
    """
    here = ["skpar", *inside]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) + 1 - node.level] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            yield from (".".join([*base, alias.name]) for alias in node.names)


def offences(module, names):
    for name in names:
        root, *rest = name.split(".")
        if root == "skpar":
            target = rest[0] if rest else "skpar"
            if target == module == "_kernels":
                continue
            if module == "display" or LEVEL.get(target, -1) <= LEVEL[module]:
                yield f"{module} imports {name}"
        elif module not in HOME.get(root, {module}):
            yield f"{module} imports {name}, which belongs in {', '.join(sorted(HOME[root]))}"


def sources(module):
    path = ROOT / module
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


@pytest.mark.parametrize("module", [m for m in MODULES if m != "__init__"])
def test_module_keeps_to_its_layer(module):
    assert module in {*LEVEL, "display"}, f"{module} has no place in the layers: give it one"
    for path in sources(module):
        inside = path.relative_to(ROOT).parts[:-1]
        found = list(offences(module, imports(path.read_text(encoding="utf-8"), inside)))
        assert not found, found


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("_data", "from ._train import run"),
        ("_data", "from . import _problem"),
        ("_schemes", "import skpar.estimators"),
        ("_schemes", "def f():\n    import joblib"),
        ("_problem", "from sklearn.utils import check_array"),
        ("_train", "import threading as t"),
        ("_base", "from matplotlib import pyplot"),
        ("display", "from ._base import Shared"),
        ("_kernels", "from .._data import Batch"),
        ("estimators", "from skpar import HogwildClassifier"),
    ],
)
def test_the_rule_sees_offences(module, line):
    inside = (module,) if module == "_kernels" else ()
    assert list(offences(module, imports(line, inside)))


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("_base", "from . import _train"),
        ("_base", "from sklearn.base import BaseEstimator"),
        ("_schemes", "from ._kernels import sgd"),
        ("_schemes", "from ._kernels.sgd import train"),
        ("_kernels", "from . import losses"),
        ("_workers", "import joblib, threading"),
        ("_problem", "import numpy as np"),
    ],
)
def test_the_rule_lets_pass(module, line):
    inside = (module,) if module == "_kernels" else ()
    assert not list(offences(module, imports(line, inside)))
