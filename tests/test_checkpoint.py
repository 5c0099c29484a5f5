"""Checkpoints: the same bits after any interruption, nothing executed, never half a file."""

import json
import os
import pickle
import random
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.sparse as sp
from _common import ESTIMATORS, is_clf, large_problem, workers
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import OneHotEncoder

from skpar import HogwildClassifier, ParallelSGDClassifier, _checkpoint, fit_stream, sources
from skpar._schemes import Weights
from skpar._state import described, get_state, set_state


def roundtrip(estimator, tmp_path):
    """A fresh estimator with the state of another, by way of a file."""
    arrays, meta = get_state(estimator)
    _checkpoint.save(tmp_path / "state", {"now": arrays}, {"meta": meta})
    groups, read = _checkpoint.load(tmp_path / "state")
    fresh = type(estimator)(**estimator.get_params())
    set_state(fresh, groups.get("now", {}), read["meta"])
    return fresh


def assert_same(a, b):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif sp.issparse(a):
        assert a.shape == b.shape and (a != b).nnz == 0
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, Weights):
        assert_same(vars(a), vars(b))
    elif isinstance(a, (np.random.RandomState, np.random.Generator)):
        np.testing.assert_array_equal(a.normal(size=5), b.normal(size=5))
    else:
        assert a == b


# The state of an estimator.


class Holder:
    """Anything may be its state."""

    def get_params(self, deep=False):
        return {}


STATES = {
    "numbers": (1, 2.5, True, None, "text", float("inf"), 10**30),
    "numpy": (np.float32(0.1), np.int64(3), np.bool_(True), np.array(4.0)),
    "arrays": [np.arange(6.0).reshape(2, 3), np.zeros((0, 3), np.float32), np.array(["a", "bc"])],
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "objects": np.array(["a", "b", None], dtype=object),
    "sparse": sp.random(5, 4, 0.5, format="csr", random_state=0),
    "nested": {"a": [1, {"b": np.ones(2)}], 3: (np.zeros(1),), "~": {"name": "x"}},
    "sets": {"s": {1, 2}, "f": frozenset("ab")},
    "record": Weights(np.ones(3, np.float32), 0.5, None, 0.25, 7.0),
    "random": np.random.default_rng(3),
    "old random": np.random.RandomState(3),
    "several random": [np.random.RandomState(k) for k in range(5)],
}


@pytest.mark.parametrize("kind", STATES)
def test_every_kind_of_state_comes_back(kind, tmp_path):
    held = Holder()
    held.value_ = STATES[kind]
    fresh = Holder()
    arrays, meta = get_state(held)
    assert all(not a.dtype.hasobject for a in arrays.values())
    _checkpoint.save(tmp_path / "state", {"now": arrays}, {"meta": meta})
    groups, read = _checkpoint.load(tmp_path / "state")
    set_state(fresh, groups.get("now", {}), read["meta"])
    assert_same(fresh.value_, held.value_)


@dataclass
class Foreign:
    x: int = 0


@pytest.mark.parametrize(
    "value",
    [object(), len, Foreign(), OneHotEncoder(), np.array([object()])],
    ids=lambda v: type(v).__name__,
)
def test_what_would_need_code_is_refused(value):
    held = Holder()
    held.value_ = [value]
    with pytest.raises(TypeError, match="value_"):
        get_state(held)


def test_the_state_is_a_copy():
    X, y = large_problem()
    model = HogwildClassifier().partial_fit(X, y, classes=[0, 1])
    arrays, _ = get_state(model)
    before = arrays["coef_"].copy()
    model.coef_ += 1
    np.testing.assert_array_equal(arrays["coef_"], before)


@pytest.mark.parametrize("average", [False, True, 100])
@pytest.mark.parametrize("cls", [*ESTIMATORS, SGDClassifier, SGDRegressor])
def test_an_estimator_goes_on_from_its_state(cls, average, tmp_path):
    X, y = large_problem("multiclass" if is_clf(cls) else "regression")
    classes = dict(classes=np.unique(y)) if is_clf(cls) else {}
    parallel = workers(cls, 2) if cls in ESTIMATORS and "Parallel" in cls.__name__ else {}
    model = cls(random_state=0, average=average, **parallel).partial_fit(X, y, **classes)
    fresh = roundtrip(model, tmp_path)
    for m in (model, fresh):
        m.partial_fit(X[::-1].copy(), y[::-1])
    for name in ("coef_", "intercept_", "t_"):
        np.testing.assert_array_equal(getattr(model, name), getattr(fresh, name))
    np.testing.assert_array_equal(model.predict(X), fresh.predict(X))


