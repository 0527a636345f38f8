"""Where gates work: on threads of their own, because a look at a model must not wait for a revision to wake."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from events.gate import Gate, GateUnsureError, Subject, Verdict, judge_all

MAX_KEPT = 1000
"""Verdicts that are remembered; the oldest is forgotten, and found again when somebody asks."""


class Bench:
    """Runs gates and remembers their verdicts. Safe from any thread.

    Args:
        threads: versions that are judged at the same time.
    """

    def __init__(self, threads: int = 4) -> None:
        self._pool = ThreadPoolExecutor(threads, "zeroserve-gate")
        self._lock = threading.Lock()
        self._found: dict[tuple[str, str], Future[Verdict]] = {}

    def verdict(self, key: str, gates: Sequence[Gate], subject: Subject) -> Verdict | None:
        """The verdict, or None while it is being found; the first question begins the search.

        Args:
            key: of the revision.
            subject: other settings, or another revision to compare with, are another question.

        Raises:
            GateUnsureError: a gate could not look; the next question tries again.
        """
        place = (key, repr(subject))
        with self._lock:
            future = self._found.get(place)
            if future is None:
                future = self._found[place] = self._pool.submit(judge_all, gates, subject)
                while len(self._found) > MAX_KEPT:
                    self._found.pop(next(iter(self._found)))
        if not future.done():
            return None
        if future.exception() is not None:
            with self._lock:
                self._found.pop(place, None)
        try:
            return future.result()
        except GateUnsureError:
            raise
        except Exception as error:  # a gate that fails opens nothing, and must not end the look at other models
            raise GateUnsureError(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Takes nothing more; gates that are at work end by their own limits."""
        self._pool.shutdown(wait=False, cancel_futures=True)
