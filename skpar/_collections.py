"""fit for Dask arrays and DataFrames: what `_classifier` and `_regressor` do for rows in memory."""

from sklearn.base import is_classifier
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from skpar._base import MAX_SEED
from skpar._class_weights import class_weights
from skpar._partitions import Partitions, blockwise, computed, is_collection, the_client
from skpar._parts import ClassTargets, RealTargets

__all__ = ["blockwise", "computed", "fit_classes", "fit_targets", "is_collection", "rows_of"]


def rows_of(estimator, X, y, sample_weight, X_val):
    """The rows on their Dask cluster, checked; None where no cluster holds them."""
    client = the_client()
    if client is None:
        return None
    if estimator._shared_memory:
        raise TypeError(
            f"{type(estimator).__name__} needs the rows in memory, X is a Dask collection: give "
            "X.compute(), or use the ParallelSGD family."
        )
    if estimator.early_stopping or X_val is not None:
        raise ValueError(
            "early_stopping=True and X_val need rows in memory, X is a Dask collection: set "
            "early_stopping=False and choose tol or max_iter."
        )
    if getattr(y, "ndim", 1) > 1 and y.shape[1] != 1:
        raise ValueError(
            f"y has {y.shape[1]} columns. Several targets need rows in memory, X is a Dask "
            "collection: give X.compute() and y.compute(), or fit one target after another."
        )
    rows = Partitions(client, X, y, sample_weight, count_labels=is_classifier(estimator))
    validate_data(estimator, rows.meta, reset=True, skip_check_array=True)
    return rows


def fit_classes(estimator, rows, coef_init, intercept_init):
    """Train one weight vector per class (one for two classes)."""
    classes, counts = rows.labels()
    if len(classes) < 2:
        raise ValueError(
            "The number of classes has to be greater than one; "
            f"got {len(classes)} class: y has only {classes[0]!r}"
        )
    class_weight = class_weights(estimator.class_weight, classes, counts)
    n_models = 1 if len(classes) == 2 else len(classes)
    negative = 0.0 if estimator.loss == "log_loss" else -1.0
    targets = []
    for k in [1] if n_models == 1 else range(n_models):
        rest = class_weight[0] if n_models == 1 else 1.0
        targets.append(ClassTargets(classes[k], class_weight[k], rest, negative))
    _fit(estimator, rows, targets, coef_init, intercept_init)
    estimator.classes_ = classes
    estimator._seen_counts = counts if estimator.class_weight == "balanced" else None
    return estimator


def fit_targets(estimator, rows, coef_init, intercept_init):
    """Train one weight vector for real targets."""
    _fit(estimator, rows, [RealTargets()], coef_init, intercept_init)
    estimator.coef_ = estimator.coef_.ravel()
    return estimator


def _fit(estimator, rows, targets, coef_init, intercept_init):
    if estimator.warm_start and hasattr(estimator, "coef_"):
        coef_init = estimator.coef_ if coef_init is None else coef_init
        intercept_init = estimator.intercept_ if intercept_init is None else intercept_init
    estimator._forget()
    shape = (len(targets), rows.shape[1])
    starts = estimator._starts(shape, rows.dtype, coef_init, intercept_init)
    seeds = check_random_state(estimator.random_state).randint(MAX_SEED, size=len(starts))
    results = []
    with estimator._team(rows.client) as team:
        for encoding, start, seed in zip(targets, starts, seeds, strict=True):
            batch = rows.batch(encoding)
            results.append(estimator._train_one(batch, start, int(seed), None, team))
    estimator._keep(results, rows.dtype)
    estimator._warn_after_fit()
