"""Two processes of a Dask cluster (or Ray, or joblib's) against two threads, and the bytes a round.

    python benchmarks/cluster.py [--rows 2000000] [--columns 50] [--backends dask ray loky]

Log loss on float32 rows. Seconds per epoch are those of `history_["time"]`, between the second
and the last epoch, so that placing the data, which happens once and is printed on its own, does
not count. All contenders run the same scheme with the same shards and give the same bits. The
runs are interleaved, and the median is printed.
"""

import argparse
import time
from contextlib import ExitStack, nullcontext

import joblib
import numpy as np

from skpar import ParallelSGDClassifier
from skpar._cluster import Remote

EPOCHS = 9


def problem(n, d):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d), dtype=np.float32)
    return X, X @ rng.standard_normal(d, dtype=np.float32) + 3 * rng.standard_normal(n) > 0


def remember_traffic():
    """A list that receives the `Traffic` record of each fit on other processes."""
    records, original = [], Remote.__init__

    def init(self, *args, **kwargs):
        original(self, *args, **kwargs)
        records.append(self.traffic)

    Remote.__init__ = init
    return records


def start(backend, stack):
    if backend == "dask":
        from distributed import Client, LocalCluster

        cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
        stack.enter_context(cluster)
        stack.enter_context(Client(cluster))
    elif backend == "ray":
        import ray
        from ray.util.joblib import register_ray

        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        stack.callback(ray.shutdown)
        register_ray()


def run(backend, scheme, X, y):
    """(seconds per epoch, seconds of everything else, the model)."""
    model = ParallelSGDClassifier(
        loss="log_loss",
        learning_rate="optimal",
        scheme=scheme,
        n_jobs=2,
        n_shards=2,
        tol=None,
        max_iter=EPOCHS,
        random_state=0,
        batch_size=len(y) // 32,
    )
    begin = time.perf_counter()
    with nullcontext() if backend == "threads" else joblib.parallel_config(backend):
        model.fit(X, y)
    total = time.perf_counter() - begin
    times = model.history_["time"]
    epoch = (times[-1] - times[1]) / (EPOCHS - 2)
    return epoch, total - EPOCHS * epoch, model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--columns", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backends", nargs="+", default=["dask", "ray", "loky"])
    args = parser.parse_args()
    X, y = problem(args.rows, args.columns)
    records = remember_traffic()
    with ExitStack() as stack:
        for backend in args.backends:
            start(backend, stack)
        for scheme in ("model-averaging", "gradient-averaging"):
            results, traffic, coefs = {}, {}, {}
            for _ in range(args.rounds):
                for backend in ("threads", *args.backends):
                    *seconds, model = run(backend, scheme, X, y)
                    results.setdefault(backend, []).append(seconds)
                    coefs[backend] = model.coef_
                    if records:
                        traffic[backend] = records.pop()
            report(scheme, results, traffic, coefs)


def report(scheme, results, traffic, coefs):
    print(f"\n{scheme}, two workers")
    print(f"{'backend':10}{'s/epoch':>9}{'speed':>8}{'once (s)':>10}{'bytes/round':>13}  same bits")
    base = np.median(results["threads"], axis=0)[0]
    for backend, rows in results.items():
        epoch, once = np.median(rows, axis=0)
        t = traffic.get(backend)
        per_round = (t.sent + t.received) / t.rounds if t else 0
        same = np.array_equal(coefs[backend], coefs["threads"])
        print(f"{backend:10}{epoch:9.4f}{base / epoch:8.0%}{once:10.2f}{per_round:13,.0f}  {same}")


if __name__ == "__main__":
    main()
