"""What one HTTP/2 connection holds: its streams, both directions' windows, and the frames that wait to be sent.

Source: RFC 9113 sections 5.1 (streams), 5.2 and 6.9 (flow control).
"""

import asyncio
import math

from functions.web import http2_frames as h2
from functions.web.http2_frames import ConnectionFault, ErrorCode, StreamFault
from functions.web.http2_stream import Http2Stream
from functions.web.service import HttpService, log

MAX_REMEMBERED_STREAMS = 512
"""Streams that we have ended and of which the client may not know yet: what still comes on them is no error."""


SMALL_WINDOW_BYTES = 1024
"""A window update of less counts as a nuisance: data in dribbles costs us more than it costs the client."""

LEAVE_SECONDS = 0.25
"""Between the steps in which a connection ends: the round trip of a far client."""

FLUSH_BYTES = 64 << 10
"""Frames are collected up to here, so that the transport can say in time that the client does not read."""


class Http2State:
    """One connection, the part that its streams use. Used on the event loop's thread only.

    Attributes:
        send_window: bytes of data that the client takes on the connection as a whole.
        peer_frame_bytes: longest frame that the client takes.
        write_paused: the client reads slower than answers come.
    """

    def __init__(self, service: HttpService) -> None:
        limits = service.limits
        self._service = service
        self._limits = limits
        self._transport: asyncio.Transport
        self._out: list[bytes] = [
            h2.settings(
                {
                    h2.MAX_CONCURRENT_STREAMS: limits.streams,
                    h2.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
                    h2.MAX_FRAME_SIZE: limits.frame_bytes,
                    h2.MAX_HEADER_LIST_SIZE: limits.head_bytes,
                }
            ),
            h2.window_update(0, limits.connection_window_bytes - h2.DEFAULT_WINDOW),
        ]
        self._out_bytes = 0
        self._corked = False
        self._first_block = h2.NO_DYNAMIC_TABLE
        self._streams: dict[int, Http2Stream] = {}
        self._ended: dict[int, None] = {}  # in the order in which they ended
        self._blocked: dict[int, Http2Stream] = {}
        self._last_stream = 0
        self._peer_window = h2.DEFAULT_WINDOW
        self._receive_window = limits.connection_window_bytes
        self._unacknowledged = 0
        self._nuisances = 0.0
        self._nuisances_at = service.loop.time()
        self._going = False
        self._announced = False
        self._last_buffer = 0  # bytes that the client has not read, as of the last look
        self._deadline = self._nuisances_at + limits.head_seconds
        self._window_moved = self._nuisances_at  # when the client last gave the connection a window
        self.send_window = h2.DEFAULT_WINDOW
        self.peer_frame_bytes = h2.MIN_FRAME_BYTES
        self.write_paused = False

    # Frames out.

    def queue(self, data: bytes) -> None:
        """Sends frames, together with what else is to be sent now."""
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > FLUSH_BYTES:
            self._write()

    def queue_headers(self, stream: int, block: bytes, *, end: bool) -> None:
        """Queues a header block."""
        if self._first_block:
            block, self._first_block = self._first_block + block, b""
        self._out.append(h2.header_frames(stream, block, end=end, limit=self.peer_frame_bytes))

    def flush(self) -> None:
        """Sends what was queued, unless more is about to be."""
        if self._out and not self._corked:
            self._write()

    def _write(self) -> None:
        out, self._out, self._out_bytes = self._out, [], 0
        self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def block(self, stream: Http2Stream) -> None:
        """Notes that a stream has data to send and no window."""
        self._blocked[stream.number] = stream

    def consumed(self, stream: Http2Stream, size: int) -> None:
        """Gives the client its windows back, in portions of a quarter."""
        if not stream.ended:
            stream.unacknowledged += size
            if stream.unacknowledged > self._limits.stream_window_bytes >> 2:
                self.queue(h2.window_update(stream.number, stream.unacknowledged))
                stream.receive_window += stream.unacknowledged
                stream.unacknowledged = 0
        self._acknowledge(size)
        self.flush()

    def _acknowledge(self, size: int) -> None:
        self._unacknowledged += size
        if self._unacknowledged > self._limits.connection_window_bytes >> 2:
            self.queue(h2.window_update(0, self._unacknowledged))
            self._receive_window += self._unacknowledged
            self._unacknowledged = 0

    # What the client says about its windows.

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        del number
        if flags & h2.ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement has no content")
            return
        if len(payload) % 6:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS are pairs of 6 bytes")
        self._nuisance()
        self._settings_seen = True
        for at in range(0, len(payload), 6):
            self._setting(int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big"))
        self.queue(h2.frame(h2.SETTINGS, h2.ACK, 0, b""))
        self._pump()  # after the acknowledgement: the client then knows why data comes

    def _setting(self, key: int, value: int) -> None:
        if key == h2.ENABLE_PUSH and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH is 0 or 1")
        if key == h2.MAX_FRAME_SIZE:
            if not h2.MIN_FRAME_BYTES <= value < 1 << 24:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE is out of range")
            self.peer_frame_bytes = min(value, self._limits.frame_bytes)
        elif key == h2.INITIAL_WINDOW_SIZE:
            if value > h2.MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE is out of range")
            change, self._peer_window = value - self._peer_window, value
            for stream in list(self._streams.values()):
                stream.send_window += change
                if stream.send_window > h2.MAX_WINDOW:
                    raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window is too large")

    def _window_update(self, flags: int, number: int, payload: bytes) -> None:
        del flags
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a WINDOW_UPDATE frame has 4 bytes")
        size = int.from_bytes(payload, "big") & h2.MAX_WINDOW
        now = self._service.loop.time()
        if size < SMALL_WINDOW_BYTES:
            self._nuisance()
        if not number:
            if not size or self.send_window + size > h2.MAX_WINDOW:
                code = ErrorCode.FLOW_CONTROL_ERROR if size else ErrorCode.PROTOCOL_ERROR
                raise ConnectionFault(code, f"a window update of {size}")
            self.send_window += size
            self._window_moved = now
            self._pump()
            return
        stream = self._streams.get(number)
        if stream is None:
            if number > self._last_stream or not number & 1:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"a window update on idle stream {number}")
            self._nuisance()
            return
        if not size or stream.send_window + size > h2.MAX_WINDOW:
            code = ErrorCode.FLOW_CONTROL_ERROR if size else ErrorCode.PROTOCOL_ERROR
            raise StreamFault(code, f"a window update of {size}")
        stream.send_window += size
        stream.moved = now
        if self._blocked.pop(number, None) is not None:
            stream.pump()

    def _pump(self) -> None:
        blocked, self._blocked = self._blocked, {}
        for stream in blocked.values():
            stream.pump()

    # The end.

    def announce(self) -> None:
        """Queues the GOAWAY that refuses nothing: the client should open another connection for its next requests."""
        if not self._announced and not self._transport.is_closing():
            self._announced = True
            self.queue(h2.goaway(h2.MAX_WINDOW, ErrorCode.NO_ERROR, "the server is stopping"))

    def _leave(self) -> None:
        """Refuses whatever the client sends from now on; the connection ends with the last answer."""
        if not self._going and not self._transport.is_closing():
            self._going = True
            self.queue(h2.goaway(self._last_stream, ErrorCode.NO_ERROR, "the server is stopping"))
            self.flush()
            if not self._streams:
                # Not at once: a request that still comes would reset the connection before that is read.
                self._service.loop.call_later(LEAVE_SECONDS, self._transport.close)

    # Waits.

    def sweep(self, now: float) -> None:
        """Ends what has waited too long: single requests, or the connection where it has none or is not read from."""
        if self.write_paused:
            size = self._transport.get_write_buffer_size()
            if size < self._last_buffer:  # slow, but it reads
                self._last_buffer = size
                self._deadline = now + self._limits.stall_seconds
        if self.write_paused or self._transport.is_closing():
            if now >= self._deadline:
                self._transport.abort()
        elif self._streams:
            for stream in list(self._streams.values()):
                if now >= self._waits_until(stream):
                    stream.give_up()
        elif now >= self._deadline:
            self._fail(ErrorCode.NO_ERROR, "nothing came for too long")

    def _waits_until(self, stream: Http2Stream) -> float:
        """When the client's time for its next step ends; never while the next step is ours."""
        if stream.number in self._blocked:
            since = stream.moved if stream.send_window <= 0 else max(stream.moved, self._window_moved)
            return since + self._limits.stall_seconds
        return math.inf if stream.ended or stream.buffered else stream.moved + stream.patience

    # Streams' ends.

    def finish(self, stream: Http2Stream) -> None:
        """An answer is complete."""
        self._nuisances = max(0.0, self._nuisances - self._limits.nuisances_per_answer)
        if stream.number in self._streams:
            if not stream.ended:
                # The client need not send the rest of its request. Source: RFC 9113 section 8.1.
                self.queue(h2.rst_stream(stream.number, ErrorCode.NO_ERROR))
                self._forget(stream.number)
            self._remove(stream)
        if self._service.draining and not self._streams:
            self.announce()
            if self._service.closing:
                self._service.loop.call_later(LEAVE_SECONDS, self._leave)
        self.flush()

    def reset(self, stream: Http2Stream, code: ErrorCode) -> None:
        """Ends a stream before its time."""
        self.queue(h2.rst_stream(stream.number, code))
        self._forget(stream.number)
        self._remove(stream)
        self.flush()

    def _forget(self, number: int) -> None:
        self._ended[number] = None
        if len(self._ended) > MAX_REMEMBERED_STREAMS:
            del self._ended[next(iter(self._ended))]

    def _remove(self, stream: Http2Stream) -> None:
        self._blocked.pop(stream.number, None)
        if self._streams.pop(stream.number, None) is not None:
            if stream.buffered:
                self._acknowledge(stream.buffered)  # what nobody will ask for any more
                stream.buffered = 0
            if not self._streams:
                if not self.write_paused:
                    self._deadline = self._service.loop.time() + self._limits.idle_seconds
                if self._going:
                    self.flush()
                    self._transport.close()

    def _nuisance(self, count: int = 1) -> None:
        # A bucket that time and answers empty.
        if not count:
            return
        now = self._service.loop.time()
        self._nuisances -= (now - self._nuisances_at) * self._limits.nuisances_per_second
        self._nuisances = max(0.0, self._nuisances) + count
        self._nuisances_at = now
        if self._nuisances > self._limits.nuisances:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames without content")

    def _fail(self, code: ErrorCode, reason: str) -> None:
        log.debug("connection closed: %s (%s)", reason, code.name)
        self.queue(h2.goaway(self._last_stream, code, reason))
        self._corked = False
        self.flush()
        self._deadline = self._service.loop.time() + self._limits.stall_seconds
        self._transport.close()
