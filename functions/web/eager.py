"""Runs a coroutine now, and as a task only if it has to wait.

Most predictions never wait: the body is there, the run takes microseconds. For them a task is the largest single cost
of a request (creation, a turn of the event loop, wake-ups), so the first step is run by the caller.

Before Python 3.12 that first step runs outside any task: `asyncio.current_task()` is None in it, and
`asyncio.timeout` must not be entered before the coroutine's first wait. From 3.12 on asyncio does all this itself.
"""

import asyncio
import sys
import types
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


def start(coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> "asyncio.Future[T]":
    """Runs `coroutine` up to its first wait, in the running loop.

    Returns:
        A finished future when it never waited, with its result or its exception; else the task that goes on with it.
    """
    if sys.version_info >= (3, 12):
        return asyncio.Task(coroutine, loop=loop, eager_start=True)
    try:
        awaited = coroutine.send(None)
    except StopIteration as stop:
        done: asyncio.Future[T] = loop.create_future()
        done.set_result(stop.value)
        return done
    except Exception as error:  # noqa: BLE001  it is the future's to raise
        done = loop.create_future()
        done.set_exception(error)
        return done
    return loop.create_task(_rest(coroutine, awaited))


def run(coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> "asyncio.Task[None] | None":
    """The same for a coroutine that gives nothing and raises nothing: None when it never waited, else its task."""
    if sys.version_info >= (3, 12):
        task = asyncio.Task(coroutine, loop=loop, eager_start=True)
        return None if task.done() else task
    try:
        awaited = coroutine.send(None)
    except StopIteration:
        return None
    return loop.create_task(_rest(coroutine, awaited))


async def _rest(coroutine: Coroutine[Any, Any, T], awaited: object) -> T:
    return await _resumed(coroutine, awaited)


@types.coroutine
def _resumed(coroutine: Coroutine[Any, Any, T], awaited: object) -> Generator[Any, Any, T]:
    # `awaited` is what the first step waits for; the task that drives this generator takes it from here.
    while True:
        thrown: BaseException | None = None
        try:
            sent = yield awaited
        except BaseException as error:  # noqa: BLE001  cancellation too belongs to the coroutine
            thrown = error
        try:
            awaited = coroutine.send(sent) if thrown is None else coroutine.throw(thrown)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
