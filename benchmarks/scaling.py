"""(c) Workers from one to all cores: epoch times, and the objective after as many epochs."""

from functools import partial

import numpy as np

from benchmarks._common import (
    CLASSIFIER,
    FEW,
    MANY,
    PROBLEMS,
    REGRESSOR,
    Table,
    epoch_seconds,
    epochs_between,
    interleaved,
    seconds_of,
    shared_sets,
    speed_up,
    worker_counts,
)
from skpar import HogwildClassifier, HogwildRegressor

EPOCHS = 10


def problems(options):
    """(name, X, y, whether y is labels)."""
    for name, problem in PROBLEMS.items():
        X, score = problem(options.scale)
        yield name, X, score > 0, True
    yield from shared_sets(options)


def timed(estimator, X, y):
    """A function without arguments that gives seconds an epoch; sees that the time is enough."""

    def fit(n):
        estimator.set_params(max_iter=n).fit(X, y)

    fit(FEW)
    return partial(epoch_seconds, fit, epochs_between(seconds_of(fit, MANY)))


def measure(X, y, labels, options):
    """{workers: (seconds an epoch, objective after EPOCHS, workers that ran)}."""
    cls, common = (HogwildClassifier, CLASSIFIER) if labels else (HogwildRegressor, REGRESSOR)
    models = {k: cls(n_jobs=k, **common) for k in worker_counts(options)}
    ends = {
        k: model.set_params(max_iter=EPOCHS).fit(X, y).history_["objective"][-1]
        for k, model in models.items()
    }
    ran = {k: model.n_workers_ for k, model in models.items()}
    runs = {k: timed(model, X, y) for k, model in models.items()}
    times = interleaved(runs, options.rounds)
    return {k: (np.median(times[k]), ends[k], ran[k]) for k in models}


def run(options):
    """The tables of this part, and the figures of its plot."""
    note = (
        "The lock-free scheme with scikit-learn's default step sizes, float64. Seconds an epoch "
        "(medians of interleaved rounds); the speed-up is over one worker, the objective is that "
        f"after {EPOCHS} epochs over one worker's. `workers` is what ran of those asked for."
    )
    header = ["problem", "n_jobs", "workers", "seconds an epoch", "speed-up", "objective"]
    header += ["ratio of objectives"]
    table, lines = Table("Scaling", note, header), {}
    for name, X, y, labels in problems(options):
        results = measure(X, y, labels, options)
        base, first, _ = results[1]
        for k, (seconds, end, ran) in results.items():
            times = speed_up(base, seconds)
            cells = [name, k, ran, f"{seconds:.6f}", f"{times:.2f}x", f"{end:.6g}"]
            table.rows.append([*cells, f"{end / first:.4f}"])
            lines.setdefault(name, []).append((k, times))
    return [table], lines


def plot(axes, figures):
    """A line per problem over the number of workers."""
    for name, points in figures.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    counts = [k for k, _ in next(iter(figures.values()))]
    axes.plot(counts, counts, "k:", lw=1)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(counts, counts)
    axes.legend(fontsize=6)
    axes.set_xlabel("n_jobs")
    axes.set_ylabel("times faster an epoch than one worker")
    axes.set_title("Scaling")
