"""What a classifier says of rows: scores, labels, probabilities."""

import numpy as np
from scipy.special import expit
from sklearn.utils.metaestimators import available_if

from skpar._collections import blockwise


class Decisions:
    """Scores, labels and probabilities from `coef_`, `intercept_` and `classes_`."""

    @blockwise
    def decision_function(self, X):
        """Signed distances to the hyperplanes, in units of 1 / ||coef_||.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to score.

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_classes)
            x.w + b for each class; for two classes of `classes_[1]` alone.
        """
        scores = self._score(X)
        return scores.ravel() if scores.shape[1] == 1 else scores

    @blockwise
    def predict(self, X):
        """Most likely class of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to classify.

        Returns
        -------
        y_pred : ndarray of shape (n_samples,)
            Labels from `classes_`.
        """

        def most_likely(scores):
            if scores.shape[1] == 1:
                return self.classes_[(scores[:, 0] > 0).astype(np.intp)]
            return self.classes_[scores.argmax(axis=1)]

        return self._score(X, most_likely)

    def _has_probabilities(self):
        if self.loss not in ("log_loss", "modified_huber"):
            raise AttributeError(f"probability estimates are not available for loss={self.loss!r}")
        return True

    @available_if(_has_probabilities)
    @blockwise
    def predict_proba(self, X):
        """Probability of each class, for loss="log_loss" and "modified_huber" only.

        For several classes these are the one-vs-rest probabilities, normalised to sum to 1
        (Zadrozny & Elkan 2002); for the modified Huber loss (clip(score, -1, 1) + 1) / 2
        (Zhang 2004).

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to score.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`.
        """
        return self._score(X, _from_log_odds if self.loss == "log_loss" else _from_clipped)

    @available_if(_has_probabilities)
    @blockwise
    def predict_log_proba(self, X):
        """Logarithm of `predict_proba`; -inf where a modified Huber probability is 0.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to score.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`.
        """
        return np.log(self.predict_proba(X))


def _from_log_odds(scores):
    return _probabilities(expit(scores))


def _from_clipped(scores):
    return _probabilities((np.clip(scores, -1, 1) + 1) / 2)


def _probabilities(positive):
    """Of each class, from the one-vs-rest probabilities; for two classes from the second's."""
    if positive.shape[1] == 1:
        return np.hstack([1 - positive, positive])
    sums = positive.sum(axis=1, keepdims=True)
    # Every class may have probability 0: then none is better than another.
    positive = np.where(sums == 0, 1, positive)
    return positive / positive.sum(axis=1, keepdims=True)