def test_shared_memory_stays_shared():
    # scikit-learn's averaged SGD writes through one attribute and reads another.
    a = np.arange(6.0)
    held, fresh = Holder(), Holder()
    held.a_, held.same_, held.row_, held.other_ = a, a, a.reshape(1, 6), a.copy()
    set_state(fresh, *get_state(held))
    fresh.a_[0] = 9
    assert fresh.same_[0] == fresh.row_[0, 0] == 9 and fresh.other_[0] == 0
    assert a[0] == 0


def test_descriptions_tell_apart():
    X = np.array([["a"], ["b"]], dtype=object)
    one, same = OneHotEncoder().fit(X), OneHotEncoder().fit(X)
    other = OneHotEncoder().fit(X[:1])
    assert described(one) == described(same) is not None
    assert described(one) != described(other) != described(OneHotEncoder())
    assert described(len) is None


# The file.


class Bomb:
    def __reduce__(self):
        return os.system, ("touch /tmp/skpar-was-here",)


def test_loading_executes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "bomb"
    fired = []
    monkeypatch.setattr(os, "system", fired.append)
    with open(path, "wb") as file:
        np.savez(file, meta=np.array([Bomb()], dtype=object))
    with pytest.raises(_checkpoint.CheckpointError, match="not a checkpoint"):
        _checkpoint.load(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(_checkpoint.CheckpointError, match="not a checkpoint"):
        _checkpoint.load(path)
    for kind in ("os:system", "skpar._cache:Path", "skpar._nothing:Weights", "subprocess:Popen"):
        meta = {"value_": {"~": "dataclass", "kind": kind, "fields": {}}}
        with pytest.raises(ValueError, match="unknown kind of record"):
            set_state(Holder(), {}, meta)
    assert fired == []


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "state"
    _checkpoint.save(path, {"now": {"w": np.ones(1000)}}, {"a": 1})
    whole = path.read_bytes()
    for cut in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(_checkpoint.CheckpointError, match=str(path)):
            _checkpoint.load(path)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(_checkpoint.CheckpointError, match=str(path)):
        _checkpoint.load(path)
    _checkpoint.save(path, {}, {})
    text = json.dumps({"format": 999}).encode()
    with open(path, "wb") as file:
        np.savez(file, meta=np.frombuffer(text, np.uint8))
    with pytest.raises(_checkpoint.CheckpointError, match="format 999"):
        _checkpoint.load(path)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_the_old_file_outlives_a_failure(tmp_path, monkeypatch, step):
    path = tmp_path / "state"
    _checkpoint.save(path, {}, {"number": 1})

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="disk full"):
        _checkpoint.save(path, {}, {"number": 2})
    monkeypatch.undo()
    assert _checkpoint.load(path)[1]["number"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_bytes_reach_the_disk_before_the_name(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda f: (events.append("fsync"), fsync(f)))
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append("replace"), replace(a, b)))
    _checkpoint.save(tmp_path / "state", {}, {})
    assert events[:2] == ["fsync", "replace"]
    assert events[2:] == ([] if os.name == "nt" else ["fsync"])  # the folder


@pytest.mark.parametrize(
    "every", ["", "5", "s", "-1 s", "0 chunks", "1 year", 60, None, "1.2.3 s", "nan s"]
)
def test_wrong_clocks(every):
    with pytest.raises(ValueError, match="checkpoint_every"):
        _checkpoint.Clock(every)


def test_clocks():
    chunks = _checkpoint.Clock("3 chunks")
    assert [chunks.due() for _ in range(3)] == [False, False, True]
    seconds = _checkpoint.Clock("0.05 s")
    assert not seconds.due()
    time.sleep(0.06)
    assert seconds.due()
    seconds.restart()
    assert not seconds.due()


# The run.

CASES = {
    "hogwild": HogwildClassifier(loss="log_loss"),
    "data-parallel": ParallelSGDClassifier(n_jobs=2, n_shards=2, average=True),
    "scikit-learn": SGDClassifier(average=True),
    "bayes": GaussianNB(),
}


def interrupted(make, stops):
    """Call `make(callbacks)` again and again, interrupted after each number of chunks."""
    for stop in stops:
        count = [0]

        def end(_, count=count, stop=stop):
            count[0] += 1
            if count[0] == stop:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            make([end])
    return make([])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shuffle", [True, False])
def test_interrupted_runs_give_the_same_bits(case, shuffle, tmp_path):
    X, y = large_problem("multiclass")
    held = sources.arrays(X[:2000], y[:2000])

    def run(callbacks, **options):
        model = CASES[case].__class__(**CASES[case].get_params())
        source = sources.arrays(X, y, chunk_rows=1500, shuffle=shuffle)
        settings = dict(classes=range(4), n_epochs=3, validation=held, random_state=5)
        return fit_stream(model, source, callbacks=callbacks, n_readers=2, **settings, **options)

    expected = run([])
    path = tmp_path / "run"
    # 8 chunks an epoch; checkpoints after every second chunk and every epoch.
    got = interrupted(
        lambda callbacks: run(callbacks, checkpoint=path, checkpoint_every="2 chunks"),
        [1, 2, 3, 5, 7, 2],
    )
    names = [k for k in vars(expected) if isinstance(getattr(expected, k), np.ndarray)]
    assert names
    for name in names:
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), strict=True)
    for key in ("epoch", "samples", "objective", "validation_score", "step_size"):
        np.testing.assert_array_equal(got.history_[key], expected.history_[key])


