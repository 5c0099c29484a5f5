"""The four estimators: parameters and documentation; no arithmetic."""

from numbers import Integral

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from skpar import _docs
from skpar._averaging import MIN_NUMBERS_PER_SHARD, ModelAveraging
from skpar._classifier import BaseClassifier
from skpar._gradients import GradientAveraging, least_part
from skpar._lockfree import LockFree, sharing_is_safe, worthwhile_workers
from skpar._many_averaging import ManyAveraging
from skpar._many_gradients import ManyGradients
from skpar._many_lockfree import ManyLockFree
from skpar._many_schemes import ManySteps
from skpar._many_split import split_of
from skpar._regressor import BaseRegressor
from skpar._schemes import (
    MIN_NUMBERS_PER_WORKER,
    MIN_ROWS_PER_WORKER,
    Sequential,
    usable_workers,
)


class _DataParallel:
    """Shards of the rows, reduced to one model."""

    _shared_memory = False
    _family_constraints = {
        "scheme": [StrOptions({"model-averaging", "gradient-averaging"})],
        "n_shards": [Interval(Integral, 1, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "inner_n_jobs": [Interval(Integral, 1, None, closed="left"), None],
    }

    def _check_parameters(self, for_partial_fit=False):
        super()._check_parameters(for_partial_fit)
        if self.scheme == "gradient-averaging" and self.learning_rate in ("pa1", "pa2"):
            raise ValueError(
                f"learning_rate={self.learning_rate!r} has no step size for the gradient of a "
                "batch: choose another one, or scheme='model-averaging'."
            )

        if self.inner_n_jobs is not None and self.scheme != "model-averaging":
            raise ValueError(
                "inner_n_jobs trains shards lock-free, which scheme='gradient-averaging' does "
                "not: set inner_n_jobs=None, or scheme='model-averaging'."
            )

    def _plan_many(self, n_workers, n_rows, size, softmax):
        """(blocks of outputs, shards of rows); None where each output is to be trained alone."""
        if not softmax and (self.scheme != "model-averaging" or self.inner_n_jobs is not None):
            return None
        asked = getattr(self, "split", "auto")
        if not softmax and (self.n_shards not in (None, 1) or not self._team().on_threads):
            # Shards of one output may be anywhere, with the same bits.
            return None
        if self.n_shards is None:
            return split_of(asked, n_workers, size, MIN_NUMBERS_PER_SHARD, softmax)
        if self.n_shards == 1 and not softmax:
            return (split_of(asked, n_workers, size, np.inf) or (1, 1))[0], 1
        # Shards are merged with all outputs at once: blocks, which workers choose, would change bits.
        return 1, min(self.n_shards, n_rows)

    def _make_many(self, fit, parts, softmax, plan):
        n_blocks, n_shards = plan
        if self.scheme == "gradient-averaging":
            return ManyGradients(fit, parts, softmax, n_shards, self.batch_size)
        if n_shards == 1:
            return ManySteps(fit, parts, softmax, n_blocks)
        return ManyAveraging(fit, parts, softmax, n_blocks, n_shards)

    def _make_scheme(self, fit):
        if fit.batch.partitioned:
            if self.n_shards not in (None, fit.batch.n_shards):
                raise ValueError(
                    f"n_shards={self.n_shards}, but X has {fit.batch.n_shards} partitions that "
                    "are not empty, each a shard: leave n_shards=None, or rechunk X."
                )
            if self.scheme == "model-averaging":
                return ModelAveraging(fit, fit.batch.n_shards, self.inner_n_jobs)
            return GradientAveraging(fit, fit.batch.n_shards, self.batch_size)
        if self.scheme == "gradient-averaging":
            return GradientAveraging(
                fit, self._shards(fit, least_part(self.batch_size, fit.batch)), self.batch_size
            )
        n_shards = self._shards(fit, MIN_NUMBERS_PER_SHARD)
        if n_shards == 1 and self.inner_n_jobs is None:
            return Sequential(fit)
        return ModelAveraging(fit, n_shards, self.inner_n_jobs)

    def _shards(self, fit, least_numbers):
        n_shards = self.n_shards
        if n_shards is None:
            n_shards = usable_workers(fit.team.size, fit.batch, MIN_ROWS_PER_WORKER, least_numbers)
        return min(n_shards, fit.batch.n_rows)


class _Hogwild:
    """Workers share one weight vector."""

    _shared_memory = True
    _family_constraints = {
        "scheme": [StrOptions({"lock-free", "locked"})],
        "merge_every": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
    }

    def _plan_many(self, n_workers, n_rows, size, softmax):
        """(blocks of outputs, shards of rows); None where each output is to be trained alone."""
        shares_asked = self.merge_every != "auto" or self.scheme == "locked"
        if softmax and shares_asked:
            return 1, n_workers if size[0] >= MIN_NUMBERS_PER_WORKER * n_workers else 1
        asked = getattr(self, "split", "auto")
        if asked == "auto" and shares_asked:
            asked = "rows"
        return split_of(asked, n_workers, size, MIN_NUMBERS_PER_WORKER, softmax)

    def _make_many(self, fit, parts, softmax, plan):
        n_blocks, n_rows = plan
        passive_aggressive = fit.problem.learning_rate in ("pa1", "pa2")
        if n_rows == 1 or passive_aggressive or not sharing_is_safe(fit, self.max_iter):
            return ManySteps(fit, parts, softmax, n_blocks)
        locked = self.scheme == "locked"
        return ManyLockFree(fit, parts, softmax, n_blocks, n_rows, self.merge_every, locked)

    def _make_scheme(self, fit):
        n_workers = usable_workers(fit.team.threads, fit.batch, MIN_ROWS_PER_WORKER)
        if self.merge_every == "auto":
            n_workers = worthwhile_workers(fit.batch, n_workers)
        if n_workers == 1 or not sharing_is_safe(fit, self.max_iter):
            return Sequential(fit)
        return LockFree(fit, n_workers, self.merge_every, locked=self.scheme == "locked")


@_docs.document(
    parameters=(
        _docs.LOSSES_CLASSIFIER,
        _docs.PENALTY_AND_STOPPING,
        _docs.N_JOBS,
        _docs.STEPS_CLASSIFIER,
        _docs.EARLY_STOPPING,
        _docs.CLASS_WEIGHT,
        _docs.WARM_AND_AVERAGE,
        _docs.PARALLEL,
        _docs.MULTI_CLASS,
    ),
    attributes=(_docs.ATTRIBUTES_CLASSIFIER, _docs.ATTRIBUTES),
)
class ParallelSGDClassifier(_DataParallel, BaseClassifier):
    """Linear classifier trained data-parallel by stochastic gradient descent.

    Rows are split into shards, each worker trains on its own, and the models are averaged
    every so often [1]_. For a given `random_state` and `n_shards` the result is the same to
    the bit, whatever `n_jobs`, joblib backend (threads, processes, Dask, Ray) and machine load.
    Minimises (1/n) sum_i s_i loss(y_i, x_i.w + b) + alpha penalty(w); several classes are
    one-vs-rest, or with multi_class="multinomial" the softmax of all.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    See Also
    --------
    HogwildClassifier : The lock-free family, faster on one machine.

    References
    ----------
    .. [1] M. Zinkevich, M. Weimer, L. Li, A. Smola, "Parallelized stochastic gradient
       descent", NIPS 2010.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skpar import ParallelSGDClassifier
    >>> X, y = make_classification(random_state=0)
    >>> model = ParallelSGDClassifier(n_jobs=2, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    _parameter_constraints: dict = {
        **BaseClassifier._parameter_constraints,
        **_DataParallel._family_constraints,
    }

    def __init__(
        self,
        loss="hinge",
        *,
        penalty="l2",
        alpha=0.0001,
        l1_ratio=0.15,
        fit_intercept=True,
        max_iter=1000,
        tol=1e-3,
        shuffle=True,
        verbose=0,
        epsilon=0.1,
        n_jobs=None,
        random_state=None,
        learning_rate="auto",
        eta0=0.01,
        power_t=0.5,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=5,
        class_weight=None,
        warm_start=False,
        average=False,
        scheme="model-averaging",
        n_shards=None,
        batch_size="auto",
        inner_n_jobs=None,
        multi_class="ovr",
        split="auto",
    ):
        self._store(locals())


@_docs.document(
    parameters=(
        _docs.LOSSES_REGRESSOR,
        _docs.PENALTY_AND_STOPPING,
        _docs.STEPS_REGRESSOR,
        _docs.EARLY_STOPPING,
        _docs.WARM_AND_AVERAGE,
        _docs.N_JOBS,
        _docs.PARALLEL,
        _docs.POWER_AND_QUANTILE,
    ),
    attributes=(_docs.ATTRIBUTES_REGRESSOR, _docs.ATTRIBUTES),
)
class ParallelSGDRegressor(_DataParallel, BaseRegressor):
    """Linear regressor trained data-parallel by stochastic gradient descent.

    Rows are split into shards, each worker trains on its own, and the models are averaged
    every so often [1]_. For a given `random_state` and `n_shards` the result is the same to
    the bit, whatever `n_jobs`, joblib backend (threads, processes, Dask, Ray) and machine load.
    Minimises (1/n) sum_i s_i loss(y_i, x_i.w + b) + alpha penalty(w).

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    See Also
    --------
    HogwildRegressor : The lock-free family, faster on one machine.

    References
    ----------
    .. [1] M. Zinkevich, M. Weimer, L. Li, A. Smola, "Parallelized stochastic gradient
       descent", NIPS 2010.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> from skpar import ParallelSGDRegressor
    >>> X, y = make_regression(n_features=5, random_state=0)
    >>> model = ParallelSGDRegressor(n_jobs=2, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.99)
    True
    """

    _parameter_constraints: dict = {
        **BaseRegressor._parameter_constraints,
        **_DataParallel._family_constraints,
    }

    def __init__(
        self,
        loss="squared_error",
        *,
        penalty="l2",
        alpha=0.0001,
        l1_ratio=0.15,
        fit_intercept=True,
        max_iter=1000,
        tol=1e-3,
        shuffle=True,
        verbose=0,
        epsilon=0.1,
        random_state=None,
        learning_rate="auto",
        eta0=0.01,
        power_t=0.25,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=5,
        warm_start=False,
        average=False,
        n_jobs=None,
        scheme="model-averaging",
        n_shards=None,
        batch_size="auto",
        inner_n_jobs=None,
        power=1.5,
        quantile=0.5,
    ):
        self._store(locals())


@_docs.document(
    parameters=(
        _docs.LOSSES_CLASSIFIER,
        _docs.PENALTY_AND_STOPPING,
        _docs.N_JOBS,
        _docs.STEPS_CLASSIFIER,
        _docs.EARLY_STOPPING,
        _docs.CLASS_WEIGHT,
        _docs.WARM_AND_AVERAGE,
        _docs.HOGWILD,
        _docs.MULTI_CLASS,
    ),
    attributes=(_docs.ATTRIBUTES_CLASSIFIER, _docs.ATTRIBUTES),
)
class HogwildClassifier(_Hogwild, BaseClassifier):
    """Linear classifier trained lock-free by stochastic gradient descent on threads.

    Workers share one weight vector and update it without locks [1]_: each trains a replica
    and now and then adds what it learned to the shared weights [2]_. With one worker the
    result is deterministic, with several it is equal within the noise of their timing.
    Minimises (1/n) sum_i s_i loss(y_i, x_i.w + b) + alpha penalty(w); several classes are
    one-vs-rest, or with multi_class="multinomial" the softmax of all.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    See Also
    --------
    ParallelSGDClassifier : The deterministic, data-parallel family.

    References
    ----------
    .. [1] F. Niu, B. Recht, C. Re, S. Wright, "Hogwild!: a lock-free approach to
       parallelizing stochastic gradient descent", NIPS 2011, arXiv:1106.5730.
    .. [2] C. Zhang, C. Re, "DimmWitted: a study of main-memory statistical analytics",
       VLDB 2014, arXiv:1403.7550.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skpar import HogwildClassifier
    >>> X, y = make_classification(random_state=0)
    >>> model = HogwildClassifier(n_jobs=2, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    _parameter_constraints: dict = {
        **BaseClassifier._parameter_constraints,
        **_Hogwild._family_constraints,
    }

    def __init__(
        self,
        loss="hinge",
        *,
        penalty="l2",
        alpha=0.0001,
        l1_ratio=0.15,
        fit_intercept=True,
        max_iter=1000,
        tol=1e-3,
        shuffle=True,
        verbose=0,
        epsilon=0.1,
        n_jobs=None,
        random_state=None,
        learning_rate="auto",
        eta0=0.01,
        power_t=0.5,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=5,
        class_weight=None,
        warm_start=False,
        average=False,
        scheme="lock-free",
        merge_every="auto",
        multi_class="ovr",
        split="auto",
    ):
        self._store(locals())


@_docs.document(
    parameters=(
        _docs.LOSSES_REGRESSOR,
        _docs.PENALTY_AND_STOPPING,
        _docs.STEPS_REGRESSOR,
        _docs.EARLY_STOPPING,
        _docs.WARM_AND_AVERAGE,
        _docs.N_JOBS,
        _docs.HOGWILD,
        _docs.POWER_AND_QUANTILE,
    ),
    attributes=(_docs.ATTRIBUTES_REGRESSOR, _docs.ATTRIBUTES),
)
class HogwildRegressor(_Hogwild, BaseRegressor):
    """Linear regressor trained lock-free by stochastic gradient descent on threads.

    Workers share one weight vector and update it without locks [1]_: each trains a replica
    and now and then adds what it learned to the shared weights [2]_. With one worker the
    result is deterministic, with several it is equal within the noise of their timing.
    Minimises (1/n) sum_i s_i loss(y_i, x_i.w + b) + alpha penalty(w).

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    See Also
    --------
    ParallelSGDRegressor : The deterministic, data-parallel family.

    References
    ----------
    .. [1] F. Niu, B. Recht, C. Re, S. Wright, "Hogwild!: a lock-free approach to
       parallelizing stochastic gradient descent", NIPS 2011, arXiv:1106.5730.
    .. [2] C. Zhang, C. Re, "DimmWitted: a study of main-memory statistical analytics",
       VLDB 2014, arXiv:1403.7550.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> from skpar import HogwildRegressor
    >>> X, y = make_regression(n_features=5, random_state=0)
    >>> model = HogwildRegressor(n_jobs=2, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.99)
    True
    """

    _parameter_constraints: dict = {
        **BaseRegressor._parameter_constraints,
        **_Hogwild._family_constraints,
    }

    def __init__(
        self,
        loss="squared_error",
        *,
        penalty="l2",
        alpha=0.0001,
        l1_ratio=0.15,
        fit_intercept=True,
        max_iter=1000,
        tol=1e-3,
        shuffle=True,
        verbose=0,
        epsilon=0.1,
        random_state=None,
        learning_rate="auto",
        eta0=0.01,
        power_t=0.25,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=5,
        warm_start=False,
        average=False,
        n_jobs=None,
        scheme="lock-free",
        merge_every="auto",
        power=1.5,
        quantile=0.5,
    ):
        self._store(locals())
