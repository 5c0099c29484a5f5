"""Workers of a Dask cluster: an actor on each holds its shards, a round is one message to each.

A task through Dask's scheduler takes 11 ms and back, a call of an actor 1.4 ms (measured on two
local processes). Actors do not survive their worker, so they hold nothing that cannot be sent
again: what a round needs besides the rows is in its message. The shards of a lost worker go to
one that lives, and the round is asked for again, with the same bits.
"""

import time
from concurrent.futures import ThreadPoolExecutor

from skpar._cluster import Remote
from skpar._placement import cut, handles, joined, labels_of, matrix_key, perform, size_of

WAIT_SECONDS = 0.2
# How long a worker that answers nothing may take to be seen as gone.
LOOK_SECONDS = 1.0
MAX_LOSSES = 5


class Node:
    """The part of a fit that lives on one Dask worker."""

    def __init__(self, n_threads, keys, *matrices):
        self.n_threads = n_threads
        self.matrices = dict(zip(keys, matrices, strict=True))
        self.shards = {}

    def label(self, labels):
        """Give the shards new targets and weights."""
        self.shards = {k: joined(self.matrices[k], part) for k, part in labels.items()}
        return len(labels)

    def run(self, calls):
        """[(shard, packed call)], as many at once as this worker has threads."""
        if self.n_threads == 1 or len(calls) == 1:
            return [perform(blob, self.shards[k]) for k, blob in calls]
        with ThreadPoolExecutor(self.n_threads, "skpar") as pool:
            return list(pool.map(lambda call: perform(call[1], self.shards[call[0]]), calls))


class LostWorker(Exception):
    """A Dask worker went away with its shards."""

    def __init__(self, address):
        super().__init__(address)
        self.address = address


class DaskWorkers(Remote):
    """Shards on the workers of a `distributed.Client`."""

    def __init__(self, client, n_workers, inner):
        super().__init__()
        self._inner = inner
        self._client = client
        self._n_workers = n_workers
        self._batches = []
        self._owner = []  # of each shard, the worker's address
        self._nodes = {}
        self._losses = 0

    def _slots(self):
        """Addresses, one for each shard at a time: every worker once, then those of two, ..."""
        threads = {a: max(1, n // self._inner) for a, n in self._client.nthreads().items()}
        if not threads:
            raise RuntimeError(
                "No worker is left on the Dask cluster; start workers and fit again."
            )
        slots = sorted((k, address) for address, n in threads.items() for k in range(n))
        return [address for _, address in slots][: self._n_workers]

    def place(self, batches):
        old, self._batches = self._batches, batches
        if [matrix_key(b) for b in old] != [matrix_key(b) for b in batches]:
            slots = self._slots()
            self._owner = [slots[k % len(slots)] for k in range(len(batches))]
            if hasattr(batches[0], "source"):
                self._owner = self._where([batch.source for batch in batches])
            self._nodes = {}
        self._retry(self._label)
        return handles(len(batches))

    def _where(self, futures):
        """The workers that hold these partitions."""
        found = self._client.who_has(futures)
        slots = self._slots()
        return [
            (found.get(future.key) or [slots[k % len(slots)]])[0]
            for k, future in enumerate(futures)
        ]

    def _shards_of(self, address):
        return [k for k, owner in enumerate(self._owner) if owner == address]

    def _make_node(self, address):
        """Send a worker its matrices, once, and start its actor."""
        keys = self._shards_of(address)
        futures = []
        for k in keys:
            if hasattr(self._batches[k], "source"):
                futures.append(self._batches[k].source)
                continue
            matrix, _ = cut(self._batches[k])
            self.traffic.placed += size_of(matrix)
            futures.append(self._client.scatter(matrix, workers=[address], hash=False))
        n_threads = max(1, self._client.nthreads().get(address, 1) // self._inner)
        future = self._client.submit(
            Node, n_threads, keys, *futures, actor=True, workers=[address], pure=False
        )
        return self._wait(future, address)

    def _label(self):
        """Bring every shard's targets and weights, to actors that are made where none is."""
        waiting = []
        for address in sorted(set(self._owner)):
            if address not in self._nodes:
                self._nodes[address] = self._make_node(address)
            labels = {k: labels_of(self._batches[k]) for k in self._shards_of(address)}
            self.traffic.placed += sum(size_of(part) for part in labels.values())
            waiting.append((self._call(address, "label", labels), address))
        for future, address in waiting:
            self._wait(future, address)

    def _call(self, address, method, argument):
        try:
            return getattr(self._nodes[address], method)(argument)
        except RuntimeError as error:  # "Worker holding Actor was lost"
            raise LostWorker(address) from error

    def _wait(self, future, address):
        """The future's result, or `LostWorker` if the worker has gone."""
        from distributed import TimeoutError as DaskTimeout

        looked = time.monotonic()
        while True:
            try:
                return future.result(timeout=WAIT_SECONDS)
            except (TimeoutError, DaskTimeout):
                if time.monotonic() - looked > LOOK_SECONDS:
                    looked = time.monotonic()
                    if address not in self._client.nthreads():
                        raise LostWorker(address) from None
            except Exception as error:
                if address not in self._client.nthreads() or isinstance(error, OSError):
                    raise LostWorker(address) from error
                raise

    def _retry(self, attempt):
        """Call until no worker is lost meanwhile; the shards of a lost one move."""
        while True:
            try:
                return attempt()
            except LostWorker as lost:
                self._losses += 1
                if self._losses > MAX_LOSSES:
                    raise RuntimeError(
                        f"{self._losses} workers of the Dask cluster died during this fit, the "
                        f"last at {lost.address}. Does a shard fit into a worker's memory?"
                    ) from lost
                self._move(lost.address)

    def _move(self, address):
        self._nodes.pop(address, None)
        deadline = time.monotonic() + 30
        while True:
            alive = [slot for slot in self._client.nthreads() if slot != address]
            if alive or time.monotonic() > deadline:
                break
            time.sleep(WAIT_SECONDS)
        slots = [slot for slot in self._slots() if slot != address]
        for i, k in enumerate(self._shards_of(address)):
            self._owner[k] = slots[i % len(slots)]
            self._nodes.pop(self._owner[k], None)

    def run(self, function, arguments):
        return self.exchange(function, arguments, self._send)

    def _send(self, handles, blobs):
        replies = {}

        def attempt():
            if any(owner not in self._nodes for owner in self._owner):
                self._label()
            waiting = []
            for address in sorted(set(self._owner)):
                calls = [
                    (handle.index, blob)
                    for handle, blob in zip(handles, blobs, strict=True)
                    if self._owner[handle.index] == address and handle.index not in replies
                ]
                if calls:
                    future = self._call(address, "run", calls)
                    waiting.append((future, address, [k for k, _ in calls]))
            for future, address, keys in waiting:
                replies.update(zip(keys, self._wait(future, address), strict=True))
            return [replies[handle.index] for handle in handles]

        return self._retry(attempt)

    def close(self):
        self._nodes, self._batches, self._owner = {}, [], []
