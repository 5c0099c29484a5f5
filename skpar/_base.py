"""What the four estimators share: validation, and the fit of one weight vector."""

import warnings
from dataclasses import replace
from numbers import Integral, Real

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from skpar._bridge import CallbackSupportMixin
from skpar._data import check_sparse
from skpar._few_rows import auto_fit
from skpar._fitted import FittedWeights
from skpar._measures import sample_of
from skpar._predict import score_rows
from skpar._problem import Problem
from skpar._schemes import Fit
from skpar._sparsify import SparseCoefficients
from skpar._steps import find_step
from skpar._train import NOBODY, Options, train, train_auto, train_on
from skpar._validation import NO_VALIDATION_WEIGHT, split_rows
from skpar._workers import Team, limit_blas, local_team

# Below so many multiply-adds a Hessian no part of "auto" wakes a second worker.
WAKING_NUMBERS = 1 << 20
MAX_SEED = np.iinfo(np.int32).max

COMMON_CONSTRAINTS = {
    "penalty": [StrOptions({"l2", "l1", "elasticnet"}), None],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "l1_ratio": [Interval(Real, 0, 1, closed="both"), None],
    "fit_intercept": ["boolean"],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "tol": [Interval(Real, 0, None, closed="left"), None],
    "shuffle": ["boolean"],
    "verbose": ["verbose"],
    "epsilon": [Interval(Real, 0, None, closed="left")],
    "n_jobs": [Integral, None],
    "random_state": ["random_state"],
    "learning_rate": [
        StrOptions({"auto", "constant", "optimal", "invscaling", "adaptive", "pa1", "pa2"})
    ],
    "eta0": [Interval(Real, 0, None, closed="neither")],
    "power_t": [Interval(Real, None, None, closed="neither")],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    "warm_start": ["boolean"],
    "average": [Interval(Integral, 0, None, closed="neither"), "boolean"],
}


