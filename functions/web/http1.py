"""HTTP/1.1 connections: httptools parses, an ASGI application answers.

Source: RFC 9112; the parser is llhttp, Node's, in its strict mode (a body has one length or the request is refused).
"""

import asyncio
from collections import deque
from typing import cast
from urllib.parse import unquote

import httptools

from functions.web.http1_exchange import STATUS_LINES, Http1Exchange
from functions.web.service import HttpService, Scope

MAX_PIPELINED = 16
"""Requests a client may send ahead of the answers; beyond that it is not read from."""

_EXTENSIONS: dict[str, dict[str, object]] = {}


class Http1Protocol(asyncio.Protocol):
    """One HTTP/1.1 connection. `data_received` may be called with bytes that someone else has read."""

    def __init__(self, service: HttpService) -> None:
        self._service = service
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Http1Exchange] = deque()  # in the order of the requests; the first one is being answered
        self._incoming: Http1Exchange | None = None  # whose body is being read
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._in_head = False
        self._head_bytes = 0
        self._heads_begun = 0  # in the bytes that are read now
        self._framing_bytes = 0  # came since the last byte of a body: sizes of chunks, their extensions, trailers
        self._body_came = False
        self._discarded = 0
        self._refusal: tuple[int, str] | None = None  # sent when the answers before it are
        self._expect = False
        self._reading = True
        self._closing = False
        self._last_buffer = 0
        self._deadline = service.loop.time() + service.limits.head_seconds
        self.write_paused = False

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins; called by whoever owns the socket."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are not asyncio's subclasses
        self._service.connections.add(self)
        self._base: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "scheme": "http" if self._transport.get_extra_info("sslcontext") is None else "https",
            "root_path": "",
            "client": _address(self._transport, "peername"),
            "server": _address(self._transport, "sockname"),
            "extensions": _EXTENSIONS,
        }

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed: whatever runs learns that nobody reads its answer."""
        self._service.connections.discard(self)
        self._closing = True
        while self._queue:
            self._queue.popleft().disconnect()
        self._incoming = None

    def eof_received(self) -> None:
        """The client has closed: the transport closes too. Who only half closes looks the same, and gets no answer."""

    def data_received(self, data: bytes) -> None:
        """The next bytes from the client."""
        if self._closing:
            return
        in_head, in_body = self._in_head, self._incoming is not None
        self._heads_begun = 0
        self._body_came = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Answered as the HTTP/1.1 request that it also is; what follows it on the connection is not read.
            self._closing = True
        except httptools.HttpParserError as error:
            if not self._closing:
                self._refuse(400, f"malformed HTTP request: {error}")
                return
        limits = self._service.limits
        if self._incoming is not None:
            self._framing_bytes = 0 if self._body_came else self._framing_bytes + len(data)
            if self._framing_bytes > limits.head_bytes:
                self._refuse(431, f"more than {limits.head_bytes} bytes of trailers, or of framing between two chunks")
                return
            self._deadline = self._service.loop.time() + limits.stall_seconds
        elif self._in_head:
            if self._heads_begun == (0 if in_head else 1) and not in_body:  # else it began somewhere in `data`
                self._head_bytes += len(data)
            if self._head_bytes > limits.head_bytes:
                self._refuse(431, f"request line and headers are longer than {limits.head_bytes} bytes")
                return
            if not in_head:
                self._deadline = self._service.loop.time() + limits.head_seconds
        self._start_next()

    def pause_writing(self) -> None:
        """The client reads slower than answers come."""
        self.write_paused = True
        self._last_buffer = self._transport.get_write_buffer_size()
        self._deadline = self._service.loop.time() + self._service.limits.stall_seconds

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.write_paused = False
        self._deadline = self._service.loop.time() + self._service.limits.idle_seconds
        if self._queue:
            self._queue[0].drained()
        self._start_next()

    # The server's side.

    def sweep(self, now: float) -> None:
        """Ends a connection that has waited too long."""
        if self.write_paused:
            size = self._transport.get_write_buffer_size()
            if size < self._last_buffer:  # slow, but it reads
                self._last_buffer = size
                self._deadline = now + self._service.limits.stall_seconds
        elif self._queue and self._incoming is None:
            return  # the wait is ours
        elif not self._reading:
            self._deadline = now + self._service.limits.stall_seconds
        if now < self._deadline:
            return
        if self.write_paused or self._transport.is_closing():
            self._transport.abort()
        elif self._in_head or self._incoming is not None:
            self._refuse(408, "the request did not arrive in time")
        else:
            self._transport.close()

    def drain(self) -> None:
        """Nothing by itself: the next answer says that the connection closes."""

    def close_idle(self) -> None:
        """Takes no further request."""
        if not self._queue and not self._in_head:
            self._transport.close()

    def abort(self) -> None:
        """Closes at once."""
        self._transport.abort()

    # The parser's side.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_head = True
        self._heads_begun += 1
        self._head_bytes = 0
        self._url = b""
        self._headers = []
        self._expect = False

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or a trailer: of those none has a meaning here, and none may pass for a header."""
        if not self._in_head:
            return
        name = name.lower()
        self._headers.append((name, value))
        if name == b"expect" and value.lower() == b"100-continue":
            self._expect = True

    def on_headers_complete(self) -> None:
        """The head is complete."""
        url = self._url
        if url[:1] != b"/":
            # Absolute form, as proxies get it; what is no URL at all stays as it is and will be found nowhere.
            try:
                parsed = httptools.parse_url(url)
                url = (parsed.path or b"/") + (b"?" + parsed.query if parsed.query else b"")
            except httptools.HttpParserInvalidURLError:
                pass
        raw_path, _, query = url.partition(b"?")
        path = raw_path.decode("latin-1")
        scope: Scope = dict(self._base)
        scope["http_version"] = self._parser.get_http_version()
        scope["method"] = self._parser.get_method().decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = raw_path
        scope["query_string"] = query
        scope["headers"] = self._headers
        exchange = Http1Exchange(self, self._service, scope, keep_alive=self._parser.should_keep_alive())
        exchange.expects_continue = self._expect
        self._incoming = exchange
        self._in_head = False
        self._framing_bytes = 0
        self._discarded = 0
        self._queue.append(exchange)
        if len(self._queue) > MAX_PIPELINED:
            self._pause_reading()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        exchange = self._incoming
        self._body_came = True
        if exchange is None:
            return
        if exchange.finished:
            self._discarded += len(body)
            if self._discarded > self._service.limits.discard_bytes:
                self._transport.close()
            return
        exchange.expects_continue = False
        exchange.feed(body)
        if exchange.buffered > self._service.limits.body_buffer_bytes:
            self._pause_reading()

    def on_message_complete(self) -> None:
        """The request is complete."""
        exchange, self._incoming = self._incoming, None
        if exchange is not None:
            exchange.end()
            if exchange.finished:
                self._leave(exchange)

    # Exchanges.

    def _start_next(self) -> None:
        # A loop, not a recursion: answers that never wait finish inside `start`.
        while self._queue and not self.write_paused:
            exchange = self._queue[0]
            if exchange.started:
                return
            exchange.start()
            if not exchange.finished:
                return

    def finish(self, exchange: "Http1Exchange") -> None:
        """An answer is complete."""
        if exchange is not self._incoming:
            self._leave(exchange)
        elif exchange.expects_continue or not exchange.keep_alive:
            self._transport.close()  # the body was never asked for: it may or may not come

    def _leave(self, exchange: "Http1Exchange") -> None:
        if self._queue and self._queue[0] is exchange:
            self._queue.popleft()
        if not exchange.keep_alive or (not self._queue and (self._closing or self._service.closing)):
            self._end(refuse=exchange.keep_alive)
            return
        if not self.write_paused:
            self._deadline = self._service.loop.time() + self._service.limits.idle_seconds
        self.resume_reading()
        if self._queue and not self._queue[0].started:
            self._service.loop.call_soon(self._start_next)

    def write(self, data: bytes) -> None:
        """Sends bytes of the answer."""
        self._transport.write(data)

    def resume_reading(self) -> None:
        """Reads on, where the body or the pipeline had become too long."""
        if not self._reading and len(self._queue) <= MAX_PIPELINED and not self._transport.is_closing():
            self._reading = True
            self._deadline = self._service.loop.time() + self._service.limits.stall_seconds
            self._transport.resume_reading()

    def _pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._transport.pause_reading()

    def _refuse(self, status: int, reason: str) -> None:
        # For a request that cannot be read on: nothing more is read, and the answers before it are sent first.
        self._closing = True
        self._refusal = (status, reason)
        exchange, self._incoming = self._incoming, None
        if exchange is not None:
            self._queue.pop()
            if exchange.head_sent:
                self._refusal = None  # too late for another answer
            exchange.disconnect()
        if not self._queue:
            self._end()
        self._start_next()

    def _end(self, *, refuse: bool = True) -> None:
        if refuse and self._refusal is not None:
            status, reason = self._refusal
            body = b'{\n    "error": "' + reason.encode("ascii", "replace").replace(b'"', b"'") + b'"\n}'
            self._transport.write(
                STATUS_LINES[status]
                + b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
                + body
            )
        self._transport.close()


def _address(transport: asyncio.Transport, key: str) -> tuple[str, int] | None:
    address = transport.get_extra_info(key)
    return (str(address[0]), int(address[1])) if isinstance(address, tuple) else None