@pytest.mark.parametrize("kind", ["svmlight.gz", "iterable", "parquet", "cache"])
def test_resumes_in_the_middle_of_a_part(kind, tmp_path):
    X, y = large_problem()
    X = np.round(X[:3000, :5], 4)
    y = y[:3000]
    if kind == "parquet":
        pytest.importorskip("pyarrow")
        pd = pytest.importorskip("pandas")
        pd.DataFrame(X, columns=list("abcde")).assign(y=y).to_parquet(tmp_path / "rows.parquet")
        source = sources.parquet(tmp_path / "rows.parquet", target="y", chunk_rows=400)
    elif kind == "svmlight.gz":
        import gzip
        import io

        from sklearn.datasets import dump_svmlight_file

        text = io.BytesIO()
        dump_svmlight_file(X, y, text, zero_based=False)
        (tmp_path / "rows.svm.gz").write_bytes(gzip.compress(text.getvalue()))
        source = sources.svmlight(tmp_path / "rows.svm.gz", n_features=5, chunk_rows=400)
    else:
        source = sources.iterable(lambda: iter([(X, y)]), chunk_rows=400, fingerprint="rows")
    if kind == "cache":
        source = source.cached(tmp_path / "cache")

    def run(callbacks, **options):
        model = SGDClassifier(random_state=0)
        return fit_stream(model, source, classes=[0, 1], n_epochs=2, callbacks=callbacks, **options)

    expected = run([])
    got = interrupted(
        lambda c: run(c, checkpoint=tmp_path / "run", checkpoint_every="1 chunks"), [1, 3, 6, 2]
    )
    np.testing.assert_array_equal(got.coef_, expected.coef_)
    assert got.t_ == expected.t_ == 2 * len(y) + 1


def test_early_stopping_resumes_with_its_best(tmp_path):
    X, y = large_problem()

    def run(callbacks, **options):
        return fit_stream(
            SGDClassifier(learning_rate="constant", eta0=0.1, random_state=0),
            sources.arrays(X, y, chunk_rows=3000),
            classes=[0, 1],
            n_epochs=8,
            validation=(X, y),
            early_stopping=True,
            n_iter_no_change=3,
            callbacks=callbacks,
            **options,
        )

    expected = run([])
    best = np.argmax(expected.history_["validation_score"])
    assert expected.score(X, y) == expected.history_["validation_score"][best]
    got = interrupted(
        lambda c: run(c, checkpoint=tmp_path / "run", checkpoint_every="1 chunks"), [3, 6, 5]
    )
    np.testing.assert_array_equal(got.coef_, expected.coef_)
    # Again, after the end: the same model without training.
    again = run([lambda _: pytest.fail("trained")], checkpoint=tmp_path / "run")
    np.testing.assert_array_equal(again.coef_, expected.coef_)


def test_an_estimator_that_cannot_be_saved_is_refused_at_once(tmp_path):
    X, y = large_problem()
    source = sources.arrays(X, y, chunk_rows=100)
    seen = []
    with pytest.raises(TypeError, match="attribute _"):
        fit_stream(
            MLPClassifier((2,)),
            source,
            classes=[0, 1],
            checkpoint=tmp_path / "run",
            callbacks=[seen.append],
        )
    assert len(seen) == 1


def test_more_epochs_go_on(tmp_path):
    X, y = large_problem()
    source = sources.arrays(X, y, chunk_rows=3000)
    settings = dict(classes=[0, 1], checkpoint=tmp_path / "run")
    for n_epochs in (1, 3):
        model = fit_stream(SGDClassifier(random_state=0), source, n_epochs=n_epochs, **settings)
    straight = fit_stream(SGDClassifier(random_state=0), source, classes=[0, 1], n_epochs=3)
    np.testing.assert_array_equal(model.coef_, straight.coef_)


@pytest.mark.parametrize("stops", [[1, 1], [2, 3], [4, 1], [3, 4]])
def test_a_stop_by_a_callback_is_a_pause(stops, tmp_path):
    X, y = large_problem()
    source = sources.arrays(X, y, chunk_rows=3000)  # 4 chunks an epoch

    def run(callbacks, **options):
        model = SGDClassifier(random_state=0)
        settings = dict(classes=[0, 1], n_epochs=3, callbacks=callbacks)
        return fit_stream(model, source, **settings, **options)

    expected = run([])
    for stop in stops:
        seen = []

        def pause(progress, seen=seen, stop=stop):
            seen.append(progress)
            return len(seen) == stop

        model = run([pause], checkpoint=tmp_path / "run")
        assert len(seen) == stop
        assert model.history_["samples"][-1] == model.t_ - 1
    model = run([], checkpoint=tmp_path / "run")
    np.testing.assert_array_equal(model.coef_, expected.coef_)
    assert model.history_["samples"].tolist() == expected.history_["samples"].tolist()


