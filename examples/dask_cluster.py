"""
From a laptop to a Dask cluster in one line
===========================================

Train on threads, then on the processes of a Dask cluster on this machine, then on a Dask array
that is made on the cluster and never comes here::

    pip install "skpar[dask]"
    python examples/dask_cluster.py                        # a cluster of two processes, here
    python examples/dask_cluster.py tcp://scheduler:8786   # one that runs already
"""

import argparse
import time

import joblib
import numpy as np
from sklearn.datasets import make_classification

from skpar import ParallelSGDClassifier


def timed(text, fit):
    begin = time.perf_counter()
    model = fit()
    print(
        f"{text:32} {time.perf_counter() - begin:6.2f} s, "
        f"objective {model.history_['objective'][-1]:.6f}"
    )
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("scheduler", nargs="?", help="address of a Dask scheduler")
    parser.add_argument("--rows", type=int, default=200_000)
    args = parser.parse_args()
    from dask import array as da
    from distributed import Client

    X, y = make_classification(args.rows, 30, n_informative=10, random_state=0)
    model = ParallelSGDClassifier(
        loss="log_loss", learning_rate="optimal", alpha=1e-3, n_shards=2, n_jobs=2, random_state=0
    )
    here = timed("two threads", lambda: model.fit(X, y))
    coef = here.coef_.copy()

    with Client(args.scheduler) if args.scheduler else Client(n_workers=2) as client:
        client.wait_for_workers(1)
        with joblib.parallel_config("dask"):  # the line
            there = timed("the cluster, rows from here", lambda: model.fit(X, y))
        print("the same bits:", np.array_equal(coef, there.coef_))

        # Rows that are on the cluster already: a partition is a shard.
        A = da.random.default_rng(0).normal(size=(args.rows, 30), chunks=(args.rows // 2, 30))
        b = (A[:, :3].sum(axis=1) > 0).astype(int)
        A, b = A.persist(), b.persist()
        big = ParallelSGDClassifier(loss="log_loss", random_state=0)
        timed("the cluster, rows from there", lambda: big.fit(A, b))
        print("accuracy:", float((big.predict(A) == b).mean().compute()))


if __name__ == "__main__":
    main()
