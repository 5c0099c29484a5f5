"""What the two classifiers add: labels, class weights, one-vs-rest, probabilities."""

from functools import partial

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import check_classification_targets, unique_labels

from skpar._base import COMMON_CONSTRAINTS, MAX_SEED, BaseParallelSGD
from skpar._bridge import FitTasks, with_callbacks
from skpar._class_weights import class_counts, class_weights
from skpar._collections import computed, fit_classes, is_collection, rows_of
from skpar._data import Batch
from skpar._decisions import Decisions
from skpar._together import Together
from skpar._train import Watch
from skpar._validation import accuracy, check_labels, check_validation, label_scorer, scorer

CLASSIFICATION_LOSSES = {
    "hinge",
    "perceptron",
    "squared_hinge",
    "log_loss",
    "modified_huber",
    "squared_error",
    "huber",
    "epsilon_insensitive",
    "squared_epsilon_insensitive",
}


# Labels in a range of so many are counted, not sorted.
MOST_COUNTED = 4096


def distinct_labels(y):
    """`np.unique`, in a fifth of the time for labels that are small whole numbers."""
    if y.dtype.kind in "iu" and len(y):
        low, high = int(y.min()), int(y.max())
        if high - low <= MOST_COUNTED and high < 1 << 63:
            seen = np.bincount(np.subtract(y, low, dtype=np.int64))
            return (np.flatnonzero(seen) + low).astype(y.dtype)
    return np.unique(y)


