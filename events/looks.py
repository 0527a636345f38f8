"""Looks that are asked for, joined: however many events ask, one look at a model runs and at most one more waits.

Who asks gets a future of a look that begins after the question, so nothing that an event told of is missed; a thousand
events for one model cost two looks. Looks at different models run side by side, up to a limit.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

MAX_KEYS = 10_000
"""Models that may be looked at or wait for it at the same time."""

T = TypeVar("T")


class BusyError(Exception):
    """More is asked for than is taken at a time; the same question may be asked again soon."""


@dataclass(slots=True)
class _Line(Generic[T]):
    """What is under way for one key."""

    running: Future[T]
    waiting: Future[T] | None = None


@dataclass(order=True, slots=True)
class _Later:
    """A look that is due at `moment` (of the monotonic clock)."""

    moment: float
    number: int
    key: str = field(compare=False)


class Looks(Generic[T]):
    """Runs `look(key)` on threads of its own. Safe from any thread.

    Args:
        look: what a look is; its errors are the future's.
        threads: how many run at a time.
    """

    def __init__(self, look: Callable[[str], T], threads: int) -> None:
        self._look = look
        self._pool = ThreadPoolExecutor(threads, "zeroserve-look")
        self._lock = threading.Condition()
        self._lines: dict[str, _Line[T]] = {}
        self._later: list[_Later] = []
        self._due: dict[str, float] = {}
        self._numbers = itertools.count()
        self._clock: threading.Thread | None = None
        self._closed = False

    def ask(self, key: str) -> Future[T]:
        """A look that begins from now on.

        Raises:
            BusyError: too many are under way.
        """
        with self._lock:
            line = self._lines.get(key)
            if line is not None:
                if line.waiting is None:
                    line.waiting = Future()
                return line.waiting
            if self._closed or len(self._lines) >= MAX_KEYS:
                raise BusyError(f"{len(self._lines)} looks are under way, at most {MAX_KEYS} are taken")
            future: Future[T] = Future()
            self._lines[key] = _Line(future)
        self._start(key, future)
        return future

    def ask_later(self, key: str, seconds: float) -> None:
        """Asks in so many seconds, unless the same key is due sooner; nobody waits for the answer."""
        moment = time.monotonic() + seconds
        with self._lock:
            if self._closed or self._due.get(key, moment + 1) <= moment or len(self._due) >= MAX_KEYS:
                return
            self._due[key] = moment
            heapq.heappush(self._later, _Later(moment, next(self._numbers), key))
            if self._clock is None:
                self._clock = threading.Thread(target=self._run, name="zeroserve-later", daemon=True)
                self._clock.start()
            self._lock.notify()

    def close(self) -> None:
        """Takes nothing more, and waits for the looks that run."""
        with self._lock:
            self._closed = True
            for line in self._lines.values():
                if line.waiting is not None:
                    line.waiting.cancel()
            self._lock.notify()
        self._pool.shutdown(cancel_futures=True)

    def _start(self, key: str, future: Future[T]) -> None:
        self._pool.submit(self._work, key, future)

    def _work(self, key: str, future: Future[T]) -> None:
        if not future.set_running_or_notify_cancel():
            self._end(key)
            return
        try:
            found = self._look(key)
        except BaseException as error:  # noqa: BLE001  whoever waits is told
            self._end(key)
            future.set_exception(error)
        else:
            self._end(key)
            future.set_result(found)

    def _end(self, key: str) -> None:
        with self._lock:
            waiting = self._lines[key].waiting
            if waiting is None or self._closed:
                del self._lines[key]
                return
            self._lines[key] = _Line(waiting)
        self._start(key, waiting)

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._closed and (not self._later or self._later[0].moment > time.monotonic()):
                    self._lock.wait(self._later[0].moment - time.monotonic() if self._later else None)
                if self._closed:
                    return
                later = heapq.heappop(self._later)
                if self._due.get(later.key) != later.moment:
                    continue  # it was asked for sooner since
                del self._due[later.key]
            try:
                self.ask(later.key)
            except BusyError:
                self.ask_later(later.key, 1.0)
