"""Many outputs by stochastic steps in one read of the rows: the same as each by itself."""

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from _common import (
    CLASSIFICATION_LOSSES,
    CLASSIFIERS,
    PENALTIES,
    SCHEDULES,
    HogwildClassifier,
    ParallelSGDClassifier,
    large_problem,
    product_dicts,
    schedules_for,
    small_problem,
)
from sklearn.base import clone

from skpar._data import Batch
from skpar._kernels.many import norms_many
from skpar._many_schemes import ManySteps
from skpar._problem import Problem
from skpar._schemes import Fit, Sequential, Weights
from skpar._workers import Team
from skpar.callbacks import EarlyStopping

classifiers = pytest.mark.parametrize("cls", CLASSIFIERS)
layouts = pytest.mark.parametrize("layout", [np.asarray, sp.csr_matrix])
dtypes = pytest.mark.parametrize("dtype", [np.float64, np.float32])
KERNEL_LOSSES = [*CLASSIFICATION_LOSSES, "quantile", "poisson"]


def problem_of(loss, **params):
    own = dict(epsilon=0.1, penalty="l2", alpha=0.01, l1_ratio=0.3, fit_intercept=True)
    own |= dict(learning_rate="invscaling", eta0=0.05, power_t=0.25, quantile=0.3)
    return Problem(loss, **(own | params))


def fit_of(problem, batch, start, **params):
    return Fit(problem, batch, Team(1, shared_memory=True), 3, False, start, **params)


def start_of(k, d, dtype, average, rng):
    averages = np.zeros((k, d), dtype) if average else None
    w = (rng.normal(size=(k, d)) / 3).astype(dtype)
    return Weights(w, rng.normal(size=k), averages, np.zeros(k), t=1.0)


def separate(problem, X, y, weights, start, k, **params):
    """The scheme of one output, with its own targets."""
    average = None if start.average is None else start.average[k].copy()
    own = Weights(start.w[k].copy(), float(start.intercept[k]), average, 0.0, 1.0)
    return Sequential(fit_of(problem, Batch.of(X, y, weights), own, **params))


