"""HTTP/2 connections: frames in, an ASGI application called for each request, frames out.

Source: RFC 9113. Floods: CVE-2019-9512 to 9518 (ping, reset, settings, empty frames, small windows), CVE-2023-44487
(rapid reset), CVE-2024-27316 (endless CONTINUATION).
"""

import asyncio
from collections import deque
from typing import cast
from urllib.parse import unquote

from functions.web import http2_frames as h2
from functions.web.http2_frames import ConnectionFault, ErrorCode, StreamFault
from functions.web.http2_headers import HeaderBlock, HeaderDecoder, check_fields, check_request
from functions.web.http2_reader import FrameReader
from functions.web.http2_state import LEAVE_SECONDS, Http2State
from functions.web.http2_stream import Http2Stream
from functions.web.service import HttpService, Scope, log

_EXTENSIONS: dict[str, dict[str, object]] = {"http.response.trailers": {}}


HEADER_NUISANCE_SHIFT = 11
"""A header block counts as one nuisance for each 2 kB: a long one costs as much work as many short ones. Those that
clients repeat are short, because they refer to the table."""

_CALL = b"application/grpc"
"""Content types of calls that are conversations: a client may pause between two messages."""


class Http2Protocol(Http2State, asyncio.Protocol):
    """One HTTP/2 connection. `data_received` may be called with bytes that someone else has read."""

    def __init__(self, service: HttpService) -> None:
        super().__init__(service)
        self._reader = FrameReader(service.limits.frame_bytes, service.limits.head_bytes)
        self._decoder = HeaderDecoder(service.limits.head_bytes)
        self._starting: deque[Http2Stream] = deque()

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins; called by whoever owns the socket."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are not asyncio's subclasses
        self._service.connections.add(self)
        peer, own = self._transport.get_extra_info("peername"), self._transport.get_extra_info("sockname")
        self._base: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "2",
            "root_path": "",
            "client": tuple(peer[:2]) if isinstance(peer, tuple) else None,
            "server": tuple(own[:2]) if isinstance(own, tuple) else None,
            "extensions": _EXTENSIONS,
        }
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed: whatever runs learns that nobody reads its answer."""
        self._service.connections.discard(self)
        self._going = True
        for stream in list(self._streams.values()):
            stream.disconnect()
        self._streams.clear()
        self._blocked.clear()

    def data_received(self, data: bytes) -> None:
        """The next bytes from the client."""
        if self._transport.is_closing():
            return
        self._corked = True
        try:
            for frame in self._reader.feed(data):
                self._frame(*frame)
            self._start_waiting()
        except ConnectionFault as fault:
            self._fail(fault.code, fault.reason)
        finally:
            self._corked = False
        self.flush()

    def pause_writing(self) -> None:
        """The client reads slower than answers come: it is not read from either, whatever it sends."""
        self.write_paused = True
        self._last_buffer = self._transport.get_write_buffer_size()
        self._deadline = self._service.loop.time() + self._limits.stall_seconds
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.write_paused = False
        now = self._service.loop.time()
        self._deadline = now + self._limits.idle_seconds
        for stream in self._streams.values():
            stream.moved = now  # it was not read from while it did not read
        if not self._transport.is_closing():
            self._transport.resume_reading()
        self._pump()
        for stream in list(self._streams.values()):
            stream.resume()
        self._start_waiting()
        self.flush()

    def _start_waiting(self) -> None:
        # Not while the client does not read: each answer would be one more that waits in memory.
        while self._starting and not self.write_paused:
            stream = self._starting.popleft()
            if not stream.gone:
                stream.start()

    # The server's side.

    def drain(self) -> None:
        """Asks a client that has several requests in flight, perhaps always, to send no further ones here.

        Others are asked right behind an answer: some clients lose the one request that is in flight when GOAWAY comes.
        """
        if len(self._streams) > 1:
            self.announce()
            self.flush()

    def close_idle(self) -> None:
        """Ends the connection in two steps, so that requests which cross the first GOAWAY are answered as well.

        Source: RFC 9113 section 6.8. No PING tells when the client has understood: one that gRPC answers is no promise
        that no request comes behind the answer, and after GOAWAY Python's h2 takes it for a fault.
        """
        if self._announced or len(self._streams) != 1:
            self.announce()
            self.flush()
            self._service.loop.call_later(LEAVE_SECONDS, self._leave)

    def abort(self) -> None:
        """Closes at once."""
        self._transport.abort()

    # Frames in.

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        handler = _HANDLERS.get(kind)
        if handler is None:
            self._nuisance()
            return
        try:
            handler(self, flags, number, payload)
        except StreamFault as fault:
            self._nuisance()
            log.debug("stream %d: %s", number, fault.reason)
            stream = self._streams.get(number)
            if stream is not None:
                self.reset(stream, fault.code)
                stream.disconnect()
            else:
                self._forget(number)
                self.queue(h2.rst_stream(number, fault.code))

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._receive_window -= size
        if self._receive_window < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more data than the connection's window")
        stream = self._streams.get(number)
        if stream is None or stream.ended:
            self._late_data(flags, number, size, known=stream is not None)
            return
        stream.receive_window -= size
        if stream.receive_window < 0:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "more data than the stream's window")
        if flags & h2.PADDED:
            payload = h2.unpadded(payload)
            if size > len(payload):
                self.consumed(stream, size - len(payload))
        if payload:
            stream.moved = self._service.loop.time()
            if stream.expected is not None:
                stream.expected -= len(payload)
            if stream.finished:
                self.consumed(stream, len(payload))
            else:
                stream.feed(payload)
        elif not flags & h2.END_STREAM:
            self._nuisance()
        if flags & h2.END_STREAM:
            self._end(stream)

    def _late_data(self, flags: int, number: int, size: int, *, known: bool) -> None:
        # On a stream that is not open, or not any more.
        self._nuisance()
        self._acknowledge(size)
        if number > self._last_stream or not number & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"data on idle stream {number}")
        if known:
            raise StreamFault(ErrorCode.STREAM_CLOSED, f"data on half-closed stream {number}")
        if number not in self._ended:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, f"data on closed stream {number}")
        if flags & h2.END_STREAM:  # else it was sent before the client knew that we had ended the stream
            del self._ended[number]

    def _end(self, stream: Http2Stream) -> None:
        if stream.expected:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "the body has not the length that content-length says")
        stream.end()
        if stream.finished:
            self._remove(stream)

    def _headers(self, flags: int, number: int, data: bytes) -> None:
        self._nuisance(len(data) >> HEADER_NUISANCE_SHIFT)
        block = self._decoder.decode(data)  # even where nobody wants them: the table must stay in step
        stream = self._streams.get(number)
        if stream is not None:
            if stream.ended:
                raise ConnectionFault(ErrorCode.STREAM_CLOSED, f"headers on half-closed stream {number}")
            if not flags & h2.END_STREAM:
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "trailers that do not end the stream")
            check_fields(block.headers)
            self._end(stream)
            return
        if number in self._ended:
            self._nuisance()
            del self._ended[number]
            return
        if not number & 1 or number <= self._last_stream:
            code = ErrorCode.PROTOCOL_ERROR if not number & 1 else ErrorCode.STREAM_CLOSED
            raise ConnectionFault(code, f"headers on stream {number} after stream {self._last_stream}")
        self._last_stream = number
        if len(self._streams) >= self._limits.streams or self._going:
            raise StreamFault(ErrorCode.REFUSED_STREAM, "too many requests at once")
        self._open(number, block, ended=bool(flags & h2.END_STREAM))

    def _open(self, number: int, block: HeaderBlock, *, ended: bool) -> None:
        if block.request is None:
            block.request = self._request(block.headers)
        scope: Scope = dict(block.request)
        scope["headers"] = block.request["headers"].copy()
        stream = Http2Stream(self, self._service, scope, number)
        stream.send_window = self._peer_window
        stream.receive_window = self._limits.stream_window_bytes
        for name, value in scope["headers"]:
            if name == b"content-length":
                stream.expected = int(value)
            elif name == b"content-type" and value.startswith(_CALL):
                stream.patience = self._limits.idle_seconds
        self._streams[number] = stream
        self._starting.append(stream)
        if self._service.closing and not self._announced:  # it was left its one request, and now has more
            self.close_idle()
        if ended:
            self._end(stream)

    def _request(self, headers: list[h2.Header]) -> Scope:
        pseudo, rest = check_request(headers)
        raw_path, _, query = pseudo[b":path"].partition(b"?")
        path = raw_path.decode("latin-1")
        if b":authority" in pseudo:
            rest.append((b"host", pseudo[b":authority"]))
        crumbs = [value for name, value in rest if name == b"cookie"]
        if len(crumbs) > 1:  # RFC 9113 section 8.2.3
            rest = [field for field in rest if field[0] != b"cookie"]
            rest.append((b"cookie", b"; ".join(crumbs)))
        return {
            **self._base,
            "scheme": pseudo[b":scheme"].decode("latin-1"),
            "method": pseudo[b":method"].decode("latin-1"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": rest,
        }

    def _priority(self, flags: int, number: int, payload: bytes) -> None:
        del flags
        self._nuisance()
        if len(payload) != 5:
            raise StreamFault(ErrorCode.FRAME_SIZE_ERROR, "a PRIORITY frame has 5 bytes")
        if int.from_bytes(payload[:4], "big") & h2.MAX_WINDOW == number:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "a stream depends on itself")

    def _rst_stream(self, flags: int, number: int, payload: bytes) -> None:
        del flags
        self._nuisance()
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a RST_STREAM frame has 4 bytes")
        if number > self._last_stream or not number & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"reset of idle stream {number}")
        stream = self._streams.get(number)
        if stream is not None:
            self._remove(stream)
            stream.disconnect()

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        del number
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a PING frame has 8 bytes")
        if not flags & h2.ACK:
            self._nuisance()
            self.queue(h2.frame(h2.PING, h2.ACK, 0, payload))

    def _goaway(self, flags: int, number: int, payload: bytes) -> None:
        del flags, number, payload
        self._nuisance()

    def _push_promise(self, flags: int, number: int, payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client does not push")


_HANDLERS = {
    h2.DATA: Http2Protocol._data,
    h2.HEADERS: Http2Protocol._headers,
    h2.PRIORITY: Http2Protocol._priority,
    h2.RST_STREAM: Http2Protocol._rst_stream,
    h2.SETTINGS: Http2Protocol._settings,
    h2.PUSH_PROMISE: Http2Protocol._push_promise,
    h2.PING: Http2Protocol._ping,
    h2.GOAWAY: Http2Protocol._goaway,
    h2.WINDOW_UPDATE: Http2Protocol._window_update,
}
