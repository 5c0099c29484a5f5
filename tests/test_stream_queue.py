"""The queue between readers and training: order, bound, end and errors on random schedules."""

import random
import threading
import time

import pytest

from skpar._queue import END, ChunkQueue, Readers
from skpar._source import Schema, Source


def reader_threads():
    return [t for t in threading.enumerate() if t.name.startswith("skpar-reader")]


class Scripted(Source):
    """Parts of random numbers of chunks, read at a random pace; counts chunks in being."""

    def __init__(self, rng, n_parts, fail_at=None):
        super().__init__(1, False)
        self.lengths = [rng.choice([0, 1, 1, 2, 5]) for _ in range(n_parts)]
        self.delays = [
            [rng.choice([0, 0, 0, 2e-3 * rng.random()]) for _ in range(n)] for n in self.lengths
        ]
        self.fail_at = fail_at
        self.opened = self.closed = 0

    schema = Schema()

    def parts(self):
        return list(range(len(self.lengths)))

    def read(self, part):
        self.opened += 1
        try:
            for number, delay in enumerate(self.delays[part]):
                time.sleep(delay)
                if (part, number) == self.fail_at:
                    raise OSError("the disk is gone")
                yield part, number
        finally:
            self.closed += 1


def drain(source, rng, *, capacity, n_readers, ordered, take=None):
    """What the consumer got, at a random pace of its own, and the largest depth it saw."""
    queue = ChunkQueue(len(source.parts()), capacity, n_readers, ordered=ordered)
    got, deepest = [], 0
    with Readers(source, source.parts(), queue, lambda *args: args[3][:2], n_readers):
        while take is None or len(got) < take:
            item = queue.get(timeout=20)
            deepest = max(deepest, queue.depth)
            if item is END:
                break
            got.append(item)
            time.sleep(rng.choice([0, 0, 1e-3 * rng.random()]))
    return got, deepest


def schedules(n):
    for seed in range(n):
        rng = random.Random(seed)
        yield (
            rng,
            Scripted(rng, rng.randint(0, 12)),
            dict(capacity=rng.randint(1, 5), n_readers=rng.randint(1, 6)),
        )


def everything(source):
    return [(p, k) for p, n in enumerate(source.lengths) for k in range(n)]


def test_ordered_delivery_keeps_the_order_of_the_source():
    for rng, source, sizes in schedules(60):
        got, deepest = drain(source, rng, ordered=True, **sizes)
        assert got == everything(source)
        assert deepest <= sizes["capacity"]
        assert source.opened == source.closed
        assert not reader_threads()


def test_unordered_delivery_loses_and_repeats_nothing():
    for rng, source, sizes in schedules(60):
        got, deepest = drain(source, rng, ordered=False, **sizes)
        assert sorted(got) == everything(source)
        # Within a part the order is kept: one reader has it.
        for part in source.parts():
            assert [k for p, k in got if p == part] == list(range(source.lengths[part]))
        assert deepest <= sizes["capacity"]
        assert not reader_threads()


def test_nobody_is_left_behind_by_a_consumer_that_leaves():
    for rng, source, sizes in schedules(40):
        for ordered in (True, False):
            wanted = rng.randint(0, 3)
            got, _ = drain(source, rng, ordered=ordered, take=wanted, **sizes)
            assert len(got) == min(wanted, sum(source.lengths))
            assert source.opened == source.closed
            assert not reader_threads()


def test_an_error_of_one_reader_ends_all_and_names_the_chunk():
    seen = 0
    for rng, source, sizes in schedules(60):
        chunks = everything(source)
        if not chunks:
            continue
        source.fail_at = rng.choice(chunks)
        with pytest.raises(OSError, match="the disk is gone") as caught:
            drain(source, rng, ordered=rng.random() < 0.5, **sizes)
        part, number = source.fail_at
        assert caught.value.__notes__ == [f"while reading chunk {number} of {part}"]
        assert any(frame.name == "read" for frame in caught.traceback)
        assert source.opened == source.closed
        assert not reader_threads()
        seen += 1
    assert seen > 30


def test_an_error_of_the_consumer_ends_the_readers():
    source = Scripted(random.Random(0), 8)
    queue = ChunkQueue(8, 1, 3, ordered=True)

    def consume():
        with Readers(source, source.parts(), queue, lambda *a: a, 3):
            queue.get()
            raise FloatingPointError

    with pytest.raises(FloatingPointError):
        consume()
    assert not reader_threads()


def test_the_time_of_waits_is_counted():
    class Slow(Scripted):
        def read(self, part):
            time.sleep(0.05)
            yield part

    source = Slow(random.Random(0), 3)
    queue = ChunkQueue(3, 1, 1, ordered=True)
    with Readers(source, source.parts(), queue, lambda *a: a, 1):
        queue.get()
        waited = queue.get_seconds
        time.sleep(0.3)
        while queue.get() is not END:
            pass
    assert waited >= 0.04
    # The second chunk was ready after 0.05 s and the third had no room beside it.
    assert queue.put_seconds >= 0.1
