"""Who runs the code: how many workers, on which joblib backend, with how many BLAS threads.

joblib decides and this module asks it; nothing else imports joblib, threadpoolctl or threads.
"""

import os
import threading
import warnings
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import lru_cache
from multiprocessing import parent_process

from joblib import Parallel, cpu_count, delayed
from joblib.parallel import get_active_backend
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


def _threads_allowed(n_workers):
    """Cap threads inside a process that joblib started for an outer loop.

    joblib tells its workers their share of the cores through OMP_NUM_THREADS, which BLAS and
    OpenMP obey; our threads take the same share.
    """
    share = os.environ.get("OMP_NUM_THREADS", "")
    if parent_process() is None or not share.isdigit():
        return n_workers
    return max(1, min(n_workers, int(share)))


class Team:
    """The workers of one fit.

    Parameters
    ----------
    n_jobs : int or None
        As in joblib: None is 1 outside a `parallel_config`, -1 all cores.
    shared_memory : bool
        Whether workers must see each other's writes; under a backend of processes they are
        then threads of this process all the same.

    Attributes
    ----------
    size : int
        Workers asked for; it defines results (shards), whatever runs at once.
    on_threads : bool
        Whether `run` uses this process's threads rather than joblib.
    """

    def __init__(self, n_jobs, *, shared_memory):
        backend, default_n_jobs = get_active_backend(prefer="threads")
        n_jobs = default_n_jobs if n_jobs is None else n_jobs
        self.size = max(1, backend.effective_n_jobs(n_jobs))
        self.on_threads = getattr(backend, "supports_sharedmem", False) or self.size == 1
        if shared_memory and not self.on_threads:
            _say_once_that_threads_are_used(backend)
            self.on_threads = True
        self._n_jobs = n_jobs
        self._pool = None
        self._parallel = None

    @property
    def threads(self):
        """How many threads may run at once."""
        return _threads_allowed(self.size) if self.on_threads else 1

    @contextmanager
    def working(self, n_workers):
        """Hold `n_workers` workers ready for `run`; they are gone on leaving."""
        if n_workers == 1:
            yield self
        elif self.on_threads:
            with limit_blas(), ThreadPoolExecutor(n_workers, "skpar") as self._pool:
                try:
                    yield self
                finally:
                    self._pool = None
        else:
            with Parallel(n_jobs=self._n_jobs, prefer="threads") as self._parallel:
                try:
                    yield self
                finally:
                    self._parallel = None

    def run(self, function, arguments, stop=None):
        """[function(*a) for a in arguments], at once where there are workers.

        `stop()` is called when a task fails or the caller is interrupted; then every task is
        waited for and the error goes on.
        """
        if self._parallel is not None:
            return self._parallel(delayed(function)(*a) for a in arguments)
        if self._pool is None or len(arguments) == 1:
            return [function(*a) for a in arguments]
        futures = [self._pool.submit(function, *a) for a in arguments]
        try:
            waiting = futures
            while waiting:
                done, waiting = wait(waiting, WAIT_SECONDS, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
        except BaseException:
            if stop is not None:
                stop()
            for future in futures:
                future.cancel()
            wait(futures)
            raise
        return [future.result() for future in futures]


def local_team(n_jobs):
    """A team of this process's threads on any backend, to work on arrays that are here.

    Where the backend's workers are elsewhere their number says nothing of this machine's cores.
    """
    team = Team(n_jobs, shared_memory=False)
    if not team.on_threads:
        team.on_threads, team.size = True, min(team.size, cpu_count())
    return team
