"""What the tests share: the estimators, small data sets, and the definitions in plain numpy."""

import functools
import importlib.util
import itertools
import os
import time
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import sklearn
from sklearn.utils.fixes import parse_version

from skpar import (
    HogwildClassifier,
    HogwildRegressor,
    ParallelSGDClassifier,
    ParallelSGDRegressor,
)

CLASSIFIERS = [ParallelSGDClassifier, HogwildClassifier]
REGRESSORS = [ParallelSGDRegressor, HogwildRegressor]
ESTIMATORS = CLASSIFIERS + REGRESSORS

SKLEARN_VERSION = parse_version(parse_version(sklearn.__version__).base_version)
SKLEARN_HAS_PA = parse_version("1.8") <= SKLEARN_VERSION

REGRESSION_LOSSES = [
    "squared_error",
    "huber",
    "epsilon_insensitive",
    "squared_epsilon_insensitive",
]
CLASSIFICATION_LOSSES = [
    "hinge",
    "log_loss",
    "modified_huber",
    "squared_hinge",
    "perceptron",
    *REGRESSION_LOSSES,
]
PENALTIES = ["l2", "l1", "elasticnet", None]
SCHEDULES = ["optimal", "constant", "invscaling", "adaptive"]

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def is_clf(cls):
    return cls.__name__.endswith("Classifier")


def sgd_rate(cls):
    """scikit-learn's default schedule: for tests of SGD's steps rather than of "auto"."""
    return dict(learning_rate="optimal" if is_clf(cls) else "invscaling")


def workers(cls, n_jobs):
    """Parameters for n_jobs workers on data where "auto" would take one shard."""
    return dict(n_jobs=n_jobs) | (dict(n_shards=n_jobs) if "Parallel" in cls.__name__ else {})


def schedules_for(loss, is_classifier):
    """The schedules that scikit-learn allows with this loss."""
    passive_aggressive = "hinge" if is_classifier else "epsilon_insensitive"
    return SCHEDULES + (["pa1", "pa2"] if SKLEARN_HAS_PA and loss == passive_aggressive else [])


# Definitions. y is -1 or 1 in the losses of classification, p is the linear prediction.
def _log_loss(y, p, eps):
    return np.logaddexp(0, -y * p)


def _modified_huber(y, p, eps):
    z = y * p
    return np.where(z >= -1, np.maximum(0, 1 - z) ** 2, -4 * z)


def _huber(y, p, eps):
    r = np.abs(p - y)
    return np.where(r <= eps, r**2 / 2, eps * r - eps**2 / 2)


LOSS = {
    "hinge": lambda y, p, eps: np.maximum(0, 1 - y * p),
    "perceptron": lambda y, p, eps: np.maximum(0, -y * p),
    "squared_hinge": lambda y, p, eps: np.maximum(0, 1 - y * p) ** 2,
    "log_loss": _log_loss,
    "modified_huber": _modified_huber,
    "squared_error": lambda y, p, eps: (p - y) ** 2 / 2,
    "huber": _huber,
    "epsilon_insensitive": lambda y, p, eps: np.maximum(0, np.abs(p - y) - eps),
    "squared_epsilon_insensitive": lambda y, p, eps: np.maximum(0, np.abs(p - y) - eps) ** 2,
}


def objectives(est, X, y, sample_weight=None):
    """(1/n) sum_i s_i loss(y_i, x_i w + b) + alpha [(1 - r)/2 |w|_2^2 + r |w|_1], one a column of y.

    Binary and regression problems have one; multiclass ones one for each class against the rest.
    """
    coef, intercept = np.atleast_2d(est.coef_).astype(float), np.atleast_1d(est.intercept_)
    if hasattr(est, "classes_"):
        positive = est.classes_ if len(est.classes_) > 2 else est.classes_[1:]
        Y = np.where(np.asarray(y)[:, None] == positive, 1.0, -1.0)
    else:
        Y = np.asarray(y, dtype=float)
        Y = Y[:, None] if Y.ndim == 1 else Y
    s = np.ones(len(Y)) if sample_weight is None else np.asarray(sample_weight)
    losses = LOSS[est.loss](Y, np.asarray(X @ coef.T) + intercept, est.epsilon)
    ratio = {"l2": 0.0, "l1": 1.0, "elasticnet": est.l1_ratio, None: 0.0}[est.penalty]
    alpha = est.alpha if est.penalty else 0.0
    l2, l1 = (coef**2).sum(axis=1), np.abs(coef).sum(axis=1)
    return s @ losses / len(Y) + alpha * ((1 - ratio) / 2 * l2 + ratio * l1)


def objective(est, X, y, sample_weight=None):
    """The objectives' sum."""
    return objectives(est, X, y, sample_weight).sum()


def product_dicts(**values):
    """Every combination, as keyword arguments."""
    for combination in itertools.product(*values.values()):
        yield dict(zip(values, combination, strict=True))


# Data.
@functools.cache
def small_problem(task="binary", n=60, d=7, seed=0):
    """Rows with about half zeros (so that CSR differs from dense in what it stores), and y."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.6)
    scores = X @ rng.normal(size=(d, 3)) + 0.5 * rng.normal(size=(n, 3)) + [0.4, 0, 0]
    y = {
        "binary": np.where(scores[:, 0] > 0, "yes", "no"),
        "multiclass": scores.argmax(axis=1) + 3,
        "regression": scores[:, 0],
    }[task]
    X.flags.writeable = y.flags.writeable = False
    return X, y


@functools.cache
def large_problem(task="binary", layout="dense", n=12_000, seed=0):
    """Enough rows and elements for two workers; noisy, so that no loss can be zero."""
    rng = np.random.default_rng(seed)
    if layout == "dense":
        X = rng.normal(size=(n, 20))
    else:
        # Power-law columns, as text has.
        d, per_row = 2_000, 15
        columns = np.minimum((d ** rng.random(n * per_row)).astype(int), d - 1)
        rows = np.repeat(np.arange(n), per_row)
        X = sp.csr_matrix((np.ones(n * per_row), (rows, columns)), shape=(n, d))
        X.data = 1 / np.sqrt(np.repeat(np.diff(X.indptr), np.diff(X.indptr)))
    scores = X @ rng.normal(size=(X.shape[1], 4))
    scores = scores / scores.std(axis=0) * 1.5 + rng.logistic(size=scores.shape)
    y = {
        "binary": (scores[:, 0] > 0).astype(int),
        "multiclass": scores.argmax(axis=1),
        "regression": scores[:, 0],
    }[task]
    return X, y


@functools.cache
def shared_names():
    """The names of the sets in shared/data: none where that folder is absent."""
    return [] if _loader() is None else list(_loader().NAMES)


@functools.cache
def load_shared(name, raw=False):
    """One of the real data sets, as its load.py gives it, loaded once a process."""
    return _loader().load(name, raw=raw)


@functools.cache
def _loader():
    path = SHARED_DATA / "load.py"
    if not path.is_file():
        return None
    spec = importlib.util.spec_from_file_location("shared_data_load", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The function of skpar._schemes that runs in a worker of each family.
WORKER_FUNCTIONS = [
    (HogwildClassifier, "run_shared"),
    (HogwildRegressor, "run_shared"),
    (ParallelSGDClassifier, "run"),
    (ParallelSGDRegressor, "run"),
]


def wait_until_gone(pid, seconds=30):
    """Wait for a process that was killed; the next test must not meet it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise TimeoutError(f"process {pid} is still there")
