"""What a stream says of itself: records, lines, and scikit-learn's callbacks."""

import copy
import math
from dataclasses import dataclass
from time import perf_counter

LINE_SECONDS = 10.0


@dataclass(frozen=True)
class Progress:
    """Where a stream is; what `callbacks` that are functions get after each chunk.

    Attributes
    ----------
    epoch, n_epochs : int
        The epoch under way, from 1, and how many there will be.
    chunk : int
        Chunks trained in this epoch.
    rows : int
        Rows trained in this epoch.
    rows_per_second : float
        Of this epoch.
    queue_depth : int
        Chunks read and waiting.
    training_waits, reading_waits : float
        Shares of the epoch's time in which the training waited for a chunk, and in which the
        readers waited for room: whichever is large tells that the other is the bottleneck.
    objective : float
        Mean over the epoch's chunks, each just after it was trained; nan where the estimator
        has none.
    seconds_left : float
        Estimate for all epochs; nan where the length of the stream is not known yet.
    """

    epoch: int
    n_epochs: int
    chunk: int
    rows: int
    rows_per_second: float
    queue_depth: int
    training_waits: float
    reading_waits: float
    objective: float
    seconds_left: float

    def line(self):
        """One line for a log."""
        who = "balanced"
        if max(self.training_waits, self.reading_waits) >= 0.05:
            slow = self.training_waits > self.reading_waits
            who = (
                f"training waits for reading {self.training_waits:.0%} of the time"
                if slow
                else f"reading waits for training {self.reading_waits:.0%} of the time"
            )
        objective = "" if math.isnan(self.objective) else f", objective {self.objective:.6f}"
        left = "" if math.isnan(self.seconds_left) else f", {self.seconds_left:.0f} s left"
        return (
            f"epoch {self.epoch}/{self.n_epochs}: {self.rows:,} rows, "
            f"{self.rows_per_second:,.0f} rows/s, queue {self.queue_depth}, {who}{objective}{left}"
        )


def root_task(estimator, callbacks, name, n_tasks):
    """The outermost task, for hooks of scikit-learn's protocol; of our stand-in before 1.9."""
    try:
        from sklearn.callback import CallbackContext
    except ImportError:
        from skpar._bridge import Context

        return Context(estimator, callbacks, name, 0, n_tasks, None)
    # The context takes its callbacks, and the name it shows, from an estimator.
    carrier = type(type(estimator).__name__, (), {"_skl_callbacks": callbacks})()
    return CallbackContext._from_estimator(carrier, name, 0, n_tasks, True)


class Teller:
    """Prints lines and calls callbacks; true answers of these end the stream.

    Parameters
    ----------
    estimator : object
        The one in training.
    callbacks : list
        Functions of a `Progress`, and callbacks of scikit-learn 1.9 such as ProgressBar.
    n_epochs : int
        Epochs to come.
    verbose : int
        0: no lines; 1: a line every ten seconds and one an epoch; 2: a line a chunk.
    """

    def __init__(self, estimator, callbacks, n_epochs, verbose):
        self.estimator, self.n_epochs, self.verbose = estimator, n_epochs, verbose
        own = list(callbacks or [])
        self.bridged = [c for c in own if hasattr(c, "on_fit_task_end")]
        self.bridged += [c for c in getattr(estimator, "_skl_callbacks", []) if c not in own]
        self.functions = [c for c in own if not hasattr(c, "on_fit_task_end")]
        for function in self.functions:
            if not callable(function):
                raise TypeError(
                    "callbacks must be functions of a Progress or callbacks of scikit-learn, "
                    f"got {function!r}"
                )
        self.root = self.epoch_context = None
        self.set_up = []
        self.last_line = perf_counter()

    def __enter__(self):
        if self.bridged:
            self.root = root_task(self.estimator, self.bridged, "fit_stream", self.n_epochs)
            for callback in self.bridged:
                self.set_up.append(callback)
                callback.setup(estimator=self.estimator, context=self.root)
            self.root.call_on_fit_task_begin(estimator=self.estimator)
        return self

    def __exit__(self, kind, error, traceback):
        if self.root is None:
            return
        try:
            if kind is None:
                self._ended(self.root, self.estimator.history_)
        finally:
            for callback in self.set_up:
                callback.teardown(estimator=self.estimator, context=self.root)

    def _ended(self, context, history=None):
        """End a task; `history` replaces the estimator's own, which knows one chunk."""

        def attributes():
            own = vars(copy.copy(self.estimator))
            return own if history is None else own | {"history_": history}

        return context.call_on_fit_task_end(
            estimator=self.estimator, reconstruction_attributes=attributes
        )

    def epoch_begins(self, n_parts):
        """Open an epoch's task, with a task for each part or, if there is one, each chunk."""
        self.by_part = n_parts > 1
        if self.root is not None:
            self.epoch_context = self.root.subcontext(
                "epoch", max_subtasks=n_parts if self.by_part else None
            )
            self.epoch_context.call_on_fit_task_begin(estimator=self.estimator)

    def chunk_ends(self, progress, parts_done):
        """Whether a callback wants to stop; `parts_done` parts have ended with this chunk."""
        now = perf_counter()
        if self.verbose >= 2 or (self.verbose and now - self.last_line >= LINE_SECONDS):
            print(progress.line(), flush=True)
            self.last_line = now
        stop = False
        for function in self.functions:
            stop |= bool(function(progress))
        if self.epoch_context is not None:
            for _ in range(parts_done if self.by_part else 1):
                task = self.epoch_context.subcontext("part" if self.by_part else "chunk")
                task.call_on_fit_task_begin(estimator=self.estimator)
                stop |= bool(self._ended(task))
        return stop

    def epoch_ends(self, progress, history):
        """Whether a callback wants to stop; `history` ends with this epoch."""
        validation_score = history["validation_score"][-1]
        if self.verbose:
            score = "" if math.isnan(validation_score) else f", score {validation_score:.4f}"
            print(f"{progress.line()}{score}", flush=True)
            self.last_line = perf_counter()
        return self.epoch_context is not None and bool(self._ended(self.epoch_context, history))