@layouts
@dtypes
@pytest.mark.parametrize("loss", KERNEL_LOSSES)
@pytest.mark.parametrize("k", [3, 11, 40])
def test_targets_of_each_output(loss, dtype, layout, k):
    """Real targets for each output, against the kernel of one output."""
    rng = np.random.default_rng(0)
    X = layout(small_problem(n=63)[0].astype(dtype))
    y = rng.normal(size=(63, k)) if loss in KERNEL_LOSSES[5:] else rng.choice([-1.0, 1.0], (63, k))
    if loss == "poisson":
        y = np.abs(y)
    weights = rng.random(63)
    for penalty, average in ((None, 0), ("l2", 1), ("elasticnet", 20), ("l1", 0)):
        problem = problem_of(loss, penalty=penalty, average=average, eta0=0.02)
        start = start_of(k, 7, dtype, average, rng)
        fit = fit_of(problem, Batch.of(X, y[:, 0], weights), start, track_loss=True)
        many = ManySteps(fit, (None, y, weights, None, np.ones(k)))
        ones = [separate(problem, X, y[:, c], weights, start, c, track_loss=True) for c in range(k)]
        for epoch in range(3):
            many.epoch(epoch, np.full(k, 0.02))
            for one in ones:
                one.epoch(epoch, 0.02)
        got, rtol = many.weights(), 1e-9 if dtype == np.float64 else 2e-4
        assert got.w.dtype == dtype
        for c, one in enumerate(ones):
            expected = one.weights()
            names = ("w", "intercept", "average", "average_intercept")[: 4 if average else 2]
            for name in names:
                a, b = getattr(got, name)[c], getattr(expected, name)
                scale = np.abs(b).max() if name in ("w", "average") else 1.0
                np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale, err_msg=name)
            np.testing.assert_allclose(many.loss_sum[c], one.loss_sum, rtol=10 * rtol)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@layouts
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("loss", CLASSIFICATION_LOSSES)
def test_one_vs_rest_is_each_class_by_itself(loss, penalty, layout):
    """A whole fit against fits of two classes; hundreds of settings."""
    X, y = small_problem("multiclass")
    X, weights = layout(X), np.random.default_rng(1).uniform(0.2, 2, len(y))
    for params in product_dicts(
        learning_rate=schedules_for(loss, True), average=[False, 10], tol=[None, 1e-2]
    ):
        common = dict(loss=loss, penalty=penalty, alpha=0.01, eta0=0.02, max_iter=12)
        common |= params | dict(shuffle=False, n_iter_no_change=2)
        if params["learning_rate"] == "optimal" and loss.startswith(
            ("squared", "modified", "huber")
        ):
            # Its first steps multiply these losses, and rounding with them.
            common["alpha"] = 3.0
        many = HogwildClassifier(class_weight={4: 3.0}, **common)
        many.fit(X, y, sample_weight=weights)
        ones = []
        for k, label in enumerate(many.classes_):
            factor = {True: 3.0} if label == 4 else None
            one = HogwildClassifier(class_weight=factor, **common)
            ones.append(one.fit(X, y == label, sample_weight=weights))
            scale = np.abs(one.coef_).max()
            np.testing.assert_allclose(
                many.coef_[k], one.coef_[0], rtol=1e-6, atol=1e-9 * scale, err_msg=str(params)
            )
            np.testing.assert_allclose(many.intercept_[k], one.intercept_[0], rtol=1e-6, atol=1e-9)
        longest = max(ones, key=lambda one: one.n_iter_)
        assert many.n_iter_ == longest.n_iter_
        assert many.t_ == longest.t_
        for name in ("objective", "step_size"):
            histories = [one.history_[name] for one in ones]
            padded = [np.append(h, [h[-1]] * (many.n_iter_ - len(h))) for h in histories]
            np.testing.assert_allclose(many.history_[name], np.mean(padded, axis=0), rtol=1e-6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@classifiers
@layouts
@dtypes
@pytest.mark.parametrize("rate", [*SCHEDULES, "pa1"])
def test_split_classes_change_no_bit(cls, rate, layout, dtype):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6000, 20)) * (rng.random((6000, 20)) < 0.7)
    X, y = layout(X.astype(dtype)), rng.integers(0, 18, 6000)
    params = dict(learning_rate=rate, eta0=0.01, max_iter=4, random_state=0, split="classes")
    fits = [cls(n_jobs=n_jobs, **params).fit(X, y) for n_jobs in (1, 2, 5)]
    assert [fit.n_workers_ for fit in fits] == [1, 2, 5]
    for fit in fits[1:]:
        np.testing.assert_array_equal(fit.coef_, fits[0].coef_)
        np.testing.assert_array_equal(fit.intercept_, fits[0].intercept_)
        np.testing.assert_array_equal(fit.history_["objective"], fits[0].history_["objective"])


@classifiers
def test_early_stopping_looks_at_each_class(cls):
    X, y = large_problem("multiclass")
    params = dict(learning_rate="optimal", early_stopping=True, random_state=0, shuffle=False)
    many = cls(max_iter=5, tol=None, **params).fit(X, y)
    scores = many.history_["validation_score"]
    assert scores.shape == (5,)
    assert ((scores > 0.5) & (scores < 1)).all()
    X_val, y_val = X[:500], y[:500]
    given = cls(max_iter=3, tol=None, **params).fit(X, y, X_val=X_val, y_val=y_val)
    hits = [
        ((X_val @ w + b > 0) == (y_val == label)).mean()
        for w, b, label in zip(given.coef_, given.intercept_, given.classes_, strict=True)
    ]
    # The best weights of each class: none scores below the mean of the last epoch.
    assert np.mean(hits) >= given.history_["validation_score"][-1] - 1e-12


