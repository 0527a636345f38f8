"""Targets: connections. Bytes of HTTP/1.1 and HTTP/2 into the real protocols, with REST and gRPC behind them."""

import asyncio
import functools
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from typing import Any

import grpc
import hpack

from functions.asgi import Application, Doors
from functions.readiness import Readiness
from functions.rest.path import parse_prediction
from functions.rpc.asgi import GrpcApplication
from functions.rpc.context import parse_timeout
from functions.rpc.messages import MessageReader
from functions.web import http2_frames as h2
from functions.web.body_budget import BodyBudget, BodyHold
from functions.web.http1 import Http1Protocol
from functions.web.http2 import Http2Protocol
from functions.web.http2_frames import ConnectionFault, StreamFault
from functions.web.http2_headers import HeaderDecoder, check_request
from functions.web.http2_reader import FrameReader
from functions.web.message import Request, Response
from functions.web.service import HTTP2_PREFACE, HttpLimits, HttpService
from loader.status import Code, ServingError
from tests.fuzz.target import DefectError, Target

LIMITS = HttpLimits(head_bytes=8 << 10, body_buffer_bytes=16 << 10, stream_window_bytes=64 << 10, streams=16)
MAX_BODY = 32 << 10
MAX_OUT = 4 << 20
TURNS = 6
"""Turns of the event loop after each piece of input."""


class FakeTransport(asyncio.Transport):
    """What a protocol writes to; a client that reads everything, or nothing."""

    def __init__(self, *, reads: bool) -> None:
        super().__init__()
        self.out = bytearray()
        self.closing = False
        self.reading = True
        self._reads = reads

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.1", 1234), "sockname": ("192.0.2.2", 80)}.get(name, default)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True

    def write(self, data: Any) -> None:
        self.out += data

    def get_write_buffer_size(self) -> int:
        return 0 if self._reads else len(self.out)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


async def _echo(request: Request) -> Response:
    if request.path.endswith("/wait"):
        await asyncio.sleep(0)
    if request.path.endswith("/error"):
        raise ServingError(Code.INVALID_ARGUMENT, request.path)
    return Response(200, ((b"content-type", b"text/plain"),), request.body)


async def _unary(request: bytes, context: Any) -> bytes:
    tuple(context.invocation_metadata())
    context.set_trailing_metadata((("seen", "1"),))
    return request


async def _wait(request: bytes, context: Any) -> bytes:
    await asyncio.sleep(0)
    return request


async def _stream(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def _repeat(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for _ in range(3):
        yield request


async def _count(requests: AsyncIterator[bytes], context: Any) -> bytes:
    return b"%d" % sum([1 async for _ in requests])


@functools.cache
def application() -> Application:
    """Our ASGI application with an echo behind REST and gRPC."""
    budget = BodyBudget(2 * MAX_BODY)
    calls = GrpcApplication(max_receive_bytes=MAX_BODY, max_send_bytes=MAX_BODY, budget=budget)
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(_unary),
        "Wait": grpc.unary_unary_rpc_method_handler(_wait),
        "Stream": grpc.stream_stream_rpc_method_handler(_stream),
        "Repeat": grpc.unary_stream_rpc_method_handler(_repeat),
        "Count": grpc.stream_unary_rpc_method_handler(_count),
    }
    calls.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", handlers),))
    doors: Future[Doors] = Future()
    doors.set_result(Doors({"v1": _echo, "": _echo}, calls))
    return Application(doors, Readiness(list), MAX_BODY, MAX_BODY, budget)


def drive(make: Callable[[HttpService], Any], pieces: Iterator[bytes], *, reads: bool = True) -> FakeTransport:
    """Feeds a protocol piece by piece, then closes the connection.

    Raises:
        DefectError: it wrote without end, or something of the connection outlives it.
    """

    async def run() -> FakeTransport:
        service = HttpService(application(), asyncio.get_running_loop(), LIMITS)
        transport = FakeTransport(reads=reads)
        protocol = make(service)
        protocol.connection_made(transport)
        for piece in pieces:
            if transport.closing:
                break
            if transport.reading:
                protocol.data_received(piece)
            if not reads and not protocol.write_paused and len(transport.out) > 1 << 16:
                protocol.pause_writing()
            for _ in range(TURNS):
                await asyncio.sleep(0)
        if not reads and protocol.write_paused and not transport.closing:
            protocol.resume_writing()
        protocol.sweep(service.loop.time() + 1e6)
        protocol.drain()
        protocol.close_idle()
        protocol.connection_lost(None)
        for _ in range(100):
            if not service.tasks:
                break
            await asyncio.sleep(0)
        held = application().budget.held
        if service.tasks or service.connections or held:
            raise DefectError(f"left behind: {service.tasks} {service.connections} {held} bytes")
        if len(transport.out) > MAX_OUT:
            raise DefectError(f"{len(transport.out)} bytes of answers")
        return transport

    return asyncio.run(run())


def http1(data: bytes) -> None:
    """The first byte says how the bytes are cut into pieces, and whether the client reads."""
    how, data = data[:1] or b"\0", data[1:]
    size = (1 << 16, 1, 7, 100)[how[0] & 3] if len(data) < 2048 else 4096
    drive(Http1Protocol, (data[at : at + size] for at in range(0, len(data), size)), reads=not how[0] & 4)


def http2_bytes(data: bytes) -> None:
    """Bytes as they come; the first byte as in `http1`."""
    how, data = data[:1] or b"\0", data[1:]
    size = (1 << 16, 1, 7, 100)[how[0] & 3] if len(data) < 2048 else 4096
    drive(Http2Protocol, (data[at : at + size] for at in range(0, len(data), size)), reads=not how[0] & 4)


_POST = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/v1/x"), (b":authority", b"t")]
_CALL = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"t"), (b"te", b"trailers")]
_GRPC = (b"content-type", b"application/grpc")
_BLOCKS = (
    _POST,
    [(b":method", b"GET"), *_POST[1:]],
    [*_POST, (b"content-length", b"3")],
    [*_POST, (b"content-encoding", b"gzip")],
    [*_POST[:2], (b":path", b"/v1/wait"), (b"x" * 100, b"y" * 300)],
    *([*_CALL, (b":path", b"/t.T/" + name), _GRPC] for name in (b"Unary", b"Wait", b"Stream", b"Repeat", b"Count")),
    [*_CALL, (b":path", b"/t.T/Wait"), _GRPC, (b"grpc-timeout", b"1n"), (b"x-bin", b"AAA")],
    [*_CALL, (b":path", b"/t.T/Unary"), _GRPC, (b"grpc-encoding", b"gzip"), (b"grpc-accept-encoding", b"gzip")],
    [(b"trailer", b"1")],
)  # fmt: skip
_BLOCK_FRAME, _MESSAGE_FRAME = 14, 15


