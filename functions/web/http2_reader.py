"""Reads HTTP/2 frames off a byte stream: the preface, frame by frame, header blocks in one piece.

Source: RFC 9113 sections 3.4 (preface), 4 (frames, header blocks) and 6 (which frames stand on which streams).
"""

from collections.abc import Iterator

from functions.web import http2_frames as h2
from functions.web.http2_frames import ConnectionFault, ErrorCode

Frame = tuple[int, int, int, bytes]
"""Type, flags, stream, payload. A HEADERS frame's payload is its whole header block, without padding and priority."""

MAX_CONTINUATIONS = 64
"""CONTINUATION frames of one header block; more are a flood (CVE-2024-27316)."""


class FrameReader:
    """The bytes of one connection as frames.

    Args:
        max_frame: longest payload of a frame, in bytes.
        max_block: longest header block, compressed, in bytes.
    """

    def __init__(self, max_frame: int, max_block: int) -> None:
        self._max_frame = max_frame
        self._max_block = max_block
        self._rest = b""
        self._preface = True
        self._settings_seen = False
        self._block: bytearray | None = None  # a header block that CONTINUATION frames go on with
        self._block_stream = 0
        self._block_flags = 0
        self._continuations = 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yields the frames that `data` completes.

        Raises:
            ConnectionFault: what came is not HTTP/2, or over a limit.
        """
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at, size = 0, len(data)
        if self._preface:
            at = self._read_preface(data)
        while size - at >= 9:
            length = int.from_bytes(data[at : at + 3], "big")
            if length > self._max_frame:
                raise ConnectionFault(
                    ErrorCode.FRAME_SIZE_ERROR, f"a frame has {length} bytes, {self._max_frame} are allowed"
                )
            end = at + 9 + length
            if end > size:
                break
            kind, flags = data[at + 3], data[at + 4]
            number = int.from_bytes(data[at + 5 : at + 9], "big") & h2.MAX_WINDOW
            payload = data[at + 9 : end]
            at = end
            self._check(kind, flags, number)
            if kind == h2.HEADERS:
                block = self._start_block(flags, number, payload)
                if flags & h2.END_HEADERS:
                    yield kind, flags, number, block
                else:
                    self._block, self._block_stream, self._block_flags = bytearray(block), number, flags
                    self._continuations = 0
            elif kind == h2.CONTINUATION:
                block = self._go_on(payload)
                if flags & h2.END_HEADERS:
                    self._block = None
                    yield h2.HEADERS, self._block_flags, number, block
            else:
                yield kind, flags, number, payload
        if at < size:
            self._rest = data[at:]

    def _read_preface(self, data: bytes) -> int:
        # Where the first frame begins; at the end while the preface is not complete.
        if data.startswith(h2.PREFACE):
            self._preface = False
            return len(h2.PREFACE)
        if not h2.PREFACE.startswith(data):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "no HTTP/2 preface")
        self._rest = data
        return len(data)

    def _check(self, kind: int, flags: int, number: int) -> None:
        if self._block is not None and (kind != h2.CONTINUATION or number != self._block_stream):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted")
        if not self._settings_seen:
            if kind != h2.SETTINGS or flags & h2.ACK:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self._settings_seen = True
        if kind in _STREAM_FRAMES:
            if not number:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"frame type {kind} on stream 0")
        elif kind in _CONNECTION_FRAMES and number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"frame type {kind} on stream {number}")

    def _start_block(self, flags: int, number: int, payload: bytes) -> bytes:
        if flags & h2.PADDED:
            payload = h2.unpadded(payload)
        if not flags & h2.WITH_PRIORITY:
            return payload
        if len(payload) < 5:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a HEADERS frame is too short for its priority")
        if int.from_bytes(payload[:4], "big") & h2.MAX_WINDOW == number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"stream {number} depends on itself")
        return payload[5:]

    def _go_on(self, payload: bytes) -> bytes:
        if self._block is None:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._continuations += 1
        self._block += payload
        if len(self._block) > self._max_block or self._continuations > MAX_CONTINUATIONS:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "the headers are too long")
        return bytes(self._block)


_STREAM_FRAMES = frozenset({h2.DATA, h2.HEADERS, h2.PRIORITY, h2.RST_STREAM, h2.CONTINUATION, h2.PUSH_PROMISE})
_CONNECTION_FRAMES = frozenset({h2.SETTINGS, h2.PING, h2.GOAWAY})
