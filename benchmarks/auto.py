"""(f) Defaults against tuned solvers: time to the optimum, and how close it is."""

import importlib.util
import warnings
from functools import partial

import numpy as np
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor

from benchmarks._common import SHARED_SETS, Table, objective, seconds_of, shared_loader
from skpar import HogwildClassifier, HogwildRegressor

SCALES_KEPT = ("covtype20k", "cal_housing", "diamonds", "kdd99")
TOLERANCES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
# A peer that takes this many times ours at one tolerance is not asked for a tighter one.
PATIENCE = 20.0
# Nor one that takes so many seconds, and twice ours.
MOST_SECONDS = 15.0
SEEDS = 20
MOST_COLUMNS_FOR_CHOLESKY = 2000


def sets(options):
    """(name, X, y, whether y is labels), standardised and then as the columns come."""
    load = shared_loader()
    if load is None:
        return
    names = list(SHARED_SETS) if options.scale >= 0.1 else ["covtype20k", "cal_housing"]
    for raw in (False, True):
        for name in names:
            if raw and name not in SCALES_KEPT:
                continue
            data = load(name, raw=raw)
            change = SHARED_SETS[name]
            y = data["y"] if change is None else change(data["y"])
            n = max(200, int(len(y) * min(1.0, options.scale)))
            yield name + " raw" * raw, data["X"][:n], y[:n], data["task"] != "regression"


def ours(labels, n, **params):
    cls = HogwildClassifier if labels else HogwildRegressor
    loss = dict(loss="log_loss") if labels else {}
    return cls(alpha=1 / n, **loss, **params)


def peers(labels, X):
    """{name: estimators, from the loosest tolerance to the tightest}; all minimise our objective."""
    n = X.shape[0]
    sgd = SGDClassifier if labels else SGDRegressor
    loss = dict(loss="log_loss") if labels else {}
    found = {}
    if labels:
        solvers = ["lbfgs", "liblinear", "newton-cholesky", "saga"]
        if X.shape[1] > MOST_COLUMNS_FOR_CHOLESKY:
            solvers.remove("newton-cholesky")
        for solver in solvers:
            found[solver] = [
                LogisticRegression(C=1.0, solver=solver, tol=tol, max_iter=1000, random_state=0)
                for tol in TOLERANCES
            ]
        if importlib.util.find_spec("snapml") is not None:
            from snapml import LogisticRegression as SnapML

            found["Snap ML"] = [
                SnapML(regularizer=1.0, fit_intercept=True, tol=tol, n_jobs=2, max_iter=1000)
                for tol in TOLERANCES[1:]
            ]
    else:
        if not sp.issparse(X):
            found["Ridge cholesky"] = [Ridge(alpha=1.0, solver="cholesky")]
        for solver in ("lsqr", "sag"):
            found[f"Ridge {solver}"] = [Ridge(1.0, solver=solver, tol=t) for t in TOLERANCES[1:]]
    for average in (False, True):
        found[f"SGD average={average}"] = [
            sgd(alpha=1 / n, average=average, tol=tol, random_state=0, **loss)
            for tol in TOLERANCES[2:5]
        ]
    return found


def value_of(model, X, y):
    """Our objective at a peer's weights: alpha = 1 / n, whatever its own parameters are called."""
    if not hasattr(model, "alpha") or isinstance(model, Ridge):
        holder = HogwildClassifier if isinstance(model, LogisticRegression) else HogwildRegressor
        copy = holder(alpha=1 / len(y))
        copy.coef_, copy.intercept_ = model.coef_, np.ravel(model.intercept_)
        if holder is HogwildClassifier or hasattr(model, "classes_"):
            copy.classes_ = np.unique(y)
        model = copy
    return objective(model, X, y)


def best_of(function, rounds):
    return min(function() for _ in range(rounds))


def peer_time(models, X, y, goal, limit, rounds):
    """The least time over the tolerances that reach the goal; inf where none does in time."""
    best = np.inf
    for model in models:
        fit = partial(model.fit, X, y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            first = seconds_of(fit)
            if value_of(model, X, y) <= goal:
                more = rounds - 1 if first < 1 else 0
                best = min([best, first, *(seconds_of(fit) for _ in range(more))])
                break
        if first > limit:
            break
    return best


def measure(name, X, y, labels, options):
    n = X.shape[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        least = objective(ours(labels, n, tol=1e-9, n_jobs=2).fit(X, y), X, y)
    model = ours(labels, n, n_jobs=2, random_state=0)
    rounds = options.rounds
    fit = partial(model.fit, X, y)
    seconds = min(seconds_of(fit) for _ in range(max(2, rounds)))
    value = objective(model, X, y)
    goal = max(value, least * 1.001)
    limit = min(max(PATIENCE * seconds, 0.5), max(MOST_SECONDS, 2 * seconds))
    times = {
        key: peer_time(models, X, y, goal, limit, rounds)
        for key, models in peers(labels, X).items()
    }
    seeds = []
    count = SEEDS if X.shape[0] < 100_000 else 3
    for seed in range(count):
        other = ours(labels, n, n_jobs=2, random_state=seed).fit(X, y)
        seeds.append(objective(other, X, y) / least - 1)
    return dict(
        name=name, gap=value / least - 1, seconds=seconds, times=times, worst=max(seeds),
        n_iter=model.n_iter_, scheme=model.scheme_, sparse=sp.issparse(X),
    )  # fmt: skip


def run(options):
    """The tables of this part, and the figures of its plot."""
    note = (
        "`fit` with defaults, alpha = 1/n and two workers, against the least time over each peer's "
        "tolerances that reaches our objective or 0.1 % above the minimum, whichever is larger "
        "(log loss, squared error). Gaps are relative to the minimum that a tight fit finds; the "
        f"worst of {SEEDS} seeds. '-': not reached before one fit took {PATIENCE:g} times our time "
        f"or {MOST_SECONDS:g} s."
    )
    header = ["data", "gap", "worst seed", "ms", "epochs", "best peer", "its ms", "ratio", "others"]
    table, ratios = Table("Defaults to the optimum", note, header), {}
    for name, X, y, labels in sets(options):
        r = measure(name, X, y, labels, options)
        key = min(r["times"], key=r["times"].get)
        best = r["times"][key]
        ratio = best / r["seconds"]
        others = ", ".join(
            f"{k} {v * 1e3:.1f}" if np.isfinite(v) else f"{k} -"
            for k, v in r["times"].items()
            if k != key
        )
        table.rows.append(
            [name, f"{r['gap']:.1e}", f"{r['worst']:.1e}", f"{r['seconds'] * 1e3:.1f}",
             f"{r['n_iter']} ({r['scheme']})", key, f"{best * 1e3:.1f}", f"{ratio:.2f}x", others]
        )  # fmt: skip
        print(table.markdown().split("\n")[-1], flush=True)
        ratios[name] = ratio
    finite = [v for v in ratios.values() if np.isfinite(v)]
    if finite:
        mean = float(np.exp(np.mean(np.log(finite))))
        table.rows.append(["geometric mean", "", "", "", "", "", "", f"{mean:.2f}x", ""])
    return [table], ratios


def plot(axes, figures):
    """Bars of the best peer's time over ours."""
    finite = {k: v for k, v in figures.items() if np.isfinite(v)}
    axes.barh(list(finite), list(finite.values()))
    axes.axvline(1, ls="--", c="grey")
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.set_xlabel("the best peer's time over ours, to the same objective")
    axes.set_title("Defaults to the optimum")
