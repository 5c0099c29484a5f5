"""(b) Seconds per epoch against scikit-learn, Snap ML and Vowpal Wabbit."""

import importlib.util
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from sklearn.linear_model import SGDClassifier, SGDRegressor

from benchmarks._common import (
    CLASSIFIER,
    REGRESSOR,
    Table,
    dense_problem,
    epoch_seconds,
    interleaved,
    objective,
    sparse_problem,
    speed_up,
)
from skpar import (
    HogwildClassifier,
    HogwildRegressor,
    ParallelSGDClassifier,
    ParallelSGDRegressor,
)

# Vowpal Wabbit reads text, which takes longer to write than to train on.
VW_ROWS = 20_000


def contenders(task, workers):
    """(name, estimator): scikit-learn first, which the others are compared with."""
    classify = task == "classification"
    common = CLASSIFIER if classify else REGRESSOR
    yield (
        ("SGDClassifier", SGDClassifier(**common))
        if classify
        else (
            "SGDRegressor",
            SGDRegressor(**common),
        )
    )
    ours = (
        (HogwildClassifier, ParallelSGDClassifier)
        if classify
        else (HogwildRegressor, ParallelSGDRegressor)
    )
    for cls in ours:
        for n_jobs in workers:
            yield f"{cls.__name__}(n_jobs={n_jobs})", cls(n_jobs=n_jobs, **common)


def timed(estimator, X, y):
    """A function without arguments that gives seconds an epoch."""
    return partial(epoch_seconds, lambda n: estimator.set_params(max_iter=n).fit(X, y))


def snapml_timed(X, y, task, n_jobs):
    """Snap ML's coordinate descent, which visits every row once an epoch too."""
    import snapml

    cls = snapml.LogisticRegression if task == "classification" else snapml.LinearRegression

    def fit(n):
        # `tol` has no "never"
        options = dict(max_iter=n, tol=1e-300, n_jobs=n_jobs, fit_intercept=True, random_state=0)
        cls(regularizer=1e-4 * len(y), **options).fit(X, y)

    return partial(epoch_seconds, fit)


def vw_timed(X, y, task, folder):
    """Vowpal Wabbit from its cache file; seconds an epoch of as many rows as X has."""
    from vowpalwabbit import Workspace

    n = min(X.shape[0], VW_ROWS)
    path = Path(folder, "rows")
    if not path.exists():
        _write_vw(path, sp.csr_matrix(X[:n]), y[:n], task)
    loss = "logistic" if task == "classification" else "squared"

    def fit(passes):
        Path(folder, "cache").unlink(missing_ok=True)
        command = f"-d {path} --cache_file {folder}/cache --passes {passes} --holdout_off"
        Workspace(f"{command} --loss_function {loss} -b 18 --quiet").finish()

    return lambda: epoch_seconds(fit) * X.shape[0] / n


def _write_vw(path, X, y, task):
    labels = np.where(y, 1, -1) if task == "classification" else y
    with path.open("w") as file:
        for i, label in enumerate(labels):
            part = slice(X.indptr[i], X.indptr[i + 1])
            pairs = zip(X.indices[part], X.data[part], strict=True)
            file.write(f"{label} |f " + " ".join(f"{j}:{v:.6g}" for j, v in pairs) + "\n")


def _others(X, y, task, workers, folder):
    """{name: function}, of what is installed and takes such data."""
    runs = {}
    if importlib.util.find_spec("snapml") is not None:
        for n_jobs in workers:
            runs[f"Snap ML(n_jobs={n_jobs})"] = snapml_timed(X, y, task, n_jobs)
    if importlib.util.find_spec("vowpalwabbit") is not None and X.dtype == np.float64:
        runs["Vowpal Wabbit"] = vw_timed(X, y, task, folder)
    return runs


def run(options):
    """The tables of this part, and the figures of its plot."""
    note = (
        "Seconds of six epochs less those of two, by four; medians of interleaved rounds. Dense: "
        "500,000 x 54; sparse: 200,000 x 50,000, 70 draws a row from Zipf columns (at scale "
        f"{options.scale:g}). Snap ML runs coordinate descent. Vowpal Wabbit runs its default "
        f"steps on {VW_ROWS:,} rows from its cache file, times the ratio of rows. The "
        "objective is that after six epochs."
    )
    header = ["task", "problem", "contender", "seconds an epoch", "speed-up", "objective"]
    table, bars = Table("Epochs", note, header), {}
    workers = sorted({1, options.max_workers})
    for name, problem in (("dense", dense_problem), ("sparse", sparse_problem)):
        X, score = problem(options.scale)
        for task in ("classification", "regression"):
            y = score > 0 if task == "classification" else score
            with tempfile.TemporaryDirectory() as folder:
                for dtype in ("float64", "float32"):
                    rows = X.astype(dtype)
                    models = dict(contenders(task, workers))
                    runs = {k: timed(model, rows, y) for k, model in models.items()}
                    runs |= _others(rows, y, task, workers, folder)
                    seconds = {
                        k: np.median(v) for k, v in interleaved(runs, options.rounds).items()
                    }
                    base = next(iter(seconds.values()))
                    for key, value in seconds.items():
                        end = f"{objective(models[key], rows, y):.5f}" if key in models else ""
                        times = speed_up(base, value)
                        cells = [task, f"{name} {dtype}", key, f"{value:.4f}", f"{times:.1f}x", end]
                        table.rows.append(cells)
                        if task == "classification":
                            bars.setdefault(key, {})[f"{name} {dtype}"] = times
    return [table], bars


def plot(axes, figures):
    """Speed-ups over SGDClassifier."""
    problems = list(next(iter(figures.values())))
    width = 0.8 / len(figures)
    for k, (name, times) in enumerate(figures.items()):
        at = [i + k * width for i, problem in enumerate(problems) if problem in times]
        axes.bar(at, times.values(), width, label=name)
    axes.set_xticks([i + 0.4 for i in range(len(problems))], problems, fontsize=7)
    axes.legend(fontsize=6)
    axes.set_ylabel("times faster an epoch, log loss")
    axes.set_title("Epochs against SGDClassifier")
