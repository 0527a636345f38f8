"""Events that are to be delivered: one for each version, the newest, until the sink has it.

At least once: an event leaves the outbox when the sink took it, or refused it for good. The outbox is bounded by the
number of versions and by `MAX_WAITING`; what does not fit is seen again by the next look.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from events.watch_event import Landed
from events.watch_sink import Answer

MAX_WAITING = 10_000
"""Versions whose events wait at the same time."""

SENDERS = 4
"""Events that are on their way at the same time."""

FIRST_RETRY_SECONDS = 0.5
MAX_RETRY_SECONDS = 60.0
"""Between two tries: doubled each time up to this, with up to a quarter more by chance."""

Key = tuple[str, str]


@dataclass(slots=True)
class _Waiting:
    landed: Landed
    due: float
    tries: int = 0
    on_its_way: bool = False


class Outbox:
    """Delivers in threads of its own. Safe from any thread.

    Args:
        send: tries once; see `Sink.send`.
        settled: told of each event that is done with, and whether the sink has it.
        failed: told of each failed try: the event, why, and seconds to the next one.
        max_tries: after so many an event is given up; 0 means never.
    """

    def __init__(
        self,
        send: Callable[[Landed], Answer],
        settled: Callable[[Landed, bool], None],
        failed: Callable[[Landed, str, float | None], None],
        max_tries: int = 0,
    ) -> None:
        self._send = send
        self._settled = settled
        self._failed = failed
        self._max_tries = max_tries
        self._waiting: dict[Key, _Waiting] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"watch-send-{number}", daemon=True) for number in range(SENDERS)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, landed: Landed) -> bool:
        """Takes an event; the one of the same version that still waits is replaced by it.

        Returns:
            Whether it is taken, or was already; False when the outbox is full or closed.
        """
        with self._changed:
            old = self._waiting.get(landed.key)
            if self._closed or (old is None and len(self._waiting) >= MAX_WAITING):
                return False
            if old is None:
                self._waiting[landed.key] = _Waiting(landed, time.monotonic())
            elif old.landed.fingerprint != landed.fingerprint:
                # What is on its way finds out on its return that there is something newer.
                old.landed, old.due, old.tries = landed, time.monotonic(), 0
            self._changed.notify()
            return True

    def drop(self, key: Key) -> None:
        """The version is gone: nobody needs to be told any more."""
        with self._changed:
            self._waiting.pop(key, None)
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """Events that the sink has not taken yet."""
        with self._changed:
            return len(self._waiting)

    def close(self, seconds: float) -> int:
        """Begins nothing new, and waits so long for what is on its way. Returns how many events were not delivered."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        with self._changed:
            return len(self._waiting)

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            waiting, landed = taken
            self._back(waiting, landed, self._send(landed))

    def _take(self) -> tuple[_Waiting, Landed] | None:
        """The next event that is due, as soon as there is one; None at the end."""
        with self._changed:
            while not self._closed:
                idle = [one for one in self._waiting.values() if not one.on_its_way]
                first = min(idle, key=lambda one: one.due, default=None)
                pause = None if first is None else first.due - time.monotonic()
                if first is not None and pause is not None and pause <= 0:
                    first.on_its_way = True
                    return first, first.landed
                self._changed.wait(pause)
            return None

    def _back(self, waiting: _Waiting, sent: Landed, answer: Answer) -> None:
        with self._changed:
            waiting.on_its_way = False
            newer = waiting.landed is not sent
            waiting.tries += 0 if newer else 1
            done = answer.delivered or not answer.again or (waiting.tries >= self._max_tries > 0)
            after = None
            if not done and not newer:
                after = backoff(waiting.tries) if answer.after is None else answer.after
                waiting.due = time.monotonic() + after
            elif done and not newer and self._waiting.get(sent.key) is waiting:
                del self._waiting[sent.key]
            self._changed.notify_all()
        if not answer.delivered:
            self._failed(sent, answer.text, after)
        if done:
            self._settled(sent, answer.delivered)


def backoff(tries: int) -> float:
    """Seconds to wait after so many tries that failed; at least one."""
    seconds = min(FIRST_RETRY_SECONDS * float(1 << min(tries - 1, 30)), MAX_RETRY_SECONDS)
    return seconds * random.uniform(1, 1.25)  # noqa: S311  spreads the tries of several watchers
