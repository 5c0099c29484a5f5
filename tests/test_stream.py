"""fit_stream: what it trains, in which order, what it says, and how it fails."""

import itertools
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
import scipy.sparse as sp
from _common import ESTIMATORS, is_clf, large_problem, small_problem, workers
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import MiniBatchKMeans
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import MaxAbsScaler
from test_stream_queue import reader_threads

from skpar import HogwildClassifier, HogwildRegressor, ParallelSGDClassifier, fit_stream, sources
from skpar._source import Schema, Source
from skpar.callbacks import EarlyStopping


@pytest.fixture(autouse=True)
def no_reader_is_left():
    yield
    until = time.monotonic() + 5
    while reader_threads() and time.monotonic() < until:
        time.sleep(0.01)
    assert not reader_threads()


class Recorder(ClassifierMixin, BaseEstimator):
    """Keeps what partial_fit was given."""

    def __init__(self, random_state=None):
        self.random_state = random_state

    def partial_fit(self, X, y=None, classes=None, sample_weight=None):
        self.classes_ = classes if classes is not None else self.classes_
        self.calls_ = [*getattr(self, "calls_", []), (X, y, sample_weight, self.random_state)]
        return self

    def first_column(self):
        return np.concatenate([np.asarray(X)[:, 0] for X, *_ in self.calls_])


def numbered(n=100, d=3):
    X = np.arange(n, dtype=float)[:, None] + np.zeros(d)
    return X, np.arange(n) % 2


def recorded(source, **options):
    return fit_stream(Recorder(), source, classes=[0, 1], **options)


# What is trained.


@pytest.mark.parametrize("cls", ESTIMATORS)
@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_equals_a_loop_of_partial_fit(cls, layout):
    X, y = large_problem("binary" if is_clf(cls) else "regression", layout)
    settings = dict(random_state=0, **workers(cls, 2 if "Parallel" in cls.__name__ else 1))
    classes = dict(classes=[0, 1]) if is_clf(cls) else {}
    source = sources.arrays(X, y, chunk_rows=4000, shuffle=False)
    streamed = fit_stream(cls(**settings), source, n_epochs=2, **classes)
    by_hand = cls(**settings)
    for epoch, k in itertools.product(range(2), range(3)):
        seed = int(np.random.SeedSequence([_seed(0), epoch, k, 0]).generate_state(1)[0] >> 1)
        rows = slice(4000 * k, 4000 * (k + 1))
        by_hand.set_params(random_state=seed).partial_fit(X[rows], y[rows], **classes)
    np.testing.assert_array_equal(streamed.coef_, by_hand.coef_)
    np.testing.assert_array_equal(streamed.intercept_, by_hand.intercept_)
    assert streamed.random_state == 0


def _seed(random_state):
    return np.random.RandomState(random_state).randint(np.iinfo(np.int32).max)


@pytest.mark.parametrize("estimator", [SGDClassifier(), SGDRegressor(), GaussianNB()])
def test_trains_estimators_of_scikit_learn(estimator):
    X, y = large_problem("regression" if "Regressor" in type(estimator).__name__ else "binary")
    classes = None if "Regressor" in type(estimator).__name__ else [0, 1]
    source = sources.arrays(X, y, chunk_rows=1000)
    fit_stream(estimator, source, classes=classes, n_epochs=3, validation=(X, y), random_state=0)
    assert estimator.history_["validation_score"][-1] == pytest.approx(estimator.score(X, y))
    assert estimator.score(X, y) > (0.3 if classes is None else 0.6)


def test_trains_without_targets():
    X, _ = large_problem()
    model = MiniBatchKMeans(3, random_state=0, n_init=1)
    fit_stream(model, sources.arrays(X, chunk_rows=4000), validation=(X,))
    assert model.cluster_centers_.shape == (3, X.shape[1])
    assert math.isfinite(model.history_["validation_score"][0])


def test_reaches_the_objective_of_fit():
    X, y = large_problem()
    alpha = 1e-2
    whole = HogwildClassifier(
        loss="log_loss", alpha=alpha, max_iter=50, tol=None, random_state=0
    ).fit(X, y)
    model = HogwildClassifier(loss="log_loss", alpha=alpha)
    source = sources.arrays(X, y, chunk_rows=3000)
    fit_stream(model, source, classes=[0, 1], n_epochs=50, random_state=0)
    reached = model.history_["objective"][-1]
    assert reached == pytest.approx(whole.history_["objective"][-1], rel=1e-2)


