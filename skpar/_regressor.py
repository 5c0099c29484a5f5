"""What the two regressors add: a weight vector for each real target."""

from numbers import Real

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, Options, StrOptions

from skpar._base import COMMON_CONSTRAINTS, BaseParallelSGD
from skpar._bridge import FitTasks, with_callbacks
from skpar._collections import blockwise, computed, fit_targets, is_collection, rows_of
from skpar._data import Batch
from skpar._links import check_targets, starting_intercept
from skpar._targets import (
    SeveralTargets,
    as_targets,
    check_n_targets,
    columns_of,
    deviance_explained,
    fits_together,
)
from skpar._validation import check_validation

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


class BaseRegressor(SeveralTargets, RegressorMixin, BaseParallelSGD):
    """A weight vector for each real target."""

    _parameter_constraints: dict = {
        **COMMON_CONSTRAINTS,
        "loss": [StrOptions(REGRESSION_LOSSES)],
        "power": [Interval(Real, 1, None, closed="left"), Options(Real, {0})],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
    }

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _check_rows(self, X, y, sample_weight, reset):
        # An array of one dimension is checked sooner as what it is.
        options = dict(multi_output=getattr(y, "ndim", 2) != 1, y_numeric=True)
        X, y, sample_weight = super()._check_rows(X, y, sample_weight, reset, **options)
        return X, as_targets(y), sample_weight

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
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.
        coef_init : array-like of shape (n_features,) or (n_targets, n_features), default=None
            Coefficients to start from.
        intercept_init : array-like of shape (1,) or (n_targets,), default=None
            Intercepts to start from.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows; None means 1 each.
        X_val : {array-like, sparse matrix} of shape (n_validation_samples, n_features), default=None
            Validation rows, never trained on. Their score goes into `history_`; with
            ``early_stopping=True`` it decides, and nothing is split off `X`.
        y_val : array-like of shape (n_validation_samples,) or (n_validation_samples, n_targets), default=None
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
        starts = self._start(X, y, sample_weight, coef_init, intercept_init)
        validation = self._validation_rows(X, y, X_val, y_val, sample_weight_val)
        together = False
        # With early stopping each target ends where its own score says.
        if len(starts) > 1 and self.learning_rate == "auto" and not self.early_stopping:
            batch = Batch.of(X, y[:, 0], sample_weight)
            together = fits_together(self._problem(), batch, len(starts))
        tasks = FitTasks(self, X, y, sample_weight, 1 if together else len(starts), "target")
        if together:
            results = self._fit_together(batch, y, starts, validation, tasks)
        else:
            results = self._fit_steps(X, y, sample_weight, starts, validation, tasks)
        self._keep_targets(results, X, y)
        self._warn_after_fit()
        tasks.end(self._fitted_attributes)
        return self

    def partial_fit(self, X, y, sample_weight=None):
        """Train one epoch on the given rows, from where the last call ended.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to train on.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Their targets, as many in each call.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows; None means 1 each.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are invalid, a target lies outside the domain of the
            loss, or there are more or fewer targets than before.
        """
        first = getattr(self, "coef_", None) is None
        self._check_parameters(for_partial_fit=True)
        X, y, sample_weight = self._check_rows(X, y, sample_weight, reset=first)
        if first:
            starts = self._start(X, y, sample_weight)
        else:
            check_n_targets(y, len(self.intercept_), "the first call of fit or partial_fit")
            check_targets(self._problem(), y)
            starts = self._resumed(X.dtype)
        self._keep_targets(self._fit_steps(X, y, sample_weight, starts), X, y)
        return self

    def _start(self, X, y, sample_weight, coef_init=None, intercept_init=None):
        """A list of `Weights` to start from; those of a deviance or quantile fit y alone."""
        problem, columns = self._problem(), columns_of(y).T
        check_targets(problem, y)
        if coef_init is None and intercept_init is None:
            intercept_init = [starting_intercept(problem, c, sample_weight) for c in columns]
        return self._starts((len(columns), X.shape[1]), X.dtype, coef_init, intercept_init)

    def _validation_rows(self, X, y, *given):
        """(X, y, sample_weight) of the validation set given to `fit`, or None."""
        found = check_validation(self, X, *given)
        if found is None:
            return None
        y_val = as_targets(found[1], "y_val")
        check_n_targets(y_val, columns_of(y).shape[1], "y", "y_val")
        check_targets(self._problem(), y_val, "y_val")
        return found[0], y_val, found[2]

    def _refuse_collection(self):
        problem = self._problem()
        if problem.has_log_link or problem.loss == "quantile":
            raise ValueError(
                f"loss={self.loss!r} needs rows in memory, X is a Dask collection: give "
                "X.compute(), or choose another loss."
            )

    @blockwise
    def predict(self, X):
        """Predicted targets: x.w + b, for 'poisson', 'gamma' and 'tweedie' its exponential.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to predict.

        Returns
        -------
        y_pred : ndarray of shape (n_samples,) or (n_samples, n_targets)
            Predicted targets.
        """
        predicted = self._score(X, np.exp if self._problem().has_log_link else None)
        return predicted.ravel() if predicted.shape[1] == 1 else predicted

    def score(self, X, y, sample_weight=None):
        """R2 of the predictions; D2, the share of deviance explained, of a fit to a deviance.

        Of several targets the mean.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to predict.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
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
        y = as_targets(check_array(y, ensure_2d=False, input_name="y"))
        return deviance_explained(problem.power_in_use, y, self.predict(X), sample_weight)
