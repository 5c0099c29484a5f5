"""What the benchmarks share: problems, timing, tables, the machine's name."""

import importlib.util
import os
import platform
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import scipy.sparse as sp

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
# The step sizes of scikit-learn's defaults, so that both walk the same path.
CLASSIFIER = dict(loss="log_loss", learning_rate="optimal", tol=None, random_state=0)
REGRESSOR = dict(
    loss="squared_error", learning_rate="invscaling", eta0=0.01, tol=None, random_state=0
)
FEW, MANY = 2, 6
TIMED_SECONDS = 0.1


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    scale: float = 1.0
    rounds: int = 5
    max_workers: int = os.cpu_count()


@dataclass
class Table:
    """A title, what to know of it, and rows of cells."""

    title: str
    note: str
    header: list
    rows: list = field(default_factory=list)

    def markdown(self):
        lines = [f"## {self.title}", "", self.note, ""]
        lines += [_row(self.header), _row(["---"] * len(self.header))]
        return "\n".join(lines + [_row(row) for row in self.rows])


def _row(cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


# -- the machine ----------------------------------------------------------------------------


def machine():
    """The processor's name and the number of its cores that this process may use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        found = re.search(r"model name\s*:\s*(.+)", info.read_text())
        name = found[1].strip() if found else name
    return f"{name}, {os.cpu_count()} cores"


def slug(text):
    """`text` as the name of a file."""
    return re.sub(r"\W+", "-", text.lower()).strip("-")


def worker_counts(options):
    """1, 2, 4, ... and all cores."""
    counts = [1]
    while counts[-1] * 2 <= options.max_workers:
        counts.append(counts[-1] * 2)
    return counts + [options.max_workers] * (counts[-1] < options.max_workers)


# -- time -----------------------------------------------------------------------------------


def seconds_of(function, *args):
    begin = time.perf_counter()
    function(*args)
    return time.perf_counter() - begin


def interleaved(functions, rounds):
    """{name: the values of `rounds` calls}, each round calling every function once.

    What else the machine does then meets all of them alike.
    """
    values = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            values[name].append(function())
    return values


def epochs_between(first_fit):
    """How many epochs to time where one fit of MANY took this long."""
    per_epoch = max(first_fit / MANY, 1e-6)
    return int(np.clip(np.ceil(TIMED_SECONDS / per_epoch), MANY - FEW, 400))


def epoch_seconds(fit, more=MANY - FEW):
    """Seconds an epoch, that of FEW + more epochs less that of FEW.

    Validation and set-up do not count. `fit(n_epochs)` trains anew.
    """
    few = seconds_of(fit, FEW)
    return max(seconds_of(fit, FEW + more) - few, 0.0) / more


def speed_up(base, seconds):
    """base / seconds; NaN where the time was too short to be told from nothing."""
    return base / seconds if base > 0 and seconds > 0 else np.nan


# -- problems -------------------------------------------------------------------------------


def dense_problem(scale=1.0, d=54, seed=0):
    """500,000 x 54 at scale 1: normal numbers and a noisy linear score."""
    rng = np.random.default_rng(seed)
    n = max(200, int(500_000 * scale))
    X = rng.standard_normal((n, d))
    return X, X @ rng.standard_normal(d) + 3 * rng.standard_normal(n)


def sparse_problem(scale=1.0, seed=0):
    """200,000 x 50,000 at scale 1, 70 draws a row from Zipf columns, and a noisy score."""
    rng = np.random.default_rng(seed)
    n, d, k = max(200, int(200_000 * scale)), 50_000, 70
    share = np.cumsum(1 / np.arange(1, d + 1) ** 1.1)
    columns = np.searchsorted(share / share[-1], rng.random(n * k)).clip(0, d - 1)
    return _sparse(columns, n, d, k, rng)


def wide_problem(scale=1.0, seed=0):
    """200,000 x 2**24 at scale 1, 30 draws a row from Zipf columns in hashed places."""
    rng = np.random.default_rng(seed)
    n, d, k = max(200, int(200_000 * scale)), 1 << max(12, int(24 + np.log2(scale))), 30
    ranks = np.minimum(d ** rng.random(n * k), d - 1).astype(np.int64)
    # An odd multiplier permutes the columns.
    return _sparse(ranks * 2_654_435_761 % d, n, d, k, rng)


def _sparse(columns, n, d, k, rng):
    X = sp.csr_matrix((np.ones(n * k), columns, np.arange(0, n * k + 1, k)), shape=(n, d))
    X.sum_duplicates()
    X.indices, X.indptr = X.indices.astype(np.int32), X.indptr.astype(np.int32)
    X.data = rng.random(X.nnz) / np.sqrt(k)
    return X, X @ rng.standard_normal(d) + 0.5 * rng.standard_normal(n)


PROBLEMS = {"dense": dense_problem, "sparse": sparse_problem, "wide": wide_problem}
SHARED_SETS = {
    "mnist": lambda y: y % 2,
    "ijcnn1": None,
    "covtype20k": None,
    "a9a": None,
    "news20_binary": None,
    "amazon_reviews": None,
    "cal_housing": None,
    "diamonds": None,
    "kdd99": None,  # the largest
}


def shared_loader():
    """The function that loads a set of shared/data; None where the folder is absent."""
    path = SHARED_DATA / "load.py"
    if not path.is_file() or importlib.util.find_spec("pandas") is None:
        return None
    spec = importlib.util.spec_from_file_location("shared_data_load", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load


def shared_sets(options):
    """(name, X, y, whether y is labels) of shared/data; none where the folder is absent."""
    load = shared_loader()
    if load is None:
        return
    # A run at a small scale is there to see that all runs; these load in no time.
    names = SHARED_SETS if options.scale >= 0.1 else ["covtype20k", "cal_housing"]
    for name in names:
        data = load(name)
        change = SHARED_SETS[name]
        y = data["y"] if change is None else change(data["y"])
        n = max(200, int(len(y) * min(1.0, options.scale)))
        yield name, data["X"][:n], y[:n], data["task"] != "regression"


def objective(estimator, X, y):
    """Mean log loss or half squared error plus the l2 penalty, from the definition."""
    w, b = np.ravel(estimator.coef_).astype(float), np.ravel(estimator.intercept_)[0]
    p = X @ w + b
    if hasattr(estimator, "classes_"):
        losses = np.logaddexp(0, p) - (y == estimator.classes_[1]) * p
    else:
        losses = (p - y) ** 2 / 2
    return np.mean(losses) + estimator.alpha / 2 * w @ w