@classifiers
def test_auto_partial_fit_of_one_vs_rest(cls):
    X, y = large_problem("multiclass")
    model, best = cls(loss="log_loss", alpha=1e-3, random_state=0), cls(loss="log_loss", alpha=1e-3)
    best.fit(X, y)
    for start in range(0, 4 * len(y), 3000):
        rows = np.arange(start, start + 3000) % len(y)
        model.partial_fit(X[rows], y[rows], classes=best.classes_)
    with pytest.raises(ValueError, match="classes should include"):
        model.partial_fit(X[:2], [0, 99])
    batch = Batch.of(X, y)
    parts = (y.astype(np.int64), None, None, np.arange(4), np.ones(4))
    fit = fit_of(problem_of("log_loss", alpha=1e-3), batch, start_of(4, 20, float, 0, batch_rng()))
    values = [ManySteps(fit, parts).objectives_at(m.coef_, m.intercept_) for m in (model, best)]
    np.testing.assert_allclose(values[1].mean(), best.history_["objective"][-1], rtol=1e-6)
    assert (values[0] <= values[1] * 1.01).all()


def batch_rng():
    return np.random.default_rng(0)


@dtypes
def test_norms(dtype):
    w = np.random.default_rng(0).normal(size=(33, 16)).astype(dtype)
    squares, sizes = norms_many(w)
    np.testing.assert_allclose(squares, (w.astype(float) ** 2).sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(sizes, np.abs(w.astype(float)).sum(axis=0), rtol=1e-12)


SCHEMES = [
    ("ParallelSGDClassifier", dict(n_shards=3), "model-averaging"),
    ("ParallelSGDClassifier", dict(n_shards=2, scheme="gradient-averaging"), "gradient-averaging"),
    ("HogwildClassifier", dict(n_jobs=3), "lock-free"),
    ("HogwildClassifier", dict(n_jobs=2, merge_every=64), "lock-free"),
    ("HogwildClassifier", dict(n_jobs=2, scheme="locked", merge_every=32), "locked"),
]


@layouts
@pytest.mark.parametrize("multi_class", ["ovr", "multinomial"])
@pytest.mark.parametrize("penalty", ["l2", "l1"])
@pytest.mark.parametrize(("name", "params", "scheme"), SCHEMES)
def test_every_scheme_reaches_what_one_worker_does(
    name, params, scheme, penalty, multi_class, layout
):
    cls = {c.__name__: c for c in CLASSIFIERS}[name]
    X, y = large_problem("multiclass")
    X = layout(np.where(np.abs(X) < 0.3, 0.0, X))
    common = dict(loss="log_loss", alpha=3e-3, penalty=penalty, multi_class=multi_class)
    common |= dict(learning_rate="optimal", split="rows", tol=None, random_state=0, max_iter=40)
    # On sparse rows the intercept, at its hundredth of a step, would take many more epochs.
    common["fit_intercept"] = layout is np.asarray
    # scikit-learn's average, which one-vs-rest follows, leaves out what l1 takes.
    averaged = penalty == "l2" or multi_class == "multinomial"
    common["average"] = 60_000 if averaged else False
    one = HogwildClassifier(n_jobs=1, **common).fit(X, y)
    model = cls(**common, **params).fit(X, y)
    assert (one.scheme_, model.scheme_) == ("sequential", scheme)
    allowed = 1.001 if averaged else 1.01
    assert model.history_["objective"][-1] <= one.history_["objective"][-1] * allowed


@classifiers
@dtypes
def test_both_splits_at_once(cls, dtype):
    """Blocks of the classes times shards of the rows."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(110_000, 20)).astype(dtype)
    y = (X @ rng.normal(size=(20, 30)) + rng.gumbel(size=(110_000, 30))).argmax(axis=1)
    common = dict(loss="log_loss", alpha=1e-2, learning_rate="invscaling", eta0=0.1)
    common |= dict(max_iter=6, tol=None, random_state=0, average=330_000)
    # Shards of the rows are as far as shards are without blocks.
    n_shards = (
        2 if dtype == np.float64 else 4
    )  # of 8 workers, one for each line of weights and shard
    shards = {} if cls is HogwildClassifier else dict(n_shards=n_shards)
    one = cls(**shards, **common).fit(X, y)
    both = cls(n_jobs=8, **common).fit(X, y)
    assert both.n_workers_ == 8
    assert both.scheme_ == ("lock-free" if cls is HogwildClassifier else "model-averaging")
    assert both.history_["objective"][-1] <= 1.01 * one.history_["objective"][-1]


@layouts
@dtypes
@pytest.mark.parametrize("multi_class", ["ovr", "multinomial"])
@pytest.mark.parametrize("scheme", ["model-averaging", "gradient-averaging"])
def test_shards_determine_the_bits(scheme, multi_class, dtype, layout):
    X = large_problem("multiclass")[0][:6000]
    rng = np.random.default_rng(0)
    y = (X @ rng.normal(size=(20, 20)) + rng.gumbel(size=(6000, 20))).argmax(axis=1)
    X = layout(X.astype(dtype))
    est = ParallelSGDClassifier(
        loss="log_loss", learning_rate="invscaling", eta0=0.1, n_shards=3, max_iter=3, tol=None,
        scheme=scheme, multi_class=multi_class, average=True, penalty="elasticnet", random_state=0,
    )  # fmt: skip
    fits = [clone(est).set_params(n_jobs=n_jobs).fit(X, y) for n_jobs in (1, 2, 5)]
    with joblib.parallel_config("loky", n_jobs=2):
        fits.append(clone(est).fit(X, y))
    for fit in fits[1:]:
        np.testing.assert_array_equal(fit.coef_, fits[0].coef_)
        np.testing.assert_array_equal(fit.intercept_, fits[0].intercept_)


def test_callbacks_see_one_class_after_another():
    """They are told of each class by name, so classes are trained by fits of their own."""
    X, y = small_problem("multiclass", n=200)
    model = HogwildClassifier(learning_rate="optimal", max_iter=3, tol=None, random_state=0)
    together = clone(model).set_params(shuffle=False).fit(X, y)
    heard = clone(model).set_params(shuffle=False)
    heard.set_callbacks(EarlyStopping(monitor="objective", patience=100))
    heard.fit(X, y)
    np.testing.assert_allclose(heard.coef_, together.coef_, rtol=1e-9)


@pytest.mark.parametrize("average", [False, 50])
@pytest.mark.parametrize("rate", ["invscaling", "adaptive"])
@layouts
def test_ended_classes_leave_the_reads(layout, rate, average, monkeypatch):
    """Each class ends as it does alone, though the others go on with fewer."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 8)) * (rng.random((300, 8)) < 0.8)
    y = (X @ rng.normal(size=(8, 20)) + 2 * rng.gumbel(size=(300, 20))).argmax(axis=1)
    left = []
    only = ManySteps.only
    monkeypatch.setattr(ManySteps, "only", lambda s, kept: left.append(len(kept)) or only(s, kept))
    common = dict(loss="log_loss", learning_rate=rate, eta0=0.5, tol=1e-3, shuffle=False)
    common |= dict(penalty="elasticnet", alpha=3e-3, average=average, n_iter_no_change=1)
    X, names = layout(X), np.unique(y)
    many = HogwildClassifier(n_jobs=3, split="classes", **common).fit(X, y)
    assert left
    assert min(left) < len(names)
    lengths = []
    for k, name in enumerate(names):
        one = HogwildClassifier(**common).fit(X, y == name)
        np.testing.assert_allclose(many.coef_[k], one.coef_[0], rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(many.intercept_[k], one.intercept_[0], rtol=1e-6)
        lengths.append(one.n_iter_)
    assert many.n_iter_ == max(lengths)
    assert len(set(lengths)) > 1
