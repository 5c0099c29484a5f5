"""Seconds per epoch against scikit-learn, on the two synthetic problems of the design.

    python benchmarks/epoch.py [--rounds 5] [--scale 1.0]

Dense: 500,000 x 54. Sparse: 200,000 x 50,000, 70 draws a row from Zipf columns. Log loss. The
time of an epoch is that of six epochs less that of two, divided by four, so that validation and
set-up do not count; the runs of all estimators are interleaved, and the median is printed.
"""

import argparse
import time

import numpy as np
import scipy.sparse as sp
from sklearn.linear_model import SGDClassifier

from skpar import HogwildClassifier, ParallelSGDClassifier

FEW, MANY = 2, 6


def dense_problem(scale, rng):
    n, d = int(500_000 * scale), 54
    X = rng.standard_normal((n, d))
    return X, X @ rng.standard_normal(d) + 3 * rng.standard_normal(n) > 0


def sparse_problem(scale, rng):
    n, d, k = int(200_000 * scale), 50_000, 70
    share = np.cumsum(1 / np.arange(1, d + 1) ** 1.1)
    columns = np.searchsorted(share / share[-1], rng.random(n * k)).clip(0, d - 1)
    X = sp.csr_matrix((np.ones(n * k), columns, np.arange(0, n * k + 1, k)), shape=(n, d))
    X.sum_duplicates()
    X.indices, X.indptr = X.indices.astype(np.int32), X.indptr.astype(np.int32)
    X.data = rng.random(X.nnz) / np.sqrt(k)
    return X, X @ rng.standard_normal(d) + 0.5 * rng.standard_normal(n) > 0


def contenders():
    common = dict(loss="log_loss", tol=None, random_state=0)
    yield "SGDClassifier", SGDClassifier(**common)
    for cls in (HogwildClassifier, ParallelSGDClassifier):
        for n_jobs in (1, 2):
            yield f"{cls.__name__}(n_jobs={n_jobs})", cls(n_jobs=n_jobs, **common)


def epoch_seconds(estimator, X, y):
    seconds = []
    for epochs in (FEW, MANY):
        begin = time.perf_counter()
        estimator.set_params(max_iter=epochs).fit(X, y)
        seconds.append(time.perf_counter() - begin)
    return (seconds[1] - seconds[0]) / (MANY - FEW)


def objective(estimator, X, y):
    w, b = estimator.coef_[0].astype(float), estimator.intercept_[0]
    p = X @ w + b
    return np.mean(np.logaddexp(0, p) - y * p) + estimator.alpha / 2 * w @ w


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    print("| problem | estimator | seconds an epoch | speed-up | objective |")
    print("|---|---|---|---|---|")
    for name, problem in (("dense", dense_problem), ("sparse", sparse_problem)):
        X, y = problem(options.scale, np.random.default_rng(0))
        for dtype in ("float64", "float32"):
            X = X.astype(dtype)
            runs = dict(contenders())
            times = {key: [] for key in runs}
            for _ in range(options.rounds):
                for key, estimator in runs.items():
                    times[key].append(epoch_seconds(estimator, X, y))
            base = np.median(times["SGDClassifier"])
            for key, estimator in runs.items():
                seconds = np.median(times[key])
                value = objective(estimator, X, y)
                speed_up = f"{base / seconds:.1f}x"
                print(f"| {name} {dtype} | {key} | {seconds:.4f} | {speed_up} | {value:.5f} |")


if __name__ == "__main__":
    main()