def test_sample_weights_and_classes_arrive():
    X, y = numbered()
    weights = np.linspace(1, 2, 100)
    got = recorded(sources.arrays(X, y, weights, chunk_rows=30, shuffle=False)).calls_
    assert np.array_equal(np.concatenate([w for *_, w, _ in got]), weights)
    assert np.array_equal(np.concatenate([y for _, y, *_ in got]), y)


def test_goes_on_from_a_fitted_estimator():
    X, y = large_problem()
    model = ParallelSGDClassifier(random_state=0).partial_fit(X, y, classes=[0, 1])
    t = model.t_
    assert fit_stream(model, sources.arrays(X, y)).t_ == t + len(y)


def test_a_transform_runs_in_the_readers():
    names = set()

    class Spy(MaxAbsScaler):
        def transform(self, X):
            names.add(threading.current_thread().name)
            return super().transform(X)

    X, y = large_problem()
    spy = Spy().fit(X)
    model = HogwildRegressor(random_state=0)
    fit_stream(model, sources.arrays(X, y), transform=spy, validation=(X, y))
    assert model.history_["validation_score"][0] == pytest.approx(model.score(spy.transform(X), y))
    assert any(name.startswith("skpar-reader") for name in names)


def test_texts_go_in_directly():
    texts = ["good fine nice", "bad poor awful", "nice good", "awful bad"] * 50
    labels = np.array(["+", "-"] * 100)
    source = sources.arrays(texts, labels, chunk_rows=20)
    hashing = HashingVectorizer(n_features=2**10)
    model = fit_stream(SGDClassifier(), source, classes=["-", "+"], transform=hashing)
    assert model.score(hashing.transform(texts), labels) == 1.0


# Order.


def test_one_reader_keeps_the_order():
    X, y = numbered()
    source = sources.arrays(X, y, chunk_rows=7, shuffle=False)
    assert np.array_equal(recorded(source).first_column(), X[:, 0])


@pytest.mark.parametrize("shuffle", [True, "chunks", "rows", False])
def test_shuffles_what_was_asked_for(shuffle):
    X, y = numbered(1000)
    source = sources.arrays(X, y, chunk_rows=50, shuffle=shuffle)
    model = recorded(source, n_epochs=2, random_state=0)
    first, second = np.split(model.first_column(), 2)
    assert np.array_equal(np.sort(first), X[:, 0]) and np.array_equal(np.sort(second), X[:, 0])
    assert np.array_equal(first, second) == (shuffle is False)
    heads = np.array([X[:, 0].min() for X, *_ in model.calls_[:20]])
    assert np.array_equal(heads, np.sort(heads)) == (shuffle in (False, "rows"))
    within = [np.all(np.diff(X[:, 0]) == 1) for X, *_ in model.calls_]
    assert all(within) == (shuffle in (False, "chunks"))
    for X_, y_, *_ in model.calls_:
        assert np.array_equal(X_[:, 0] % 2, y_)


@pytest.mark.parametrize("shuffle", [True, False])
def test_several_readers_deliver_in_the_order_of_the_seed(shuffle):
    X, y = numbered(1000)

    def jittered(X, y, w):
        time.sleep(1e-3 * (X[0, 0] % 3))
        return X, y

    source = sources.arrays(X, y, chunk_rows=20, shuffle=shuffle).map(jittered)
    orders = [
        recorded(source, n_readers=n, prefetch=p, random_state=1, n_epochs=2).first_column()
        for n, p in [(1, 8), (2, 1), (4, 3)]
    ]
    assert all(np.array_equal(order, orders[0]) for order in orders)
    other = recorded(source, random_state=2, n_epochs=2).first_column()
    assert np.array_equal(other, orders[0]) == (not shuffle)


def test_the_seed_of_the_estimator_serves():
    X, y = numbered(1000)
    source = sources.arrays(X, y, chunk_rows=20)
    a, b = (fit_stream(Recorder(random_state=3), source, classes=[0, 1], n_readers=3) for _ in "ab")
    assert np.array_equal(a.first_column(), b.first_column())
    seeds = [seed for *_, seed in a.calls_]
    assert len(set(seeds)) == len(seeds)
    assert a.random_state == 3


