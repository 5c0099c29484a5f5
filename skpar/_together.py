"""All classes of a classifier in one fit: softmax, or one-vs-rest in shared reads of the rows."""

from functools import partial

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_random_state

from skpar._base import MAX_SEED
from skpar._data import Batch
from skpar._many_auto import train_many_on
from skpar._many_fit import ManyFit, starts_with_steps
from skpar._many_hessian import MOST_COLUMNS
from skpar._predict import score_rows
from skpar._schemes import Weights
from skpar._train import Watch, train_auto
from skpar._train_many import train_many, unstacked
from skpar._workers import limit_blas, local_team

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
        if getattr(self, "inner_n_jobs", None) is not None:
            raise ValueError(
                "inner_n_jobs trains shards of one weight vector, multi_class='multinomial' has "
                "one for each class: set inner_n_jobs=None, or multi_class='ovr'."
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
        if len(classes) < 3:
            return False
        if tasks is None or self._problem().learning_rate != "auto":
            return self._steps_together(X, len(classes), tasks)
        if self.loss not in TOGETHER:
            return False
        # One class has a better way on small data, and where its Hessian is sparse or large.
        if X.size <= SMALL_NUMBERS:
            return False
        if not starts_with_steps(X) if issparse(X) else X.shape[1] > MOST_COLUMNS:
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
        if tasks is not None:
            if held_out is not None:
                weights = None if sample_weight is None else sample_weight[held_out]
                validation = X[held_out], y[held_out], weights
            score = None
            if validation is not None:
                score = partial(self._accuracy, classes, softmax, *validation)
            heard = tasks.listener(0, partial(_whole_moment, classes)) if softmax else None
            watch = Watch(score, heard)
        with self._many_team() as team:
            if tasks is not None and self._problem().learning_rate == "auto":
                return self._by_full_gradients(batch, starts, team, factors, softmax, watch)
            return self._by_steps(batch, starts, team, factors, softmax, tasks is None, watch)

    def _by_full_gradients(self, batch, starts, team, factors, softmax, watch):
        fit, options = self._task(batch, stacked(starts), 0, None, team)
        used = slice(None) if batch.subset is None else batch.subset
        weights = None if batch.weights is None else np.ascontiguousarray(batch.weights[used])
        codes = np.ascontiguousarray(batch.targets[used].astype(np.int64))
        targets = codes, None, weights, np.arange(len(factors)), factors
        n_blocks = (self._plan(batch.matrix(), len(factors), softmax) or (1, 1))[0]
        with limit_blas(), team.working(team.threads):
            auto = ManyFit(fit, targets, options.tol, softmax, n_blocks)
            return unstacked(train_auto(fit, auto, options, watch))

    def _many_team(self):
        """Rows and all outputs are here: threads, whatever the backend."""
        return self._team() if self._shared_memory else local_team(self.n_jobs)

    def _plan(self, X, n_outputs, softmax=False):
        """(blocks of outputs, shards of rows); None where each output is to be trained alone."""
        work = X.nnz if issparse(X) else X.size
        workers = self._many_team()
        workers = workers.threads if self._shared_memory else workers.size
        size = work, n_outputs, X.dtype, X.shape[1]
        return self._plan_many(workers, X.shape[0], size, softmax)

    def _steps_together(self, X, n_outputs, tasks):
        """Whether stochastic steps of one-vs-rest read the rows once for all classes.

        Callbacks look at one class after another.
        """
        if tasks is not None and tasks.root is not None:
            return False
        return self._plan(X, n_outputs) is not None

    def _by_steps(self, batch, starts, team, factors, softmax, partial_fit, watch):
        seed = int(check_random_state(self.random_state).randint(MAX_SEED))
        n_epochs = 1 if partial_fit else None
        fit, options = self._task(batch, stacked(starts), seed, n_epochs, team)
        codes = batch.targets.astype(np.int64)
        parts = codes, None, batch.weights, np.arange(len(factors)), factors
        plan = self._plan(batch.matrix(), len(factors), softmax)
        make_scheme = partial(self._make_many, parts=parts, softmax=softmax, plan=plan)
        with limit_blas(), team.working(team.threads):
            if fit.problem.learning_rate == "auto":
                kept = [self._kept_of(k) for k in range(len(starts))]
                kept = None if kept[0] is None else kept
                return train_many_on(fit, parts, make_scheme, options, kept, softmax)
            return train_many(fit, make_scheme(fit), options, watch)

    def _accuracy(self, classes, softmax, X, y, sample_weight, w, intercept):
        """Share of rows whose largest score is that of their class; of one-vs-rest one a class."""
        scores, _ = score_rows(X, w, intercept, self.n_jobs)
        if softmax:
            hit = classes[scores.argmax(axis=1)] == y
        else:
            hit = (scores > 0) == (np.asarray(y)[:, None] == classes)
        return np.average(hit, axis=0, weights=sample_weight)


def _whole_moment(classes, k, w, intercept, history):
    """Fitted attributes between two epochs of all classes."""
    history = history.arrays()
    return dict(coef_=w, intercept_=intercept, classes_=classes, history_=history)
