"""
Quickstart: all cores against one
=================================

Train on a file of yours, or on generated data, and compare scikit-learn's ``SGDClassifier``
with the estimators of skpar on one worker and on all::

    python examples/quickstart.py                         # data it generates
    python examples/quickstart.py clicks.csv              # the last column is the target
    python examples/quickstart.py rcv1.svm.bz2 --epochs 5 --output rcv1.png

It reads svmlight, CSV and npz files (plain, .gz or .bz2), prints one table and saves a picture
of the convergence.
"""

import argparse
import bz2
import csv
import gzip
import os
import re
import sys
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from joblib import effective_n_jobs
from sklearn.base import clone
from sklearn.datasets import load_svmlight_file
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skpar import (
    ConvergenceDisplay,
    HogwildClassifier,
    HogwildRegressor,
    ParallelSGDClassifier,
    ParallelSGDRegressor,
)

ALPHA = 1e-4
SECONDS_A_ROW = 3  # a row of the table is timed three times, or for as long as this

# loss(y, p) with y in {-1, 1} for classification, p the linear prediction.
CLASSIFICATION = {
    "log_loss": lambda y, p: np.logaddexp(0, -y * p),
    "hinge": lambda y, p: np.maximum(0, 1 - y * p),
    "squared_hinge": lambda y, p: np.maximum(0, 1 - y * p) ** 2,
    "modified_huber": lambda y, p: np.where(y * p < -1, -4 * y * p, np.maximum(0, 1 - y * p) ** 2),
}
REGRESSION = {
    "squared_error": lambda y, p: (y - p) ** 2 / 2,
    "huber": lambda y, p: np.where(
        abs(y - p) <= 0.1, (y - p) ** 2 / 2, 0.1 * abs(y - p) - 0.1**2 / 2
    ),
    "epsilon_insensitive": lambda y, p: np.maximum(0, abs(y - p) - 0.1),
}


class InputError(Exception):
    """Something that the user can put right, told in one line."""


# %%
# Reading a file
# --------------


def read(path, target=None):
    """The features, dense or CSR, and the target in the file at path."""
    try:
        head = first_lines(path)
        if head is None:
            X, y = read_npz(path)
        elif is_svmlight(head):
            X, y = read_svmlight(path)
        else:
            return read_csv(path, head, target)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or str(error) or "the file is damaged"
        raise InputError(f"cannot read {path}: {reason}") from error
    if target is not None:
        raise InputError(f"--target names a column of a CSV file, which {path} is not")
    return X, y


def unpacked(path):
    """The file as bytes, decompressed if its first bytes say that it is compressed."""
    with open(path, "rb") as file:
        magic = file.read(3)
    return {b"\x1f\x8b\x08": gzip.open, b"BZh": bz2.open}.get(magic, open)(path, "rb")


def first_lines(path, count=50):
    """The first lines that are neither blank nor comments; None if the file is a zip archive."""
    lines = []
    with unpacked(path) as file:
        for i, raw in enumerate(file):
            if i == 0 and raw.startswith(b"PK\x03\x04"):
                return None
            if b"\0" in raw:
                raise InputError(f"{path} is neither svmlight, CSV nor npz: it is binary")
            line = raw.decode("utf-8-sig", errors="replace").rstrip("\r\n")
            if line.strip() and not line.startswith("#"):
                lines.append(line)
            if len(lines) == count:
                break
    if not lines:
        raise InputError(f"{path} is empty")
    return lines


def is_svmlight(lines):
    # A row without any feature is a label alone, so one line is not enough to tell.
    return any(re.match(r"[^\s,;]+\s+(qid:\d+\s+)?\d+:[^,;]*$", line) for line in lines)


def read_svmlight(path):
    try:
        with unpacked(path) as file:
            X, y = load_svmlight_file(file)
    except (ValueError, OverflowError) as error:
        with unpacked(path) as file:
            for number, raw in enumerate(file, start=1):
                line = raw.decode("utf-8", errors="replace").partition("#")[0].strip()
                if line and not re.fullmatch(r"\S+(\s+(qid:\d+|\d+:[-+.\w]+))*", line):
                    raise InputError(
                        f"{path}, line {number}: {line[:40]!r} is not 'label index:value ...'"
                    ) from error
        raise InputError(f"{path}: {first_sentence(error)}") from error
    if X.nnz > X.shape[0] * X.shape[1] / 2:
        X = X.toarray()  # hardly any zeros: faster dense
    return X, y


