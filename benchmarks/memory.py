"""(e) Peak memory of a fit, each in a process of its own.

    python -m benchmarks.memory FOLDER ESTIMATOR N_JOBS

is such a process: it fits the data in FOLDER and prints bytes.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from benchmarks._common import CLASSIFIER, PROBLEMS, Table

MB = 1e6
EPOCHS = 3


def peak():
    """The most bytes that this process has held."""
    status = Path("/proc/self/status")
    if status.is_file():
        # getrusage counts what the parent held when it made this process, too.
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def load(folder):
    """X and y as `save` left them, without a copy on the way."""
    parts = [np.load(Path(folder, f"{k}.npy")) for k in range(len(list(Path(folder).iterdir())))]
    if len(parts) == 2:
        return parts
    data, indices, indptr, shape, y = parts
    return sp.csr_matrix((data, indices, indptr), tuple(shape)), y


def save(folder, X, y):
    parts = [X.data, X.indices, X.indptr, np.array(X.shape)] if sp.issparse(X) else [X]
    for k, part in enumerate([*parts, y]):
        np.save(Path(folder, f"{k}.npy"), part)


def child(folder, name, n_jobs):
    """Fit, and print the peaks before and after."""
    if name == "SGDClassifier":
        from sklearn.linear_model import SGDClassifier

        estimator = SGDClassifier(**CLASSIFIER, max_iter=EPOCHS)
    else:
        import skpar

        estimator = getattr(skpar, name)(**CLASSIFIER, max_iter=EPOCHS, n_jobs=n_jobs)
    X, y = load(folder)
    before = peak()
    estimator.fit(X, y)
    print(before, peak())


def run(options):
    """The tables of this part, and the figures of its plot."""
    note = (
        f"Peak resident memory of a process that fits {EPOCHS} epochs of log loss: what a fit "
        "adds to the interpreter, the libraries and the data."
    )
    header = ["problem", "estimator", "n_jobs", "data, MB", "coef_, MB", "a fit adds, MB"]
    table, bars = Table("Memory", note, header), {}
    workers = sorted({1, options.max_workers})
    contenders = [("SGDClassifier", 1)]
    for name in ("HogwildClassifier", "ParallelSGDClassifier"):
        contenders += [(name, k) for k in workers]
    for problem, make in PROBLEMS.items():
        X, score = make(options.scale)
        arrays = (X.data, X.indices, X.indptr) if sp.issparse(X) else (X,)
        size, coef = sum(a.nbytes for a in arrays) / MB, X.shape[1] * 8 / MB
        with tempfile.TemporaryDirectory() as folder:
            save(folder, X, score > 0)
            for name, k in contenders:
                command = [sys.executable, "-m", "benchmarks.memory", folder, name, str(k)]
                root = Path(__file__).resolve().parents[1]
                done = subprocess.run(command, capture_output=True, text=True, cwd=root)
                if done.returncode:
                    raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
                before, after = map(int, done.stdout.split())
                added = (after - before) / MB
                cells = [problem, name, k, f"{size:.0f}", f"{coef:.1f}", f"{added:.0f}"]
                table.rows.append(cells)
                bars.setdefault(f"{name}({k})", {})[problem] = added
    return [table], bars


def plot(axes, figures):
    """Bars of megabytes per problem."""
    width = 0.8 / len(figures)
    for k, (name, added) in enumerate(figures.items()):
        axes.bar([i + k * width for i in range(len(added))], added.values(), width, label=name)
        axes.set_xticks([i + 0.4 for i in range(len(added))], list(added))
    axes.legend(fontsize=6)
    axes.set_ylabel("MB that a fit adds")
    axes.set_title("Memory")


if __name__ == "__main__":
    child(sys.argv[1], sys.argv[2], int(sys.argv[3]))
