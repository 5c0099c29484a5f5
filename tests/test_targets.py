"""Several targets in one fit: each is the fit of its own, and what belongs to all of them."""

import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from _common import (
    PENALTIES,
    REGRESSORS,
    SCHEDULES,
    large_problem,
    objectives,
    small_problem,
    workers,
)
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning
from sklearn.linear_model import Ridge
from sklearn.metrics import d2_tweedie_score, r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.utils import get_tags

from skpar import ParallelSGDRegressor, fit_stream, sources
from skpar._regressor import REGRESSION_LOSSES

regressors = pytest.mark.parametrize("cls", REGRESSORS)
layouts = pytest.mark.parametrize("layout", [np.asarray, sp.csr_matrix])
losses = pytest.mark.parametrize("loss", sorted(REGRESSION_LOSSES))
POSITIVE = ("poisson", "gamma", "tweedie")


def data(loss="squared_error", n=300, d=6, k=3, seed=0):
    """Rows and k noisy targets, in the domain of the loss."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.7)
    Y = X @ rng.normal(size=(d, k)) + rng.normal(size=(n, k)) + np.arange(k)
    return X, np.exp(0.3 * Y) if loss in POSITIVE else Y


def apart(model, X, Y, **options):
    """A fit for each target."""
    return [type(model)(**model.get_params()).fit(X, Y[:, k], **options) for k in range(Y.shape[1])]


def assert_same(model, ones):
    """But for rounding: sums of a row are added in another order."""
    coef, intercept = np.array([m.coef_ for m in ones]), np.ravel([m.intercept_ for m in ones])
    np.testing.assert_allclose(model.coef_, coef, rtol=1e-6, atol=1e-9 * np.abs(coef).max())
    np.testing.assert_allclose(model.intercept_, intercept, rtol=1e-6, atol=1e-9)


@regressors
@losses
@layouts
@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_objective_of_each_is_that_of_its_own_fit(cls, loss, layout, penalty):
    X, Y = data(loss)
    s = np.random.default_rng(1).random(len(Y))
    tol = 1e-3 if loss in ("quantile", "epsilon_insensitive") else 1e-6
    model = cls(loss=loss, penalty=penalty, alpha=0.01, tol=tol)
    ones = apart(model, X, Y, sample_weight=s)
    model.fit(layout(X), Y, sample_weight=s)
    assert model.coef_.shape == (3, 6) and model.intercept_.shape == (3,)
    last = [m.history_["objective"][-1] for m in ones]
    np.testing.assert_allclose(model.history_["objective"][-1], np.mean(last), rtol=2 * tol)
    if loss not in (*POSITIVE, "quantile"):
        got, best = (
            objectives(model, X, Y, s),
            [objectives(m, X, Y[:, [k]], s)[0] for k, m in enumerate(ones)],
        )
        np.testing.assert_allclose(got, best, rtol=2 * tol)
        np.testing.assert_allclose(model.history_["objective"][-1], got.mean(), rtol=1e-6)


@regressors
@losses
@layouts
@pytest.mark.parametrize("rate", [*SCHEDULES, "pa1"])
@pytest.mark.parametrize("average", [False, 50])
def test_steps_are_those_of_separate_fits(cls, loss, layout, rate, average):
    if rate == "pa1" and loss != "epsilon_insensitive":
        loss = "epsilon_insensitive"
    X, Y = data(loss)
    model = cls(
        loss=loss, learning_rate=rate, average=average, shuffle=False, max_iter=3, tol=None,
        eta0=0.01, penalty="elasticnet", alpha=1.0 if rate == "optimal" else 1e-4,
    )  # fmt: skip
    X = layout(X)
    assert_same(model.fit(X, Y), apart(model, X, Y))


@regressors
@losses
@layouts
def test_partial_fit_is_that_of_separate_models(cls, loss, layout):
    X, Y = data(loss)
    X = layout(X)
    settings = dict(loss=loss, learning_rate="invscaling", shuffle=False, average=True)
    model, ones = cls(**settings), [cls(**settings) for _ in range(3)]
    for lo in range(0, Y.shape[0], 100):
        rows = slice(lo, lo + 100)
        model.partial_fit(X[rows], Y[rows])
        for k, one in enumerate(ones):
            one.partial_fit(X[rows], Y[rows, k])
        assert_same(model, ones)
    assert model.t_ == len(Y) + 1


@regressors
@losses
def test_partial_fit_without_a_step_size_descends(cls, loss):
    X, Y = data(loss, n=4000)
    model = cls(loss=loss, alpha=1e-3, random_state=0)
    seen = [model.partial_fit(X, Y).history_["objective"][-1] for _ in range(20)]
    best = cls(loss=loss, alpha=1e-3, tol=1e-6).fit(X, Y).history_["objective"][-1]
    assert seen[-1] <= min(1.1 * best, seen[0])


@regressors
@layouts
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_least_squares_are_ridge(cls, layout, fit_intercept, dtype):
    X, Y = data(n=3000, d=20, k=5)
    X = (X + 3 if layout is np.asarray else X).astype(dtype)
    s = np.random.default_rng(1).random(len(Y))
    alpha = 0.01
    model = cls(alpha=alpha, fit_intercept=fit_intercept, tol=1e-9)
    model.fit(layout(X), Y, sample_weight=s)
    ridge = Ridge(alpha * len(Y), fit_intercept=fit_intercept).fit(X.astype(float), Y, s)
    tolerance = 1e-8 if dtype == np.float64 else 1e-3
    np.testing.assert_allclose(model.coef_, ridge.coef_, atol=tolerance)
    np.testing.assert_allclose(model.intercept_, ridge.intercept_, atol=tolerance)
    assert model.coef_.dtype == dtype
    assert model.scheme_ == "full-gradient"


@regressors
@layouts
def test_least_squares_with_l1_are_optimal(cls, layout):
    """The gradient of the loss is -alpha sign(w), or no larger than alpha where w is 0."""
    X, Y = data(n=1000, d=20, k=4)
    alpha = 0.2
    model = cls(penalty="l1", alpha=alpha, tol=1e-10).fit(layout(X), Y)
    gradient = X.T @ (X @ model.coef_.T + model.intercept_ - Y) / len(Y)
    at_zero = model.coef_.T == 0
    assert at_zero.any() and not at_zero.all()
    signs = np.sign(model.coef_.T)
    np.testing.assert_allclose(gradient[~at_zero], -alpha * signs[~at_zero], atol=1e-6)
    assert np.abs(gradient[at_zero]).max() <= alpha + 1e-6


@regressors
@pytest.mark.parametrize("d", [300, 2100])
def test_wide_rows(cls, d):
    """Columns so many that the shared descent has a sampled Hessian, or its diagonal."""
    rng = np.random.default_rng(0)
    X = sp.random(1500, d, 0.02, format="csr", random_state=0)
    X = X if d > 2000 else X.toarray()
    Y = X @ rng.normal(size=(d, 9)) + 0.3 * rng.normal(size=(1500, 9))
    for loss in ("squared_error", "squared_epsilon_insensitive"):
        model = cls(loss=loss, alpha=1e-3, tol=1e-5).fit(X, Y)
        best = [objectives(m, X, Y[:, [k]])[0] for k, m in enumerate(apart(model, X, Y))]
        np.testing.assert_allclose(objectives(model, X, Y), best, rtol=1e-4)


@regressors
@losses
def test_predictions_and_scores(cls, loss):
    X, Y = data(loss)
    s = np.random.default_rng(1).random(len(Y))
    model = cls(loss=loss).fit(X, Y)
    predicted = model.predict(X)
    margins = X @ model.coef_.T + model.intercept_
    expected = np.exp(margins) if loss in POSITIVE else margins
    np.testing.assert_allclose(predicted, expected)
    if loss in POSITIVE:
        power = {"poisson": 1, "gamma": 2, "tweedie": 1.5}[loss]
        pairs = zip(Y.T, predicted.T, strict=True)
        score = np.mean([d2_tweedie_score(y, p, sample_weight=s, power=power) for y, p in pairs])
    else:
        score = r2_score(Y, predicted, sample_weight=s, multioutput="uniform_average")
    np.testing.assert_allclose(model.score(X, Y, s), score)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), predicted)
    np.testing.assert_allclose(model.sparsify().predict(X), predicted)
    np.testing.assert_allclose(model.densify().predict(X), predicted)


@regressors
@pytest.mark.parametrize("loss", ["squared_error", "poisson", "epsilon_insensitive"])
@pytest.mark.parametrize("rate", ["auto", "invscaling"])
def test_early_stopping_and_validation_sets(cls, loss, rate):
    X, Y = data(loss)
    X_val, Y_val = data(loss, n=100, seed=0)
    model = cls(loss=loss, learning_rate=rate, random_state=0, tol=1e-4, max_iter=50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, Y, X_val=X_val, y_val=Y_val)
        last = model.history_["validation_score"][-1]
        np.testing.assert_allclose(last, model.score(X_val, Y_val))
        model.set_params(early_stopping=True).fit(X, Y)
        assert np.isfinite(model.history_["validation_score"]).all()
        model.fit(X, Y, X_val=X_val, y_val=Y_val)
    ones = [max(m.history_["validation_score"]) for m in apart_quietly(model, X, Y, X_val, Y_val)]
    if rate == "auto":
        np.testing.assert_allclose(model.score(X_val, Y_val), np.mean(ones), atol=1e-6)


def apart_quietly(model, X, Y, X_val, Y_val):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return [
            type(model)(**model.get_params()).fit(X, y, X_val=X_val, y_val=y_val)
            for y, y_val in zip(Y.T, Y_val.T, strict=True)
        ]


@regressors
@pytest.mark.parametrize("loss", ["squared_error", "poisson", "huber"])
def test_warm_starts_and_starts_given(cls, loss):
    X, Y = data(loss)
    model = cls(loss=loss, tol=1e-6, warm_start=True).fit(X, Y)
    coef, intercept = model.coef_, model.intercept_
    first = model.n_iter_
    assert model.fit(X, Y).n_iter_ <= first
    np.testing.assert_allclose(model.coef_, coef, atol=1e-3)
    cold = cls(loss=loss, tol=1e-6).fit(X, Y, coef_init=coef, intercept_init=intercept)
    np.testing.assert_allclose(cold.coef_, coef, atol=1e-3)
    with pytest.raises(ValueError, match=r"coef_init .* shape is \(3, 6\), .* need \(1, 6\)"):
        model.fit(X, Y[:, 0])
    with pytest.raises(ValueError, match=r"coef_init .* shape is \(6,\), .* need \(3, 6\)"):
        cls(loss=loss).fit(X, Y, coef_init=np.zeros(6))


@regressors
def test_one_column_is_one_target(cls):
    """As for scikit-learn's SGDRegressor: with a warning."""
    X, Y = data()
    with pytest.warns(DataConversionWarning, match="column-vector y"):
        model = cls().fit(X, Y[:, :1])
    assert model.coef_.shape == (6,) and model.predict(X).shape == (len(X),)
    np.testing.assert_array_equal(model.coef_, cls().fit(X, Y[:, 0]).coef_)
    with pytest.warns(DataConversionWarning, match="column-vector y"):
        cls().partial_fit(X, Y[:, :1])


