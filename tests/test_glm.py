"""Deviances and quantiles against scikit-learn's estimators, and their derivatives."""

import numpy as np
import pytest
import scipy.sparse as sp
from _common import REGRESSORS, load_shared, shared_names
from joblib import parallel_config
from sklearn.linear_model import (
    GammaRegressor,
    PoissonRegressor,
    QuantileRegressor,
    TweedieRegressor,
)
from sklearn.metrics import d2_tweedie_score, mean_pinball_loss, mean_tweedie_deviance

from skpar import fit_stream, sources
from skpar._problem import Problem

POWERS = {"poisson": 1, "gamma": 2, "tweedie": 1.5}
LEVELS = [0.1, 0.5, 0.8]
regressors = pytest.mark.parametrize("cls", REGRESSORS)


def kernel(loss, power=1.5, quantile=0.3, width=None):
    p = Problem(
        loss, 0.1, "l2", 0.1, 0.1, True, "auto", 0.1, 0.5, 0, power=power, quantile=quantile
    )
    return p.loss_kernel() if width is None else p.rounded(width)


def data(loss, n=400, d=5, power=1.5, seed=0):
    """Rows, and targets of the distribution that the loss is for."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.7)
    mean = np.exp(0.4 * X @ rng.normal(size=d) + 1.0)
    if loss == "quantile":
        return X, np.log(mean) * 10 + rng.standard_t(3, n)
    if loss == "poisson":
        return X, rng.poisson(mean).astype(float)
    y = mean * rng.gamma(2.0, 0.5, n)
    return X, y * (rng.random(n) < 0.8) if loss == "tweedie" and power < 2 else y


def deviance(model, X, y, power, sample_weight=None):
    """scikit-learn's objective of a generalised linear model, with the deviance's constants."""
    mean = np.exp(X @ model.coef_ + model.intercept_)
    loss = mean_tweedie_deviance(y, mean, power=power, sample_weight=sample_weight) / 2
    return loss + model.alpha / 2 * model.coef_ @ model.coef_


def pinball(model, X, y, level):
    loss = mean_pinball_loss(y, X @ model.coef_ + model.intercept_, alpha=level)
    return loss + model.alpha * np.abs(model.coef_).sum()


@pytest.mark.parametrize(
    ("loss", "power"),
    [("poisson", 1), ("gamma", 2)] + [("tweedie", p) for p in (1, 1.2, 1.9, 2, 2.5, 3)],
)
def test_values_are_half_the_deviance(loss, power):
    for y in (1e-3, 0.7, 3.0, 40.0) + ((0.0,) if power < 2 else ()):
        for p in np.linspace(-3, 3, 13):
            half = mean_tweedie_deviance([y], [np.exp(p)], power=power) / 2
            np.testing.assert_allclose(
                kernel(loss, power).py_value(y, p), half, rtol=1e-9, atol=1e-9 * (1 + y)
            )


def test_quantile_values():
    for y, p in ((1.0, 0.0), (0.0, 1.0), (2.0, -3.0), (1.0, 1.0)):
        expected = mean_pinball_loss([y], [p], alpha=0.3)
        np.testing.assert_allclose(kernel("quantile").py_value(y, p), expected)


@pytest.mark.parametrize(
    ("loss", "power"),
    [
        ("poisson", 1),
        ("gamma", 2),
        ("tweedie", 1.4),
        ("tweedie", 2.6),
        ("tweedie", 0),
        ("quantile", 0),
    ],
)
def test_derivatives_are_differences(loss, power):
    rounded = [None, 0.4] if loss == "quantile" else [None]
    rng = np.random.default_rng(0)
    for width in rounded:
        k = kernel(loss, power, width=width)
        for y in (0.3, 1.0, 5.0):
            for p in rng.uniform(-2, 2, 60):
                h = 1e-6
                slope = (k.py_value(y, p + h) - k.py_value(y, p - h)) / (2 * h)
                bend = (k.py_gradient(y, p + h) - k.py_gradient(y, p - h)) / (2 * h)
                np.testing.assert_allclose(k.py_gradient(y, p), slope, rtol=1e-5, atol=1e-6)
                np.testing.assert_allclose(k.py_curvature(y, p), bend, rtol=1e-5, atol=1e-6)


def test_rounded_quantile_is_a_little_below():
    sharp, level, width = kernel("quantile"), 0.3, 0.5
    soft = kernel("quantile", width=width)
    for r in np.linspace(-3, 3, 101):
        gap = sharp.py_value(r, 0.0) - soft.py_value(r, 0.0)
        assert -1e-12 <= gap <= max(level, 1 - level) ** 2 * width / 2 + 1e-12
        # The majorant's parabola touches at 0 and lies above everywhere.
        for p in np.linspace(-3, 3, 31):
            parabola = soft.py_value(r, 0.0) + soft.py_gradient(r, 0.0) * p
            parabola += soft.py_majorant(r, 0.0) * p * p / 2
            assert soft.py_value(r, p) <= parabola + 1e-12


@regressors
@pytest.mark.parametrize("alpha", [0.0, 1e-3, 0.3])
@pytest.mark.parametrize("loss", POWERS)
def test_deviances_reach_scikit_learns_objective(cls, loss, alpha):
    X, y = data(loss)
    power = POWERS[loss]
    reference = TweedieRegressor(power=power, link="log", alpha=alpha, tol=1e-10, max_iter=10_000)
    reference.fit(X, y)
    model = cls(loss=loss, alpha=alpha, tol=1e-5).fit(X, y)
    best, got = deviance(reference, X, y, power), deviance(model, X, y, power)
    assert got <= best * (1 + 1e-4)
    np.testing.assert_allclose(model.history_["objective"][-1], got, rtol=1e-9)
    np.testing.assert_allclose(model.predict(X), reference.predict(X), rtol=0.05)
    np.testing.assert_allclose(model.score(X, y), reference.score(X, y), atol=1e-3)


@regressors
@pytest.mark.parametrize("loss", [*POWERS, "quantile"])
def test_weights_are_scikit_learns_but_for_alpha(cls, loss):
    """Theirs divide the losses by the sum of the weights, ours by the number of rows."""
    X, y = data(loss)
    s = np.random.default_rng(1).uniform(0.5, 4, len(y))
    if loss == "quantile":
        reference = QuantileRegressor(quantile=0.3, alpha=0.05)
        model = cls(loss=loss, quantile=0.3, penalty="l1", alpha=0.05 * s.mean(), tol=1e-6)
    else:
        reference = TweedieRegressor(power=POWERS[loss], link="log", alpha=0.05, tol=1e-10)
        model = cls(loss=loss, alpha=0.05 * s.mean(), tol=1e-8)
    expected = reference.fit(X, y, s).predict(X)
    got = model.fit(X, y, sample_weight=s).predict(X)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=0.01 * expected.std())


@regressors
@pytest.mark.parametrize("power", [0, 1, 2, 3])
def test_tweedie_powers(cls, power):
    """0 has the identity for its link, and 3 a loss that is not convex."""
    X, y = data("gamma")
    reference = TweedieRegressor(power=power, alpha=0.01, tol=1e-10, max_iter=10_000).fit(X, y)
    model = cls(loss="tweedie", power=power, alpha=0.01, tol=1e-6).fit(X, y)
    np.testing.assert_allclose(model.predict(X), reference.predict(X), rtol=0.05)
    np.testing.assert_allclose(model.score(X, y), reference.score(X, y), atol=1e-3)


@regressors
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("alpha", [0.0, 0.01, 0.3])
def test_quantiles_reach_scikit_learns_objective(cls, level, alpha):
    X, y = data("quantile")
    reference = QuantileRegressor(quantile=level, alpha=alpha).fit(X, y)
    model = cls(loss="quantile", quantile=level, penalty="l1", alpha=alpha, tol=1e-4).fit(X, y)
    best, got = pinball(reference, X, y, level), pinball(model, X, y, level)
    assert got <= best * 1.001
    np.testing.assert_allclose(model.history_["objective"][-1], got, rtol=1e-9)


@regressors
@pytest.mark.parametrize("loss", [*POWERS, "quantile"])
def test_layouts_dtypes_and_weights_agree(cls, loss):
    X, y = data(loss)
    weights = np.random.default_rng(1).integers(0, 3, len(y))
    model = cls(loss=loss, penalty="elasticnet", alpha=1e-3, tol=1e-6)
    dense = model.fit(X, y, sample_weight=weights).predict(X)
    sparse = model.fit(sp.csr_matrix(X), y, sample_weight=weights).predict(X)
    narrow = model.fit(X.astype(np.float32), y, sample_weight=weights).predict(X)
    spread = y.std()
    np.testing.assert_allclose(sparse, dense, atol=0.02 * spread)
    np.testing.assert_allclose(narrow, dense, atol=0.02 * spread)
    rows = np.repeat(np.arange(len(y)), weights)
    # alpha weighs against the mean over rows, of which there are more here.
    again = model.set_params(alpha=1e-3 * len(y) / len(rows)).fit(X[rows], y[rows]).predict(X)
    np.testing.assert_allclose(again, dense, atol=0.02 * spread)


@regressors
@pytest.mark.parametrize("loss", [*POWERS, "quantile"])
@pytest.mark.parametrize("rate", ["optimal", "invscaling", "constant", "adaptive"])
def test_steps_of_scikit_learn_descend(cls, loss, rate):
    X, y = data(loss)
    penalty = dict(penalty="l2", alpha=1e-3)
    best = cls(loss=loss, tol=1e-6, **penalty).fit(X, y).history_["objective"][-1]
    model = cls(
        loss=loss,
        learning_rate=rate,
        eta0=0.02,
        max_iter=100,
        random_state=0,
        average=200,
        **penalty,
    )
    objective = model.fit(X, y).history_["objective"]
    worst = cls(loss=loss, penalty="l1", alpha=1e6, tol=1e-6).fit(X, y).history_["objective"][-1]
    assert objective[-1] - best <= 0.2 * (worst - best)


@regressors
@pytest.mark.parametrize("loss", [*POWERS, "quantile"])
def test_partial_fit_descends(cls, loss):
    X, y = data(loss, n=4000)
    model = cls(loss=loss, alpha=1e-3, random_state=0)
    objectives = [model.partial_fit(X, y).history_["objective"][-1] for _ in range(30)]
    best = cls(loss=loss, alpha=1e-3, tol=1e-6).fit(X, y).history_["objective"][-1]
    assert objectives[-1] <= objectives[0]
    assert objectives[-1] <= best * 1.1


@regressors
@pytest.mark.parametrize(
    ("params", "low", "bound"),
    [
        (dict(loss="poisson"), -1.0, ">= 0"),
        (dict(loss="gamma"), 0.0, "> 0"),
        (dict(loss="tweedie", power=1.3), -0.5, ">= 0"),
        (dict(loss="tweedie", power=3), 0.0, "> 0"),
    ],
)
def test_a_target_outside_the_domain_names_its_row(cls, params, low, bound):
    X, y = data("gamma")
    y[17] = low
    expected = rf"y\[17\] is .*{params['loss']}.* needs targets {bound}"
    with pytest.raises(ValueError, match=expected):
        cls(**params).fit(X, y)
    with pytest.raises(ValueError, match=expected):
        cls(**params).partial_fit(X, y)
    model = cls(**params).partial_fit(X[:17], y[:17])
    with pytest.raises(ValueError, match=expected):
        model.partial_fit(X, y)
    with pytest.raises(ValueError, match=expected.replace("y", "y_val", 1)):
        cls(**params).fit(X[:17], y[:17], X_val=X, y_val=y)


@regressors
@pytest.mark.parametrize("power", [-1, 0.5, None])
def test_powers_without_a_distribution(cls, power):
    X, y = data("gamma")
    with pytest.raises(ValueError, match="power"):
        cls(loss="tweedie", power=power).fit(X, y)


@regressors
@pytest.mark.parametrize("loss", [*POWERS, "quantile"])
def test_early_stopping_scores_the_loss(cls, loss):
    X, y = data(loss)
    X_val, y_val = data(loss, n=100, seed=0)
    model = cls(loss=loss, early_stopping=True, alpha=1e-3).fit(X, y, X_val=X_val, y_val=y_val)
    best = np.max(model.history_["validation_score"])
    predictions = model.predict(X_val)
    if loss == "quantile":
        constant = mean_pinball_loss(y_val, np.full(len(y_val), np.median(y_val)))
        expected = 1 - mean_pinball_loss(y_val, predictions) / constant
    else:
        expected = d2_tweedie_score(y_val, predictions, power=POWERS[loss])
    np.testing.assert_allclose(best, expected, rtol=1e-9)


@regressors
def test_counts_far_from_one(cls):
    """The mean of the targets is where a fit starts: exp of it neither vanishes nor explodes."""
    X, y = data("poisson")
    for factor in (1e-6, 1e6):
        model = cls(loss="poisson", alpha=0, tol=1e-6).fit(X, y * factor)
        np.testing.assert_allclose(model.predict(X).mean(), y.mean() * factor, rtol=1e-2)


@regressors
@pytest.mark.parametrize("layout", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_the_domain_holds_on_every_backend(cls, layout, backend):
    X, y = data("poisson")
    y[17] = -2.0
    for params in ({}, dict(learning_rate="invscaling")):
        model = cls(loss="poisson", n_jobs=2, **params)
        with parallel_config(backend), pytest.raises(ValueError, match=r"y\[17\] is -2.0"):
            model.fit(layout(X), y)
        with parallel_config(backend), pytest.raises(ValueError, match=r"y\[17\] is -2.0"):
            model.partial_fit(layout(X), y)


@regressors
def test_a_stream_names_the_row_of_a_bad_target(cls):
    """Its number in the chunk as it was read, not as it was shuffled."""
    X, y = data("gamma")
    y[217] = 0.0
    source = sources.arrays(X, y, chunk_rows=100)
    with pytest.raises(ValueError, match=r"y\[17\] is 0.0, but loss='gamma'") as caught:
        fit_stream(cls(loss="gamma"), source, random_state=0)
    assert any("chunk" in note for note in caught.value.__notes__)
    good = sources.arrays(X[:200], y[:200], chunk_rows=100)
    with pytest.raises(ValueError, match=r"validation rows: y\[217\] is 0.0"):
        fit_stream(cls(loss="gamma"), good, validation=(X, y))


@regressors
@pytest.mark.parametrize(
    ("loss", "power"), [("poisson", 1), ("gamma", 2), ("tweedie", 1.3), ("tweedie", 3)]
)
def test_a_stream_scores_the_deviance(cls, loss, power):
    X, y = data("tweedie", power=power)
    s = np.random.default_rng(1).random(len(y))
    held = sources.arrays(X, y, sample_weight=s, chunk_rows=90)
    model = cls(loss=loss, power=power if loss == "tweedie" else 1.5)
    fit_stream(model, sources.arrays(X, y, chunk_rows=100), validation=held, n_epochs=2)
    expected = d2_tweedie_score(y, model.predict(X), sample_weight=s, power=power)
    np.testing.assert_allclose(model.history_["validation_score"][-1], expected, rtol=1e-9)


def real(name, raw):
    """A set of shared/data, or a skip where that folder is absent."""
    if name not in shared_names():
        pytest.skip("shared/data is not there")
    r = load_shared(name, raw)
    return r["X"], r["y"]


names = pytest.mark.parametrize("name", ["cal_housing", "diamonds"])


@pytest.mark.slow
@regressors
@names
@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("alpha", [1e-4, 1.0])
@pytest.mark.parametrize("loss", POWERS)
def test_deviances_of_real_sets(cls, name, raw, alpha, loss):
    """With default parameters, and the penalty that scikit-learn's have for theirs."""
    X, y = real(name, raw)
    kind = {"poisson": PoissonRegressor, "gamma": GammaRegressor}.get(loss)
    options = dict(alpha=alpha, tol=1e-9, max_iter=10_000, solver="newton-cholesky")
    reference = kind(**options) if kind else TweedieRegressor(power=1.5, **options)
    reference.fit(X, y)
    model = cls(loss=loss, alpha=alpha).fit(X, y)
    best, got = (deviance(m, X, y, POWERS[loss]) for m in (reference, model))
    assert got <= best * 1.001


@pytest.mark.slow
@regressors
@names
@pytest.mark.parametrize("power", [2.5, 3])
def test_powers_beyond_2_of_real_sets(cls, name, power):
    X, y = real(name, False)
    options = dict(power=power, link="log", alpha=1e-4, tol=1e-9, max_iter=10_000)
    reference = TweedieRegressor(**options).fit(X, y)
    model = cls(loss="tweedie", power=power, alpha=1e-4).fit(X, y)
    assert deviance(model, X, y, power) <= deviance(reference, X, y, power) * 1.001


@pytest.mark.slow
@regressors
@names
@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("level", [0.05, 0.5, 0.9])
def test_quantiles_of_real_sets(cls, name, raw, level):
    X, y = real(name, raw)
    rows = np.random.default_rng(0).permutation(len(y))[:4000]  # for the reference's sake
    X, y = X[rows], y[rows]
    reference = QuantileRegressor(quantile=level, alpha=1e-3).fit(X, y)
    model = cls(loss="quantile", quantile=level, penalty="l1", alpha=1e-3).fit(X, y)
    assert pinball(model, X, y, level) <= pinball(reference, X, y, level) * 1.001