def http2_frames(data: bytes) -> None:
    """A program of frames: kind, flags, stream and size, a byte each, then the payload.

    Kinds 14 and 15 are shorthands: a header block that is good, and DATA that begins with a gRPC prefix.
    """
    encoder = hpack.Encoder()

    def frames() -> Iterator[bytes]:
        yield HTTP2_PREFACE + h2.settings({})
        at = 1
        while at + 4 <= len(data):
            kind, flags, stream, size = data[at] & 15, data[at + 1], data[at + 2] & 63, data[at + 3]
            payload = data[at + 4 : at + 4 + size]
            at += 4 + len(payload)
            if kind == _BLOCK_FRAME:
                block = encoder.encode(_BLOCKS[size % len(_BLOCKS)])
                yield h2.frame(h2.HEADERS, flags & h2.END_STREAM | h2.END_HEADERS, stream, block)
            elif kind == _MESSAGE_FRAME:
                yield h2.frame(h2.DATA, flags & h2.END_STREAM, stream, b"\0\0\0\0" + bytes((size,)) + payload)
            else:
                yield h2.frame(kind, flags, stream, payload)

    drive(Http2Protocol, frames(), reads=not (data[:1] or b"\0")[0] & 1)


def header_blocks(data: bytes) -> None:
    """Two header blocks for one decoder: the table lives on."""
    decoder = HeaderDecoder(LIMITS.head_bytes)
    for block in (data[: len(data) // 2], data[len(data) // 2 :], data):
        check_request(decoder.decode(block).headers)


def frame_reader(data: bytes) -> None:
    """The same frames, whatever the pieces they come in."""
    whole, pieces = (FrameReader(LIMITS.frame_bytes, LIMITS.head_bytes) for _ in range(2))
    one: list[Any] = []
    other: list[Any] = []
    for found, reader, size in ((one, whole, len(data) or 1), (other, pieces, 5)):
        try:
            for at in range(0, len(data), size):
                found.extend(reader.feed(data[at : at + size]))
        except ConnectionFault as fault:
            found.append(fault.args)
    if one != other:
        raise DefectError(f"{one} but {other} in pieces")


def grpc_messages(data: bytes) -> None:
    """The first byte: encoding, and the size of the pieces."""
    how, body = (data[:1] or b"\0")[0], data[1:]
    size = (1, 3, 64, 1 << 16)[how & 3]
    pieces = [body[at : at + size] for at in range(0, len(body), size)] or [b""]

    async def run() -> None:
        left = iter(pieces)

        async def receive() -> dict[str, Any]:
            piece = next(left, None)
            if piece is None:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": piece, "more_body": piece is not pieces[-1]}

        encoding = (b"identity", b"gzip", b"deflate")[(how >> 2) % 3]
        reader = MessageReader(receive, encoding, MAX_BODY, BodyHold(BodyBudget(2 * MAX_BODY)))
        while (message := await reader.read()) is not None:
            if len(message) > MAX_BODY:
                raise DefectError("a message over the limit")

    asyncio.run(run())


def paths(data: bytes) -> None:
    parse_prediction(data.decode("latin-1"))
    parse_timeout(data)


def http1_corpus() -> list[bytes]:
    chunks = b"5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n"
    requests = (
        b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello" * 3,
        b"POST /v1/wait HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks,
        b"POST /v1/error HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
        b"POST /v1/x HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
        b"GET http://t/v1/x?a=%20b HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"HEAD /v1/x HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: t\r\nContent-Length: 40000\r\n\r\n" + b"a" * 40000,
    )
    return [bytes((how,)) + each for each in requests for how in (0, 1, 6)]


def http2_program(*steps: tuple[int, int, int, bytes]) -> bytes:
    return b"".join(
        bytes((kind, flags, stream, len(payload) if kind < _BLOCK_FRAME else payload[0]))
        + payload[kind >= _BLOCK_FRAME :]
        for kind, flags, stream, payload in steps
    )


def http2_frames_corpus() -> list[bytes]:
    end = h2.END_STREAM
    programs = [
        http2_program((14, end, 1, bytes((block,))), (14, 0, 3, bytes((block,))), (0, end, 3, b"body"))
        for block in range(len(_BLOCKS))
    ]
    programs += [
        http2_program((14, 0, 1, bytes((call,))), (15, end, 1, b"\0"), (14, 0, 3, bytes((call,))), (15, 0, 3, b"\3abc"))
        for call in range(5, 12)
    ]
    programs.append(
        http2_program(
            (14, 0, 1, b"\0"),
            (8, 0, 0, b"\0\0\4\0"),
            (4, 0, 0, b"\0\4\0\0\0\1"),
            (0, 8, 1, b"\2ab\0\0"),
            (3, 0, 1, b"\0\0\0\x08"),
            (6, 0, 0, b"12345678"),
            (2, 0, 5, b"\0\0\0\0\1"),
            (1, 0, 5, b"\x83"),
            (9, 4, 5, b"\x86\x84"),
            (7, 0, 0, bytes(8)),
        )
    )
    return [first + each for each in programs for first in (b"\0", b"\1")]


def http2_bytes_corpus() -> list[bytes]:
    encoder = hpack.Encoder()
    start = HTTP2_PREFACE + h2.settings({h2.INITIAL_WINDOW_SIZE: 100})
    good = h2.header_frames(1, encoder.encode(_POST), end=False, limit=16384) + h2.frame(0, 1, 1, b"hello")
    return [b"\0" + start + good, b"\1" + start + good, b"\4" + start + good + h2.frame(h2.PING, 0, 0, b"12345678")]


def header_blocks_corpus() -> list[bytes]:
    found = []
    for block in _BLOCKS:
        for huffman in (True, False):
            encoder = hpack.Encoder()
            found.append(encoder.encode(block, huffman=huffman) + encoder.encode(block, huffman=huffman))
    return found


def grpc_messages_corpus() -> list[bytes]:
    packed = zlib.compress(b"a" * 1000)
    return [
        b"\0" + b"\0\0\0\0\3abc" * 2,
        b"\3" + b"\0\0\0\0\3abc\0\x7f\xff\xff\xff",
        b"\x09\1" + len(packed).to_bytes(4, "big") + packed,
        b"\x0b\1" + len(packed).to_bytes(4, "big") + packed,
    ]


_HTTP_WORDS = (
    *(b"\r\n", b"\r\n\r\n", b"\n", b"HTTP/1.1", b"\0", b" : ", b"\t", b"%", b"0\r\n\r\n", b"ffffffffffffffff\r\n"),
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"X: y\r\n" * 200,
)
_FRAME_HEADS = tuple(bytes((0, 0, 0, kind, 0, 0, 0, 0, 1)) for kind in range(11))
_STEP_HEADS = tuple(bytes((kind, 5, 1, 0)) for kind in range(16))
_PREFIXES = (b"\0\0\0\0\1", b"\1\0\0\0\1", b"\0\xff\xff\xff\xff")
_PATHS = (b"/v1/models/m:predict", b"/v1/models/m/versions/1:predict", b"/v1/models/m/labels/l:classify", b"100m")

TARGETS = (
    Target("http1", http1, http1_corpus, words=_HTTP_WORDS),
    Target("http2_bytes", http2_bytes, http2_bytes_corpus, words=_FRAME_HEADS),
    Target("http2_frames", http2_frames, http2_frames_corpus, words=_STEP_HEADS),
    Target("header_blocks", header_blocks, header_blocks_corpus, errors=(ConnectionFault, StreamFault)),
    Target("frame_reader", frame_reader, lambda: [each[1:] for each in http2_bytes_corpus()], words=_FRAME_HEADS),
    Target("grpc_messages", grpc_messages, grpc_messages_corpus, words=_PREFIXES),
    Target("paths", paths, lambda: list(_PATHS), words=(b"/versions/", b"/labels/", b"%2f", b":", b"/")),
)
