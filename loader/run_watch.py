"""Ends runs whose time is over, for runtimes that can be told to stop but know no clock."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class RunWatch:
    """One thread that watches any number of runs; it starts with the first. Safe from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._living: set[int] = set()
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextmanager
    def until(self, deadline: float, stop: Callable[[], None]) -> Iterator[None]:
        """Calls `stop` once if the block has not ended at `deadline` (monotonic seconds)."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="run-watch", daemon=True)
                self._thread.start()
            number = next(self._numbers)
            self._living.add(number)
            heapq.heappush(self._waiting, (deadline, number, stop))
            if self._waiting[0][1] == number:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._living.discard(number)
                while self._waiting and self._waiting[0][1] not in self._living:
                    heapq.heappop(self._waiting)

    def close(self) -> None:
        """Ends the thread; no run is watched any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        with self._changed:
            while not self._closed:
                if not self._waiting:
                    self._changed.wait()
                    continue
                left = self._waiting[0][0] - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                    continue
                _, number, stop = heapq.heappop(self._waiting)
                if number in self._living:
                    stop()