@regressors
def test_errors_name_the_target(cls):
    X, Y = data("poisson")
    model = cls(loss="poisson")
    bad = Y.copy()
    bad[17, 2] = -1.5
    with pytest.raises(ValueError, match=r"y\[17, 2\] is -1.5, .* \(1 of 300 rows are not\)"):
        model.fit(X, bad)
    with pytest.raises(ValueError, match=r"y\[17, 2\] is -1.5"):
        model.partial_fit(X, bad)
    with pytest.raises(ValueError, match=r"y_val\[17, 2\] is -1.5"):
        model.fit(X, Y, X_val=X, y_val=bad)
    with pytest.raises(ValueError, match=r"y_val has 2 target\(s\), but y had 3"):
        model.fit(X, Y, X_val=X, y_val=Y[:, :2])
    with pytest.raises(ValueError, match=r"y_val has 1 target\(s\), but y had 3"):
        model.fit(X, Y, X_val=X, y_val=Y[:, 0])
    model.partial_fit(X, Y)
    for wrong, found in ((Y[:, :2], 2), (Y[:, 0], 1)):
        with pytest.raises(ValueError, match=rf"y has {found} target\(s\), but .* had 3"):
            model.partial_fit(X, wrong)
    with pytest.raises(ValueError, match="NaN"):
        model.fit(X, np.where(bad < 0, np.nan, Y))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.fit(X, Y[:-1])
    with pytest.raises(TypeError, match=r"y is a sparse matrix: give y.toarray\(\)"):
        model.fit(X, sp.csr_matrix(Y))
    with pytest.raises(ValueError, match="dim 3"):
        model.fit(X, Y[:, :, None])
    with pytest.raises(ValueError, match="target 1 overflows"):
        cls().fit(X, Y * [1.0, 1e200, 1.0])


