"""gRPC messages on the wire: five bytes of prefix, then the message, compressed or not.

Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, compression.md.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable

from functions.web.body_budget import BodyHold
from functions.web.service import Message
from loader.status import Code, ServingError

MAX_MESSAGE_BYTES = (1 << 31) - 1
"""Default limit of one message, as in the stock server: INT32_MAX, which is all that protobuf can carry."""

THREAD_BYTES = 64 << 10
"""Larger messages are compressed and inflated in a thread (zlib lets other threads run meanwhile)."""

INFLATE_BYTES = 4 << 20
"""Bytes that are inflated at a time."""

WORTH_BYTES = 1 << 10
"""Smaller answers are not compressed: they fit into a packet or two as they are."""

ENCODINGS = {b"identity": 0, b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
"""What callers may compress with, and zlib's number for it."""

ACCEPTED = b"identity,gzip,deflate"


class MessageReader:
    """Reads the messages of one call, from its ASGI `receive`.

    Attributes:
        gone: the caller has cancelled, or its connection is lost.
    """

    def __init__(
        self,
        receive: Callable[[], Awaitable[Message]],
        encoding: bytes,
        max_bytes: int,
        hold: BodyHold,
    ) -> None:
        self._receive = receive
        self._hold = hold
        self._encoding = encoding
        self._max_bytes = max_bytes
        self._chunk = b""
        self._ended = False
        self.gone = False

    async def read(self) -> bytes | None:
        """The next message, inflated; None after the last one, and when the caller has gone.

        Raises:
            ServingError: RESOURCE_EXHAUSTED for a message over the limit, before it is read or inflated; INTERNAL for
                one that is cut short or compressed in a way that was not announced; UNAVAILABLE when all requests
                together would hold too much.
        """
        if len(self._chunk) < 5 and not await self._fill():
            return None
        chunk = self._chunk
        compressed, size = chunk[0], int.from_bytes(chunk[1:5], "big")
        if size > self._max_bytes:
            raise self._too_large(size)
        if compressed > 1 or (compressed and self._encoding == b"identity"):
            raise ServingError(
                Code.INTERNAL, "a message has its compressed flag set, but no grpc-encoding is announced"
            )
        end = 5 + size
        if len(chunk) >= end:
            message = chunk[5:end]
            self._chunk = chunk[end:]
        else:
            message = await self._rest(chunk, size)
            if self.gone:
                return None
        return await self._inflate(message) if compressed else message

    async def wait_gone(self) -> None:
        """Returns when the caller has gone; what it still sends is dropped."""
        while not self.gone:
            self._chunk = b""
            await self._more()

    async def _fill(self) -> bool:
        # Until the prefix is complete. False at the end.
        while len(self._chunk) < 5 and not self._ended:
            await self._more()
        if self.gone or (self._ended and not self._chunk):
            return False
        if len(self._chunk) < 5:
            raise ServingError(Code.INTERNAL, "the request ends inside the prefix of a message")
        return True

    async def _rest(self, first: bytes, size: int) -> bytes:
        # Joined once: a message of 100 MB is not copied with every chunk that comes.
        pieces = [first[5:]]
        missing = size - len(first) + 5
        while missing > 0:
            if self._ended:
                raise ServingError(
                    Code.INTERNAL, f"the request ends {missing} bytes before the end of a message of {size} bytes"
                )
            self._chunk = b""
            await self._more()
            if self.gone:
                return b""
            self._hold.take(len(self._chunk))
            pieces.append(self._chunk[:missing])
            missing -= len(self._chunk)
        self._chunk = self._chunk[len(pieces[-1]) :]
        return b"".join(pieces)

    async def _more(self) -> None:
        message = await self._receive()
        if message["type"] != "http.request":
            self.gone = self._ended = True
            return
        self._ended = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        self._chunk = self._chunk + body if self._chunk else body

    async def _inflate(self, message: bytes) -> bytes:
        # Piece by piece: a megabyte may stand for a gigabyte, and that counts like one that was sent.
        inflater = zlib.decompressobj(ENCODINGS[self._encoding])
        pieces: list[bytes] = []
        size = 0
        while True:
            room = min(INFLATE_BYTES, self._max_bytes + 1 - size)
            try:
                if len(message) < THREAD_BYTES and not pieces:
                    piece = inflater.decompress(message, room)
                else:
                    piece = await asyncio.to_thread(inflater.decompress, message, room)
            except zlib.error as error:
                raise ServingError(Code.INTERNAL, f"a message is not {self._encoding.decode()}: {error}") from None
            pieces.append(piece)
            size += len(piece)
            if size > self._max_bytes:
                raise self._too_large(size)
            if inflater.eof:
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)
            message = inflater.unconsumed_tail
            if not message and len(piece) < room:
                raise ServingError(Code.INTERNAL, f"a message's {self._encoding.decode()} data is cut short")
            self._hold.take(len(piece), inflated=True)

    def _too_large(self, size: int) -> ServingError:
        return ServingError(
            Code.RESOURCE_EXHAUSTED, f"SERVER: Received message larger than max ({size} vs. {self._max_bytes})"
        )


async def framed(message: bytes, encoding: bytes) -> bytes:
    """One message with its prefix, compressed where that is worth it.

    Args:
        encoding: one of `ENCODINGS`.
    """
    if encoding == b"identity" or len(message) < WORTH_BYTES:
        return b"\x00%b%b" % (len(message).to_bytes(4, "big"), message)
    if len(message) < THREAD_BYTES:
        packed = _deflate(message, encoding)
    else:
        packed = await asyncio.to_thread(_deflate, message, encoding)
    return b"\x01%b%b" % (len(packed).to_bytes(4, "big"), packed)


def _deflate(message: bytes, encoding: bytes) -> bytes:
    deflater = zlib.compressobj(1, zlib.DEFLATED, ENCODINGS[encoding])
    return deflater.compress(message) + deflater.flush()
