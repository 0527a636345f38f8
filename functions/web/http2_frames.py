"""HTTP/2 frames, as bytes, and header blocks as we write them.

Source: RFC 9113 sections 4 and 6, RFC 7541 (HPACK).
"""

import enum
import functools
from collections.abc import Iterable

from functions.web.service import HTTP2_PREFACE

Header = tuple[bytes, bytes]

PREFACE = HTTP2_PREFACE
MIN_FRAME_BYTES = 16_384
"""What every peer takes; SETTINGS_MAX_FRAME_SIZE only ever raises it."""
DEFAULT_WINDOW = 65_535
MAX_WINDOW = (1 << 31) - 1

DATA = 0
HEADERS = 1
PRIORITY = 2
RST_STREAM = 3
SETTINGS = 4
PUSH_PROMISE = 5
PING = 6
GOAWAY = 7
WINDOW_UPDATE = 8
CONTINUATION = 9

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
WITH_PRIORITY = 0x20

HEADER_TABLE_SIZE = 1
ENABLE_PUSH = 2
MAX_CONCURRENT_STREAMS = 3
INITIAL_WINDOW_SIZE = 4
MAX_FRAME_SIZE = 5
MAX_HEADER_LIST_SIZE = 6

NO_DYNAMIC_TABLE = b"\x20"
"""A dynamic table size update to 0. Sent once, before the first header block: from then on the encoder below, which
never uses the table, is right whatever size the peer allows."""


class ErrorCode(enum.IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ConnectionFault(Exception):  # noqa: N818  the protocol's "connection error", which the caller did
    """The peer broke the protocol: the connection ends with this code."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class StreamFault(Exception):  # noqa: N818
    """The peer broke the protocol on one stream, which ends with this code; the others go on."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame."""
    return b"%b%b%b%b%b" % (
        len(payload).to_bytes(3, "big"),
        kind.to_bytes(1, "big"),
        flags.to_bytes(1, "big"),
        stream.to_bytes(4, "big"),
        payload,
    )


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(
        SETTINGS, 0, 0, b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in values.items())
    )


def rst_stream(stream: int, code: ErrorCode) -> bytes:
    """A RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last_stream: int, code: ErrorCode, reason: str = "") -> bytes:
    """A GOAWAY frame; the reason is for whoever reads the peer's log."""
    return frame(GOAWAY, 0, 0, last_stream.to_bytes(4, "big") + code.to_bytes(4, "big") + reason.encode()[:200])


def window_update(stream: int, size: int) -> bytes:
    """A WINDOW_UPDATE frame; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream, size.to_bytes(4, "big"))


def header_frames(stream: int, block: bytes, *, end: bool, limit: int) -> bytes:
    """A header block in a HEADERS frame, and CONTINUATION frames where it is longer than `limit`."""
    flags = END_STREAM if end else 0
    if len(block) <= limit:
        return frame(HEADERS, flags | END_HEADERS, stream, block)
    frames = [frame(HEADERS, flags, stream, block[:limit])]
    for at in range(limit, len(block), limit):
        last = END_HEADERS if at + limit >= len(block) else 0
        frames.append(frame(CONTINUATION, last, stream, block[at : at + limit]))
    return b"".join(frames)


def unpadded(payload: bytes) -> bytes:
    """The content of a frame with the PADDED flag."""
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding is longer than the frame")
    return payload[1 : len(payload) - payload[0]]


@functools.lru_cache(maxsize=2048)
def _field(name: bytes, value: bytes) -> bytes:
    return b"\x00" + _integer(len(name)) + name + _integer(len(value)) + value


def _integer(value: int) -> bytes:
    # A length with a prefix of 7 bits.
    if value < 0x7F:
        return bytes((value,))
    out = bytearray((0x7F,))
    value -= 0x7F
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_STATUS = {200: b"\x88", 204: b"\x89", 206: b"\x8a", 304: b"\x8b", 400: b"\x8c", 404: b"\x8d", 500: b"\x8e"}

FORBIDDEN = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
"""Headers of HTTP/1.1 that HTTP/2 must not carry (RFC 9113, 8.2.2)."""


def encode_headers(headers: Iterable[Header], status: int | None = None) -> bytes:
    """A header block that leaves HPACK's dynamic table alone; headers that HTTP/2 forbids are left out.

    Args:
        headers: names in any case.
        status: the answer's status; None for trailers.
    """
    parts = []
    if status is not None:
        parts.append(_STATUS.get(status) or b"\x08\x03%d" % status)
    for name, value in headers:
        lower = name.lower()
        if lower not in FORBIDDEN:
            parts.append(
                _field(lower, value)
                if len(value) < 64
                else b"\x00" + _integer(len(lower)) + lower + _integer(len(value)) + value
            )
    return b"".join(parts)
