"""(g) Many classes: one-vs-rest and softmax to the same objective, and what a class costs."""

import warnings
from functools import partial

import numpy as np
from scipy.special import log_softmax
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, SGDClassifier

from benchmarks._common import (
    FEW,
    MANY,
    Table,
    dense_problem,
    epoch_seconds,
    epochs_between,
    interleaved,
    seconds_of,
    shared_loader,
    sparse_problem,
)
from skpar import HogwildClassifier
from skpar._data import Batch
from skpar._outputs import ManyObjective
from skpar._workers import Team, limit_blas

SETS = ("mnist", "news20")
SOLVERS = ("lbfgs", "newton-cg", "newton-cholesky", "sag", "saga")
TOLERANCES = (1e-1, 5e-2, 2e-2, 1e-2, 1e-3, 1e-4)
OURS = (1e-1, 1e-2, 1e-3, 1e-4)
SGD = {
    "max_iter=5, tol=None": dict(max_iter=5, tol=None),
    "the defaults": {},
    "tol=1e-4": dict(tol=1e-4),
    "tol=1e-5": dict(tol=1e-5),
}
# A solver that takes this many times ours at one tolerance is not asked for a tighter one.
PATIENCE = 20.0
# A setting of SGDClassifier tighter than one that takes so many seconds is left out.
MOST_SECONDS = 30.0
# Numbers of a dense Hessian that newton-cholesky is given.
MOST_HESSIAN = 1 << 24
COUNTS = (2, 10, 100)


def sets(options):
    """(name, X, y): real data where they lie beside the clone, else scikit-learn's digits."""
    load = shared_loader()
    if load is None or options.scale < 0.1:
        X, y = load_digits(return_X_y=True)
        yield "digits", X / 16, y
        return
    for name in SETS:
        data = load(name)
        n = int(len(data["y"]) * min(1.0, options.scale))
        yield name, data["X"][:n], data["y"][:n]


def scores(model, X):
    return np.asarray(X @ model.coef_.T.astype(float)) + model.intercept_


def one_vs_rest(model, X, y):
    """The mean over the classes of the log loss plus the l2 penalty, alpha = 1/n."""
    p, ours = scores(model, X), y[:, None] == model.classes_
    losses = (np.logaddexp(0, p) - ours * p).mean()
    return losses + (model.coef_.astype(float) ** 2).sum() / (2 * len(y) * len(model.classes_))


def softmax(model, X, y):
    """The log loss of the softmax plus the l2 penalty, alpha = 1/n."""
    p = log_softmax(scores(model, X), axis=1)
    losses = -p[np.arange(len(y)), np.searchsorted(model.classes_, y)].mean()
    return losses + (model.coef_.astype(float) ** 2).sum() / (2 * len(y))


def ours(n, **params):
    return HogwildClassifier(loss="log_loss", alpha=1 / n, n_jobs=2, random_state=0, **params)