class BaseClassifier(Together, Decisions, ClassifierMixin, BaseParallelSGD):
    """Labels, class weights, one-vs-rest, probabilities."""

    _parameter_constraints: dict = {
        **COMMON_CONSTRAINTS,
        "loss": [StrOptions(CLASSIFICATION_LOSSES)],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "multi_class": [StrOptions({"ovr", "multinomial"})],
        "split": [StrOptions({"auto", "rows", "classes"})],
    }

    def _check_parameters(self, for_partial_fit=False):
        super()._check_parameters(for_partial_fit)
        self._check_multi_class()

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
            Class labels.
        coef_init : array-like of shape (n_classes, n_features), default=None
            Coefficients to start from; (1, n_features) for two classes.
        intercept_init : array-like of shape (n_classes,), default=None
            Intercepts to start from.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, multiplied with `class_weight`; None means 1 each.
        X_val : {array-like, sparse matrix} of shape (n_validation_samples, n_features), default=None
            Validation rows, never trained on. Their score goes into `history_`; with
            ``early_stopping=True`` it decides, and nothing is split off `X`.
        y_val : array-like of shape (n_validation_samples,), default=None
            Their labels.
        sample_weight_val : array-like of shape (n_validation_samples,), default=None
            Their weights in the score; None means 1 each.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are invalid, `y` has one class, or the weights overflow.
        """
        self._check_parameters()
        before = (getattr(self, "coef_", None), getattr(self, "intercept_", None))
        if is_collection(X):
            rows = rows_of(self, X, y, sample_weight, X_val)
            if rows is not None:
                self._refuse_collection()
                return fit_classes(self, rows, coef_init, intercept_init)
            X, y, sample_weight = computed(X, y, sample_weight)
        X, y, sample_weight = self._check_rows(X, y, sample_weight, reset=True)
        if y.dtype.kind not in "biu":  # whole numbers are labels; to find out takes 0.1 ms
            check_classification_targets(y)
        classes = distinct_labels(y)
        if len(classes) < 2:
            raise ValueError(
                "The number of classes has to be greater than one; "
                f"got {len(classes)} class: y has only {classes[0]!r}"
            )
        if self.warm_start:
            coef_init = before[0] if coef_init is None else coef_init
            intercept_init = before[1] if intercept_init is None else intercept_init
        self._forget()
        shape = (1 if len(classes) == 2 else len(classes), X.shape[1])
        starts = self._starts(shape, X.dtype, coef_init, intercept_init)
        validation = check_validation(self, X, X_val, y_val, sample_weight_val)
        if validation is not None:
            check_labels(validation[1], classes)
        n_models = 1 if self._is_softmax(classes) else len(starts)
        tasks = FitTasks(self, X, y, sample_weight, n_models)
        self._fit_classes(X, y, sample_weight, classes, starts, validation, tasks)
        self._warn_after_fit()
        tasks.end(lambda: self._fitted_attributes(("classes_",)))
        return self

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Train one epoch on the given rows, from where the last call ended.

        With class_weight="balanced" their weights follow the labels seen so far, those of this
        call included.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to train on.
        y : array-like of shape (n_samples,)
            Their labels; they need not show all classes.
        classes : array-like of shape (n_classes,), default=None
            All labels of all calls; required in the first.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows; None means 1 each.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If `classes` is missing in the first call or differs later, or `y` has an unknown
            label.
        """
        first = getattr(self, "coef_", None) is None
        self._check_parameters(for_partial_fit=True)
        X, y, sample_weight = self._check_rows(X, y, sample_weight, reset=first)
        classes = self._check_classes(classes, first)
        unknown = np.setdiff1d(y, classes)
        if len(unknown):
            raise ValueError(
                "classes should include all valid labels that can be in y: "
                f"y has {unknown.tolist()}, classes are {classes.tolist()}"
            )
        if first:
            shape = (1 if len(classes) == 2 else len(classes), X.shape[1])
            starts = self._starts(shape, X.dtype, None, None)
        else:
            starts = self._resumed(X.dtype)
        self._fit_classes(X, y, sample_weight, classes, starts)
        return self

    def _check_classes(self, classes, first):
        if classes is None:
            if first:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            return self.classes_
        classes = unique_labels(classes)
        if first:
            if len(classes) < 2:
                raise ValueError(
                    f"The number of classes has to be greater than one; got {len(classes)} class"
                )
        elif not np.array_equal(self.classes_, classes):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, "
                f"was: {self.classes_!r}"
            )
        return classes

    def _fit_classes(self, X, y, sample_weight, classes, starts, validation=None, tasks=None):
        """Train one weight vector per class (one for two classes); without tasks one epoch."""
        n_epochs = 1 if tasks is None else None
        before = getattr(self, "_seen_counts", None) if tasks is None else None
        counts = class_counts(self.class_weight, classes, y, before)
        class_weight = class_weights(self.class_weight, classes, counts)
        train_rows, held_out = self._training_rows(y, sample_weight, validation)
        if self._fits_together(X, classes, validation, tasks):
            parts = sample_weight, class_weight, train_rows, held_out, validation
            results = self._fit_together(X, y, classes, starts, parts, tasks)
            self.classes_, self._seen_counts = classes, counts
            self._keep(results, X.dtype)
            return
        team = self._team()
        rng = check_random_state(self.random_state)
        seeds = rng.randint(MAX_SEED, size=len(starts))
        negative = 0.0 if self.loss == "log_loss" else -1.0
        results = []
        with team:
            for k, (start, seed) in enumerate(zip(starts, seeds, strict=True)):
                positive = y == classes[1 if len(starts) == 1 else k]
                rest = class_weight[0] if len(starts) == 1 else 1.0
                own = class_weight[1 if len(starts) == 1 else k]
                weights = sample_weight
                if own != 1.0 or rest != 1.0:
                    weights = np.where(positive, own, rest)
                    weights = weights if sample_weight is None else weights * sample_weight
                targets = np.where(positive, 1.0, negative)
                batch = Batch.of(X, targets, weights, train_rows)
                score = None
                if held_out is not None:
                    score = scorer(batch, held_out, sample_weight, accuracy)
                elif validation is not None:
                    score = label_scorer(*validation, classes[1 if len(starts) == 1 else k])
                watch, kept = Watch(score), self._kept_of(k)
                if tasks is not None:
                    moment = partial(self._moment, classes, starts, results)
                    watch, kept = Watch(score, tasks.listener(k, moment)), None
                results.append(
                    self._train_one(batch, start, int(seed), n_epochs, team, watch, kept)
                )
                if tasks is not None:
                    tasks.end_model()
        self.classes_, self._seen_counts = classes, counts
        self._keep(results, X.dtype)

    def _moment(self, classes, starts, results, k, w, intercept, history):
        """Fitted attributes while class k is trained."""
        pairs = [(r.user_w, r.user_intercept) for r in results] + [(w, intercept)]
        pairs += [(s.w, s.intercept) for s in starts[k + 1 :]]
        coef, intercepts = (np.array(values) for values in zip(*pairs, strict=True))
        history = history.arrays()
        return dict(coef_=coef, intercept_=intercepts, classes_=classes, history_=history)
