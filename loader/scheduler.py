"""How a run reaches a session: on the event loop's own thread, or in a pool of threads.

A run that is known to be short stays on the event loop (`loader.inline_cost`), and every other one leaves it free.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, Protocol

from loader.dtypes import Array
from loader.inline_cost import InlineCost, InlineCosts
from loader.run_observer import run_observer
from loader.session import Session
from loader.status import Code, ServingError

if TYPE_CHECKING:
    from loader.run_log import RunObserver


class Scheduler(Protocol):
    """Decides when and where a run happens; a servable has one. In-function batching is another kind of it."""

    async def run(
        self, feeds: Mapping[str, Array], fetches: Sequence[str], *, deadline: float | None = None
    ) -> list[Array]:
        """Runs once.

        Once this has returned or raised, also when the caller was cancelled, the servable may be let go of: the
        session is not in use any more, or `close` waits until it is not.

        Args:
            feeds: by tensor name; not to be written to afterwards.
            fetches: tensor names.
            deadline: in `time.monotonic()` seconds; None for no limit.

        Returns:
            One array for each fetch.

        Raises:
            ServingError: what the run raises; DEADLINE_EXCEEDED or RESOURCE_EXHAUSTED when it is too late.
        """
        ...

    def close(self) -> None:
        """Lets go of what the scheduler shares with others. Nobody calls `run` any more, or waits for it; a run whose
        caller has left may still go on, and is waited for.
        """
        ...


class DirectScheduler:
    """Every request is a run of its own: short ones inline, others in the executor.

    Args:
        session: what runs.
        executor: threads for runs that take long; shared with other servables, closed by its owner.

    Thread safety: `run` from any number of event loops.
    """

    def __init__(self, session: Session, executor: Executor) -> None:
        self._session = session
        self._executor = executor
        self._costs = InlineCosts()
        # A graph that may wait for something would stop the event loop, however short its other runs were.
        self._never_inline = bool(getattr(session, "may_block", False))

    async def run(
        self, feeds: Mapping[str, Array], fetches: Sequence[str], *, deadline: float | None = None
    ) -> list[Array]:
        """Runs once; see `Scheduler.run`."""
        observer = run_observer.get()
        cost = None if self._never_inline else self._costs.of(feeds, tuple(fetches))
        if cost is not None and cost.inline():
            return self._run(feeds, fetches, deadline, cost, observer=observer)
        since = 0.0 if observer is None else time.monotonic()
        future = asyncio.get_running_loop().run_in_executor(
            self._executor, partial(self._run, feeds, fetches, deadline, cost, observer=observer, since=since)
        )
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await _finished(future)
            raise

    def close(self) -> None:
        """Nothing to do: the executor belongs to whoever made it."""

    def _run(
        self,
        feeds: Mapping[str, Array],
        fetches: Sequence[str],
        deadline: float | None,
        cost: InlineCost | None,
        *,
        observer: "RunObserver | None",
        since: float = 0.0,
    ) -> list[Array]:
        """On the event loop's thread, or on one of the executor; `since` is when it was asked for that."""
        started = time.monotonic()
        try:
            outputs = self._session.run(feeds, fetches, timeout=_left(deadline, started))
            if cost is not None:
                cost.observe(time.monotonic() - started)
            return outputs
        finally:
            if observer is not None:
                from loader.run_log import Ran  # noqa: PLC0415  see loader.run_observer

                observer.ran(Ran(since or started, started, time.monotonic()))


def _left(deadline: float | None, now: float) -> float | None:
    if deadline is None:
        return None
    if deadline <= now:
        raise ServingError(Code.DEADLINE_EXCEEDED, "the deadline had passed before the model could run")
    return deadline - now


async def _finished(future: "asyncio.Future[list[Array]]") -> None:
    """Waits for a run that cannot be interrupted: its session must outlive it."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
    if not future.cancelled():
        future.exception()  # taken here, or the loop would report it as never retrieved
