"""gRPC over our HTTP server, spoken by grpcio's own client."""

import asyncio
import gzip
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import pytest

from functions.rpc.asgi import GrpcApplication
from functions.web import http2_frames as h2
from functions.web.body_budget import BodyBudget
from loader.status import Code, ServingError
from tests.functions.http2_client import Http2Client
from tests.functions.http_running import Running, running

CANCELLED = threading.Event()
MAX_RECEIVE = 100 << 20


class Servicer:
    """Methods on plain bytes."""

    async def echo(self, request: bytes, context: Any) -> bytes:
        return request

    async def size(self, request: bytes, context: Any) -> bytes:
        return b"%d" % len(request)

    async def zeros(self, request: bytes, context: Any) -> bytes:
        return bytes(int(request))

    async def wait(self, request: bytes, context: Any) -> bytes:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            CANCELLED.set()
            raise
        return b""

    async def remaining(self, request: bytes, context: Any) -> bytes:
        remaining = context.time_remaining()
        return b"none" if remaining is None else b"%d" % round(remaining)

    async def metadata(self, request: bytes, context: Any) -> bytes:
        sent = dict(context.invocation_metadata())
        await context.send_initial_metadata((("first", sent["text"]),))
        context.set_trailing_metadata((("last-bin", sent["raw-bin"]),))
        return context.peer().encode()

    async def refuse(self, request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "nö 100%\n{x}", (("why", "because"),))
        raise AssertionError

    async def serving_error(self, request: bytes, context: Any) -> bytes:
        raise ServingError(Code.RESOURCE_EXHAUSTED, "x" * 3000)

    async def defect(self, request: bytes, context: Any) -> bytes:
        raise ValueError("secret")

    async def code(self, request: bytes, context: Any) -> bytes:
        context.set_code(grpc.StatusCode.DATA_LOSS)
        context.set_details("lost")
        return b"half"

    async def count(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number

    async def collect(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b",".join([request async for request in requests])

    async def chat(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request.upper()

    async def forever(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"tick"
                await asyncio.sleep(0.01)
        finally:
            CANCELLED.set()


KINDS = {
    "count": grpc.unary_stream_rpc_method_handler,
    "forever": grpc.unary_stream_rpc_method_handler,
    "collect": grpc.stream_unary_rpc_method_handler,
    "chat": grpc.stream_stream_rpc_method_handler,
}


def application(budget: BodyBudget | None = None) -> GrpcApplication:
    application = GrpcApplication(max_receive_bytes=MAX_RECEIVE, budget=budget)
    servicer = Servicer()
    handlers = {
        name: KINDS.get(name, grpc.unary_unary_rpc_method_handler)(getattr(servicer, name))
        for name in vars(Servicer)
        if not name.startswith("_")
    }
    application.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", handlers),))
    return application


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(application()) as found:
        yield found


@pytest.fixture(scope="module")
def channel(server: Running) -> Iterator[grpc.Channel]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.address, options) as found:
        yield found


def call(channel: grpc.Channel, method: str, request: bytes = b"", **options: Any) -> bytes:
    options.setdefault("timeout", 30)
    return channel.unary_unary(f"/test.Service/{method}")(request, **options)


def failure(channel: grpc.Channel, method: str, request: bytes = b"", **options: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, method, request, **options)
    return caught.value


@pytest.mark.parametrize("size", [0, 1, 16379, 65536, 5 << 20])
def test_messages_of_any_size_come_back(channel: grpc.Channel, size: int) -> None:
    message = bytes(range(256)) * (size // 256 + 1)
    assert call(channel, "echo", message[:size]) == message[:size]


def test_a_request_of_80_mib_and_an_answer_of_80_mib_pass(channel: grpc.Channel) -> None:
    assert call(channel, "size", bytes(80 << 20), timeout=60) == b"%d" % (80 << 20)
    assert len(call(channel, "zeros", b"%d" % (80 << 20), timeout=60)) == 80 << 20


def test_a_message_over_the_limit_is_refused_and_the_next_call_answered(channel: grpc.Channel) -> None:
    error = failure(channel, "size", bytes(MAX_RECEIVE + 1))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == f"SERVER: Received message larger than max ({MAX_RECEIVE + 1} vs. {MAX_RECEIVE})"
    assert call(channel, "size", b"abc") == b"3"


@pytest.fixture(scope="module")
def small() -> Iterator[Running]:
    with running(application(BodyBudget(8 << 20))) as found:
        yield found


def test_messages_that_together_are_too_much_are_unavailable_and_room_is_made_again(small: Running) -> None:
    with Http2Client(small.port) as hostile, grpc.insecure_channel(small.address) as channel:
        sent = b"\0" + (64 << 20).to_bytes(4, "big")  # a claim of 64 MiB, of which 3 come
        hostile.send(hostile.headers(1, fields("size"), end=False) + h2.frame(h2.DATA, 0, 1, sent))
        hostile.send(h2.frame(h2.DATA, 0, 1, bytes(16384)) * 200 + h2.frame(h2.PING, 0, 0, b"12345678"))
        hostile.until(h2.PING)
        error = failure(channel, "size", bytes(6 << 20))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "--max_pending_request_bytes" in error.details()
        assert call(channel, "size", bytes(1000)) == b"1000"
        hostile.send(h2.rst_stream(1, h2.ErrorCode.CANCEL) + h2.frame(h2.PING, 0, 0, b"12345678"))
        hostile.until(h2.PING)
        assert call(channel, "size", bytes(6 << 20)) == b"%d" % (6 << 20)
        assert call(channel, "size", bytes(20 << 20)) == b"%d" % (20 << 20)  # alone it may be larger


def test_a_few_bytes_do_not_inflate_to_more_than_all_requests_may_hold(small: Running) -> None:
    with grpc.insecure_channel(small.address) as channel:
        error = failure(channel, "size", bytes(40 << 20), compression=grpc.Compression.Gzip)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert call(channel, "size", bytes(1 << 20), compression=grpc.Compression.Gzip) == b"%d" % (1 << 20)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_calls_are_answered(channel: grpc.Channel, compression: grpc.Compression) -> None:
    for size in (10, 10_000, 1_000_000):
        assert call(channel, "echo", b"a" * size, compression=compression) == b"a" * size


@pytest.mark.parametrize(("encoding", "inflate"), [(b"gzip", gzip.decompress), (b"deflate", zlib.decompress)])
def test_a_large_answer_is_compressed_for_a_caller_that_does_so_itself(
    server: Running, encoding: bytes, inflate: Callable[[bytes], bytes]
) -> None:
    sent = b"a" * 10_000
    with Http2Client(server.port) as client:
        more = ((b"grpc-encoding", encoding), (b"grpc-accept-encoding", b"identity,deflate,gzip"))
        client.request(1, fields("echo", *more), b"\0" + len(sent).to_bytes(4, "big") + sent)
        headers, body, trailers = client.answer(1)
        assert (headers[b"grpc-encoding"], trailers[b"grpc-status"], body[0]) == (encoding, b"0", 1)
        assert len(body) < 1000
        assert inflate(body[5:]) == sent
        client.request(3, fields("echo"), b"\0" + len(sent).to_bytes(4, "big") + sent)
        headers, body, _ = client.answer(3)
        assert (headers.get(b"grpc-encoding"), body[0]) == (None, 0)


def test_a_compressed_message_that_inflates_over_the_limit_is_refused(channel: grpc.Channel) -> None:
    error = failure(channel, "size", bytes(MAX_RECEIVE + 1), compression=grpc.Compression.Gzip)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_deadline_ends_the_call_and_its_work(channel: grpc.Channel) -> None:
    CANCELLED.clear()
    assert failure(channel, "wait", timeout=0.2).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert CANCELLED.wait(10)
    assert call(channel, "remaining", timeout=20) in (b"19", b"20")
    assert call(channel, "remaining", timeout=None) == b"none"


def test_the_server_keeps_deadlines_when_the_client_does_not(server: Running) -> None:
    with Http2Client(server.port) as client:
        client.request(1, fields("wait", (b"grpc-timeout", b"100m")), b"\0\0\0\0\0")
        assert client.answer(1)[0][b"grpc-status"] == b"4"


def test_a_cancelled_call_ends_its_work(channel: grpc.Channel) -> None:
    CANCELLED.clear()
    running_call = channel.unary_unary("/test.Service/wait").future(b"")
    assert call(channel, "echo", b"x") == b"x"  # by now the server has the other one too
    running_call.cancel()
    assert CANCELLED.wait(10)


def test_a_cancelled_stream_ends_its_work(channel: grpc.Channel) -> None:
    CANCELLED.clear()
    stream = channel.unary_stream("/test.Service/forever")(b"")
    assert next(stream) == b"tick"
    stream.cancel()
    assert CANCELLED.wait(10)


def test_metadata_travels_both_ways(channel: grpc.Channel) -> None:
    metadata = (("text", "täxt".encode().decode("latin-1")[:1] + "t"), ("raw-bin", bytes(range(256))))
    peer, answer = channel.unary_unary("/test.Service/metadata").with_call(b"", metadata=metadata, timeout=30)
    assert peer.startswith(b"ipv4:127.0.0.1:")
    assert ("first", "tt") in answer.initial_metadata()
    assert ("last-bin", bytes(range(256))) in answer.trailing_metadata()


def test_an_abort_carries_code_text_and_metadata(channel: grpc.Channel) -> None:
    error = failure(channel, "refuse")
    assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "nö 100%\n{x}")
    assert ("why", "because") in error.trailing_metadata()


def test_a_serving_error_is_the_status_and_its_text_is_cut(channel: grpc.Channel) -> None:
    error = failure(channel, "serving_error")
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == "x" * 1024 + "...TRUNCATED"


def test_a_defect_is_internal_without_its_text(channel: grpc.Channel) -> None:
    error = failure(channel, "defect")
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in error.details()


def test_a_code_set_beside_an_answer_is_the_status(channel: grpc.Channel) -> None:
    error = failure(channel, "code")
    assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "lost")


def test_an_unknown_method_is_unimplemented(channel: grpc.Channel) -> None:
    error = failure(channel, "nothing")
    assert (error.code(), error.details()) == (grpc.StatusCode.UNIMPLEMENTED, "no gRPC method /test.Service/nothing")


def test_streams_of_all_kinds(channel: grpc.Channel) -> None:
    assert list(channel.unary_stream("/test.Service/count")(b"3", timeout=30)) == [b"0", b"1", b"2"]
    assert list(channel.unary_stream("/test.Service/count")(b"0", timeout=30)) == []
    assert channel.stream_unary("/test.Service/collect")(iter([b"a", b"b"]), timeout=30) == b"a,b"
    assert list(channel.stream_stream("/test.Service/chat")(iter([b"a", b"b"]), timeout=30)) == [b"A", b"B"]


def test_keepalive_pings_of_an_idle_client_are_no_flood(server: Running) -> None:
    options = [
        ("grpc.keepalive_time_ms", 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    with grpc.insecure_channel(server.address, options) as channel:
        stream = channel.unary_stream("/test.Service/forever")(b"")
        assert [next(stream) for _ in range(200)] == [b"tick"] * 200
        stream.cancel()


def fields(method: str, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", f"/test.Service/{method}".encode()),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *more,
    ]


@pytest.mark.parametrize(
    ("body", "more", "status"),
    [
        (b"", (), b"13"),
        (b"\0\0", (), b"13"),
        (b"\0\0\0\0\x09abc", (), b"13"),
        (b"\0\xff\xff\xff\xffabc", (), b"8"),
        (b"\x01\0\0\0\x03abc", (), b"13"),
        (b"\x01\0\0\0\x03abc", ((b"grpc-encoding", b"gzip"),), b"13"),
        (b"\x07\0\0\0\x03abc", (), b"13"),
        (b"\0\0\0\0\x03abc", ((b"grpc-encoding", b"zstd"),), b"12"),
        (b"\0\0\0\0\x03abc", ((b"grpc-timeout", b"12345678901S"),), b"13"),
        (b"\0\0\0\0\x03abc", ((b"grpc-timeout", b"0n"),), b"0"),
    ],
)
def test_broken_framing_has_a_status_and_the_next_call_is_answered(
    server: Running, body: bytes, more: tuple[tuple[bytes, bytes], ...], status: bytes
) -> None:
    with Http2Client(server.port) as client:
        client.request(1, fields("echo", *more), body)
        headers, _, trailers = client.answer(1)
        assert {**headers, **trailers}[b"grpc-status"] == status
        client.request(3, fields("echo"), b"\0\0\0\0\x02ok")
        assert client.answer(3)[1] == b"\0\0\0\0\x02ok"


def test_a_claim_of_two_gigabytes_costs_no_memory(server: Running) -> None:
    with Http2Client(server.port) as client:
        block = client.headers(1, fields("echo"), end=False)
        client.send(block + h2.frame(h2.DATA, 0, 1, b"\0\x7f\xff\xff\xff" + b"x" * 100))
        assert client.answer(1)[0][b"grpc-status"] == b"8"


def test_grpc_over_http_1_is_told_to_upgrade(server: Running) -> None:
    with server.connect() as stream:
        stream.sendall(
            b"POST /test.Service/echo HTTP/1.1\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n"
        )
        assert stream.recv(1000).startswith(b"HTTP/1.1 426")
