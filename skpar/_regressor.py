"""What the two regressors add: one weight vector for real targets."""

from functools import partial
from numbers import Real

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import d2_pinball_score, d2_tweedie_score, r2_score
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions

from skpar._base import COMMON_CONSTRAINTS, MAX_SEED, BaseParallelSGD
from skpar._bridge import FitTasks, with_callbacks
from skpar._collections import blockwise, computed, fit_targets, is_collection, rows_of
from skpar._data import Batch
from skpar._links import check_targets, starting_intercept
from skpar._train import Watch
from skpar._validation import check_validation, scorer

REGRESSION_LOSSES = {
    "squared_error",
    "huber",
    "epsilon_insensitive",
    "squared_epsilon_insensitive",
    "poisson",
    "gamma",
    "tweedie",
    "quantile",
}


class BaseRegressor(RegressorMixin, BaseParallelSGD):
    """One weight vector for real targets."""

    _parameter_constraints: dict = {
        **COMMON_CONSTRAINTS,
        "loss": [StrOptions(REGRESSION_LOSSES)],
        "power": [Interval(Real, 1, None, closed="left"), Options(Real, {0})],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
    }

    @with_callbacks
    def fit(
        self,
        X,
        y,
        coef_init=None,
        intercept_init=None,
        sample_weight=None,
        *,
        X_val=None,
        y_val=None,
        sample_weight_val=None,
    ):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data, dense or CSR; float32 data are trained in float32. The data-parallel
            family takes Dask arrays and DataFrames too, each partition a shard.
        y : array-like of shape (n_samples,)
            Targets.
        coef_init : array-like of shape (n_features,), default=None
            Coefficients to start from.
        intercept_init : array-like of shape (1,), default=None
            Intercept to start from.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows; None means 1 each.
        X_val : {array-like, sparse matrix} of shape (n_validation_samples, n_features), default=None
            Validation rows, never trained on. Their score goes into `history_`; with
            ``early_stopping=True`` it decides, and nothing is split off `X`.
        y_val : array-like of shape (n_validation_samples,), default=None
            Their targets.
        sample_weight_val : array-like of shape (n_validation_samples,), default=None
            Their weights in the score; None means 1 each.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are invalid, a target lies outside the domain of the
            loss, or the weights overflow.
        """
        self._check_parameters()
        if is_collection(X):
            rows = rows_of(self, X, y, sample_weight, X_val)
            if rows is not None:
                self._refuse_collection()
                return fit_targets(self, rows, coef_init, intercept_init)
            X, y, sample_weight = computed(X, y, sample_weight)
        X, y, sample_weight = self._check_rows(X, y, sample_weight, reset=True)
        if self.warm_start and hasattr(self, "coef_"):
            coef_init = self.coef_ if coef_init is None else coef_init
            intercept_init = self.intercept_ if intercept_init is None else intercept_init
        self._forget()
        start = self._start(X, y, sample_weight, coef_init, intercept_init)
        validation = check_validation(self, X, X_val, y_val, sample_weight_val)
        if validation is not None:
            check_targets(self._problem(), validation[1], "y_val")
        tasks = FitTasks(self, X, y, sample_weight, 1)
        self._fit_targets(X, y, sample_weight, start, validation, tasks)
        self._warn_after_fit()
        tasks.end(self._fitted_attributes)
        return self

    def partial_fit(self, X, y, sample_weight=None):
        """Train one epoch on the given rows, from where the last call ended.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to train on.
        y : array-like of shape (n_samples,)
            Their targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows; None means 1 each.

        Returns
        -------
        self : object
            Fitted estimator.
        """
        first = getattr(self, "coef_", None) is None
        self._check_parameters(for_partial_fit=True)
        X, y, sample_weight = self._check_rows(X, y, sample_weight, reset=first)
        if first:
            start = self._start(X, y, sample_weight)
        else:
            check_targets(self._problem(), y)
            start = self._resumed(X.dtype)[0]
        self._fit_targets(X, y, sample_weight, start)
        return self

    def _start(self, X, y, sample_weight, coef_init=None, intercept_init=None):
        """`Weights` to start from; those of a deviance or quantile fit y alone."""
        problem = self._problem()
        check_targets(problem, y)
        if coef_init is None and intercept_init is None:
            intercept_init = starting_intercept(problem, y, sample_weight)
        return self._starts((1, X.shape[1]), X.dtype, coef_init, intercept_init)[0]

    def _refuse_collection(self):
        problem = self._problem()
        if problem.has_log_link or problem.loss == "quantile":
            raise ValueError(
                f"loss={self.loss!r} needs rows in memory, X is a Dask collection: give "
                "X.compute(), or choose another loss."
            )

    def _fit_targets(self, X, y, sample_weight, start, validation=None, tasks=None):
        """Train the weight vector; without tasks one epoch."""
        n_epochs = 1 if tasks is None else None
        train_rows, held_out = self._training_rows(y, sample_weight, validation)
        batch = Batch.of(X, y.astype(X.dtype, copy=False), sample_weight, train_rows)
        score = None
        if held_out is not None:
            score = scorer(batch, held_out, sample_weight, self._explained())
        elif validation is not None:
            score = scorer(Batch.of(*validation), None, validation[2], self._explained())
        team = self._team()
        seed = int(check_random_state(self.random_state).randint(MAX_SEED))
        watch, kept = Watch(score), self._kept_of(0)
        if tasks is not None:
            watch, kept = Watch(score, tasks.listener(0, _moment)), None
        with team:
            result = self._train_one(batch, start, seed, n_epochs, team, watch, kept)
        self._keep([result], X.dtype)
        self.coef_ = self.coef_.ravel()

    def _explained(self):
        """metric(targets, margins, weights): the share that is explained of the squared error,
        the deviance or the quantile loss of a constant."""
        problem = self._problem()
        if problem.loss == "quantile":
            return partial(_pinball_explained, problem.quantile)
        if problem.has_log_link:
            return partial(_deviance_explained, problem.power_in_use)
        return _r2

    @blockwise
    def predict(self, X):
        """Predicted targets: x.w + b, for 'poisson', 'gamma' and 'tweedie' its exponential.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to predict.

        Returns
        -------
        y_pred : ndarray of shape (n_samples,)
            Predicted targets.
        """
        return self._score(X, np.exp if self._problem().has_log_link else None).ravel()

    def score(self, X, y, sample_weight=None):
        """R2 of the predictions; D2, the share of deviance explained, of a fit to a deviance.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to predict.
        y : array-like of shape (n_samples,)
            Their targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows; None means 1 each.

        Returns
        -------
        score : float
            1 at best; 0 for predictions no better than the mean of y.
        """
        problem = self._problem()
        if not problem.has_log_link:
            return super().score(X, y, sample_weight)
        power = problem.power_in_use
        return float(d2_tweedie_score(y, self.predict(X), sample_weight=sample_weight, power=power))


def _moment(k, w, intercept, history):
    """Fitted attributes between two epochs."""
    return dict(coef_=w, intercept_=np.array([intercept]), history_=history.arrays())


def _r2(targets, predictions, weights):
    return r2_score(targets, predictions, sample_weight=weights)


def _deviance_explained(power, targets, p, weights):
    return d2_tweedie_score(targets, np.exp(p), sample_weight=weights, power=power)


def _pinball_explained(level, targets, p, weights):
    return d2_pinball_score(targets, p, sample_weight=weights, alpha=level)
