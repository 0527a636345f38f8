"""One HTTP/1.1 request and its answer: what the application sends becomes bytes.

Source: RFC 9112 section 6 (length of a message), RFC 9110 section 10.1.1 (100-continue).
"""

import asyncio
from http import HTTPStatus
from typing import Protocol

from functions.web.exchange import Exchange, unexpected
from functions.web.service import HttpService, Message, Scope

STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
"""The first line of an answer, by status."""

_NO_BODY = frozenset({204, 304})


class Http1Connection(Protocol):
    """The connection, as the exchanges on it see it."""

    write_paused: bool

    def write(self, data: bytes) -> None:
        """Sends bytes of the answer."""

    def resume_reading(self) -> None:
        """Reads on: the application has taken what had come."""

    def finish(self, exchange: "Http1Exchange") -> None:
        """An answer is complete."""


class Http1Exchange(Exchange):
    """One request and its answer.

    Attributes:
        keep_alive: the connection stays open after the answer.
        expects_continue: the client waits for "100 Continue" before it sends the body.
        head_sent: status and headers are on their way: no other answer is possible.
    """

    __slots__ = (
        "_chunked",
        "_connection",
        "_headers",
        "_left",
        "_status",
        "_writable",
        "expects_continue",
        "head_sent",
        "keep_alive",
    )

    def __init__(self, connection: Http1Connection, service: HttpService, scope: Scope, *, keep_alive: bool) -> None:
        super().__init__(service, scope)
        self._connection = connection
        self.keep_alive = keep_alive
        self.expects_continue = False
        self.head_sent = False
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._chunked = False
        self._writable: asyncio.Future[None] | None = None

    def consumed(self, size: int) -> None:
        """The connection reads on."""
        self._connection.resume_reading()

    def expect(self) -> None:
        """Asks for the body, where the client waits to be asked."""
        if self.expects_continue and not self.head_sent:
            self.expects_continue = False
            self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def drained(self) -> None:
        """The client has taken what was sent: `send` goes on."""
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def disconnect(self) -> None:
        """The client has gone."""
        super().disconnect()
        self.drained()

    async def send(self, message: Message) -> None:
        """ASGI's `send`; waits while the client does not read."""
        if self.finished:
            return
        kind = message["type"]
        if not self._status:
            if kind != "http.response.start":
                raise unexpected(message)
            self._status = message["status"]
            self._headers = message.get("headers", [])
            return
        if kind != "http.response.body":
            raise unexpected(message)
        body, more = message.get("body", b""), message.get("more_body", False)
        silent = self._status in _NO_BODY or self.scope["method"] == "HEAD"
        if not self.head_sent:
            data = self._head(None if more else len(body), silent=silent)
            self.head_sent = True
            self._connection.write(data if silent or not body else data + self._framed(body))
        elif body and not silent:
            self._connection.write(self._framed(body))
        if not more:
            if self._chunked:
                self._connection.write(b"0\r\n\r\n")
            self.finished = True
            self.wake()
            self._connection.finish(self)
        elif self._connection.write_paused:
            self._writable = self._service.loop.create_future()
            await self._writable

    def _framed(self, body: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(body), body) if self._chunked else body

    def _head(self, length: int | None, *, silent: bool) -> bytes:
        lines = [STATUS_LINES.get(self._status) or b"HTTP/1.1 %d \r\n" % self._status]
        sized = self._status in _NO_BODY
        for name, value in self._headers:
            lines.append(b"%b: %b\r\n" % (name, value))
            if name.lower() == b"content-length":
                sized = True
        if not sized:
            if length is not None:
                lines.append(b"content-length: %d\r\n" % length)
            elif self.scope["http_version"] == "1.0":
                self.keep_alive = False
            elif not silent:
                self._chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
        if self._service.draining:
            self.keep_alive = False
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        elif self.scope["http_version"] == "1.0":
            lines.append(b"connection: keep-alive\r\n")
        lines.append(b"date: %b\r\n\r\n" % self._service.date)
        return b"".join(lines)

    def fail(self) -> None:
        """Ends the answer: 500 where nothing was sent yet, a closed connection where something was."""
        if self.finished:
            return
        self.keep_alive = False
        if not self.head_sent:
            self._status = self._status or 500
            self._headers = []
            self._connection.write(self._head(0, silent=False))
        self.finished = True  # an answer that was cut short shows by the closed connection
        self.wake()
        self._connection.finish(self)
