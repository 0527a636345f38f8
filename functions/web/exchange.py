"""One request and its answer, as far as HTTP/1.1 and HTTP/2 agree: the body in, and the application's run."""

import asyncio
from typing import Any

from functions.web import eager
from functions.web.service import HttpService, Message, Scope, log

_DISCONNECT: Message = {"type": "http.disconnect"}


class Exchange:
    """One request and its answer. Used on the event loop's thread only.

    Attributes:
        scope: ASGI's description of the request.
        finished: the answer is complete, or nobody will read it.
        buffered: bytes of the body that have come and were not yet asked for.
        ended: the body is complete.
    """

    __slots__ = (
        "_chunks",
        "_delivered",
        "_service",
        "_task",
        "_waiter",
        "buffered",
        "ended",
        "finished",
        "gone",
        "scope",
        "started",
    )

    def __init__(self, service: HttpService, scope: Scope) -> None:
        self._service = service
        self.scope = scope
        self._chunks: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._delivered = False
        self.buffered = 0
        self.ended = False
        self.finished = False
        self.gone = False
        self.started = False

    def start(self) -> None:
        """Calls the application; it runs at once, up to where it has to wait."""
        self.started = True
        task = eager.run(self._run(), self._service.loop)
        if task is not None:
            self._task = task
            self._service.keep(task)

    async def _run(self) -> None:
        try:
            await self._service.application(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            self.fail()
            raise
        except Exception:  # noqa: BLE001  the application answers its own errors: this is a defect
            log.exception("a request failed: %s %s", self.scope["method"], self.scope["path"])
            self.fail()
        else:
            if not self.finished:
                if not self.gone:
                    log.error("no complete answer to %s %s", self.scope["method"], self.scope["path"])
                self.fail()

    def feed(self, data: bytes) -> None:
        """The next bytes of the body."""
        self._chunks.append(data)
        self.buffered += len(data)
        self.wake()

    def end(self) -> None:
        """The body is complete."""
        self.ended = True
        self.wake()

    def disconnect(self) -> None:
        """The client has gone or cancelled: nobody reads the answer.

        An application that waits in `receive` learns it there; one that waits for anything else (a place in a batch)
        is cancelled, so that nothing is computed for nobody.
        """
        self.gone = self.finished = True
        if self._waiter is None and self._task is not None:
            self._task.cancel()
        self.wake()

    def wake(self) -> None:
        """Lets a waiting `receive` look again."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def receive(self) -> Message:
        """ASGI's `receive`: as much of the body as there is, then, in the end, the disconnect."""
        while True:
            if self.finished:
                return _DISCONNECT
            if self._chunks or (self.ended and not self._delivered):
                chunks = self._chunks
                body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
                self._chunks = []
                self.buffered = 0
                self._delivered = self.ended
                self.consumed(len(body))
                return {"type": "http.request", "body": body, "more_body": not self.ended}
            if not self.ended:
                self.expect()
            self._waiter = self._service.loop.create_future()
            await self._waiter

    async def send(self, message: Message) -> None:
        """ASGI's `send`."""
        raise NotImplementedError

    def fail(self) -> None:
        """Ends an exchange that has no complete answer, in whatever way the protocol has."""
        raise NotImplementedError

    def consumed(self, size: int) -> None:
        """The application has taken `size` bytes of the body."""

    def expect(self) -> None:
        """The application wants more of the body than has come."""


def unexpected(message: Message) -> RuntimeError:
    """For a message that the application must not send now: its defect."""
    kind: Any = message["type"]
    return RuntimeError(f"the application sent {kind!r}, which the answer does not allow here")
