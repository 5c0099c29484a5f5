"""Training on more rows than fit in memory: `fit_stream`."""

import math
from numbers import Integral, Real

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils import check_random_state

from skpar import _checkpoint
from skpar._source import Source
from skpar._state import described
from skpar._stream_progress import Progress, Teller
from skpar._stream_records import Options
from skpar._streaming import Run
from skpar.sources import arrays, iterable

__all__ = ["Progress", "fit_stream"]

MAX_SEED = np.iinfo(np.int32).max
# What may differ between a run and its resumption: it does not change the result.
FREE_PARAMETERS = {"random_state", "n_jobs", "verbose"}


def fit_stream(
    estimator,
    source,
    *,
    classes=None,
    n_epochs=1,
    prefetch=8,
    n_readers=1,
    transform=None,
    validation=None,
    early_stopping=False,
    n_iter_no_change=5,
    tol=1e-3,
    checkpoint=None,
    checkpoint_every="60 s",
    timeout=None,
    callbacks=None,
    verbose=0,
    random_state=None,
):
    """Train an estimator on chunks that readers load while it trains on those before.

    Reader threads read, decode and transform chunks into a queue of bounded size, and
    `estimator.partial_fit` takes them from there: reading and training overlap, and memory
    holds `prefetch` + `n_readers` + 1 chunks whatever the size of the source.

    Parameters
    ----------
    estimator : object with `partial_fit`
        Trained in place, from where it stands: one of skpar's or any of scikit-learn's.
    source : Source, or iterable or function giving (X, y)
        The rows: see :mod:`skpar.sources`. Anything else goes to :func:`skpar.sources.iterable`.
    classes : array-like of shape (n_classes,), default=None
        All labels that can come; needed for a classifier that is not fitted yet.
    n_epochs : int, default=1
        How many times to go through the source.
    prefetch : int, default=8
        Chunks that may wait in the queue.
    n_readers : int, default=1
        Threads that read. A source of one part (an iterable, a compressed file) uses one.
    transform : object with `transform`, default=None
        Fitted or stateless transformer of X, run in the readers; of `validation` too.
    validation : Source or tuple (X, y), default=None
        Rows to score after each epoch: accuracy of a classifier, R2 of a regressor, else the
        mean of `estimator.score`.
    early_stopping : bool, default=False
        Stop when the validation score has not improved by `tol` for `n_iter_no_change` epochs,
        and give the estimator the weights of the best epoch.
    n_iter_no_change : int, default=5
        See `early_stopping`.
    tol : float, default=1e-3
        See `early_stopping`.
    checkpoint : str or path-like, default=None
        File to which the state of the run is written, and from which a run that was ended goes
        on if the file exists. Estimator and source must be those of the first run. With one
        worker, or a data-parallel estimator, the result is the same to the bit as without the
        interruption. Nothing in the file is executed on loading.
    checkpoint_every : str, default="60 s"
        How often: a number with "s", "min", "h" or "chunks". The end of an epoch always counts.
    timeout : float, default=None
        Seconds without a chunk after which a TimeoutError is raised; None waits for ever.
    callbacks : list, default=None
        Functions, called after each chunk with a `skpar.stream.Progress`, and callbacks of the
        protocol of `sklearn.callback`, as its ProgressBar and `skpar.callbacks.EarlyStopping`;
        those that the estimator was given by `set_callbacks` too. A true answer ends the stream;
        with a `checkpoint` the next call goes on from there.
    verbose : int, default=0
        1 prints a line every ten seconds and one an epoch, 2 a line a chunk: rows, rows per
        second, chunks in the queue, who waits for whom, objective, time left.
    random_state : int, RandomState instance or None, default=None
        Seeds the order of the chunks and of the rows in them, and the estimator's own shuffling
        of each chunk; None means the estimator's own `random_state`. With a seed, or with
        `checkpoint`, chunks come in the same order whatever the number of readers; without,
        several readers deliver them as they are ready.

    Returns
    -------
    estimator : object
        The estimator, with `history_`: a dict of arrays, one entry an epoch, of `epoch`,
        `samples`, `time`, `objective` (mean over the chunks, each just after it was trained;
        nan where the estimator keeps none), `validation_score`, `step_size`,
        `rows_per_second`, `training_waits` and `reading_waits` (shares of the time in which
        one side waited for the other).

    Raises
    ------
    TimeoutError
        If no chunk came for `timeout` seconds.
    ValueError
        If a parameter is wrong, a chunk does not fit those before it, or the checkpoint is of
        another run. Errors of the source, the transform and the estimator come as they are,
        with a note that names the chunk.

    Notes
    -----
    A reader that waits inside its source (a socket, say) cannot be ended from outside; its
    thread ends when the source returns, and does not keep Python from ending. Give a source of
    your own a method `close` that wakes it up.

    Examples
    --------
    >>> import numpy as np
    >>> from skpar import HogwildClassifier, fit_stream, sources
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(1000, 5))
    >>> y = (X[:, 0] > 0).astype(int)
    >>> source = sources.arrays(X, y, chunk_rows=100)
    >>> model = fit_stream(
    ...     HogwildClassifier(), source, classes=[0, 1], n_epochs=3, random_state=0
    ... )
    >>> bool(model.score(X, y) > 0.9)
    True
    >>> model.history_["samples"].tolist()
    [1000, 2000, 3000]
    """
    _check_numbers(n_epochs, prefetch, n_readers, n_iter_no_change, tol, timeout)
    source, validation = _sources_of(source, validation, transform, early_stopping)
    classes = _check_estimator(estimator, classes)
    path, loaded = _checkpoint.found(checkpoint)
    given = getattr(estimator, "random_state", None) if random_state is None else random_state
    seed, reproducible = _seed(given, loaded), given is not None or path is not None
    options = Options(
        classes=classes,
        n_epochs=n_epochs,
        prefetch=prefetch,
        n_readers=n_readers,
        ordered=reproducible or n_readers == 1,
        timeout=timeout,
        early_stopping=early_stopping,
        n_iter_no_change=n_iter_no_change,
        tol=tol,
        seed=seed,
        seeds_estimator=reproducible and _has_random_state(estimator),
        checkpoint=path,
        clock=_checkpoint.Clock(checkpoint_every),
    )
    identity = None if path is None else _identity(estimator, source, seed)
    with Teller(estimator, callbacks, n_epochs, verbose) as teller:
        run = Run(estimator, source, validation, options, teller)
        if loaded is not None:
            _checkpoint.compare(path, loaded[1]["identity"], identity)
            run.load(*loaded)
        _run_seeded(run, identity)
    return estimator


