"""Who runs the code: how many workers, on which joblib backend, with how many BLAS threads.

joblib decides and this module asks it. Threads are our own; processes, Dask and Ray are asked
through `_cluster` and `_dask`, which are imported where they are the active backend.
"""

import os
import sys
import threading
import warnings
from collections import deque
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import lru_cache
from multiprocessing import parent_process

from joblib import cpu_count
from joblib.parallel import ThreadingBackend, get_active_backend
from threadpoolctl import ThreadpoolController

# How long the main thread may be deaf to Ctrl-C.
WAIT_SECONDS = 0.05


@lru_cache(maxsize=1)
def _controller():
    # Finding the loaded libraries costs 2 ms, using the list 0.01 ms.
    return ThreadpoolController()


def thread_pools():
    """threadpoolctl's description of each BLAS and OpenMP library in this process."""
    return _controller().info()


class _BlasLimit:
    """One BLAS thread while any fit has workers; restored by the last one out.

    The limit is global to the process, so fits in two threads must not undo each other's.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._users = 0
        self._limiter = None

    @contextmanager
    def __call__(self):
        with self._lock:
            if self._users == 0:
                self._limiter = _controller().limit(limits=1, user_api="blas")
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._limiter.restore_original_limits()


limit_blas = _BlasLimit()


def _say_once_that_threads_are_used(backend):
    name = type(backend).__name__
    if name not in _said:
        _said.add(name)
        warnings.warn(
            f"lock-free training needs shared memory, which {name} has not: "
            "it runs on threads of this process.",
            UserWarning,
            stacklevel=2,
        )


_said = set()


def _inside_dask():
    """Whether this is a task on a Dask worker."""
    state = getattr(sys.modules.get("distributed.utils"), "thread_state", None)
    return hasattr(state, "execution_state") or getattr(state, "actor", False)


def _inside_ray():
    """Whether this is a task or an actor on a Ray worker."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return False
    return ray.get_runtime_context().worker.mode == ray.WORKER_MODE


def _threads_allowed(n_workers):
    """Cap threads inside a process that joblib, Dask or Ray started for an outer loop.

    They tell their workers their share of the cores through OMP_NUM_THREADS, which BLAS and
    OpenMP obey; our threads take the same share.
    """
    share = os.environ.get("OMP_NUM_THREADS", "")
    if not share.isdigit() or not (parent_process() or _inside_dask() or _inside_ray()):
        return n_workers
    return max(1, min(n_workers, int(share)))


def _cores():  # joblib's count reads files: 0.2 ms, as long as ten epochs of tiny data
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    return _count_cores(frozenset(affinity), os.environ.get("LOKY_MAX_CPU_COUNT"))


_count_cores = lru_cache(maxsize=4)(lambda affinity, limit: cpu_count())


