"""Workers without shared memory: joblib's processes and Ray (`_dask` has Dask).

Each of the classes places shards once, then runs calls on them, and takes them away in the end.
"""

import os
import pickle
import tempfile
from dataclasses import replace

import numpy as np
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import BrokenProcessPool

from skpar._placement import (
    Traffic,
    cut,
    handles,
    joined,
    labels_of,
    matrix_key,
    pack,
    perform,
    size_of,
)


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
    """joblib's own processes; arrays reach them as memory maps of files.

    joblib would write arrays to files too, but smaller ones in every round, and a limit of ours
    (`max_nbytes`) would make it start other processes than those of the user's other calls.
    """

    def __init__(self, backend, n_jobs):
        super().__init__()
        self._name = type(backend).__name__
        self._folder = tempfile.TemporaryDirectory(
            prefix="skpar-", dir=os.environ.get("JOBLIB_TEMP_FOLDER")
        )
        self._files = {}
        self._shards = []
        self._parallel = Parallel(n_jobs=n_jobs, prefer="threads", batch_size=1, pre_dispatch="all")
        self._parallel.__enter__()

    def place(self, batches):
        self._shards = [self._mapped(batch) for batch in batches]
        return handles(len(batches))

    def _mapped(self, batch):
        """The batch with its arrays in files; an array is written once."""
        arrays = {k: v for k, v in vars(batch).items() if isinstance(v, np.ndarray)}
        for name, array in arrays.items():
            if isinstance(array, np.memmap) or array.size == 0:
                continue
            if id(array) not in self._files:
                path = os.path.join(self._folder.name, f"{len(self._files)}.npy")
                np.save(path, array)
                self.traffic.placed += array.nbytes
                # The array is kept too, so that its id stays its own.
                self._files[id(array)] = np.load(path, mmap_mode="r"), array
            arrays[name] = self._files[id(array)][0]
        return replace(batch, **arrays)

    def run(self, function, arguments):
        def send(names, blobs):
            return self._parallel(
                delayed(perform)(blob, self._shards[name.index])
                for name, blob in zip(names, blobs, strict=True)
            )

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
        self._shards, self._files = [], {}
        self._folder.cleanup()


class RayWorkers(Remote):
    """Tasks on Ray: the object store keeps the shards, Ray repeats tasks whose worker died."""

    RETRIES = 3

    def __init__(self, n_workers, n_threads):
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
            key = matrix_key(batch)
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