def _sources_of(source, validation, transform, early_stopping):
    """Both as sources of transformed rows, the second None where there are none."""
    if early_stopping and validation is None:
        raise ValueError("early_stopping=True needs validation: rows to score after each epoch")
    source, validation = _as_source(source), _as_validation(validation)
    if transform is None:
        return source, validation
    validated = None if validation is None else validation.transform(transform)
    return source.transform(transform), validated


def _run_seeded(run, identity):
    """Run, and give the estimator its `random_state` back, which the run sets chunk by chunk."""
    estimator = run.estimator
    if not run.options.seeds_estimator:
        run.run(identity)
        return
    own = estimator.random_state
    try:
        run.run(identity)
    finally:
        estimator.set_params(random_state=own)


def _check_numbers(n_epochs, prefetch, n_readers, n_iter_no_change, tol, timeout):
    counts = dict(
        n_epochs=n_epochs,
        prefetch=prefetch,
        n_readers=n_readers,
        n_iter_no_change=n_iter_no_change,
    )
    for name, value in counts.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}")
    if not isinstance(tol, Real) or math.isnan(tol):
        raise ValueError(f"tol must be a number, got {tol!r}")
    if timeout is not None and not (isinstance(timeout, Real) and timeout > 0):
        raise ValueError(f"timeout must be a positive number of seconds or None, got {timeout!r}")


def _as_source(source):
    return source if isinstance(source, Source) else iterable(source)


def _as_validation(validation):
    if isinstance(validation, tuple):
        return arrays(*validation, shuffle=False)
    return None if validation is None else _as_source(validation)


def _check_estimator(estimator, classes):
    """The classes as a sorted array, or None."""
    if not hasattr(estimator, "partial_fit"):
        raise TypeError(
            f"{type(estimator).__name__} has no partial_fit, so it cannot be trained in chunks. "
            "Of a Pipeline, give the last step, and the fitted others as transform."
        )
    if not is_classifier(estimator):
        if classes is not None:
            raise ValueError(f"classes were given, but {type(estimator).__name__} has none")
        return None
    if classes is None:
        classes = getattr(estimator, "classes_", None)
        if classes is None:
            raise ValueError(
                "classes must be given for a classifier that is not fitted: a chunk need not "
                "show all of them"
            )
    return np.unique(np.asarray(classes))


def _seed(given, loaded):
    if loaded is not None and not isinstance(given, Integral):
        return loaded[1]["identity"]["seed"]
    return int(check_random_state(given).randint(MAX_SEED))


def _has_random_state(estimator):
    return "random_state" in estimator.get_params(deep=False)


def _identity(estimator, source, seed):
    """What must be the same in a run and in its resumption; None where it cannot be known."""
    parameters = {}
    for name, value in estimator.get_params(deep=False).items():
        if name not in FREE_PARAMETERS:
            parameters[name] = described(value)
    return {
        "estimator": f"{type(estimator).__module__}.{type(estimator).__qualname__}",
        "parameters": parameters,
        "source": source.fingerprint(),
        "order of the source": [source.chunk_rows, str(source.shuffle)],
        "seed": seed,
    }