def test_a_run_without_a_seed_resumes_with_its_own(tmp_path):
    X, y = large_problem()
    order = []

    class Spy(SGDClassifier):
        def partial_fit(self, X, y, **options):
            order.append(X[0, 0])
            return super().partial_fit(X, y, **options)

    def run(callbacks):
        return fit_stream(
            Spy(),
            sources.arrays(X, y, chunk_rows=1000),
            classes=[0, 1],
            checkpoint=tmp_path / "run",
            checkpoint_every="1 chunks",
            callbacks=callbacks,
        )

    interrupted(run, [3])
    # The third chunk was trained and interrupted before its checkpoint, so it comes again.
    assert order[2] == order[3]
    assert sorted(set(order)) == sorted(X[::1000, 0])


def test_another_run_is_refused(tmp_path):
    X, y = large_problem()
    settings = dict(classes=[0, 1], checkpoint=tmp_path / "run")
    source = sources.arrays(X, y)
    fit_stream(SGDClassifier(random_state=0), source, **settings)
    others = [
        ("estimator", HogwildClassifier(random_state=0), source, {}),
        (r"parameters \(alpha\)", SGDClassifier(alpha=1, random_state=0), source, {}),
        ("seed", SGDClassifier(random_state=1), source, {}),
        ("source", SGDClassifier(random_state=0), sources.arrays(X + 1, y), {}),
        ("order", SGDClassifier(random_state=0), sources.arrays(X, y, shuffle=False), {}),
    ]
    for words, model, other, more in others:
        with pytest.raises(ValueError, match=words):
            fit_stream(model, other, **settings, **more)
    with pytest.raises(FileNotFoundError, match="folder of the checkpoint"):
        fit_stream(SGDClassifier(), source, classes=[0, 1], checkpoint=tmp_path / "no" / "run")
    with pytest.raises(IsADirectoryError):
        fit_stream(SGDClassifier(), source, classes=[0, 1], checkpoint=tmp_path)


SCRIPT = """
    import sys
    import numpy as np
    from skpar import HogwildClassifier, ParallelSGDClassifier, fit_stream, sources
    folder, kind, checkpoint, out = sys.argv[1:]
    X, y = np.load(folder + "/X.npy", mmap_mode="r"), np.load(folder + "/y.npy")
    model = {
        "one worker": HogwildClassifier(loss="log_loss", average=True),
        "data-parallel": ParallelSGDClassifier(n_jobs=2, n_shards=2),
    }[kind]
    source = sources.arrays(X, y, chunk_rows=2000, shuffle=True)
    if checkpoint:
        source = source.cached(folder + "/cache " + kind)
    fit_stream(
        model, source, classes=[0, 1], n_epochs=40, n_readers=2, random_state=0,
        checkpoint=checkpoint or None, checkpoint_every="1 chunks",
        callbacks=[lambda p: print(p.epoch, p.chunk, flush=True)],
    )
    np.savez(out, coef=model.coef_, intercept=model.intercept_, t=model.t_)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
@pytest.mark.parametrize("kind", ["one worker", "data-parallel"])
def test_killed_runs_give_the_same_bits(kind, tmp_path):
    """kill -9 at 10 random moments each: what is on the disk is always enough to go on."""
    X, y = large_problem()
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)

    def start(checkpoint, out):
        command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path), kind]
        return subprocess.Popen(
            [*command, checkpoint, str(tmp_path / out)], stdout=subprocess.PIPE, text=True
        )

    straight = start("", "straight.npz")
    assert straight.communicate(timeout=200) and straight.returncode == 0
    rng, kills, checkpoint = random.Random(0), 0, str(tmp_path / "run")
    reached = []
    while True:
        child = start(checkpoint, "killed.npz")
        if kills < 10:
            child.stdout.readline()  # it has begun to train
            time.sleep(0.15 * rng.random())
            child.kill()
        child.communicate(timeout=200)
        if child.returncode == 0:
            break
        kills += 1
        if os.path.exists(checkpoint):
            place = _checkpoint.load(checkpoint)[1]["place"]
            reached.append((place["epoch"], place["chunks"]))
    assert kills == 10
    assert reached == sorted(reached)  # nothing that was saved was lost
    with np.load(tmp_path / "straight.npz") as a, np.load(tmp_path / "killed.npz") as b:
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])
