"""Workers without shared memory: joblib's processes and Ray (`_dask` has Dask).

Each of the classes places shards once, then runs calls on them, and takes them away in the end.
"""

import pickle

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import BrokenProcessPool

from skpar._placement import Traffic, cut, handles, joined, labels_of, pack, perform, size_of

# Smaller arrays would travel again in every round.
LEAST_MAPPED_BYTES = 1024


class Remote:
    """What all kinds of workers share: the count of bytes."""

    def __init__(self):
        self.traffic = Traffic()

    def exchange(self, function, arguments, send):
        """Pack the calls, let `send(handles, blobs)` run them, count, and unpack."""
        handles, blobs = [a[0] for a in arguments], [pack(function, a) for a in arguments]
        replies = send(handles, blobs)
        self.traffic.rounds += 1
        self.traffic.sent += sum(map(len, blobs))
        self.traffic.received += sum(map(len, replies))
        return [pickle.loads(reply) for reply in replies]


class Processes(Remote):
    """joblib's own processes; arrays reach them as memory maps, which joblib removes."""

    def __init__(self, backend, n_jobs):
        super().__init__()
        self._name = type(backend).__name__
        self._parallel = Parallel(
            n_jobs=n_jobs,
            prefer="threads",
            max_nbytes=LEAST_MAPPED_BYTES,
            batch_size=1,
            pre_dispatch="all",
        )
        self._parallel.__enter__()
        self._shards = []

    def place(self, batches):
        self._shards = batches
        self.traffic.placed += sum(size_of(batch) for batch in batches[:1])
        return handles(len(batches))

    def run(self, function, arguments):
        def send(handles, blobs):
            calls = (
                delayed(perform)(blob, self._shards[handle.index])
                for handle, blob in zip(handles, blobs, strict=True)
            )
            return self._parallel(calls)

        try:
            return self.exchange(function, arguments, send)
        except BrokenProcessPool as error:
            shards = ", ".join(str(a[0].index) for a in arguments)
            raise RuntimeError(
                f"A worker process of joblib's {self._name} died while it trained one of the "
                f"shards {shards}: {error} Fit again, with fewer n_jobs if memory ran out."
            ) from error

    def close(self):
        self._parallel.__exit__(None, None, None)
        self._shards = []


class RayWorkers(Remote):
    """Tasks on Ray: the object store keeps the shards, Ray repeats tasks whose worker died."""

    RETRIES = 3

    def __init__(self, n_workers, n_threads=1):
        super().__init__()
        import ray

        self._ray = ray
        self._n_workers = n_workers
        self._task = ray.remote(_perform_joined).options(
            num_cpus=n_threads, max_retries=self.RETRIES
        )
        self._matrices = {}
        self._labels = []

    def place(self, batches):
        self._labels = []
        matrices = {}
        for batch in batches:
            key = id(batch.values), id(batch.subset)
            if key in self._matrices:
                labels = labels_of(batch)
                matrices[key] = self._matrices[key]
            else:
                matrix, labels = cut(batch)
                # The batch is kept too, so that its id stays its own.
                matrices[key] = self._ray.put(matrix), batch
                self.traffic.placed += size_of(matrix)
            self.traffic.placed += size_of(labels)
            self._labels.append((matrices[key][0], self._ray.put(labels)))
        self._matrices = matrices
        return handles(len(batches))

    def run(self, function, arguments):
        return self.exchange(function, arguments, self._send)

    def _send(self, handles, blobs):
        ray, references, running = self._ray, [], []
        try:
            for handle, blob in zip(handles, blobs, strict=True):
                while len(running) >= self._n_workers:
                    _, running = ray.wait(running, timeout=1.0)
                references.append(self._task.remote(blob, *self._labels[handle.index]))
                running.append(references[-1])
            while running:
                _, running = ray.wait(running, num_returns=len(running), timeout=1.0)
            return ray.get(references)
        except ray.exceptions.WorkerCrashedError as error:
            raise RuntimeError(
                f"A Ray worker died {self.RETRIES + 1} times while it trained one of "
                f"{len(handles)} shards: {error}"
            ) from error
        except BaseException:
            for reference in running:
                ray.cancel(reference)
            raise

    def close(self):
        self._matrices, self._labels = {}, []


def _perform_joined(blob, matrix, labels):
    return perform(blob, joined(matrix, labels))
