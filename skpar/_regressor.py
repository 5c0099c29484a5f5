"""What the two regressors add: one weight vector for real targets."""

import numpy as np
import scipy.sparse as sp
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions

from skpar._base import COMMON_CONSTRAINTS, MAX_SEED, BaseParallelSGD
from skpar._data import Batch
from skpar._partitions import blockwise, computed, is_collection
from skpar._parts import RealTargets
from skpar._workers import Team

REGRESSION_LOSSES = {
    "squared_error",
    "huber",
    "epsilon_insensitive",
    "squared_epsilon_insensitive",
}


class BaseRegressor(RegressorMixin, BaseParallelSGD):
    """One weight vector for real targets."""

    _parameter_constraints: dict = {
        **COMMON_CONSTRAINTS,
        "loss": [StrOptions(REGRESSION_LOSSES)],
    }

    def fit(self, X, y, coef_init=None, intercept_init=None, sample_weight=None):
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

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are invalid, or the weights overflow.
        """
        self._check_parameters()
        rows = None
        if is_collection(X):
            rows = self._partitions(X, y, sample_weight)
            if rows is None:
                X, y, sample_weight = computed(X, y, sample_weight)
        if rows is None:
            X, y, sample_weight = self._check_rows(X, y, sample_weight, reset=True)
        if self.warm_start and hasattr(self, "coef_"):
            coef_init = self.coef_ if coef_init is None else coef_init
            intercept_init = self.intercept_ if intercept_init is None else intercept_init
        self._forget()
        dtype = X.dtype if rows is None else rows.dtype
        start = self._starts((1, X.shape[1]), dtype, coef_init, intercept_init)[0]
        if rows is None:
            self._fit_targets(X, y, sample_weight, start, n_epochs=None)
        else:
            self._fit_partitions(rows, start)
        self._warn_after_fit()
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
            start = self._starts((1, X.shape[1]), X.dtype, None, None)[0]
        else:
            start = self._resumed(X.dtype)[0]
        self._fit_targets(X, y, sample_weight, start, n_epochs=1)
        return self

    def _fit_targets(self, X, y, sample_weight, start, n_epochs):
        train_rows, held_out = self._training_rows(y, sample_weight)
        batch = Batch.of(X, y.astype(X.dtype, copy=False), sample_weight, train_rows)
        score = self._scorer(batch, held_out, sample_weight, _r2)
        team = Team(self.n_jobs, shared_memory=self._shared_memory)
        seed = int(check_random_state(self.random_state).randint(MAX_SEED))
        with team:
            result = self._train_one(batch, start, seed, n_epochs, team, score)
        self._keep([result], X.dtype)
        self.coef_ = self.coef_.ravel()

    def _fit_partitions(self, rows, start):
        """`_fit_targets` for rows on a Dask cluster."""
        seed = int(check_random_state(self.random_state).randint(MAX_SEED))
        with Team(self.n_jobs, shared_memory=False, client=rows.client) as team:
            result = self._train_one(rows.batch(RealTargets()), start, seed, None, team)
        self._keep([result], rows.dtype)
        self.coef_ = self.coef_.ravel()

    @blockwise
    def predict(self, X):
        """Predicted targets, x.w + b.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to predict.

        Returns
        -------
        y_pred : ndarray of shape (n_samples,)
            Predicted targets.
        """
        X = self._check_query(X)
        scores = X @ self.coef_.T
        scores = scores.toarray().ravel() if sp.issparse(scores) else np.ravel(scores)
        return scores + self.intercept_


def _r2(targets, predictions, weights):
    return r2_score(targets, predictions, sample_weight=weights)
