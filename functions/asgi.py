"""The ASGI application: reads a request, finds its door by the first segment of the path, sends the answer.

Raw ASGI, no framework: what happens for every request here is a dictionary lookup or two.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from functions.cold_start import ColdAnswers
from functions.observing.current_access import note_failed
from functions.readiness import PROBES, Readiness
from functions.web.body_budget import BodyBudget, BodyHold
from functions.web.inflate import inflate
from functions.web.message import Handler, Request, Response, error_response, json_error, not_found
from loader.priority import LOW_WORDS, low_priority
from loader.status import Code, ServingError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApplication = Callable[[Scope, Receive, Send], Awaitable[None]]

PRIORITY_HEADER = b"x-request-priority"
"""With `low`, a request may wait for others that do not say so; gRPC's metadata are the same headers."""

THREAD_BYTES = 64 << 10
"""A gzip body of this size or more is inflated in a thread (zlib lets other threads run meanwhile)."""

_log = logging.getLogger("zeroserve.asgi")


@dataclass(frozen=True, slots=True)
class Doors:
    """What the application leads to.

    Attributes:
        handlers: by the first segment of the path in small letters (`v1`); "" is the root.
        grpc: the ASGI application for `application/grpc` requests, or None.
        event: takes every POST that carries a CloudEvent, whatever its path; or None.
    """

    handlers: Mapping[str, Handler]
    grpc: AsgiApplication | None = None
    event: Handler | None = None


@dataclass(slots=True)
class Application:
    """The ASGI application of one server process.

    It may be called before the doors exist: a request that needs them waits for `doors` while the runtime loads.

    Attributes:
        doors: done when the server can take requests; its exception means that it never will.
        readiness: what `/readyz` says.
        max_body_bytes: a longer body is answered 413.
        max_inflated_bytes: a gzip body that inflates to more is answered 413.
        budget: what all bodies together may hold; beyond it 503.
        cold: marks the answers that a cold start has delayed.
    """

    doors: Future[Doors]
    readiness: Readiness
    max_body_bytes: int
    max_inflated_bytes: int
    budget: BodyBudget
    cold: ColdAnswers = field(default_factory=ColdAnswers)
    _open: Doors | None = field(default=None, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or takes part in the server's start and end (`lifespan`)."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await _lifespan(receive, send)
            return
        path: str = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        segment = path[1:].partition("/")[0].lower()
        if segment in PROBES and path[1:] == segment:
            await _send(send, self.readiness.probe(segment))
            return
        send = self.cold.telling(scope["method"], send)
        doors = self._open
        if doors is None:
            try:
                doors = await asyncio.shield(asyncio.wrap_future(self.doors))
            except ServingError as error:
                note_failed(error.code, error.message)
                await _send(send, error_response(error))
                return
            self._open = doors
        headers: dict[bytes, bytes] = dict(scope["headers"])
        low_priority.set(headers.get(PRIORITY_HEADER, b"").lower() in LOW_WORDS)
        if doors.grpc is not None and is_grpc(headers.get(b"content-type", b"")):
            await doors.grpc(scope, receive, send)
            return
        handler = doors.handlers.get(segment)
        hold = BodyHold(self.budget)
        try:
            body = await self._read(headers, receive, hold)
            if body is None:
                return  # the client has gone
            request = Request(scope["method"], path, scope.get("query_string", b""), headers, body)
            if doors.event is not None and scope["method"] == "POST" and is_cloud_event(headers):
                handler = doors.event
            response = not_found() if handler is None else await handler(request)
        except _TooLargeError as error:
            note_failed(Code.INVALID_ARGUMENT, str(error))
            response = json_error(413, str(error))
        except ServingError as error:
            note_failed(error.code, error.message)
            response = error_response(error)
        except Exception:  # noqa: BLE001  whatever fails, the client gets an answer and the log the reason
            _log.exception("a request failed: %s %s", scope["method"], path)
            note_failed(Code.INTERNAL, "internal error; the server's log says more")
            response = error_response(ServingError(Code.INTERNAL, "internal error; the server's log says more"))
        finally:
            hold.release()
        await _send(send, response)

    async def _read(self, headers: Mapping[bytes, bytes], receive: Receive, hold: BodyHold) -> bytes | None:
        """The body, complete and not compressed; None when the client has gone. Raises `_TooLargeError`.

        A body in several pieces is taken from the budget, through `hold`.
        """
        length = headers.get(b"content-length")
        if length is not None and len(length) < 20 and length.isdigit() and int(length) > self.max_body_bytes:
            raise _TooLargeError(self._too_large(int(length)))
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body", False) or message["type"] != "http.request":
            chunks, size = [body], len(body)
            while True:
                if message["type"] != "http.request":
                    return None
                if size > self.max_body_bytes:
                    raise _TooLargeError(self._too_large(size))
                hold.take(len(chunks[-1]))
                if not message.get("more_body", False):
                    break
                message = await receive()
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
            body = b"".join(chunks)
        elif len(body) > self.max_body_bytes:
            raise _TooLargeError(self._too_large(len(body)))
        encoding = headers.get(b"content-encoding")
        if encoding is not None and b"gzip" in encoding.lower():
            try:
                if len(body) < THREAD_BYTES:
                    body = inflate(body, self.max_inflated_bytes)
                else:
                    body = await asyncio.to_thread(inflate, body, self.max_inflated_bytes)
            except ServingError as error:
                raise _TooLargeError(error.message) from None
            if len(body) > THREAD_BYTES:
                hold.take(len(body))
        return body

    def _too_large(self, size: int) -> str:
        return f"the body has {size} bytes or more, {self.max_body_bytes} are allowed (--max_request_bytes)"


class _TooLargeError(Exception):
    """The body is over a limit; no canonical code has HTTP's 413."""


def is_grpc(content_type: bytes) -> bool:
    """Whether a content type is gRPC's own (`application/grpc`, `application/grpc+proto`), not gRPC-Web's."""
    return content_type.startswith(b"application/grpc") and content_type[16:17] in b"+;"


def is_cloud_event(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request carries a CloudEvent, in binary or structured mode."""
    return b"ce-specversion" in headers or headers.get(b"content-type", b"").startswith(b"application/cloudevents")


async def _send(send: Send, response: Response) -> None:
    body = response.body
    await send(
        {
            "type": "http.response.start",
            "status": response.status,
            "headers": [*response.headers, (b"content-length", b"%d" % len(body))],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
