"""HTTP/2 header blocks, read and checked.

Source: RFC 7541 (HPACK), RFC 9113 section 8 (what a request's headers have to be).
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import hpack

from functions.web.http2_frames import FORBIDDEN, ConnectionFault, ErrorCode, Header, StreamFault

_INDEXED = bytes(range(0x80, 0xFF))
MAX_KNOWN_BLOCKS = 64
"""Header blocks of one connection whose meaning is remembered."""


@dataclass(slots=True)
class HeaderBlock:
    """A header block, read.

    Attributes:
        headers: its fields; not to be changed.
        request: what the connection has made of it, so that a block that comes again need not be checked again.
    """

    headers: list[Header]
    request: Mapping[str, Any] | None = None


class HeaderDecoder:
    """Reads one connection's header blocks.

    A client that repeats itself sends the same few bytes for every request, references into the dynamic table only.
    Such a block means the same as long as the table does not change, so its meaning is remembered until then.
    """

    def __init__(self, max_bytes: int) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=max_bytes)
        self._known: dict[bytes, HeaderBlock] = {}

    def decode(self, data: bytes) -> HeaderBlock:
        """Reads a header block.

        Raises:
            ConnectionFault: COMPRESSION_ERROR for bytes that are no header block, ENHANCE_YOUR_CALM for one that
                is longer than the limit when decompressed.
        """
        known = self._known.get(data)
        if known is not None:
            return known
        if data[:1] and data[0] & _SIZE_UPDATE_MASK == _SIZE_UPDATE:
            _check_size_updates(data)
        try:
            headers = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(data, raw=True)]
        except hpack.OversizedHeaderListError:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "the headers are too long") from None
        except (hpack.HPACKError, ValueError) as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, f"{type(error).__name__}: {error}") from None
        block = HeaderBlock(headers)
        if data.translate(None, _INDEXED):
            self._known.clear()
        elif len(self._known) < MAX_KNOWN_BLOCKS:
            self._known[data] = block
        return block


_SIZE_UPDATE, _SIZE_UPDATE_MASK = 0x20, 0xE0
MAX_SIZE_UPDATES = 2
"""Changes of the dynamic table's size before a header block: the least one and the last. Source: RFC 7541, 4.2."""


def _check_size_updates(data: bytes) -> None:
    at = count = 0
    while at < len(data) and data[at] & _SIZE_UPDATE_MASK == _SIZE_UPDATE:
        count += 1
        if count > MAX_SIZE_UPDATES:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "the table changes its size again and again")
        longer = data[at] & 0x1F == 0x1F
        at += 1
        while longer and at < len(data):
            longer = data[at] >= 0x80
            at += 1


_NAME_BYTES = bytes(c for c in b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


def check_request(headers: list[Header]) -> tuple[dict[bytes, bytes], list[Header]]:
    """Splits a request's headers into pseudo-headers and the rest, and checks both.

    Raises:
        StreamFault: PROTOCOL_ERROR for a request that RFC 9113 section 8 calls malformed.
    """
    pseudo: dict[bytes, bytes] = {}
    at = 0
    for name, value in headers:
        if name[:1] != b":":
            break
        if name in pseudo or name not in _PSEUDO:
            raise _malformed(f"pseudo-header {name!r}")
        if _LINE_ENDS.search(value):
            raise _malformed(f"value of {name!r}")
        pseudo[name] = value
        at += 1
    rest = headers[at:]
    check_fields(rest)
    method = pseudo.get(b":method")
    if not method or (method != b"CONNECT" and (not pseudo.get(b":path") or not pseudo.get(b":scheme"))):
        raise _malformed("a pseudo-header is missing")
    if method == b"CONNECT":
        raise StreamFault(ErrorCode.REFUSED_STREAM, "CONNECT is not served")
    return pseudo, rest


_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})


_LINE_ENDS = re.compile(rb"[\r\n\0]")


@functools.lru_cache(maxsize=1024)
def _good_name(name: bytes) -> bool:
    return bool(name) and not name.translate(None, _NAME_BYTES) and name not in FORBIDDEN


def check_fields(headers: list[Header]) -> None:
    """Checks ordinary headers or trailers; StreamFault as `check_request`."""
    has_length = False
    for name, value in headers:
        if not _good_name(name):
            raise _malformed(f"header name {name!r}")
        if name == b"te" and value != b"trailers":
            raise _malformed("te")
        if _LINE_ENDS.search(value):
            raise _malformed(f"value of header {name!r}")
        if name == b"content-length":
            if has_length or not value.isdigit() or len(value) > 18:
                raise _malformed("content-length")
            has_length = True


def _malformed(what: str) -> StreamFault:
    return StreamFault(ErrorCode.PROTOCOL_ERROR, f"malformed request: {what}")
