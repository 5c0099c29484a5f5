"""Callbacks: scikit-learn's where it has them, ours everywhere."""

import numpy as np
import pytest
from _common import CLASSIFIERS, ESTIMATORS, is_clf, small_problem
from sklearn.base import clone

from skpar.callbacks import EarlyStopping

every = pytest.mark.parametrize("cls", ESTIMATORS)
RATES = ["auto", "constant"]


class Recorder:
    """Every hook as (name, task, its parent's task), with the history of the moment."""

    def __init__(self, stop_after=None):
        self.calls, self.lengths, self.stop_after = [], [], stop_after

    def setup(self, estimator, context):
        self.calls.append(("setup", context.task_name))

    def teardown(self, estimator, context):
        self.calls.append(("teardown", context.task_name))

    def on_fit_task_begin(self, estimator, context, *, X=None):
        self.calls.append(("begin", context.task_name))

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
        self.calls.append(("end", context.task_name))
        if context.task_name == "epoch":
            assert fitted_estimator.predict(X).shape == np.shape(y)
            self.lengths.append(len(fitted_estimator.history_["epoch"]))
            return self.stop_after is not None and len(self.lengths) >= self.stop_after
        return False


def problem_of(cls):
    return small_problem("binary" if is_clf(cls) else "regression", n=200)


@pytest.mark.parametrize("rate", RATES)
@every
def test_hooks_run_once_an_epoch(cls, rate):
    X, y = problem_of(cls)
    recorder = Recorder()
    params = dict(learning_rate=rate, random_state=0)
    if rate != "auto":
        params |= dict(max_iter=20, tol=None)
    est = cls(**params).set_callbacks(recorder)
    assert est.fit(X, y) is est
    epochs = [("begin", "epoch"), ("end", "epoch")] * est.n_iter_
    expected = [("setup", "fit"), ("begin", "fit"), *epochs, ("end", "fit"), ("teardown", "fit")]
    assert recorder.calls == expected
    assert recorder.lengths == list(range(1, est.n_iter_ + 1))
    plain = cls(**params).fit(X, y)
    np.testing.assert_array_equal(plain.coef_, est.coef_)


@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_one_task_for_each_class(cls):
    X, y = small_problem("multiclass", n=200)
    recorder = Recorder()
    cls(random_state=0).set_callbacks(recorder).fit(X, y)
    tasks = [name for hook, name in recorder.calls if hook == "end" and name != "epoch"]
    assert tasks == ["class 0", "class 1", "class 2", "fit"]


@pytest.mark.parametrize("rate", RATES)
@every
def test_a_callback_may_stop_the_fit(cls, rate):
    X, y = problem_of(cls)
    recorder = Recorder(stop_after=1)
    est = cls(learning_rate=rate, tol=None, random_state=0).set_callbacks(recorder).fit(X, y)
    assert est.n_iter_ == 1
    assert recorder.calls[-1] == ("teardown", "fit")


@every
def test_an_error_in_a_callback_reaches_the_caller(cls):
    X, y = problem_of(cls)

    class Broken(Recorder):
        def on_fit_task_end(self, estimator, context):
            raise RuntimeError("broken callback")

    broken = Broken()
    est = cls(random_state=0, n_jobs=2).set_callbacks(broken)
    with pytest.raises(RuntimeError, match="broken callback"):
        est.fit(X, y)
    assert broken.calls[-1] == ("teardown", "fit")
    est.set_callbacks().fit(X, y)


@every
def test_only_callbacks_are_accepted(cls):
    with pytest.raises(TypeError, match="FitCallback"):
        cls().set_callbacks(print)
    with pytest.raises(TypeError, match="FitCallback"):
        cls().set_callbacks(Recorder)


@every
def test_early_stopping(cls):
    X, y = problem_of(cls)
    given = dict(X_val=X[:50], y_val=y[:50])
    params = dict(learning_rate="constant", eta0=0.01, tol=None, max_iter=500, random_state=0)
    stop = EarlyStopping(patience=3)
    est = cls(**params).set_callbacks(stop).fit(X[50:], y[50:], **given)
    scores = est.history_["validation_score"]
    assert est.n_iter_ == stop.stopped_epoch_ < 500
    assert scores[:-3].max() >= scores[-3:].max()
    watch = EarlyStopping(monitor="objective", patience=2, min_delta=1e-4)
    assert cls(**params).set_callbacks(watch).fit(X, y).n_iter_ < 500
    with pytest.raises(ValueError, match="X_val"):
        cls(**params).set_callbacks(EarlyStopping()).fit(X, y)


def test_early_stopping_parameters():
    with pytest.raises(ValueError, match="monitor"):
        EarlyStopping(monitor="loss")
    with pytest.raises(ValueError, match="patience"):
        EarlyStopping(patience=0)


class TestScikitLearnsOwn:
    @pytest.fixture(autouse=True)
    def _needs_callbacks(self):
        pytest.importorskip("sklearn.callback")

    @every
    def test_scoring_monitor(self, cls):
        from sklearn.callback import ScoringMonitor

        X, y = problem_of(cls)
        monitor = ScoringMonitor(scoring="accuracy" if is_clf(cls) else "r2")
        est = cls(random_state=0).set_callbacks(monitor).fit(X, y)
        rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
        assert len(rows) == est.n_iter_
        assert rows[-1]["accuracy" if is_clf(cls) else "r2"] == pytest.approx(est.score(X, y))

    @every
    def test_pipeline_and_grid_search(self, cls):
        pytest.importorskip("rich")
        from sklearn.callback import ProgressBar, ScoringMonitor
        from sklearn.model_selection import GridSearchCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        X, y = problem_of(cls)
        monitor = ScoringMonitor(scoring="accuracy" if is_clf(cls) else "r2")
        pipe = make_pipeline(StandardScaler(), cls(random_state=0).set_callbacks(monitor))
        pipe.set_callbacks(ProgressBar()).fit(X, y)
        assert len(monitor.get_logs().data) > 0
        pipe.set_callbacks()
        grid = {pipe.steps[1][0] + "__alpha": [1e-4, 1e-2]}
        search = GridSearchCV(clone(pipe), grid, n_jobs=2, cv=2)
        search.set_callbacks(ProgressBar()).fit(X, y)
        assert search.best_score_ > 0
