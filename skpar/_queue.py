"""The bounded queue between readers and training, and the threads that fill it.

Readers claim parts in order. Delivered in order, a chunk of the part that is next always finds
room, because chunks of later parts leave one place free: no schedule can deadlock. Readers end
with a sentinel each; an error of one, or the consumer's, ends all.
"""

import threading
import warnings
from collections import deque
from time import perf_counter

from skpar._source import reading

# How long a wait may be deaf to Ctrl-C (Windows cannot interrupt a longer one).
WAIT_SECONDS = 0.2
# How long to wait for readers on leaving; one that is stuck in its source is left to itself.
GRACE_SECONDS = 5.0
STALL_GRACE_SECONDS = 0.5

END = object()


class ChunkQueue:
    """Chunks under way, at most `capacity`; see the module.

    Parameters
    ----------
    n_parts : int
        Parts to be claimed, numbered from 0.
    capacity : int
        Chunks held at most.
    n_readers : int
        How many sentinels (`leave`) end it.
    ordered : bool
        Deliver parts by number rather than as they come.
    """

    def __init__(self, n_parts, capacity, n_readers, *, ordered):
        self.capacity, self.ordered = capacity, ordered
        self.n_parts = n_parts
        self.depth = 0
        self.get_seconds = self.put_seconds = 0.0
        self.reading = {}  # reader -> what it is at
        self._changed = threading.Condition()
        self._claimed = self._head = 0
        self._chunks = {}  # part -> its chunks that wait
        self._finished = set()
        self._arrived = deque()  # parts, one entry a chunk, as they came
        self._readers = n_readers
        self._error = None
        self._closed = False

    # -- the readers' side ------------------------------------------------------------------

    def claim(self):
        """The number of the next part to read; None when there is none, or at the end."""
        with self._changed:
            if self._closed or self._claimed == self.n_parts:
                return None
            self._claimed += 1
            return self._claimed - 1

    def put(self, part, item):
        """Hand over a chunk, waiting for room; False where nobody wants it any more."""
        begin = perf_counter()
        with self._changed:
            while not self._closed and self.depth >= self._room(part):
                self._changed.wait(WAIT_SECONDS)
            self.put_seconds += perf_counter() - begin
            if self._closed:
                return False
            self._chunks.setdefault(part, deque()).append(item)
            if not self.ordered:
                self._arrived.append(part)
            self.depth += 1
            self._changed.notify_all()
            return True

    def _room(self, part):
        later = self.ordered and part != self._head
        return self.capacity - 1 if later else self.capacity

    def finish(self, part):
        """Say that a part has no more chunks."""
        with self._changed:
            self._finished.add(part)
            self._changed.notify_all()

    def leave(self):
        """A reader's sentinel."""
        with self._changed:
            self._readers -= 1
            self._changed.notify_all()

    def fail(self, error):
        """Let the consumer raise this; the first one counts."""
        with self._changed:
            if self._error is None:
                self._error = error
            self._changed.notify_all()

    @property
    def closed(self):
        """Whether readers should stop."""
        return self._closed

    # -- the consumer's side ----------------------------------------------------------------

    def get(self, timeout=None):
        """The next chunk, or END; raises a reader's error, or TimeoutError."""
        begin = perf_counter()
        with self._changed:
            try:
                while True:
                    if self._error is not None:
                        raise self._error
                    part = self._next()
                    if part is not None:
                        return self._take(part)
                    if self._readers == 0:
                        return END
                    if timeout is not None and perf_counter() - begin > timeout:
                        raise TimeoutError(self._stalled(timeout))
                    self._changed.wait(WAIT_SECONDS)
            finally:
                self.get_seconds += perf_counter() - begin

    def _next(self):
        """The part whose chunk is to be delivered, None where that has not come yet."""
        if not self.ordered:
            return self._arrived.popleft() if self._arrived else None
        while not self._chunks.get(self._head):
            if self._head not in self._finished:
                return None
            self._finished.discard(self._head)
            self._head += 1
            # A reader of the new head may use the place kept free.
            self._changed.notify_all()
        return self._head

    def _take(self, part):
        waiting = self._chunks[part]
        item = waiting.popleft()
        if not waiting:
            del self._chunks[part]
        self.depth -= 1
        self._changed.notify_all()
        return item

    def _stalled(self, timeout):
        at = ", ".join(sorted(self.reading.values())) or "starting"
        return (
            f"no chunk came for {timeout:g} s: the source stalls. The readers are at: {at}. Look "
            "at the source, or give a larger timeout."
        )

    def close(self):
        """Nobody gets any more: readers stop at their next step, what waits is dropped."""
        with self._changed:
            self._closed = True
            self._chunks.clear()
            self._arrived.clear()
            self._changed.notify_all()


class Readers:
    """Threads that read the parts of a source into a queue; a context manager.

    Parameters
    ----------
    source : Source
        What is read.
    parts : list
        Its parts, in the order wanted.
    queue : ChunkQueue
        Where the chunks go, as `prepare` makes them.
    prepare : callable
        Gets (position, number in the part, label, chunk) and returns the item to deliver.
    n_readers : int
        How many threads.
    """

    def __init__(self, source, parts, queue, prepare, n_readers):
        self.source, self.parts, self.queue, self.prepare = source, parts, queue, prepare
        # Daemons: a source that never returns must not keep the interpreter alive.
        self.threads = [
            threading.Thread(target=self._run, args=(k,), name=f"skpar-reader-{k}", daemon=True)
            for k in range(n_readers)
        ]

    def __enter__(self):
        try:
            for thread in self.threads:
                thread.start()
        except BaseException:  # Ctrl-C between two of them
            self.__exit__(KeyboardInterrupt)
            raise
        return self

    def __exit__(self, kind, *_):
        self.queue.close()
        started = [thread for thread in self.threads if thread.ident is not None]
        if any(thread.is_alive() for thread in started):
            self.source.close()
        stalled = kind is not None and issubclass(kind, TimeoutError)
        until = perf_counter() + (STALL_GRACE_SECONDS if stalled else GRACE_SECONDS)
        for thread in started:
            thread.join(max(0.0, until - perf_counter()))
        if kind is None and any(thread.is_alive() for thread in started):
            at = ", ".join(self.queue.reading.values())
            warnings.warn(
                f"a reader is still in its source ({at}); its thread ends when the source returns",
                RuntimeWarning,
                stacklevel=2,
            )

    def _run(self, reader):
        queue = self.queue
        try:
            while (position := queue.claim()) is not None:
                if not self._read(reader, position):
                    return
                queue.finish(position)
        except BaseException as error:
            queue.fail(error)
        finally:
            queue.reading.pop(reader, None)
            queue.leave()

    def _read(self, reader, position):
        """Deliver one part; False where nobody wants it any more."""
        part, number = self.parts[position], 0
        label = self.source.label(part)
        self.queue.reading[reader] = f"chunk 0 of {label}"
        try:
            with reading(self.source, part) as chunks:
                for number, chunk in enumerate(chunks):
                    item = self.prepare(position, number, label, chunk)
                    number += 1
                    self.queue.reading[reader] = f"chunk {number} of {label}"
                    if item is not None and not self.queue.put(position, item):
                        return False
                    if self.queue.closed:
                        return False
        except Exception as error:
            error.add_note(f"while reading chunk {number} of {label}")
            raise
        return True
