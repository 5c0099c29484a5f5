"""All classes of a classifier in one fit: softmax, or one-vs-rest in shared reads of the rows."""

from dataclasses import replace
from functools import partial

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_random_state

from skpar._auto import Kept
from skpar._base import MAX_SEED
from skpar._data import Batch
from skpar._many_hessian import MOST_COLUMNS
from skpar._many_fit import ManyFit
from skpar._predict import score_rows
from skpar._schemes import Weights
from skpar._softmax import Softmax, softmax_step
from skpar._train import MOST_HALVINGS, Watch, train, train_auto
from skpar._workers import limit_blas

# One-vs-rest together: losses that full gradients descend without rounding off.
SMALL_NUMBERS = 1 << 17
TOGETHER = ("log_loss", "squared_hinge", "modified_huber", "squared_error")


def stacked(starts):
    """One `Weights` of matrices for a list of vectors."""
    averages = [s.average for s in starts]
    return Weights(
        np.array([s.w for s in starts]),
        np.array([s.intercept for s in starts]),
        None if averages[0] is None else np.array(averages),
        np.array([s.average_intercept for s in starts]),
        starts[0].t,
    )


def unstacked(result):
    """A list of results for one of matrices."""
    whole, parts = result.weights, []
    for k, (w, b) in enumerate(zip(result.user_w, result.user_intercept, strict=True)):
        own = replace(whole, w=whole.w[k], intercept=float(whole.intercept[k]))
        if whole.average is not None:
            own.average = whole.average[k]
            own.average_intercept = float(whole.average_intercept[k])
        parts.append(replace(result, user_w=w, user_intercept=float(b), weights=own))
    return parts


def train_softmax_on(fit, options, kept, factors):
    """One call of partial_fit with learning_rate="auto", as `train_on` for one weight vector."""
    step, most = softmax_step(fit, None if kept is None else kept.step, factors)
    for _ in range(MOST_HALVINGS):
        tried = replace(fit, problem=replace(fit.problem, eta0=step))
        result = train(tried, Softmax(tried, factors), options, check=False)
        if result.history["objective"][-1] <= most * (1 + 1e-6) or most == 0.0:
            parts = unstacked(replace(result, eta0=step))
            pairs = [(r.user_w, r.user_intercept) for r in parts]
            left = [Kept(step, w, b, w, b, 0.0) for w, b in pairs]
            return [replace(r, kept=k) for r, k in zip(parts, left, strict=True)]
        step *= 0.5
    raise ValueError(
        "No step size lowers the objective on these rows: is a column of X many orders of "
        "magnitude larger than the others? Scale it (StandardScaler)."
    )


class Together:
    """Fits of all classes at once; mixed into the classifiers."""

    def _is_softmax(self, classes):
        """For two classes the softmax is the logistic loss of one weight vector."""
        return self.multi_class == "multinomial" and len(classes) > 2

    def _check_multi_class(self):
        if self.multi_class == "ovr":
            return
        if self.loss != "log_loss":
            raise ValueError(
                "multi_class='multinomial' is the softmax of the logistic loss, but "
                f"loss={self.loss!r}: set loss='log_loss', or multi_class='ovr'."
            )

    def _refuse_collection(self):
        if self.multi_class == "multinomial":
            raise ValueError(
                "multi_class='multinomial' needs rows in memory, X is a Dask collection: give "
                "X.compute(), or set multi_class='ovr'."
            )

    def _fits_together(self, X, classes, validation, tasks):
        """Whether all classes are trained in the same reads of the rows."""
        if self._is_softmax(classes):
            return True
        if tasks is None or len(classes) < 3:
            return False
        if self.learning_rate != "auto" or self.loss not in TOGETHER:
            return False
        # Wide sparse rows gain more from stochastic steps at first, and small data fit at once.
        if (X.shape[1] > MOST_COLUMNS or X.size <= SMALL_NUMBERS) and not issparse(X):
            return False
        # Scores and callbacks look at one class after another; l1 has a better way for one.
        watched = self.early_stopping or validation is not None or tasks.root is not None
        return not watched and self._problem().l1 == 0.0

    def _fit_together(self, X, y, classes, starts, parts, tasks):
        """Results of all classes, one-vs-rest or softmax; without tasks of one epoch."""
        sample_weight, class_weight, train_rows, held_out, validation = parts
        codes = np.searchsorted(classes, y).astype(np.int64)
        batch = Batch.of(X, codes, sample_weight, train_rows)
        factors = np.asarray(class_weight, np.float64)
        softmax, watch = self._is_softmax(classes), Watch()
        if softmax and tasks is not None:
            if held_out is not None:
                weights = None if sample_weight is None else sample_weight[held_out]
                validation = X[held_out], y[held_out], weights
            score = None if validation is None else partial(self._accuracy, classes, *validation)
            watch = Watch(score, tasks.listener(0, partial(_whole_moment, classes)))
        with self._team() as team:
            if tasks is not None and self.learning_rate == "auto":
                return self._by_full_gradients(batch, starts, team, factors, softmax, watch)
            return self._by_steps(batch, starts, team, factors, tasks is None, watch)

    def _by_full_gradients(self, batch, starts, team, factors, softmax, watch):
        fit, options = self._task(batch, stacked(starts), 0, None, team)
        used = slice(None) if batch.subset is None else batch.subset
        weights = None if batch.weights is None else np.ascontiguousarray(batch.weights[used])
        codes = np.ascontiguousarray(batch.targets[used].astype(np.int64))
        targets = codes, None, weights, np.arange(len(factors)), factors
        with limit_blas(), team.working(team.size):
            auto = ManyFit(fit, targets, options.tol, softmax, _Steps if softmax else None)
            return unstacked(train_auto(fit, auto, options, watch))

    def _by_steps(self, batch, starts, team, factors, partial_fit, watch):
        seed = int(check_random_state(self.random_state).randint(MAX_SEED))
        n_epochs = 1 if partial_fit else None
        fit, options = self._task(batch, stacked(starts), seed, n_epochs, team)
        with limit_blas(), team.working(team.size):
            if fit.problem.learning_rate == "auto":
                return train_softmax_on(fit, options, self._kept_of(0), factors)
            return unstacked(train(fit, Softmax(fit, factors), options, watch))

    def _accuracy(self, classes, X, y, sample_weight, w, intercept):
        """Share of rows whose largest score is that of their class."""
        scores, _ = score_rows(X, w, intercept, self.n_jobs)
        hit = classes[scores.argmax(axis=1)] == y
        return float(np.average(hit, weights=sample_weight))


def _whole_moment(classes, k, w, intercept, history):
    """Fitted attributes between two epochs of all classes."""
    history = history.arrays()
    return dict(coef_=w, intercept_=intercept, classes_=classes, history_=history)


class _Steps:
    find = staticmethod(lambda fit, parts: softmax_step(fit, None, parts[4])[0])

    @staticmethod
    def scheme(fit, parts):
        scheme = Softmax(fit, parts[4])
        epoch = scheme.epoch
        scheme.epoch = lambda number, steps: epoch(number, steps[0])
        return scheme
