"""Streams larger than the memory that they are given: throughput and peak resident memory.

    python benchmarks/stream.py                  # 4 GB of Parquet, 1 GB of text
    python benchmarks/stream.py --rows 1000000 --text-rows 100000

For each source: reading alone (an estimator that does nothing), training alone (chunks that
are in memory), and both together through `fit_stream`; each in a process of its own, in turns.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

COLUMNS = 50
GROUP_ROWS = 65_536
LEVELS = 4096
TEXT_ROW_BYTES = 495
MODES = ("reading", "training", "both")


def rows(n, seed):
    """n rows of a linear problem with noise."""
    rng = np.random.default_rng([seed, 1])
    X = rng.random((n, COLUMNS), dtype=np.float32)
    w = np.random.default_rng(0).normal(size=COLUMNS).astype(np.float32)
    margins = (X - 0.5) @ w
    return X, (margins + 0.3 * rng.logistic(size=n) > 0).astype(np.int8)


def write_parquet(path, n):
    """A file of row groups of 65,536 rows."""
    import pyarrow as pa
    from pyarrow import parquet

    names = [f"x{k}" for k in range(COLUMNS)]
    schema = pa.schema([(name, pa.float32()) for name in names] + [("y", pa.int8())])
    with parquet.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for k, lo in enumerate(range(0, n, GROUP_ROWS)):
            X, y = rows(min(GROUP_ROWS, n - lo), k)
            columns = [pa.array(np.ascontiguousarray(column)) for column in X.T]
            writer.write_table(pa.table([*columns, pa.array(y)], schema), GROUP_ROWS)


def write_svmlight(path, n):
    """Lines of equal length, so that numpy can write them."""
    texts = [f" {j + 1}:" for j in range(COLUMNS)]
    digits = np.array([f"{v / LEVELS:.4f}" for v in range(LEVELS)], dtype="S6")
    digits = digits.view(np.uint8).reshape(LEVELS, 6)
    with open(path, "wb") as file:
        for k, lo in enumerate(range(0, n, GROUP_ROWS)):
            X, y = rows(min(GROUP_ROWS, n - lo), k)
            parts = [y[:, None].astype(np.uint8) + ord("0")]
            for j, text in enumerate(texts):
                parts.append(
                    np.broadcast_to(np.frombuffer(text.encode(), np.uint8), (len(y), len(text)))
                )
                parts.append(digits[(X[:, j] * LEVELS).astype(int)])
            parts.append(np.full((len(y), 1), ord("\n"), np.uint8))
            file.write(np.hstack(parts).tobytes())


class Nothing(ClassifierMixin, BaseEstimator):
    """An estimator that learns nothing: what is left is reading."""

    def partial_fit(self, X, y, classes=None):
        return self


def peak_mb():
    """Peak resident memory of this process."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the parent's memory before exec
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(kind, mode, path, n_rows, options):
    """Rows per second and peak memory of one mode, in this process."""
    from skpar import HogwildClassifier, fit_stream, sources

    if kind == "parquet":
        source = sources.parquet(path, target="y")
    else:
        source = sources.svmlight(
            path, n_features=COLUMNS, zero_based=False, dtype=np.float32, chunk_rows=32_768
        )
    model = HogwildClassifier(loss="log_loss", n_jobs=options.n_jobs, random_state=0)
    settings = dict(classes=[0, 1], prefetch=options.prefetch, random_state=0)
    if mode == "training":
        parts = source.parts()
        some = [next(iter(source.read(part))) for part in parts[:4]]
        seconds = n_done = 0
        for k in range(len(parts)):
            X, y, _ = some[k % len(some)]
            begin = perf_counter()
            model.partial_fit(X, y, classes=[0, 1])
            seconds += perf_counter() - begin
            n_done += len(y)
        waits = {}
    else:
        estimator = model if mode == "both" else Nothing()
        begin = perf_counter()
        fit_stream(estimator, source, n_readers=options.n_readers, **settings)
        seconds, n_done = perf_counter() - begin, n_rows
        waits = {k: float(estimator.history_[k][0]) for k in ("training_waits", "reading_waits")}
    peak = peak_mb()
    return {"rows_per_second": n_done / seconds, "seconds": seconds, "peak_mb": peak, **waits}


def run_apart(kind, mode, path, n_rows, options):
    """`measure` in a new process, so that the peak is this mode's own."""
    command = [sys.executable, __file__, "--one", kind, mode, str(path), str(n_rows)]
    command += ["--n-jobs", str(options.n_jobs), "--n-readers", str(options.n_readers)]
    command += ["--prefetch", str(options.prefetch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


def compare(folder, options):
    """Write the data where absent, measure, print the table."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        ("parquet", write_parquet, options.rows, options.rows * (COLUMNS * 4 + 1)),
        ("svmlight", write_svmlight, options.text_rows, options.text_rows * TEXT_ROW_BYTES),
    ]
    print("source    rows        size GB  alone: reading  training  both    both/slower  peak MB")
    for kind, write, n, size in jobs:
        path = folder / f"rows-{n}.{kind}"
        if n and not path.exists():
            free = shutil.disk_usage(folder).free
            if free < 1.1 * size:
                have, need = free / 1e9, 1.1 * size / 1e9
                raise OSError(f"{folder} has {have:.1f} GB free, {need:.1f} GB are needed")
            write(path, n)
        if n:
            report(kind, n, path, options)


def report(kind, n, path, options):
    """Measure the modes in turns and print a line."""
    results = {mode: [] for mode in MODES}
    for _ in range(options.rounds):
        for mode in MODES:
            results[mode].append(run_apart(kind, mode, path, n, options))
    speed = {m: float(np.median([r["rows_per_second"] for r in v])) for m, v in results.items()}
    peak = max(r["peak_mb"] for r in results["both"])
    ratio = speed["both"] / min(speed["reading"], speed["training"])
    print(
        f"{kind:9} {n:<11,} {path.stat().st_size / 1e9:<8.2f} {speed['reading']:<15,.0f}"
        f"{speed['training']:<10,.0f}{speed['both']:<10,.0f}{ratio:<11.0%}{peak:.0f}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--text-rows", type=int, default=2_000_000)
    parser.add_argument("--folder", help="where the data go, and stay; a temporary one if absent")
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--n-readers", type=int, default=1)
    parser.add_argument("--prefetch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        kind, mode, path, n_rows = options.one
        print(json.dumps(measure(kind, mode, path, int(n_rows), options)))
        return
    folder = Path(options.folder or tempfile.mkdtemp(prefix="skpar-stream-"))
    try:
        compare(folder, options)
    finally:
        if not options.folder:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