def read_npz(path):
    """Arrays X and y; or y beside the parts of X that scipy.sparse.save_npz writes."""
    try:
        with unpacked(path) as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        if {"data", "indices", "indptr", "shape"} <= set(arrays):
            parts = tuple(arrays[key] for key in ("data", "indices", "indptr"))
            compressed = sp.csc_matrix if arrays.get("format") == b"csc" else sp.csr_matrix
            X = compressed(parts, shape=arrays["shape"])
            X.check_format(full_check=True)
            arrays["X"] = X.tocsr()
    except ValueError as error:
        raise InputError(f"{path}: {first_sentence(error)}") from error
    if not {"X", "y"} <= set(arrays):
        held = ", ".join(list(arrays)[:10]) or "nothing"
        raise InputError(f"{path} must hold the arrays X and y; it holds {held}")
    X, y = arrays["X"], arrays["y"].squeeze()
    if X.ndim != 2 or y.shape != (X.shape[0],) or X.dtype.kind not in "biuf":
        raise InputError(
            f"{path}: X must be a matrix of numbers with one row for each entry of y; "
            f"X is {X.dtype} {X.shape}, y {y.shape}"
        )
    return X.astype(np.float64), y


def read_csv(path, head, target):
    """Features and target of a table; numpy's reader is fast, but says less when it fails."""
    delimiter = max(",;\t", key=head[0].count)
    names, *rows = csv.reader(head, delimiter=delimiter)
    if len(names) < 2:
        raise InputError(f"{path} is neither svmlight, CSV nor npz: it begins {head[0][:40]!r}")
    has_header = not any(is_number(cell) for cell in names)
    if not has_header:
        rows, names = [names, *rows], [str(i + 1) for i in range(len(names))]
    if not rows:
        raise InputError(f"{path} has a header and no rows")
    column = find_column(path, names, target)
    labels = {}
    as_code = {column: lambda cell: labels.setdefault(cell.strip(), len(labels))}
    if column < len(rows[0]) and is_number(rows[0][column]):
        as_code = None
    try:
        with unpacked(path) as file:
            table = np.loadtxt(
                (line for line in csv_lines(file) if line.strip()),
                delimiter=delimiter,
                quotechar='"',
                comments=None,
                skiprows=int(has_header),
                converters=as_code,
                encoding="utf-8",
                ndmin=2,
            )
    except ValueError as error:
        explain_csv(path, delimiter, names, has_header, column if labels else None)
        raise InputError(f"{path}: {first_sentence(error)}") from error
    if table.shape[1] != len(names):
        explain_csv(path, delimiter, names, has_header, column if labels else None)
    if "" in labels:
        raise InputError(f"{path}: the target, column {names[column]}, is empty in some rows")
    y = table[:, column]
    if labels:
        y = np.array(list(labels))[y.astype(int)]
    return np.delete(table, column, axis=1), y


def csv_lines(file):
    for number, raw in enumerate(file):
        line = raw.decode("utf-8-sig" if number == 0 else "utf-8", errors="replace")
        yield "" if line.startswith("#") else line


def find_column(path, names, target):
    names = [name.strip() for name in names]
    if target is None:
        return len(names) - 1
    if target not in names:
        shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise InputError(f"{path} has no column {target!r}; its columns are {shown}")
    return names.index(target)


def explain_csv(path, delimiter, names, has_header, label_column):
    """Raise an InputError that names the first line that is no row of the table."""
    with unpacked(path) as file:
        lines = ((i, line) for i, line in enumerate(csv_lines(file), start=1) if line.strip())
        if has_header:
            next(lines)
        for number, line in lines:
            cells = next(csv.reader([line], delimiter=delimiter))
            if len(cells) != len(names):
                raise InputError(
                    f"{path}, line {number}: {len(cells)} values where {len(names)} are expected"
                )
            for j, cell in enumerate(cells):
                if j != label_column and not is_number(cell):
                    what = (
                        f"{cell[:40]!r} is not a number" if cell.strip() else "a value is missing"
                    )
                    raise InputError(f"{path}, line {number}, column {names[j]}: {what}")


def is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


def first_sentence(error):
    return str(error).strip().splitlines()[0]


# %%
# Preparing the data
# ------------------


def generate(n_rows, n_columns=50, seed=0):
    """Two classes from a logistic model, over columns that are correlated as real ones are."""
    rng = np.random.default_rng(seed)
    mixing = np.eye(n_columns) + rng.normal(size=(n_columns, n_columns)) / 8
    X = rng.normal(size=(n_rows, n_columns)) @ mixing
    score = X @ (rng.normal(size=n_columns) / np.sqrt(n_columns)) * 2 - 0.5
    return X, (rng.random(n_rows) < 1 / (1 + np.exp(-score))).astype(int)


