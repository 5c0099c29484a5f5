"""(d) Time of a whole fit on tiny data, where only overhead counts."""

from functools import partial

import numpy as np
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import SGDClassifier
from sklearn.preprocessing import StandardScaler

from benchmarks._common import Table, interleaved, seconds_of
from skpar import HogwildClassifier, ParallelSGDClassifier

N_JOBS = [None, 1, 2, -1]
ROUNDS_FACTOR = 20


def contenders():
    yield "SGDClassifier", SGDClassifier(random_state=0)
    for cls in (HogwildClassifier, ParallelSGDClassifier):
        # as many passes over the rows as scikit-learn makes
        options = dict(learning_rate="optimal", random_state=0)
        for n_jobs in N_JOBS:
            yield f"{cls.__name__}(n_jobs={n_jobs})", cls(n_jobs=n_jobs, **options)
        yield f"{cls.__name__}(), its default steps", cls(random_state=0)


def run(options):
    """The tables of this part, and the figures of its plot."""
    note = (
        "Milliseconds of `fit` with default parameters (hinge loss) on standardised columns, "
        "medians of interleaved rounds."
    )
    header = ["data", "contender", "ms a fit", "epochs", "of SGDClassifier's time"]
    table, bars = Table("Tiny data", note, header), {}
    for name, load in (("iris", load_iris), ("breast_cancer", load_breast_cancer)):
        X, y = load(return_X_y=True)
        X = StandardScaler().fit_transform(X)
        models = dict(contenders())
        runs = {key: partial(seconds_of, model.fit, X, y) for key, model in models.items()}
        times = interleaved(runs, ROUNDS_FACTOR * options.rounds)
        base = np.median(times["SGDClassifier"])
        for key, values in times.items():
            ratio = np.median(values) / base
            ms = f"{np.median(values) * 1e3:.2f}"
            table.rows.append([name, key, ms, models[key].n_iter_, f"{ratio:.2f}"])
            bars.setdefault(name, {})[key] = ratio
    return [table], bars


def plot(axes, figures):
    """Bars of times over SGDClassifier's."""
    for k, (name, ratios) in enumerate(figures.items()):
        at = [i + 0.4 * k for i in range(len(ratios))]
        axes.barh(at, ratios.values(), 0.4, label=name)
        axes.set_yticks([i + 0.2 for i in range(len(ratios))], list(ratios), fontsize=7)
    axes.axvline(1, ls="--", c="grey")
    axes.invert_yaxis()
    axes.legend(fontsize=7)
    axes.set_xlabel("time of a fit over SGDClassifier's")
    axes.set_title("Tiny data")