class Team:
    """The workers of one fit.

    Parameters
    ----------
    n_jobs : int or None
        As in joblib: None is 1 outside a `parallel_config`, -1 all cores.
    shared_memory : bool
        Whether workers must see each other's writes; under a backend of processes they are
        then threads of this process all the same.
    client : distributed.Client or None
        Of the Dask cluster that holds the rows, where they are not here.
    inner : int
        Threads that each worker has for its shard.

    Attributes
    ----------
    size : int
        Workers asked for; it defines results (shards), whatever runs at once.
    on_threads : bool
        Whether `run` uses this process's threads rather than joblib.
    memo : dict
        What the weight vectors of one fit (one-vs-rest) have in common.
    """

    def __init__(self, n_jobs, *, shared_memory, client=None, inner=1):
        self.memo = {}
        self.inner = inner
        self._pool = None
        self._remote = None
        self._client = client
        if client is not None:
            self.kind, self.on_threads = "dask", False
            self.size = max(1, sum(client.nthreads().values()) // inner)
            return
        backend, default_n_jobs = get_active_backend(prefer="threads")
        n_jobs = default_n_jobs if n_jobs is None else n_jobs
        if type(backend) is ThreadingBackend and n_jobs is not None and n_jobs < 0:
            n_jobs = max(1, _cores() + 1 + n_jobs)  # joblib's rule
        if n_jobs is None:  # joblib's Parallel does the same: -1 on Dask, 1 elsewhere
            n_jobs = getattr(backend, "default_n_jobs", 1)
        self._backend, self._n_jobs = backend, n_jobs
        self.kind = _kind(backend)
        self.size = max(1, self._effective_size(shared_memory) // inner)
        if self.size == 1:
            self.kind = "threads"
        self.on_threads = self.kind == "threads"

    def _effective_size(self, shared_memory):
        if self.kind in ("dask", "ray") and self._n_jobs > 0:
            size = self._n_jobs  # these backends look at the cluster's cores alone
        elif self.kind == "dask" and _inside_dask():
            size = 1  # the outer loop has the cluster
        elif shared_memory and self.kind != "threads":
            size = ThreadingBackend().effective_n_jobs(self._n_jobs)
        else:
            size = self._backend.effective_n_jobs(self._n_jobs)
        if self.kind == "dask" and _inside_dask():
            self.kind = "threads"
        if shared_memory and self.kind != "threads" and size > 1:
            _say_once_that_threads_are_used(self._backend)
            self.kind = "threads"
        return max(1, size)

    @property
    def threads(self):
        """How many threads may run at once."""
        return _threads_allowed(self.size * self.inner) if self.on_threads else 1

    @property
    def traffic(self):
        """Bytes to and from workers of other processes; None on threads."""
        return None if self._remote is None else self._remote.traffic

    @contextmanager
    def working(self, n_workers):
        """Hold `n_workers` workers ready for `run`; threads are gone on leaving."""
        if n_workers == 1 and self._client is None:
            yield self
        elif self.on_threads:
            with limit_blas(), ThreadPoolExecutor(n_workers - 1, "skpar") as self._pool:
                self._width = n_workers
                try:
                    yield self
                finally:
                    self._pool = None
        else:
            if self._remote is None:
                self._remote = self._connect()
            yield self

    def _connect(self):
        if self.kind == "dask":
            from skpar._dask import DaskWorkers

            return DaskWorkers(self._client or self._backend.client, self.size, self.inner)
        from skpar._cluster import Processes, RayWorkers

        if self.kind == "ray":
            return RayWorkers(self.size, self.inner)
        return Processes(self._backend, self.size)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self._remote is not None:
            remote, self._remote = self._remote, None
            remote.close()

    def place(self, shards):
        """What stands for the shards as first arguments of `run`; their rows travel once."""
        return shards if self._remote is None else self._remote.place(shards)

    def run(self, function, arguments, stop=None):
        """[function(*a) for a in arguments], at once where there are workers.

        On other processes the function must be a module's, and the first argument a shard that
        was placed. `stop()` is called when a task fails or the caller is interrupted; then
        every task is waited for and the error goes on.
        """
        if self._remote is not None:
            return self._remote.run(function, arguments)
        if self._pool is None or len(arguments) == 1:
            return [function(*a) for a in arguments]
        return self._run_on_threads(function, arguments, stop)

    def _run_on_threads(self, function, arguments, stop):
        """The calling thread is one of the workers.

        Were it to wait instead, Linux may put all others, woken by it at once, on one core, and
        leave them there for as long as a short epoch takes.
        """
        todo, results = deque(range(len(arguments))), [None] * len(arguments)

        def work():
            try:
                while todo:
                    try:
                        k = todo.popleft()
                    except IndexError:  # another worker was quicker
                        return
                    results[k] = function(*arguments[k])
            except BaseException:
                todo.clear()
                if stop is not None:
                    stop()
                raise

        waiting = [self._pool.submit(work) for _ in range(min(self._width, len(arguments)) - 1)]
        helpers = list(waiting)
        try:
            work()
            while waiting:
                done, waiting = wait(waiting, WAIT_SECONDS, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
        except BaseException:
            todo.clear()
            if stop is not None:
                stop()
            for helper in helpers:
                helper.cancel()
            wait(helpers)
            raise
        return results


def local_team(n_jobs):
    """A team of this process's threads on any backend, to work on arrays that are here.

    Where the backend's workers are elsewhere their number says nothing of this machine's cores.
    """
    team = Team(n_jobs, shared_memory=False)
    if not team.on_threads:
        team.kind, team.on_threads, team.size = "threads", True, min(team.size, cpu_count())
    return team


def _kind(backend):
    """Where a joblib backend runs things: on threads, processes, Dask or Ray."""
    if getattr(backend, "supports_sharedmem", False):
        return "threads"
    names = [cls.__name__ for cls in type(backend).__mro__]
    if "DaskDistributedBackend" in names:
        return "dask"
    return "ray" if "RayBackend" in names else "processes"
