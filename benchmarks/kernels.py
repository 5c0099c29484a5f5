"""(a) The kernels: nanoseconds a row and GB/s, against what this machine can read."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from benchmarks._common import (
    CLASSIFIER,
    REGRESSOR,
    Table,
    dense_problem,
    seconds_of,
    sparse_problem,
)
from skpar import HogwildClassifier, HogwildRegressor

CLASSIFICATION = ["log_loss", "hinge", "squared_hinge", "modified_huber", "perceptron"]
REGRESSION = ["squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"]
WIDTHS = [8, 784]
EPOCHS = 5
GB = 1e9


def bandwidth(n_threads, scale, repeats=5):
    """GB/s of summing the squares of an array that no cache holds, in `n_threads` threads."""
    parts = np.array_split(np.ones(max(1 << 20, int((1 << 26) * scale))), n_threads)
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(n_threads) as pool:

        def read():
            list(pool.map(lambda part: part @ part, parts))

        best = min(seconds_of(read) for _ in range(repeats + 1))
    return sum(part.nbytes for part in parts) / best / GB


def row_bytes(X):
    """Bytes that a pass reads of each row, its target included."""
    if sp.issparse(X):
        return (X.data.nbytes + X.indices.nbytes + X.indptr.nbytes) / X.shape[0] + 8
    return X.nbytes / X.shape[0] + 8


def training(loss, X, score):
    """Seconds an epoch of one worker, without the measuring between epochs."""
    if loss in CLASSIFICATION:
        estimator = HogwildClassifier(**CLASSIFIER | dict(loss=loss, max_iter=EPOCHS))
        y = score > 0
    else:
        estimator = HogwildRegressor(**REGRESSOR | dict(loss=loss, max_iter=EPOCHS, eta0=1e-4))
        y = score
    history = estimator.fit(X, y).history_
    return len(y) / np.median(history["rows_per_second"][1:]), estimator


def layouts(options):
    """(name, X, score) of each layout; the widths beside 54 show what a row itself costs."""
    X, score = dense_problem(options.scale)
    yield f"dense, {X.shape[1]} columns", X, score
    yield "CSR, 70 a row, int32", *sparse_problem(options.scale)
    X, score = sparse_problem(options.scale)
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    yield "CSR, 70 a row, int64", X, score
    for d in WIDTHS:
        X, score = dense_problem(options.scale * min(54 / d, 2.0), d)
        yield f"dense, {d} columns", X, score


def run(options):
    """The tables of this part, and the figures of its plot."""
    reads = {k: bandwidth(k, options.scale) for k in sorted({1, options.max_workers})}
    said = ", ".join(f"{gb:.1f} GB/s with {k} threads" for k, gb in reads.items())
    note = (
        f"One worker; a row's bytes are its numbers, indices and target. This machine reads {said} "
        "(sum of squares of 512 MB); the last column is the share of what one thread reads."
    )
    header = ["kernel", "layout", "dtype", "ns a row", "GB/s", "of one thread's bandwidth"]
    table, bars = Table("Kernels", note, header), {}
    for layout, X, score in layouts(options):
        for dtype in ("float64", "float32"):
            rows = X.astype(dtype)
            usual = "54" in layout or "int32" in layout
            for loss in CLASSIFICATION + REGRESSION if usual else CLASSIFICATION[:1]:
                seconds, model = training(loss, rows, score)
                gb = row_bytes(rows) * len(score) / seconds / GB
                _add(table, f"step, {loss}", layout, dtype, seconds / len(score), gb, reads[1])
                if loss == "log_loss":
                    bars[f"{layout}, {dtype}"] = gb
                    score_rows = model.decision_function
            score_rows(rows)
            seconds = np.median([seconds_of(score_rows, rows) for _ in range(options.rounds)])
            gb = (row_bytes(rows) - 8) * len(score) / seconds / GB
            _add(table, "decision_function", layout, dtype, seconds / len(score), gb, reads[1])
    return [table], {"bars": bars, "lines": reads}


def _add(table, kernel, layout, dtype, seconds, gb, limit):
    cells = [kernel, layout, dtype, f"{seconds * 1e9:.1f}", f"{gb:.2f}", f"{gb / limit:.0%}"]
    table.rows.append(cells)


def plot(axes, figures):
    """Bars of GB/s per layout, and lines of what the machine reads."""
    names = list(figures["bars"])
    axes.barh(range(len(names)), figures["bars"].values())
    axes.set_yticks(range(len(names)), names, fontsize=7)
    for k, gb in figures["lines"].items():
        axes.axvline(gb, ls="--", c="grey")
        axes.text(gb, len(names) - 0.4, f"{k} thr.", fontsize=7, ha="right", va="bottom")
    axes.invert_yaxis()
    axes.set_xlabel("GB/s, log loss, one worker (dashed: a plain read)")
    axes.set_title("Kernels")