def choose_task(source, y, loss):
    """Whether y holds quantities, y with its classes as 0, 1, ..., and what it is in words."""
    numeric = y.dtype.kind in "biuf"
    if numeric and not np.isfinite(y).all():
        raise InputError(f"the target of {source} has missing or infinite values")
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        what = f"one class only ({classes[0]})" if len(classes) else "no rows"
        raise InputError(f"the target of {source} has {what}; there is nothing to learn")
    # Counts of things are integers and yet quantities: many distinct ones are no classes.
    most = 100 if numeric and (y == np.round(y)).all() else min(20, len(y) // 2)
    is_regression = numeric and len(classes) > most if loss is None else loss in REGRESSION
    if is_regression and not numeric:
        raise InputError(f"--loss {loss} needs a target of numbers; {source} has {classes[0]!r}")
    if not is_regression and len(classes) > max(20, len(y) // 2):
        raise InputError(f"the target of {source} has {len(classes):,} classes in {len(y):,} rows")
    kind = f"{len(classes)} classes" if not is_regression else f"{len(classes):,} target values"
    return is_regression, (y.astype(np.float64) if is_regression else codes), kind


def prepare(source, X, y, is_regression, max_rows):
    """Held-out split; dense columns standardised, and the target of a regression too."""
    if max_rows is not None and max_rows < X.shape[0]:
        chosen = np.random.default_rng(0).choice(X.shape[0], max_rows, replace=False)
        X, y = X[chosen], y[chosen]
    if not np.isfinite(X.data if sp.issparse(X) else X).all():
        raise InputError(f"{source} has missing or infinite values among its features")
    if X.shape[0] < 10 or X.shape[1] == 0:
        raise InputError(f"{source} is too small: {X.shape[0]} rows, {X.shape[1]} features")
    counts = np.unique(y, return_counts=True)[1]
    stratify = not is_regression and counts.min() > 1 and len(counts) <= X.shape[0] // 5
    X, X_test, y, y_test = train_test_split(
        X, y, test_size=0.2, random_state=0, stratify=y if stratify else None
    )
    if len(np.unique(y)) < 2:
        raise InputError(f"the target of {source} has too few rows of its second class")
    if not sp.issparse(X):
        scaler = StandardScaler().fit(X)
        X, X_test = (np.ascontiguousarray(scaler.transform(part)) for part in (X, X_test))
    if is_regression:
        # Step sizes are for targets around one; R2 does not depend on the unit.
        mean, deviation = y.mean(), y.std()
        y, y_test = (y - mean) / deviation, (y_test - mean) / deviation
    return X, X_test, y, y_test


# %%
# Comparing
# ---------


def contestants(is_regression, loss, epochs, n_rows):
    """The rows of the table, by name: the same parameters for all but n_jobs."""
    reference, *ours = (
        [SGDRegressor, HogwildRegressor, ParallelSGDRegressor]
        if is_regression
        else [SGDClassifier, HogwildClassifier, ParallelSGDClassifier]
    )
    schedule = "invscaling" if is_regression else "optimal"
    shared = dict(loss=loss, alpha=ALPHA, max_iter=epochs, tol=None, random_state=0)
    # The last iterate of SGD is noisy, and its noise would hide what the schemes differ in: so
    # all return the average of the steps after the first epoch.
    shared.update(learning_rate=schedule, eta0=0.01, average=n_rows if epochs > 1 else False)
    rows = {(reference.__name__, 1): reference(**shared)}
    for cls in ours:
        for workers in sorted({1, effective_n_jobs(-1)}):
            n_jobs = 1 if workers == 1 else -1
            rows[cls.__name__, workers] = cls(n_jobs=n_jobs, **shared)
    return rows


def fit_and_time(estimator, X, y):
    """A fitted estimator and the median of its times."""
    # One epoch first, so that imports, threads and cold memory are in nobody's time.
    clone(estimator).set_params(max_iter=1).fit(X, y)
    seconds = []
    while len(seconds) < 3 and sum(seconds) < SECONDS_A_ROW:
        start = time.perf_counter()
        estimator.fit(X, y)
        seconds.append(time.perf_counter() - start)
    return np.median(seconds)


def objective(estimator, loss, X, y):
    """(1/n) sum of the losses + alpha/2 |w|^2; the mean over the classes of one-vs-rest."""
    W = np.atleast_2d(estimator.coef_)
    scores = np.asarray(X @ W.T) + estimator.intercept_
    if loss in REGRESSION:
        y = y[:, None]
    else:
        positive = estimator.classes_ if len(W) > 1 else estimator.classes_[1]
        y = np.where(y[:, None] == positive, 1, -1)
    value = (CLASSIFICATION | REGRESSION)[loss]
    return value(y, scores).mean() + ALPHA / 2 * (W**2).sum() / len(W)


def compare(rows, loss, X, X_test, y, y_test):
    """Fit every row of the table and print it; seconds and objective by row."""
    score_name = "R2" if loss in REGRESSION else "accuracy"
    print(
        f"{'estimator':<24}{'workers':>8}{'seconds':>10}{'objective':>12}"
        f"{score_name:>10}{'speed-up':>10}"
    )
    results = {}
    for (name, workers), estimator in rows.items():
        try:
            seconds = fit_and_time(estimator, X, y)
        except ValueError as error:
            # A diverging fit says so by a ValueError; the other rows still tell something.
            print(f"{name:<24}{workers:>8}  no result: {first_sentence(error)}")
            continue
        value, score = objective(estimator, loss, X, y), estimator.score(X_test, y_test)
        results[name, workers] = seconds, value
        reference = results.get(next(iter(rows)), (np.nan,))[0]
        print(
            f"{name:<24}{getattr(estimator, 'n_workers_', workers):>8}{seconds:>10.3f}"
            f"{value:>12.6f}{score:>10.4f}{reference / seconds:>9.1f}x",
            flush=True,
        )
    return results


def save_picture(path, rows, results):
    """Objective over seconds; scikit-learn records no history, so its result is one point."""
    fits, points = {}, []
    for name, workers in results:
        label = f"{name}, {workers} worker{'s' * (workers > 1)}"
        if hasattr(rows[name, workers], "history_"):
            fits[label] = rows[name, workers]
        else:
            points.append((label, *results[name, workers]))
    if not fits:
        return
    display = ConvergenceDisplay.from_estimators(fits, x="time", y="objective")
    for label, seconds, value in points:
        display.ax_.plot([seconds], [value], "k*", label=label)
    display.ax_.legend()
    try:
        display.figure_.savefig(path, bbox_inches="tight")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot save the picture as {path}: {first_sentence(error)}") from error
    print(f"\nThe convergence is drawn in {path}")


# %%
# The command line
# ----------------


class Parser(argparse.ArgumentParser):
    def error(self, message):
        """One line, as for every other bad input, in place of the usage."""
        self.exit(2, f"{self.prog}: {message}\n")


def positive(text):
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0; got {text!r}")
    return int(text)


def parse(arguments):
    parser = Parser(description="Compare scikit-learn's SGD with skpar's on one file.")
    parser.add_argument("file", nargs="?", help="svmlight, CSV or npz; default: generated data")
    parser.add_argument("--target", help="name of a CSV's target column; default: the last")
    parser.add_argument("--loss", choices=[*CLASSIFICATION, *REGRESSION], help="default: by target")
    parser.add_argument("--epochs", type=positive, default=10)
    parser.add_argument(
        "--rows", type=positive, help="rows to generate (300000), or at most to use of the file"
    )
    parser.add_argument("--output", default="convergence.png", help="where the picture goes")
    options = parser.parse_args(arguments)
    folder = Path(options.output).resolve().parent
    if not folder.is_dir():
        parser.error(f"argument --output: there is no folder {folder}")
    if options.file is None and options.target is not None:
        parser.error("argument --target goes with a CSV file")
    return options


def run(options):
    if options.file is None:
        source, max_rows = "generated data", None
        X, y = generate(options.rows or 300_000)
    else:
        source, max_rows = options.file, options.rows
        X, y = read(options.file, options.target)
    is_regression, y, kind = choose_task(source, y, options.loss)
    X, X_test, y, y_test = prepare(source, X, y, is_regression, max_rows)
    loss = options.loss or ("squared_error" if is_regression else "log_loss")
    form = "sparse" if sp.issparse(X) else "dense"
    epochs = f"{options.epochs} epoch{'s' * (options.epochs > 1)}"
    print(
        f"{source}: {X.shape[0]:,} rows to train on, {X_test.shape[0]:,} held out, "
        f"{X.shape[1]:,} {form} columns, {kind}; {epochs} of {loss}\n"
    )
    rows = contestants(is_regression, loss, options.epochs, X.shape[0])
    results = compare(rows, loss, X, X_test, y, y_test)
    try:
        save_picture(options.output, rows, results)
    except ImportError as error:
        print(f"\nNo picture of the convergence: {error}")


def main(arguments=None):
    """Run, and turn what the user can put right into one line and exit status 2."""
    # A script has no window to show; and it may run where there is no screen.
    os.environ.setdefault("MPLBACKEND", "Agg")
    try:
        run(parse(arguments))
    except InputError as error:
        print(f"quickstart.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