def test_memory_holds_few_chunks():
    """With prefetch 2 and 2 readers: 2 wait, 2 are being read, 1 is in training."""
    alive, most = [0], [0]
    lock = threading.Lock()

    class Chunk(np.ndarray):
        def __del__(self):
            if self.base is None:
                with lock:
                    alive[0] -= 1

    def one(X, y, w):
        with lock:
            alive[0] += 1
            most[0] = max(most[0], alive[0])
        chunk = Chunk(X.shape)
        chunk[:] = X
        return chunk, y

    class Slow(Recorder):
        def partial_fit(self, X, y, classes=None):
            time.sleep(2e-3)
            return self

    X, y = numbered(1000)
    source = sources.arrays(X, y, chunk_rows=10).map(one)
    fit_stream(Slow(), source, classes=[0, 1], prefetch=2, n_readers=2)
    # One more: a reader's last chunk lives until the next one replaces it.
    assert 3 <= most[0] <= 2 + 2 + 1 + 2


# Scores and stopping.


class Scripted(ClassifierMixin, BaseEstimator):
    """Right in a given share of the rows after each epoch."""

    def __init__(self, scores=()):
        self.scores = scores

    def partial_fit(self, X, y, classes=None):
        self.epoch_ = getattr(self, "epoch_", -1) + 1
        return self

    def predict(self, X):
        return (np.arange(len(X)) >= self.scores[self.epoch_] * len(X)).astype(int)


def test_early_stopping_gives_the_best_weights():
    X, y = np.zeros((100, 1)), np.zeros(100)
    scores = [0.5, 0.7, 0.9, 0.8, 0.85, 0.9, 0.95]
    source = sources.arrays(X, y)
    model = fit_stream(
        Scripted(scores),
        source,
        classes=[0, 1],
        n_epochs=7,
        validation=(X, y),
        early_stopping=True,
        n_iter_no_change=3,
    )
    assert model.history_["validation_score"].tolist() == pytest.approx(scores[:6])
    assert model.epoch_ == 2
    plain = fit_stream(Scripted(scores), source, classes=[0, 1], n_epochs=7, validation=(X, y))
    assert plain.epoch_ == 6


def test_validation_scores_are_those_of_all_rows():
    X, y = large_problem("regression")
    y = y + 1000
    weights = np.random.default_rng(0).random(len(y))
    model = HogwildRegressor(random_state=0)
    held = sources.arrays(X, y, weights, chunk_rows=700)
    fit_stream(model, sources.arrays(X, y, chunk_rows=2000), validation=held, n_readers=2)
    assert model.history_["validation_score"][0] == pytest.approx(model.score(X, y, weights))
    X, y = large_problem("multiclass")
    model = HogwildClassifier(random_state=0)
    held = sources.arrays(X, y, weights, chunk_rows=700)
    fit_stream(model, sources.arrays(X, y), classes=range(4), validation=held)
    assert model.history_["validation_score"][0] == pytest.approx(model.score(X, y, weights))


def test_history_has_an_entry_an_epoch():
    X, y = large_problem()
    model = fit_stream(
        HogwildClassifier(), sources.arrays(X, y, chunk_rows=5000), classes=[0, 1], n_epochs=4
    )
    history = model.history_
    assert {len(v) for v in history.values()} == {4}
    assert history["samples"].tolist() == [len(y) * k for k in (1, 2, 3, 4)]
    assert np.all(np.diff(history["time"]) > 0) and np.all(np.isfinite(history["objective"]))
    shares = np.concatenate([history["training_waits"], history["reading_waits"]])
    assert np.all((shares >= 0) & (shares <= 1))


# What it says.


