"""Callbacks for fits, by the protocol of `sklearn.callback`."""

import math

__all__ = ["EarlyStopping"]


class EarlyStopping:
    """End a fit when a number of its history stops improving.

    It follows the protocol of :mod:`sklearn.callback`, so it is set by `set_callbacks`, alone or
    beside scikit-learn's own, and runs between epochs. The model is that of the last epoch; the
    parameter ``early_stopping=True`` returns the best weights instead.

    Parameters
    ----------
    monitor : {'validation_score', 'objective'}, default='validation_score'
        The entry of `history_` to look at. 'validation_score' needs validation rows:
        ``early_stopping=True``, or ``X_val`` and ``y_val`` in `fit`.
    patience : int, default=5
        Epochs without improvement before the fit ends.
    min_delta : float, default=0.0
        The least change that counts as an improvement.

    Attributes
    ----------
    stopped_epoch_ : int or None
        The epoch after which it ended the last fit, None where it did not.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> from skpar import HogwildRegressor
    >>> from skpar.callbacks import EarlyStopping
    >>> X, y = make_regression(n_samples=200, n_features=5, noise=10, random_state=0)
    >>> model = HogwildRegressor(learning_rate="constant", tol=None, random_state=0)
    >>> stop = EarlyStopping(monitor="objective", patience=2, min_delta=1e-3)
    >>> model.set_callbacks(stop).fit(X, y).n_iter_ < 1000
    True
    """

    def __init__(self, *, monitor="validation_score", patience=5, min_delta=0.0):
        if monitor not in ("validation_score", "objective"):
            raise ValueError(
                f"monitor={monitor!r} is not known; choose 'validation_score' or 'objective'."
            )
        if patience < 1:
            raise ValueError(f"patience must be at least 1, got {patience!r}.")
        self.monitor, self.patience, self.min_delta = monitor, patience, min_delta
        self.stopped_epoch_ = None
        self._runs = {}

    def setup(self, estimator, context):
        """Begin a fit.

        Parameters
        ----------
        estimator : object
            The estimator that is fitted.
        context : object
            Its task.
        """
        self.stopped_epoch_ = None
        self._runs = {}

    def teardown(self, estimator, context):
        """End a fit.

        Parameters
        ----------
        estimator : object
            The estimator that is fitted.
        context : object
            Its task.
        """
        self._runs = {}

    def on_fit_task_begin(self, estimator, context):
        """Begin a task; nothing happens.

        Parameters
        ----------
        estimator : object
            The estimator that is fitted.
        context : object
            The task.
        """

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        """Look at the epoch that ended.

        Parameters
        ----------
        estimator : object
            The estimator that is fitted.
        context : object
            The task: an epoch, a class or the whole fit.
        fitted_estimator : object
            The estimator as it would be if the fit stopped now.

        Returns
        -------
        stop : bool
            Whether to end the fit (of this class).
        """
        if context.task_name != "epoch" or fitted_estimator is None:
            return False
        history = fitted_estimator.history_
        value = float(history[self.monitor][-1])
        if math.isnan(value):
            raise ValueError(
                "EarlyStopping(monitor='validation_score') found no validation score: pass "
                "X_val and y_val to fit, or set early_stopping=True, or monitor='objective'."
            )
        if self.monitor == "objective":
            value = -value
        key = id(context.parent)
        best, count = self._runs.get(key, (-math.inf, 0))
        count = 0 if value > best + self.min_delta else count + 1
        self._runs[key] = max(best, value), count
        if count >= self.patience:
            self.stopped_epoch_ = int(history["epoch"][-1])
        return count >= self.patience
