"""The run of a stream: epochs of chunks through the queue, scores, checkpoints."""

import math
from contextlib import closing
from dataclasses import asdict
from time import perf_counter

import numpy as np

from skpar import _checkpoint
from skpar._chunks import n_rows_of, permuted
from skpar._links import check_targets
from skpar._queue import END, ChunkQueue, Readers
from skpar._state import get_state, set_state
from skpar._stream_progress import Progress
from skpar._stream_records import Item, Place, arrays_of, checked
from skpar._stream_score import deviance_of, score_chunks


class Run:
    """An estimator, a source, and what was asked for.

    Parameters
    ----------
    estimator : object with `partial_fit`
        Trained in place.
    source : Source
        Its rows, transformed.
    validation : Source or None
        Rows to score on.
    options : Options
        The rest.
    teller : Teller
        Who is told.
    """

    def __init__(self, estimator, source, validation, options, teller):
        self.estimator, self.source, self.validation = estimator, source, validation
        self.options, self.teller = options, teller
        self.place, self.best, self.saved = Place(), None, False
        self.halted = False  # by a callback; a later run goes on from here
        self.fitted = hasattr(estimator, "classes_") or hasattr(estimator, "n_features_in_")
        self.n_features = getattr(estimator, "n_features_in_", None)

    # -- checkpoints ------------------------------------------------------------------------

    def save(self, identity):
        """Write all of the run; see `load`."""
        arrays, meta = get_state(self.estimator)
        best_arrays, best_meta = self.best or ({}, None)
        _checkpoint.save(
            self.options.checkpoint,
            {"now": arrays, "best": best_arrays},
            {"identity": identity, "place": asdict(self.place), "now": meta, "best": best_meta},
        )
        self.options.clock.restart()
        self.saved = True

    def load(self, groups, meta):
        """Go on where a checkpoint was written."""
        set_state(self.estimator, groups.get("now", {}), meta["now"])
        if meta["best"] is not None:
            self.best = groups.get("best", {}), meta["best"]
        self.place = Place(**meta["place"])
        self.place.stopped &= self.options.early_stopping
        self.fitted = self.place.samples > 0
        self.n_features = getattr(self.estimator, "n_features_in_", None)

    # -- training ---------------------------------------------------------------------------

    def run(self, identity=None):
        """All epochs that are left; the best weights at the end, with early stopping."""
        place = self.place
        history = place.history
        while place.epoch < self.options.n_epochs and not place.stopped and not self.halted:
            history = self._epoch(identity)
            if identity is not None:
                self.save(identity)
        if self.options.early_stopping and self.best is not None:
            set_state(self.estimator, *self.best)
        self.estimator.history_ = arrays_of(history)

    def _order(self, epoch):
        """The parts of an epoch, the same whenever it is asked for."""
        parts = self.source.parts()
        if self.source.shuffle in (True, "chunks") and len(parts) > 1:
            order = np.random.default_rng([self.options.seed, epoch]).permutation(len(parts))
            parts = [parts[k] for k in order]
        return parts

    def _prepare(self, first, skip, epoch):
        """What readers do to each chunk: leave out those trained before, check, shuffle."""
        shuffle = self.source.shuffle in (True, "rows")
        classes, seed = self.options.classes, self.options.seed
        deviance = deviance_of(self.estimator)

        def prepare(position, number, label, chunk):
            if position == 0 and number < skip:
                return None
            X, y, sample_weight = checked(*chunk, classes)
            if deviance is not None:  # here, where rows still have their numbers
                check_targets(deviance, np.asarray(y, dtype=np.float64))
            part = first + position
            if shuffle:
                rng = np.random.default_rng([seed, epoch, part, number])
                order = rng.permutation(n_rows_of(X))
                X, y, sample_weight = permuted((X, y, sample_weight), order)
            return Item(part, number, label, X, y, sample_weight)

        return prepare

    def _epoch(self, identity):
        """Train an epoch, or what is left of it; the history with it."""
        place, options = self.place, self.options
        parts = self._order(place.epoch)
        first, skip = place.part, place.chunk
        left = parts[first:]
        n_readers = max(1, min(options.n_readers, len(left)))
        queue = ChunkQueue(len(left), options.prefetch, n_readers, ordered=options.ordered)
        prepare = self._prepare(first, skip, place.epoch)
        self.teller.epoch_begins(len(parts))
        self._begin, self._before = perf_counter(), place.seconds
        with Readers(self.source, left, queue, prepare, n_readers):
            while not self.halted and (item := queue.get(options.timeout)) is not END:
                self._train(item)
                place.seconds = self._before + perf_counter() - self._begin
                done = item.part - place.part
                # Without an order a part may come after later ones; nobody resumes there.
                place.part, place.chunk = max(place.part, item.part), item.number + 1
                self.halted = self.teller.chunk_ends(self._progress(queue, parts), done)
                if identity is not None and (options.clock.due() or not self.saved):
                    self.save(identity)  # at once the first time: it may be refused
        if place.chunks == 0:
            raise ValueError("the source has no rows: no chunk came in an epoch")
        unfinished = self.halted
        entry = self._entry(self._progress(queue, parts, ended=True))
        if unfinished:
            return [*place.history, entry]
        self._end_epoch(entry)
        return place.history

    def _train(self, item):
        place, options, X = self.place, self.options, item.X
        what = f"chunk {item.number} of {item.label}"
        if self.n_features is None:
            self.n_features = X.shape[1]
        if X.shape[1] != self.n_features:
            raise ValueError(
                f"{what} has {X.shape[1]} columns, where those before had {self.n_features}"
            )
        arguments = {}
        if options.classes is not None and not self.fitted:
            arguments["classes"] = options.classes
        if item.sample_weight is not None:
            arguments["sample_weight"] = item.sample_weight
        if options.seeds_estimator:
            where = [options.seed, place.epoch, item.part, item.number]
            seed = int(np.random.SeedSequence(where).generate_state(1)[0] >> 1)
            self.estimator.set_params(random_state=seed)
        targets = () if item.y is None else (item.y,)
        try:
            self.estimator.partial_fit(X, *targets, **arguments)
        except Exception as error:
            error.add_note(f"while training on {what}")
            raise
        self.fitted = True
        n = n_rows_of(X)
        place.chunks += 1
        place.rows += n
        place.samples += n
        place.objective_sum += n * self._last("objective")

    def _last(self, key):
        """The latest entry of the estimator's own history; nan where it keeps none."""
        history = getattr(self.estimator, "history_", None)
        entries = history.get(key, ()) if isinstance(history, dict) else ()
        return float(entries[-1]) if len(entries) else math.nan

    # -- telling ----------------------------------------------------------------------------

    def _progress(self, queue, parts, ended=False):
        place, options = self.place, self.options
        seconds = perf_counter() - self._begin
        return Progress(
            epoch=place.epoch + 1,
            n_epochs=options.n_epochs,
            chunk=place.chunks,
            rows=place.rows,
            rows_per_second=place.rows / max(place.seconds, 1e-9),
            queue_depth=queue.depth,
            training_waits=queue.get_seconds / max(seconds, 1e-9),
            reading_waits=queue.put_seconds / max(seconds * options.n_readers, 1e-9),
            objective=place.objective_sum / max(place.rows, 1),
            seconds_left=self._seconds_left(1.0 if ended else self._share(parts)),
        )

    def _share(self, parts):
        """How much of the epoch is done; 0 where nothing tells."""
        place, history = self.place, self.place.history
        rows = history[0]["samples"] if history else self.source.schema.n_rows
        if rows is not None:
            return min(1.0, place.rows / max(rows, 1))
        return place.part / len(parts) if len(parts) > 1 else 0.0

    def _seconds_left(self, share):
        place, history = self.place, self.place.history
        if share == 1.0 or not history:
            an_epoch = place.seconds / share if share else math.nan
        else:  # the last one: a cache makes the first slower than the others
            an_epoch = history[-1]["time"] - (history[-2]["time"] if len(history) > 1 else 0.0)
        return an_epoch * (self.options.n_epochs - place.epoch - share)

    def _entry(self, progress):
        """The history's entry of an epoch, scored."""
        place = self.place
        score = math.nan if self.validation is None else self._score()
        entry = {
            "epoch": place.epoch + 1,
            "samples": place.samples,
            "time": place.total_seconds + place.seconds,
            "objective": progress.objective,
            "validation_score": score,
            "step_size": self._last("step_size"),
            "rows_per_second": progress.rows_per_second,
            "training_waits": progress.training_waits,
            "reading_waits": progress.reading_waits,
        }
        self.halted |= self.teller.epoch_ends(progress, arrays_of([*place.history, entry]))
        return entry

    def _end_epoch(self, entry):
        place = self.place
        place.history.append(entry)
        if self.options.early_stopping:
            self._judge(entry["validation_score"])
        place.epoch += 1
        place.total_seconds = entry["time"]
        place.part = place.chunk = place.chunks = place.rows = 0
        place.objective_sum = place.seconds = 0.0

    def _judge(self, score):
        """Keep the best weights; stop after n_iter_no_change epochs of less gain than tol."""
        place = self.place
        if score > place.best_score:
            place.best_score, self.best = score, get_state(self.estimator)
        place.no_gain = 0 if score > place.rule_score + self.options.tol else place.no_gain + 1
        place.rule_score = max(place.rule_score, score)
        place.stopped |= place.no_gain >= self.options.n_iter_no_change

    def _score(self):
        options, parts = self.options, self.validation.parts()

        def prepare(position, number, label, chunk):
            return Item(position, number, label, *checked(*chunk, None))

        queue = ChunkQueue(len(parts), options.prefetch, options.n_readers, ordered=True)

        def chunks():
            with Readers(self.validation, parts, queue, prepare, options.n_readers):
                while (item := queue.get(options.timeout)) is not END:
                    yield item.X, item.y, item.sample_weight

        with closing(chunks()) as scored:
            return score_chunks(self.estimator, scored)
