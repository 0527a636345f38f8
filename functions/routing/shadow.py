"""The shadow: a copy of a request goes to another revision after the answer was given, and both answers are compared.

It never delays or fails an answer: a copy waits in a queue with two limits and is dropped where they are reached; few
are on their way at a time; whatever goes wrong is counted. Nothing of a request or an answer is logged but the place
and the values of a difference.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from functions.routing.comparison import Answer, Difference, compare
from functions.routing.counts import RoutingCounts
from functions.routing.table import Routes, ShadowRule
from loader.status import ServingError

MAX_COPIES = 64
"""Copies that wait."""

MAX_COPY_BYTES = 64 << 20
"""Of all copies that wait, request and answer together."""

SENDERS = 4
"""Copies on their way at a time."""

LOG_SECONDS = 10.0
"""Between two lines of the log about differences."""

_log = logging.getLogger("zeroserve.shadow")


@dataclass(frozen=True, slots=True)
class Copy:
    """A request that was answered well, and how the shadow is asked the same.

    Attributes:
        arm: the tag of the revision that answered.
        rule: the shadow's.
        size: bytes that the copy holds.
        answer: what was answered, in the protocol's own form.
        send: the shadow's answer in the same form; None for one that is not good.
        read: what an answer says. Raises ValueError or ServingError for one that cannot be read.
    """

    arm: str
    rule: ShadowRule
    size: int
    answer: Any
    send: Callable[[], Awaitable[Any]]
    read: Callable[[Any], Answer]


class Shadow:
    """Takes copies. Used on one event loop's thread; answers are compared in a thread of the default pool.

    Args:
        routes: those in force.
        counts: where copies and differences are counted.
        draw: a number from 0 to 1, without 1.
    """

    def __init__(
        self, routes: Callable[[], Routes], counts: RoutingCounts, draw: Callable[[], float] = random.random
    ) -> None:
        self._routes = routes
        self._counts = counts
        self._draw = draw
        self._queue: deque[Copy] = deque()
        self._bytes = 0
        self._senders: set[asyncio.Task[None]] = set()
        self._draining = False
        self._next_line = 0.0
        self._unsaid = 0

    def wants(self) -> ShadowRule | None:
        """The rule by which this request is to be copied; None where it is not."""
        rule = self._routes().shadow
        return rule if rule is not None and self._draw() * 100 < rule.percent else None

    def offer(self, copy: Copy) -> None:
        """Takes a copy, or drops it. Returns at once and raises nothing."""
        if self._draining or len(self._queue) >= MAX_COPIES or self._bytes + copy.size > MAX_COPY_BYTES:
            self._count(copy, "dropped")
            return
        self._queue.append(copy)
        self._bytes += copy.size
        if len(self._senders) < SENDERS:
            # In a context of its own: it will send the copies of other requests, too.
            sender = asyncio.get_running_loop().create_task(self._send_all(), context=Context())
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)

    def drain(self) -> None:
        """The process ends: copies are given up. On the event loop's thread."""
        self._draining = True
        for copy in self._queue:
            self._count(copy, "dropped")
        self._queue.clear()
        for sender in self._senders:
            sender.cancel()

    async def _send_all(self) -> None:
        while self._queue:
            copy = self._queue.popleft()
            try:
                await self._send(copy)
            except asyncio.CancelledError:
                self._count(copy, "dropped")
                raise
            except Exception:  # noqa: BLE001  a copy must not end in silence, nor take others with it
                _log.exception("a copy for %s failed", copy.rule.tag)
                self._count(copy, "failed")
            finally:
                self._bytes -= copy.size

    async def _send(self, copy: Copy) -> None:
        try:
            answer = await copy.send()
        except ServingError:
            answer = None
        if answer is None:
            self._count(copy, "failed")
            return
        try:
            difference = await asyncio.to_thread(_compared, copy, answer)
        except (ValueError, ServingError, RecursionError):
            self._count(copy, "unreadable")
            return
        self._note(copy, difference)

    def _note(self, copy: Copy, difference: Difference) -> None:
        arms = (copy.arm, copy.rule.tag)
        self._count(copy, "different" if difference.where else "same")
        if difference.largest is not None:
            self._counts.difference.observe(arms, difference.largest)
        if difference.rows:
            self._counts.top.add((*arms, "same"), difference.rows_same)
            self._counts.top.add((*arms, "different"), difference.rows - difference.rows_same)
        if not difference.where:
            return
        now = time.monotonic()
        if now < self._next_line:
            self._unsaid += 1
            return
        self._next_line = now + LOG_SECONDS
        _log.warning(
            "%s differs from %s: %s%s",
            copy.rule.tag,
            copy.arm,
            difference.where,
            f" ({self._unsaid} more since the last line)" if self._unsaid else "",
        )
        self._unsaid = 0

    def _count(self, copy: Copy, result: str) -> None:
        self._counts.shadowed.add((copy.arm, copy.rule.tag, result))


def _compared(copy: Copy, answer: Any) -> Difference:
    return compare(copy.read(copy.answer), copy.read(answer), copy.rule.rtol, copy.rule.atol)
