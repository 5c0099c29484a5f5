"""What a fit leaves in an estimator, and where the next one starts."""

import numpy as np
import scipy.sparse as sp

from skpar._callbacks import mean_history
from skpar._schemes import Weights


class FittedWeights:
    """`coef_` and what else a fit or `partial_fit` keeps, and `Weights` made of them."""

    @property
    def _averages(self):
        """Whether `average` is in force: "auto" has averages of its own."""
        return bool(self.average) and self.learning_rate != "auto"

    def _starts(self, shape, dtype, coef_init, intercept_init):
        """`Weights` for each row of a (n_models, n_features) model, checked and copied."""
        n_models, n_features = shape
        coef = np.zeros(shape, dtype)
        intercept = np.zeros(n_models)
        if coef_init is not None:
            given = np.asarray(coef_init.toarray() if sp.issparse(coef_init) else coef_init)
            if given.shape != shape and not (n_models == 1 and given.size == n_features):
                raise ValueError(
                    f"Provided coef_init does not match dataset: its shape is {given.shape}, "
                    f"the data need {shape}."
                )
            coef[:] = given.reshape(shape)
        if intercept_init is not None:
            given = np.asarray(intercept_init)
            if given.shape != (n_models,) and not (n_models == 1 and given.shape == ()):
                raise ValueError(
                    f"Provided intercept_init does not match dataset: its shape is "
                    f"{given.shape}, the data need {(n_models,)}."
                )
            intercept[:] = given
        average = self._averages
        return [
            Weights(w, float(b), average=np.zeros_like(w) if average else None)
            for w, b in zip(coef, intercept, strict=True)
        ]

    def _resumed(self, dtype):
        """`Weights` where the last `fit` or `partial_fit` left them, copied."""
        if self._averages and hasattr(self, "_standard_coef"):
            coef, intercept = self._standard_coef, self._standard_intercept
            averages = zip(self._average_coef, self._average_intercept, strict=True)
        else:
            coef = self.coef_.toarray() if sp.issparse(self.coef_) else np.atleast_2d(self.coef_)
            intercept = self.intercept_
            zeros = np.zeros(coef.shape[1], dtype)
            averages = [(zeros if self._averages else None, 0.0)] * len(coef)
        return [
            Weights(
                np.array(w, dtype=dtype),
                float(b),
                None if average is None else np.array(average, dtype=dtype),
                float(average_b),
                t=getattr(self, "t_", 1.0),
            )
            for w, b, (average, average_b) in zip(coef, intercept, averages, strict=True)
        ]

    def _kept_of(self, k):
        """What the last partial_fit left of weight vector k."""
        kept = getattr(self, "_kept", [])
        return kept[k] if len(kept) > k else None

    def _keep(self, results, dtype):
        """Write the fitted attributes; `results` has one entry per weight vector."""
        self.coef_ = np.array([r.user_w for r in results], dtype=dtype)
        self.intercept_ = np.array([r.user_intercept for r in results], dtype=dtype)
        if self._averages:
            self._standard_coef = np.array([r.weights.w for r in results])
            self._standard_intercept = np.array([r.weights.intercept for r in results])
            self._average_coef = np.array([r.weights.average for r in results])
            self._average_intercept = np.array([r.weights.average_intercept for r in results])
        longest = max(results, key=lambda r: r.n_iter)
        self.n_iter_ = longest.n_iter
        self.t_ = longest.weights.t
        self.eta0_ = longest.eta0
        self._kept = [r.kept for r in results]
        self._finished = all(r.finished for r in results)
        self.scheme_ = longest.scheme
        self.n_workers_ = max(r.n_workers for r in results)
        # Vectors trained together have one history.
        histories = list({id(r.history): r.history for r in results}.values())
        self.history_ = histories[0] if len(histories) == 1 else mean_history(histories)

    def _fitted_attributes(self, more=()):
        """What a copy of this estimator needs to predict."""
        return {name: getattr(self, name) for name in ("coef_", "intercept_", "history_", *more)}

    def _forget(self):
        for name in ("_standard_coef", "_standard_intercept", "_average_coef"):
            if hasattr(self, name):
                delattr(self, name)
