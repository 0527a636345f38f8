"""One HTTP/2 request and its answer: what the application sends becomes frames, as fast as the client's windows allow.

Source: RFC 9113 sections 5.1 (states), 5.2 and 6.9 (flow control), 8.1 (messages, trailers).
"""

import asyncio
from typing import Protocol

from functions.web.exchange import Exchange, unexpected
from functions.web.http2_frames import (
    DATA,
    END_STREAM,
    ErrorCode,
    Header,
    encode_headers,
    frame,
)
from functions.web.service import HttpService, Message, Scope


class Http2Connection(Protocol):
    """The connection, as the streams on it see it."""

    send_window: int
    peer_frame_bytes: int
    write_paused: bool

    def queue(self, data: bytes) -> None:
        """Sends frames, together with what else is to be sent now."""

    def flush(self) -> None:
        """Sends what was queued, unless more is about to be."""

    def queue_headers(self, stream: int, block: bytes, *, end: bool) -> None:
        """Queues a header block."""

    def block(self, stream: "Http2Stream") -> None:
        """Notes that a stream has data to send and no window."""

    def consumed(self, stream: "Http2Stream", size: int) -> None:
        """The application has taken `size` bytes of the body."""

    def finish(self, stream: "Http2Stream") -> None:
        """An answer is complete."""

    def reset(self, stream: "Http2Stream", code: ErrorCode) -> None:
        """Ends a stream before its time."""


class Http2Stream(Exchange):
    """One request and its answer.

    Attributes:
        number: the stream's identifier.
        send_window: bytes that the client takes on this stream; negative after it made its window smaller.
        receive_window: bytes that the client may still send on it.
        unacknowledged: bytes taken by the application that the client was not yet told of.
        expected: what is left of the announced content-length, or None.
        moved: when the client last did something for it: headers, data, a window.
        patience: seconds that the client may let us wait for the rest of the request.
    """

    __slots__ = (
        "_connection",
        "_end_after_data",
        "_headers",
        "_pending",
        "_status",
        "_trailers",
        "_writable",
        "expected",
        "moved",
        "number",
        "patience",
        "receive_window",
        "send_window",
        "unacknowledged",
    )

    def __init__(self, connection: Http2Connection, service: HttpService, scope: Scope, number: int) -> None:
        super().__init__(service, scope)
        self._connection = connection
        self.number = number
        self.moved = service.loop.time()
        self.patience = service.limits.stall_seconds
        self.send_window = 0
        self.receive_window = 0
        self.unacknowledged = 0
        self.expected: int | None = None
        self._status = 0
        self._headers: list[Header] | None = None
        self._trailers: list[Header] | None = None
        self._pending: memoryview | None = None
        self._end_after_data = False
        self._writable: asyncio.Future[None] | None = None

    def consumed(self, size: int) -> None:
        """The client may send as much more."""
        self._connection.consumed(self, size)

    def disconnect(self) -> None:
        """The client has gone or has cancelled this request."""
        super().disconnect()
        self._pending = None
        self.drained()

    def drained(self) -> None:
        """The client has taken what was sent: `send` goes on."""
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    async def send(self, message: Message) -> None:
        """ASGI's `send`, with trailers; waits while the client's windows are full or it does not read."""
        if self.finished:
            return
        kind = message["type"]
        if not self._status:
            if kind != "http.response.start":
                raise unexpected(message)
            self._status = message["status"]
            self._headers = list(message.get("headers", ()))
            if message.get("trailers", False):
                self._trailers = []
            return
        if kind == "http.response.body" and not self._end_after_data:
            more = message.get("more_body", False)
            self._body(message.get("body", b""), last=not more)
            if (self._pending is not None or self._connection.write_paused) and not self.finished:
                self._connection.flush()
                self._writable = self._service.loop.create_future()
                await self._writable
            elif more:
                self._connection.flush()
            elif self._trailers is None:
                self._finish()
        elif kind == "http.response.trailers" and self._trailers is not None and self._end_after_data:
            self._trailers.extend(message.get("headers", ()))
            if not message.get("more_trailers", False):
                self._connection.queue_headers(self.number, encode_headers(self._trailers), end=True)
                self._finish()
        else:
            raise unexpected(message)

    def _body(self, body: bytes, *, last: bool) -> None:
        if self._status in (204, 304) or self.scope["method"] == "HEAD":
            body = b""
        self._end_after_data = last
        ends = last and self._trailers is None
        if self._headers is not None:
            headers, self._headers = self._headers, None
            if ends and body and all(name.lower() != b"content-length" for name, _ in headers):
                headers.append((b"content-length", b"%d" % len(body)))
            headers.append((b"date", self._service.date))
            block = encode_headers(headers, self._status)
            self._connection.queue_headers(self.number, block, end=ends and not body)
            if ends and not body:
                return
        if not body:
            if ends:
                self._connection.queue(frame(DATA, END_STREAM, self.number, b""))
            return
        size = len(body)
        connection = self._connection
        if size <= connection.peer_frame_bytes and size <= self.send_window and size <= connection.send_window:
            self.send_window -= size
            connection.send_window -= size
            connection.queue(frame(DATA, END_STREAM if ends else 0, self.number, body))
            return
        self._pending = memoryview(body)
        self.pump()

    def pump(self) -> None:
        """Sends as much of the waiting data as the windows allow."""
        pending = self._pending
        connection = self._connection
        while pending is not None:
            size = min(len(pending), connection.peer_frame_bytes, self.send_window, connection.send_window)
            if size <= 0 or connection.write_paused:
                self._pending = pending
                connection.block(self)
                return
            last = size == len(pending)
            ends = last and self._end_after_data and self._trailers is None
            connection.queue(frame(DATA, END_STREAM if ends else 0, self.number, bytes(pending[:size])))
            self.send_window -= size
            connection.send_window -= size
            pending = None if last else pending[size:]
        self._pending = None
        if self._writable is not None and not connection.write_paused:
            self._sent()

    def resume(self) -> None:
        """The transport takes bytes again."""
        if self._writable is not None and self._pending is None:
            self._sent()

    def _sent(self) -> None:
        self.drained()
        if self._end_after_data and self._trailers is None:
            self._finish()

    def _finish(self) -> None:
        if not self.finished:
            self.finished = True
            self.wake()
            self._connection.finish(self)

    def give_up(self) -> None:
        """The client has let us wait too long: 408 where nothing was sent yet, a reset stream where something was."""
        if not self._status or self._headers is not None:
            self._connection.queue_headers(self.number, encode_headers((), 408), end=True)
            self._finish()
        else:
            self._connection.reset(self, ErrorCode.CANCEL)
        self.disconnect()

    def fail(self) -> None:
        """Ends the answer: 500 where nothing was sent yet, a reset stream where something was."""
        if self.finished:
            return
        if not self._status or self._headers is not None:
            self._connection.queue_headers(self.number, encode_headers((), 500), end=True)
            self._finish()
        else:
            self.finished = True
            self.wake()
            self._connection.reset(self, ErrorCode.INTERNAL_ERROR)