class Recorder:
    """The shapes of a fit's attributes between epochs."""

    def __init__(self):
        self.names, self.shapes = [], set()

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        self.names.append(context.task_name)

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        if fitted_estimator is not None:
            self.shapes.add((fitted_estimator.coef_.shape, fitted_estimator.intercept_.shape))


@regressors
@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_callbacks_see_all_targets(cls, loss):
    X, Y = data()
    seen = Recorder()
    cls(loss=loss).set_callbacks(seen).fit(X, Y)
    assert seen.shapes == {((3, 6), (3,))}
    together = loss == "squared_error"
    assert [n for n in seen.names if n.startswith("target")] == (
        [] if together else ["target 0", "target 1", "target 2"]
    )


@regressors
@pytest.mark.parametrize("loss", ["squared_error", "gamma"])
def test_streams(cls, loss, tmp_path):
    X, Y = data(loss, n=2000)
    source = sources.arrays(X, Y, chunk_rows=250)

    def run(**options):
        return fit_stream(
            cls(loss=loss), source, n_epochs=3, validation=(X, Y), random_state=0, **options
        )

    def end(progress):
        if progress.chunk == 5:
            raise InterruptedError

    expected = run()
    assert expected.coef_.shape == (3, 6)
    score = expected.history_["validation_score"][-1]
    np.testing.assert_allclose(score, expected.score(X, Y), rtol=1e-6)
    path = tmp_path / "run"
    with pytest.raises(InterruptedError):
        run(checkpoint=path, checkpoint_every="1 chunks", callbacks=[end])
    np.testing.assert_array_equal(run(checkpoint=path).coef_, expected.coef_)


