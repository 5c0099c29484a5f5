"""ConvergenceDisplay: what it draws, and what it says when it cannot."""

import builtins

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import SGDClassifier

from skpar.display import X_LABELS, Y_LABELS, ConvergenceDisplay

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


@pytest.fixture
def plt():
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


def make_history(n_epochs=4, start=1.0, validation=False):
    epoch = np.arange(1, n_epochs + 1)
    score = 1 - start / epoch if validation else np.full(n_epochs, np.nan)
    return {
        "epoch": epoch,
        "samples": 100 * epoch,
        "time": 0.1 * epoch,
        "objective": start / epoch,
        "validation_score": score,
        "step_size": 0.5 / epoch,
        "rows_per_second": np.full(n_epochs, 1000.0),
    }


class Fake(BaseEstimator):
    """A fit with a given history, so that the display is tested without any training."""

    def __init__(self, start=1.0, n_jobs=None, validation=False):
        self.start = start
        self.n_jobs = n_jobs
        self.validation = validation

    def fit(self, X=None, y=None):
        self.history_ = make_history(start=self.start, validation=self.validation)
        return self


@pytest.mark.parametrize("x", X_LABELS)
@pytest.mark.parametrize("y", Y_LABELS)
def test_lines_carry_the_columns_asked_for(plt, x, y):
    fits = [Fake(start, validation=True).fit() for start in (1.0, 2.0)]
    display = ConvergenceDisplay.from_estimators(fits, x=x, y=y)
    assert len(display.lines_) == 2
    for line, fit in zip(display.lines_, fits, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), fit.history_[x])
        np.testing.assert_array_equal(line.get_ydata(), fit.history_[y])
    assert display.ax_.get_xlabel() == X_LABELS[x]
    assert display.ax_.get_ylabel() == Y_LABELS[y]
    assert display.figure_ is display.ax_.figure


def test_draws_on_the_axes_it_is_given_and_passes_line_properties_on(plt):
    _, ax = plt.subplots()
    display = ConvergenceDisplay.from_estimators(Fake().fit(), ax=ax, linestyle="--")
    assert display.ax_ is ax
    assert len(plt.get_fignums()) == 1
    assert display.lines_[0].get_linestyle() == "--"


def test_plot_returns_itself_and_may_draw_other_columns(plt):
    display = ConvergenceDisplay([make_history()])
    assert display.plot(x="epoch", y="step_size") is display
    assert (display.x, display.y) == ("time", "objective")
    assert display.ax_.get_ylabel() == "Step size"
    assert display.ax_.get_legend() is None


@pytest.mark.parametrize(("relative_to", "floor"), [("best", 0.25), (0.2, 0.2)])
def test_relative_to_draws_the_distance(plt, relative_to, floor):
    fits = [Fake(start).fit() for start in (1.0, 2.0)]
    display = ConvergenceDisplay.from_estimators(fits, relative_to=relative_to)
    assert display.ax_.get_yscale() == "log"
    for line, fit in zip(display.lines_, fits, strict=True):
        gap = fit.history_["objective"] - floor
        np.testing.assert_allclose(line.get_ydata(), np.where(gap > 0, gap, np.nan))


@pytest.mark.parametrize(
    ("estimators", "names", "expected"),
    [
        (Fake().fit(), None, ["Fake"]),
        (Fake().fit(), "mine", ["mine"]),
        ([Fake(n_jobs=1).fit(), Fake(n_jobs=2).fit()], None, ["Fake(n_jobs=1)", "Fake(n_jobs=2)"]),
        ([Fake().fit(), Fake().fit()], None, ["Fake 1", "Fake 2"]),
        ([Fake().fit(), Fake().fit()], ["a", "b"], ["a", "b"]),
        ({"one": Fake().fit(), "two": Fake().fit()}, None, ["one", "two"]),
    ],
)
def test_names(plt, estimators, names, expected):
    display = ConvergenceDisplay.from_estimators(estimators, names=names)
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == expected


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        (dict(x="epochs"), r"x must be one of 'epoch', 'samples', 'time'; got 'epochs'"),
        (dict(y="loss"), r"y must be one of 'objective', 'validation_score', .*; got 'loss'"),
        (dict(y="validation_score"), "Fake recorded no validation_score; fit with early_stopping"),
        (dict(relative_to="worst"), "relative_to must be one of 'best'"),
        (dict(relative_to=0.1, y="step_size"), "relative_to goes with y='objective' only"),
        (dict(names=["a", "b"]), "names has 2 entries for 1 estimators"),
    ],
)
def test_errors_name_what_is_wrong(plt, kwargs, words):
    with pytest.raises(ValueError, match=words):
        ConvergenceDisplay.from_estimators([Fake().fit()], **kwargs)
    assert not plt.get_fignums(), "an error must not leave an empty figure behind"


def test_estimators_that_cannot_be_drawn(plt):
    with pytest.raises(NotFittedError):
        ConvergenceDisplay.from_estimators([Fake().fit(), Fake()])
    with pytest.raises(TypeError, match="not an estimator"):
        ConvergenceDisplay.from_estimators(["Fake"])
    foreign = SGDClassifier().fit([[0.0], [1.0]], [0, 1])
    with pytest.raises(ValueError, match="SGDClassifier has no history_"):
        ConvergenceDisplay.from_estimators(foreign)
    with pytest.raises(ValueError, match="no history to draw"):
        ConvergenceDisplay.from_estimators([])
    with pytest.raises(ValueError, match="and not both"):
        ConvergenceDisplay.from_estimators({"a": Fake().fit()}, names=["b"])
    with pytest.raises(ValueError, match="history 0 has no 'time'; it has objective"):
        ConvergenceDisplay([{"objective": [1.0]}]).plot()


def test_without_matplotlib_says_what_to_install(monkeypatch):
    real_import = builtins.__import__

    def no_matplotlib(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    with pytest.raises(ImportError, match=r'pip install "skpar\[plot\]"'):
        ConvergenceDisplay.from_estimators(Fake().fit())
    with pytest.raises(ImportError, match=r'pip install "skpar\[plot\]"'):
        ConvergenceDisplay([make_history()]).plot()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_draws_the_history_of_a_real_fit(plt, n_classes):
    from sklearn.datasets import make_classification

    from skpar import HogwildClassifier, ParallelSGDClassifier

    X, y = make_classification(300, n_informative=4, n_classes=n_classes, random_state=0)
    fits = [
        cls(loss="log_loss", max_iter=3, tol=None, early_stopping=True, random_state=0).fit(X, y)
        for cls in (HogwildClassifier, ParallelSGDClassifier)
    ]
    for column in Y_LABELS:
        display = ConvergenceDisplay.from_estimators(fits, x="epoch", y=column)
        for line in display.lines_:
            np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
            assert np.isfinite(line.get_ydata()).all()