def quietly(function, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ends before convergence: they are the point here
        return function(*args)


def timed_fits(models, X, y, rounds):
    """{name: median seconds} of interleaved fits."""
    runs = {k: partial(quietly, seconds_of, m.fit, X, y) for k, m in models.items()}
    return {k: float(np.median(v)) for k, v in interleaved(runs, rounds).items()}


def against_sgd(name, X, y, options):
    """Rows: how soon ours is at the objective at which `SGDClassifier` ends, or lower."""
    mine = {tol: ours(len(y), tol=tol) for tol in OURS}
    values = {tol: one_vs_rest(quietly(m.fit, X, y), X, y) for tol, m in mine.items()}
    for setting, params in SGD.items():
        sgd = SGDClassifier(loss="log_loss", alpha=1 / len(y), n_jobs=2, random_state=0, **params)
        first = quietly(seconds_of, sgd.fit, X, y)
        goal = one_vs_rest(sgd, X, y)
        slow = first > MOST_SECONDS
        # The first that is there, and the defaults where they are there.
        enough = [tol for tol in OURS if values[tol] <= goal]
        if not enough:
            yield [name, setting, f"{first:.2f}", f"{goal:.6f}", "not reached", "", "", ""], None
            continue
        tols = {"least": enough[0]} | ({"default": 1e-3} if 1e-3 in enough else {})
        models = {"sgd": sgd} | {k: mine[tol] for k, tol in tols.items()}
        # One fit of a slow peer is enough: it is timed already.
        rounds = options.rounds if first < 5 else 1
        times = timed_fits(models, X, y, rounds)
        ratio = times["sgd"] / times["least"]
        default = times.get("default", np.nan)
        yield (
            [name, setting, f"{times['sgd']:.3f}", f"{goal:.6f}", f"{times['least']:.3f}",
             f"{enough[0]:g}", f"{ratio:.1f}x", f"{default:.3f} ({values[1e-3]:.6f})"],
            ratio,
        )  # fmt: skip
        if slow:
            return


def solver_time(solver, X, y, goal, limit, rounds):
    """(least median seconds over the tolerances that reach the goal, that tolerance)."""
    for tol in TOLERANCES:
        model = LogisticRegression(C=1.0, solver=solver, tol=tol, max_iter=1000, random_state=0)
        first = quietly(seconds_of, model.fit, X, y)
        if softmax(model, X, y) <= goal:
            more = rounds - 1 if first < 5 else 0
            times = [first, *(quietly(seconds_of, model.fit, X, y) for _ in range(more))]
            return float(np.median(times)), tol
        if first > limit:
            break
    return np.inf, None


def against_solvers(name, X, y, options):
    """A row: softmax to within 0.1 % of the minimum."""
    n, k = len(y), len(np.unique(y))
    mine = ours(n, multi_class="multinomial")
    tight = ours(n, multi_class="multinomial", tol=1e-8, max_iter=2000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        least = softmax(tight.fit(X, y), X, y)
    seconds = float(np.median([seconds_of(mine.fit, X, y) for _ in range(options.rounds)]))
    gap, found = softmax(mine, X, y) / least - 1, {}
    limit = max(PATIENCE * seconds, 0.5)
    for solver in SOLVERS:
        if solver == "newton-cholesky" and (k * (X.shape[1] + 1)) ** 2 > MOST_HESSIAN:
            found[solver] = np.nan, None
            continue
        found[solver] = solver_time(solver, X, y, least * 1.001, limit, options.rounds)
    cells = [
        "too large" if np.isnan(t) else f"over {limit:.1f}" if np.isinf(t) else f"{t:.3f} ({tol:g})"
        for t, tol in found.values()
    ]
    ratio = min(t if np.isfinite(t) else np.inf for t, _ in found.values()) / seconds
    bound = f"over {limit / seconds:.0f}x" if np.isinf(ratio) else f"{ratio:.2f}x"
    return [name, f"{seconds:.3f}", f"{gap:.1e}", bound, *cells], ratio


# -- what a class costs -----------------------------------------------------------------------


def labelled(problem, scale, k, seed=1):
    """Rows with k classes, each the largest of noisy scores of its own."""
    X, _ = problem(scale)
    rng = np.random.default_rng(seed)
    columns = rng.integers(0, X.shape[1], 8 * X.shape[1] // max(8, X.shape[1]) + 8)
    some = X[:, columns]
    some = some.toarray() if hasattr(some, "toarray") else some
    p = some @ rng.standard_normal((len(columns), k)) + rng.gumbel(size=(X.shape[0], k))
    return X, p.argmax(axis=1)


def epoch_of(X, y, **params):
    """A function that gives seconds an epoch."""
    model = HogwildClassifier(loss="log_loss", tol=None, random_state=0, **params)

    def fit(n):
        quietly(model.set_params(max_iter=n).fit, X, y)

    fit(FEW)
    return partial(epoch_seconds, fit, epochs_between(seconds_of(fit, MANY)))


def gradient_of(X, y, together):
    """A function that gives seconds of an objective and its gradient, for all classes.

    Two classes are one output; a softmax of one is the log loss.
    """
    k = len(np.unique(y)) if y.max() > 1 else 1
    problem = HogwildClassifier(loss="log_loss")._problem()
    codes = np.ascontiguousarray(y, np.int64)
    parts = codes, None, None, np.arange(k) if k > 1 else np.array([1]), np.ones(k)
    team, together = Team(1, shared_memory=True), together and k > 1
    many = ManyObjective(problem, Batch.of(X, y), team, parts, softmax=together)
    x = np.zeros((many.size, k))

    def seconds():
        with limit_blas():
            return min(seconds_of(once) for _ in range(3))

    def once():
        point = many.at(x)
        many.release(point.gradient, point.margins)

    return seconds


def class_costs(options):
    """Rows: seconds an epoch by the number of classes, and its growth over the arithmetic's."""
    scale = 0.2 * options.scale
    kinds = {
        "one-vs-rest, stochastic": dict(learning_rate="optimal"),
        "softmax, stochastic": dict(learning_rate="optimal", multi_class="multinomial"),
    }
    for name, problem in (("dense", dense_problem), ("sparse", sparse_problem)):
        data = {k: labelled(problem, scale, k) for k in COUNTS}
        for kind, params in kinds.items():
            runs = {k: epoch_of(*data[k], **params) for k in COUNTS}
            yield cost_row(name, kind, interleaved(runs, options.rounds))
        for kind, together in (("one-vs-rest", False), ("softmax", True)):
            runs = {k: gradient_of(*data[k], together) for k in COUNTS}
            yield cost_row(name, f"{kind}, full gradient", interleaved(runs, options.rounds))


def cost_row(name, kind, times):
    seconds = {k: float(np.median(v)) for k, v in times.items()}
    cells = [f"{seconds[k] * 1e3:.2f}" for k in COUNTS]
    growth = [seconds[k] / max(seconds[2], 1e-9) for k in COUNTS[1:]]
    cells += [f"{g:.1f}x of {k}x" for g, k in zip(growth, COUNTS[1:], strict=True)]
    return [name, kind, *cells], seconds


def run(options):
    """The tables of this part, and the figures of its plot."""
    note = (
        "Log loss, alpha = 1/n, two workers each: `SGDClassifier` trains to its own end, and ours "
        "with the loosest tolerance that ends at the same mean objective or lower; the defaults "
        "(and where they end) beside it. Medians of interleaved rounds."
    )
    header = ["data", "SGDClassifier", "seconds", "objective", "ours", "its tol", "ratio"]
    ovr = Table("One-vs-rest to the same objective", note, [*header, "our defaults"])
    note = (
        "Our defaults against `LogisticRegression(C=1)` at the loosest tolerance (in brackets) "
        "that ends within 0.1 % of the minimum; seconds. A solver is given up once a fit takes "
        f"{PATIENCE:g} times ours."
    )
    header = ["data", "ours", "its gap", "the best solver over ours", *SOLVERS]
    soft = Table("Softmax to the minimum", note, header)
    ratios = {}
    for name, X, y in sets(options):
        for cells, ratio in against_sgd(name, X, y, options):
            ovr.rows.append(cells)
            ratios[f"{name}: {cells[1]}"] = ratio
            print(cells, flush=True)
        cells, ratio = against_solvers(name, X, y, options)
        soft.rows.append(cells)
        print(cells, flush=True)
        ratios[f"{name}: softmax"] = ratio
    note = (
        "Milliseconds an epoch, one worker, float64, and how many times more than for two classes, "
        "which are one weight vector; of the arithmetic there is as many times more as classes. "
        "Dense: 54 columns. Sparse: 70 non-zeros a row."
    )
    header = ["problem", "kind", *(f"{k} classes" for k in COUNTS)]
    cost = Table("Epochs by classes", note, [*header, *(f"growth to {k}" for k in COUNTS[1:])])
    lines = {}
    for cells, seconds in class_costs(options):
        cost.rows.append(cells)
        lines[f"{cells[0]}, {cells[1]}"] = seconds
        print(cells, flush=True)
    return [ovr, soft, cost], lines


def plot(axes, figures):
    """A line a problem: times longer an epoch than for two classes."""
    for name, seconds in figures.items():
        counts = [1, *COUNTS[1:]]
        axes.plot(counts, [t / max(seconds[2], 1e-9) for t in seconds.values()], "o-", label=name)
    axes.plot(counts, counts, "k:", lw=1, label="the arithmetic")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("weight vectors (two classes are one)")
    axes.set_ylabel("times an epoch of one")
    axes.legend(fontsize=6)
    axes.set_title("Epochs by classes")