def test_lines_tell_who_waits(capsys):
    X, y = numbered(300)

    def slow(X, y, w):
        time.sleep(0.02)
        return X, y

    source = sources.arrays(X, y, chunk_rows=100)
    recorded(source.map(slow), n_epochs=2, verbose=1, validation=None)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all("300 rows" in line and "training waits for reading" in line for line in lines)
    recorded(source, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and "queue" in lines[0]
    recorded(source)
    assert capsys.readouterr().out == ""


def test_functions_get_progress_and_may_stop():
    X, y = numbered(300)
    seen = []

    def watch(progress):
        seen.append(progress)
        return progress.rows >= 200

    model = recorded(sources.arrays(X, y, chunk_rows=100), n_epochs=3, callbacks=[watch])
    assert [p.rows for p in seen] == [100, 200] and len(model.calls_) == 2
    assert seen[0].epoch == 1 and seen[0].n_epochs == 3 and seen[0].seconds_left > 0


@pytest.mark.parametrize("kind", ["rows", "parts", "nothing"])
def test_the_time_that_is_left(kind):
    """From the rows, from the parts, or from the epochs before, as far as they are known."""

    class Slow(Recorder):
        def partial_fit(self, X, y, classes=None):
            time.sleep(0.01)
            return self

    X, y = numbered(300)
    rows = sources.arrays(X, y, chunk_rows=100)
    chunks = list(rows)
    source = {"rows": rows, "parts": rows.map(lambda *chunk: chunk), "nothing": chunks}[kind]
    seen = []
    fit_stream(Slow(), source, classes=[0, 1], n_epochs=3, callbacks=[seen.append])
    left = [p.seconds_left for p in seen]
    unknown = {"rows": 0, "parts": 1, "nothing": 3}[kind]
    assert [math.isnan(x) for x in left] == [k < unknown for k in range(9)]
    known = [x for x in left if not math.isnan(x)]
    assert min(known) >= 0 and known[-1] < 0.05


@pytest.mark.parametrize("given", ["to the stream", "to the estimator"])
def test_our_own_early_stopping(given):
    X, y = np.zeros((100, 1)), np.zeros(100)
    stop = EarlyStopping(patience=2)
    model = Scripted([0.5, 0.7, 0.6, 0.7, 0.9])
    if given == "to the estimator":
        model._skl_callbacks = [stop]
    fit_stream(
        model,
        sources.arrays(X, y),
        classes=[0, 1],
        n_epochs=5,
        validation=(X, y),
        callbacks=[stop] if given == "to the stream" else None,
    )
    assert model.epoch_ == 3 and stop.stopped_epoch_ == 4


def test_scikit_learns_callbacks():

    class Log:
        def __init__(self, stop_after=math.inf):
            self.events, self.stop_after = [], stop_after

        def setup(self, estimator, context):
            self.events.append("setup")

        def teardown(self, estimator, context):
            self.events.append("teardown")

        def on_fit_task_begin(self, estimator, context):
            self.events.append(("begin", context.task_name, context.task_id))

        def on_fit_task_end(self, estimator, context, *, fitted_estimator):
            self.events.append(("end", context.task_name, context.task_id))
            assert fitted_estimator.classes_.tolist() == [0, 1]
            return context.task_name == "part" and context.task_id + 1 >= self.stop_after

    X, y = numbered(300)
    source = sources.arrays(X, y, chunk_rows=100)
    log = Log()
    recorded(source, n_epochs=2, callbacks=[log])
    assert log.events[:2] == ["setup", ("begin", "fit_stream", 0)]
    assert log.events[-2:] == [("end", "fit_stream", 0), "teardown"]
    assert [e for e in log.events if e[:2] == ("end", "epoch")] == [
        ("end", "epoch", k) for k in (0, 1)
    ]
    stopping = Log(stop_after=1)
    assert len(recorded(source, n_epochs=2, callbacks=[stopping]).calls_) < 4

    def broken(progress):
        raise OSError("no")

    log = Log()
    with pytest.raises(OSError):
        recorded(source, callbacks=[log, broken])
    assert log.events[-1] == "teardown"


def test_progress_bar_of_scikit_learn():
    callback = pytest.importorskip("sklearn.callback")
    pytest.importorskip("rich")
    X, y = numbered(300)
    model = recorded(sources.arrays(X, y, chunk_rows=100), callbacks=[callback.ProgressBar()])
    assert len(model.calls_) == 3


# How it fails.


def chunks_with(bad, at=2):
    """A factory of chunks, one of which is bad."""

    def chunks():
        for k in range(5):
            if k == at:
                yield bad()
            else:
                yield np.zeros((4, 3)), np.zeros(4)

    return chunks


def raises():
    raise OSError("the disk is gone")


BAD = {
    "raises": (raises, OSError, "the disk is gone"),
    "ragged": (lambda: ([[1, 2, 3], [4, 5]], [0, 1]), ValueError, "inhomogeneous"),
    "columns": (lambda: (np.zeros((4, 2)), np.zeros(4)), ValueError, "2 columns"),
    "unknown class": (lambda: (np.zeros((4, 3)), np.full(4, 7)), ValueError, "7"),
    "lengths": (lambda: (np.zeros((4, 3)), np.zeros(5)), ValueError, "X has 4 rows and y has 5"),
    "not a matrix": (lambda: (np.zeros(4), np.zeros(4)), ValueError, "not 2"),
    "a tuple of four": (lambda: (1, 2, 3, 4), ValueError, "tuple of 4"),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("estimator", [HogwildClassifier(), SGDClassifier()])
def test_a_bad_chunk_is_named(bad, estimator):
    make, kind, words = BAD[bad]
    with pytest.raises(kind, match=words) as caught:
        fit_stream(estimator, chunks_with(make), classes=[0, 1], prefetch=2)
    said = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "chunk 2 of the iterable" in said


def test_an_error_keeps_its_traceback():
    with pytest.raises(OSError) as caught:
        fit_stream(SGDClassifier(), chunks_with(raises), classes=[0, 1])
    assert caught.traceback[-1].name == "raises"


def test_an_error_in_a_transform_or_in_training_is_named():
    X, y = numbered()

    class Breaks(MaxAbsScaler):
        def transform(self, X):
            if X[0, 0] == 50:
                raise KeyError("transform")
            return X

    source = sources.arrays(X, y, chunk_rows=25, shuffle=False)
    with pytest.raises(KeyError, match="reading chunk 0 of rows 50 to 75"):
        recorded(source, transform=Breaks(), n_readers=2)

    class Chokes(Recorder):
        def partial_fit(self, X, y, classes=None):
            if X[0, 0] == 50:
                raise FloatingPointError("training")

    with pytest.raises(FloatingPointError, match="training on chunk 0 of rows 50 to 75"):
        fit_stream(Chokes(), source, classes=[0, 1], n_readers=3)


class Stalls(Source):
    """Gives two chunks and then waits until it is closed."""

    def __init__(self):
        super().__init__(4, False)
        self.woken = threading.Event()

    schema = Schema()

    def parts(self):
        return ["the sensor"]

    def read(self, part):
        for _ in range(2):
            yield np.zeros((4, 3)), np.zeros(4), None
        self.woken.wait()

    def close(self):
        self.woken.set()


def test_a_stall_is_named():
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match="chunk 2 of the sensor"):
        recorded(Stalls(), timeout=0.3)
    assert time.monotonic() - begin < 10


def test_a_stall_that_cannot_be_woken_does_not_keep_the_caller():
    wake = threading.Event()

    def chunks():
        yield np.zeros((4, 3)), np.zeros(4)
        wake.wait()

    try:
        with pytest.raises(TimeoutError, match="chunk 1 of the iterable"):
            recorded(chunks, timeout=0.2)
    finally:
        wake.set()  # its thread ends now: the fixture checks


def test_a_stop_while_a_source_is_stuck_is_told(monkeypatch):
    monkeypatch.setattr("skpar._queue.GRACE_SECONDS", 0.1)
    wake = threading.Event()

    def chunks():
        yield np.zeros((4, 3)), np.zeros(4)
        wake.wait()

    try:
        with pytest.warns(RuntimeWarning, match="chunk 1 of the iterable"):
            recorded(chunks, callbacks=[lambda progress: True])
    finally:
        wake.set()


def test_a_slow_source_is_not_a_stall():
    def chunks():
        for _ in range(4):
            time.sleep(0.15)
            yield np.zeros((4, 3)), np.zeros(4)

    assert len(recorded(chunks, timeout=5).calls_) == 4


@pytest.mark.skipif(os.name == "nt", reason="needs SIGINT")
@pytest.mark.parametrize("where", ["reading", "training"])
def test_ctrl_c_ends_a_stream(where):
    script = f"""
        import signal, threading, time
        import numpy as np
        from sklearn.base import BaseEstimator, ClassifierMixin
        from skpar import fit_stream
        # Shells start background jobs with Ctrl-C ignored, and children inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        class Slow(ClassifierMixin, BaseEstimator):
            def partial_fit(self, X, y, classes=None):
                print("go", flush=True)
                time.sleep(60 if {where == "training"} else 0)
        def chunks():
            while True:
                yield np.zeros((4, 3)), np.zeros(4)
                if {where == "reading"}:
                    time.sleep(1)
        try:
            fit_stream(Slow(), chunks, classes=[0, 1])
        except KeyboardInterrupt:
            names = [t.name for t in threading.enumerate() if "reader" in t.name]
            print("stopped", names, flush=True)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "go\n"
    time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    rest, _ = child.communicate(timeout=30)
    assert rest.endswith("stopped []\n") and child.returncode == 0


def test_wrong_parameters_are_named():
    X, y = numbered()
    source = sources.arrays(X, y)
    for name, value in [("n_epochs", 0), ("prefetch", 0), ("n_readers", 1.5), ("timeout", -1)]:
        with pytest.raises(ValueError, match=name):
            recorded(source, **{name: value})
    with pytest.raises(ValueError, match="classes must be given"):
        fit_stream(SGDClassifier(), source)
    with pytest.raises(ValueError, match="classes were given"):
        fit_stream(SGDRegressor(), source, classes=[0, 1])
    with pytest.raises(ValueError, match="needs validation"):
        recorded(source, early_stopping=True)
    with pytest.raises(TypeError, match="no partial_fit"):
        fit_stream(MaxAbsScaler.__mro__[-1](), source)
    with pytest.raises(ValueError, match="no rows"):
        recorded(sources.arrays(X[:0], y[:0]))
    with pytest.raises(TypeError, match="iterable of"):
        recorded(7)
    with pytest.raises(TypeError, match="callbacks"):
        recorded(source, callbacks=["bar"])
    with pytest.raises(ValueError, match="checkpoint_every"):
        recorded(source, checkpoint_every="often")


def test_a_source_of_ones_own():
    class Sensors(Source):
        schema = Schema()

        def parts(self):
            return ["north", "south"]

        def read(self, part):
            return [(np.full((2, 3), float(part == "south")), np.zeros(2))]

    source = Sensors(2, shuffle=False)
    assert recorded(source).first_column().tolist() == [0, 0, 1, 1]
    assert [len(y) for _, y, _ in source.map(lambda X, y, w: (X, y))] == [2, 2]


def test_an_iterator_serves_one_epoch():
    X, y = small_problem()
    with pytest.raises(ValueError, match="read only once"):
        fit_stream(SGDClassifier(), iter([(X, y)]), classes=["no", "yes"], n_epochs=2)
    fit_stream(SGDClassifier(), [(X, y), (sp.csr_matrix(X), y)], classes=["no", "yes"], n_epochs=2)


PEAK = """
    import sys
    import numpy as np
    from skpar import HogwildRegressor, fit_stream, sources
    kind, path = sys.argv[1:]
    if kind == "memmap":
        X = np.load(path, mmap_mode="r")
        source = sources.arrays(X, X[:, 0], chunk_rows=20_000)
    elif kind == "iterable":
        X = np.load(path, mmap_mode="r")
        spans = range(0, len(X), 20_000)
        source = sources.iterable(
            lambda: ((np.array(np.load(path, mmap_mode="r")[k : k + 20_000]), np.ones(20_000)) for k in spans)
        )
        del X
    else:
        source = sources.parquet(path, target="x0", chunk_rows=20_000)
    fit_stream(HogwildRegressor(eta0=1e-4), source, n_epochs=2, n_readers=2, prefetch=3)
    # Not getrusage: that counts the parent's memory before exec.
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["memmap", "iterable", "parquet"])
def test_peak_memory_does_not_grow_with_the_source(kind, tmp_path):
    peaks = []
    for n in (100_000, 800_000):
        X = np.random.default_rng(0).normal(size=(n, 50)).astype(np.float32)
        path = tmp_path / f"{n}.npy"
        if kind == "parquet":
            pa = pytest.importorskip("pyarrow")
            from pyarrow import parquet

            table = pa.table({f"x{k}": column for k, column in enumerate(X.T)})
            parquet.write_table(table, path, row_group_size=50_000)
        else:
            np.save(path, X)
        command = [sys.executable, "-c", textwrap.dedent(PEAK), kind, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.split()[1]) / 1024)
    # The larger is 140 MB larger; pools of memory differ by some from run to run.
    assert peaks[1] - peaks[0] < 60