@regressors
@pytest.mark.parametrize("layout", ["dense", "sparse"])
@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_two_workers(cls, layout, loss):
    X, y = large_problem("regression", layout)
    Y = np.stack([y, -y, np.roll(y, 1)], axis=1)
    for rate in ("auto", "invscaling"):
        settings = dict(loss=loss, alpha=1e-2, learning_rate=rate, random_state=0)
        model = cls(**settings, **workers(cls, 2)).fit(X, Y)
        best = objectives(cls(loss=loss, alpha=1e-2, tol=1e-6).fit(X, Y), X, Y)
        assert np.all(objectives(model, X, Y) <= best * (1.001 if rate == "auto" else 1.05))


@pytest.mark.parametrize(
    ("cls", "scheme"),
    [
        (REGRESSORS[0], dict(scheme="model-averaging", n_shards=2)),
        (REGRESSORS[0], dict(scheme="gradient-averaging", n_shards=2)),
        (REGRESSORS[0], dict(inner_n_jobs=2)),
        (REGRESSORS[1], dict(scheme="lock-free", merge_every=32)),
        (REGRESSORS[1], dict(scheme="locked")),
    ],
    ids=str,
)
def test_schemes_that_split_rows(cls, scheme):
    X, y = large_problem("regression")
    Y = np.stack([y, -y], axis=1)
    settings = dict(alpha=1e-2, learning_rate="invscaling", random_state=0)
    model = cls(n_jobs=2, **scheme, **settings).fit(X, Y)
    best = objectives(cls(alpha=1e-2, tol=1e-6).fit(X, Y), X, Y)
    assert np.all(objectives(model, X, Y) <= best * 1.05)
    assert model.scheme_ == scheme.get("scheme", "model-averaging")
    model.partial_fit(X, Y)
    assert np.all(objectives(model, X, Y) <= best * 1.05)


@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_the_same_bits_for_any_number_of_workers(layout):
    X, y = large_problem("regression", layout)
    Y = np.stack([y, -y, np.roll(y, 1)], axis=1)
    for settings in (dict(), dict(penalty="l1"), dict(learning_rate="invscaling", max_iter=5)):
        settings |= dict(n_shards=2, tol=1e-4 if len(settings) < 2 else None)
        fits = [ParallelSGDRegressor(n_jobs=n, random_state=0, **settings) for n in (1, 2)]
        coefs = [m.fit(X, Y).coef_ for m in fits]
        np.testing.assert_array_equal(*coefs)


@regressors
def test_it_fits_where_scikit_learn_asks_for_it(cls):
    X, Y = data()
    assert get_tags(cls()).target_tags.multi_output
    search = GridSearchCV(cls(), {"alpha": [1e-4, 1.0]}, cv=3).fit(X, Y)
    assert search.best_params_ == {"alpha": 1e-4}
    lists = cls().fit(X.tolist(), Y.tolist())
    np.testing.assert_array_equal(lists.coef_, cls().fit(X, Y).coef_)
    pd = pytest.importorskip("pandas")
    frame = cls().fit(pd.DataFrame(X), pd.DataFrame(Y))
    np.testing.assert_array_equal(frame.coef_, lists.coef_)


@regressors
def test_a_constant_target_and_a_constant_column(cls):
    X, Y = data()
    X = np.column_stack([X, np.ones(len(X))])
    Y = np.column_stack([Y, np.full(len(Y), 2.0)])
    model = cls(tol=1e-8).fit(X, Y)
    np.testing.assert_allclose(model.predict(X)[:, 3], 2.0, atol=1e-6)


def test_rows_of_the_oracle_are_untouched():
    """One target of two dimensions leaves the path of one target as it was."""
    X, y = small_problem("regression")
    model = ParallelSGDRegressor().fit(X, y)
    assert model.coef_.shape == (7,) and model.predict(X).ndim == 1