class BaseParallelSGD(FittedWeights, CallbackSupportMixin, SparseCoefficients, BaseEstimator):
    """Parameters, validation and the fit of one weight vector.

    A family says by `_make_scheme(fit)` who owns the weights and by `_shared_memory` whether
    its workers need to see each other's writes.
    """

    def _store(self, parameters):
        """Set the arguments of `__init__` as attributes, as scikit-learn's contract asks."""
        for name, value in parameters.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # -- validation -----------------------------------------------------------------------

    def _check_parameters(self, for_partial_fit=False):
        self._validate_params()
        if self.n_jobs == 0:
            raise ValueError("n_jobs == 0 has no meaning; use None, a positive number or -1.")
        if self.early_stopping and for_partial_fit:
            raise ValueError("early_stopping should be False with partial_fit")
        if self.learning_rate == "optimal" and self.alpha == 0:
            raise ValueError(
                "alpha must be > 0 since learning_rate is 'optimal': the step size is "
                "1 / (alpha (t + t0)). Choose another learning_rate for alpha=0."
            )
        needed = "hinge" if isinstance(self, ClassifierMixin) else "epsilon_insensitive"
        if self.learning_rate in ("pa1", "pa2") and self.loss != needed:
            raise ValueError(
                f"Learning rate '{self.learning_rate}' only works with loss '{needed}'."
            )
        if self.penalty == "elasticnet" and self.l1_ratio is None:
            raise ValueError("l1_ratio must be set when penalty is 'elasticnet'")

    def _check_rows(self, X, y, sample_weight, reset, **options):
        check_sparse(X)
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            order="C",
            accept_large_sparse=True,
            reset=reset,
            **options,
        )
        if sample_weight is not None:
            if self.early_stopping and not np.any(sample_weight):
                raise ValueError(NO_VALIDATION_WEIGHT)
            sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
        return X, y, sample_weight

    def _score(self, X, finish=None):
        """finish(X @ coef_.T + intercept_), X checked as its rows are read."""
        check_is_fitted(self)
        if getattr(X, "format", None) != "csr":
            check_sparse(X)
        rows = validate_data(self, X, accept_sparse="csr", reset=False, ensure_all_finite=False)
        coef = self.coef_ if sp.issparse(self.coef_) else np.atleast_2d(self.coef_)
        result, finite = score_rows(rows, coef, self.intercept_, self.n_jobs, finish)
        if not finite:
            # Raises where X has NaN or inf; scores may also overflow.
            validate_data(self, X, accept_sparse="csr", reset=False)
        return result

    # -- one weight vector ----------------------------------------------------------------

    def _problem(self):
        rate, eta0 = self.learning_rate, self.eta0
        if rate == "auto" and self.loss == "perceptron":
            # Its minimum is w = 0, so it is the steps that count; their size does not.
            rate, eta0 = "constant", 1.0
        return Problem(
            loss=self.loss,
            epsilon=self.epsilon,
            penalty=self.penalty,
            alpha=self.alpha,
            l1_ratio=self.l1_ratio,
            fit_intercept=bool(self.fit_intercept),
            learning_rate=rate,
            eta0=eta0,
            power_t=self.power_t,
            average=int(self.average) if self._averages else 0,
            power=getattr(self, "power", 1.5),
            quantile=getattr(self, "quantile", 0.5),
        )

    def _train_one(self, batch, start, seed, n_epochs, team, watch=NOBODY, kept=None):
        """Train one weight vector; `n_epochs` None means fit's own rule.

        `kept` is what an earlier partial_fit left.
        """
        fit, options = self._task(batch, start, seed, n_epochs, team)
        if fit.problem.learning_rate == "auto" and batch.partitioned:
            # Stochastic steps to the end, of a size found on a sample.
            sample = replace(fit, batch=sample_of(batch, seed), team=None)
            fit.problem = replace(fit.problem, eta0=find_step(sample))
        elif fit.problem.learning_rate == "auto":
            # One BLAS thread for one worker too: the same bits for any n_jobs.
            idle = team.on_threads and batch.work * batch.row_numbers < WAKING_NUMBERS
            with limit_blas(), team.working(1 if idle else team.size):
                if n_epochs:
                    return train_on(fit, self._make_scheme, options, kept)
                auto = auto_fit(fit, self._make_scheme, options.tol)
                return train_auto(fit, auto, options, watch)
        scheme = self._make_scheme(fit)
        width = min(scheme.n_workers, team.threads) if team.on_threads else scheme.n_workers
        with team.working(width):
            return train(fit, scheme, options, watch)

    def _task(self, batch, start, seed, n_epochs, team):
        """(`Fit`, `Options`) of a call."""
        track_loss = not n_epochs and self.tol is not None and not self.early_stopping
        problem = self._problem()
        if problem.has_log_link:
            problem = replace(problem, typical=float(batch.used_targets.mean()))
        fit = Fit(problem, batch, team, seed, bool(self.shuffle), start, track_loss)
        options = Options(
            max_iter=n_epochs or self.max_iter,
            tol=None if n_epochs else self.tol,
            n_iter_no_change=self.n_iter_no_change,
            verbose=int(self.verbose),
            early_stopping=bool(self.early_stopping),
        )
        return fit, options

    def _team(self, client=None):
        """The workers of one fit."""
        if client is None and self.learning_rate == "auto" and not self._shared_memory:
            # A few passes over rows that are here: threads, whatever the backend.
            return local_team(self.n_jobs)
        inner = getattr(self, "inner_n_jobs", None) or 1
        shared = self._shared_memory
        return Team(self.n_jobs, shared_memory=shared, client=client, inner=inner)

    def _training_rows(self, y, sample_weight, validation):
        """(training rows, validation rows), both None where none are to be split off."""
        if not self.early_stopping or validation is not None:
            return None, None
        return split_rows(self, y, sample_weight)

    def _warn_after_fit(self):
        if self.tol is not None and self.n_iter_ == self.max_iter and not self._finished:
            warnings.warn(
                "Maximum number of iteration reached before convergence. Consider increasing "
                "max_iter to improve the fit.",
                ConvergenceWarning,
                stacklevel=3,
            )
        elif self.tol and not self._finished:
            warnings.warn(
                "No step lowers the objective any more, though more than `tol` may be left to "
                "gain: columns of X or targets may be too many orders of magnitude apart for the "
                "precision of the data. Scale them (StandardScaler).",
                ConvergenceWarning,
                stacklevel=3,
            )
        if self.power_t < 0:
            warnings.warn(
                "Negative values for `power_t` are deprecated. Use values in the range "
                "[0.0, inf) instead.",
                FutureWarning,
                stacklevel=3,
            )
