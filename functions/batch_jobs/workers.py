"""Threads that ask the model. They are daemons: a job that is interrupted does not wait for a late answer.

`concurrent.futures` would wait for it at the end of the process.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
END_SECONDS = 5.0
"""What runs that are on their way get at the end: a model must not be unloaded under them."""


class Outcome(Generic[T]):
    """What will become of one call."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._done = threading.Event()
        self._value: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        """Makes the call."""
        try:
            self._value.append(self._call())
        except BaseException as error:  # noqa: BLE001  # carried to the thread that waits for it
            self._error = error
        self._done.set()

    def result(self) -> T:
        """Waits, and gives what the call gave, or raises what it raised."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._value[0]


class Workers:
    """So many threads. `call` and `close` are the owner's."""

    def __init__(self, count: int) -> None:
        self._calls: queue.SimpleQueue[Outcome[object] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"zeroserve-batch-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def call(self, call: Callable[[], T]) -> Outcome[T]:
        """Begins a call as soon as a thread is free."""
        outcome = Outcome(call)
        self._calls.put(outcome)  # type: ignore[arg-type]  # what it gives is of no account here
        return outcome

    def close(self) -> bool:
        """Drops what has not begun, and waits a little for what has. Returns whether all threads have ended."""
        while not self._calls.empty():
            self._calls.get()
        for _ in self._threads:
            self._calls.put(None)
        end = time.monotonic() + END_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while (outcome := self._calls.get()) is not None:
            outcome.run()
