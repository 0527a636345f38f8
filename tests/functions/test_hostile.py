"""Hostile clients at the real server's port: they get an error, memory stays bounded, the next good request is served.

What a test of the HTTP server alone shows (test_http1, test_http2, test_grpc_asgi) is not repeated here.
"""

import contextlib
import gzip
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
import requests

import loader.protos as _protos

assert _protos
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc  # noqa: E402

from functions.web import http2_frames as h2  # noqa: E402
from functions.web.http2_frames import ErrorCode  # noqa: E402
from loader.tensor_proto import from_array  # noqa: E402
from tests.functions.http2_client import POST, Http2Client  # noqa: E402
from tests.functions.http_running import read_to_end  # noqa: E402
from tests.functions.served import running_server  # noqa: E402

REQUEST_BYTES = 32 << 20
PENDING_BYTES = 64 << 20
GROWTH_BYTES = 200 << 20
"""What the server may have taken more at its worst: what requests may hold, a copy of it, and what malloc keeps."""


class Server(NamedTuple):
    port: int
    pid: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def memory(self) -> int:
        """Bytes that the process had in memory at its worst."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        (line,) = (each for each in status.splitlines() if each.startswith("VmHWM"))
        return int(line.split()[1]) << 10


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hostile")
    flags = (
        f"--max_pending_request_bytes={PENDING_BYTES}",
        f"--max_request_bytes={REQUEST_BYTES}",
        f"--max_inflated_bytes={REQUEST_BYTES}",
    )
    with running_server(folder, *flags) as address:
        flag = f"--port_file={folder / 'port'}".encode()
        (pid,) = (
            int(each.parent.name)
            for each in Path("/proc").glob("[0-9]*/cmdline")
            if flag in each.read_bytes().split(b"\0")
        )
        yield Server(int(address.rpartition(":")[2]), pid)


@pytest.fixture(autouse=True)
def _bounded_and_alive(server: Server) -> Iterator[None]:
    before = server.memory()
    yield
    assert_serves(server)
    grown = server.memory() - before
    assert grown < GROWTH_BYTES, f"{grown >> 20} MiB more"


def assert_serves(server: Server) -> None:
    answer = requests.post(
        f"http://{server.address}/v1/models/half_plus_two:predict", json={"instances": [1.0]}, timeout=20
    )
    assert answer.json() == {"predictions": [2.5]}
    with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "half_plus_two"
        request.inputs["x"].CopyFrom(from_array(np.float32([1])))
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=20)
        assert list(answer.outputs["y"].float_val) == [2.5]


PREDICT = b"/v1/models/half_plus_two:predict"
FIELDS = [(name, PREDICT if name == b":path" else value) for name, value in POST]
CALL = [
    *((name, b"/tensorflow.serving.PredictionService/Predict" if name == b":path" else value) for name, value in POST),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
]
GOOD = json.dumps({"instances": [1.0]}).encode()


def head(*lines: bytes) -> bytes:
    return b"\r\n".join((b"POST %b HTTP/1.1" % PREDICT, b"host: t", *lines, b"", b""))


def test_a_claim_of_2_gib_is_answered_before_a_byte_of_it(server: Server) -> None:
    with server.connect() as stream:
        stream.sendall(head(b"content-length: 2147483648"))
        assert stream.recv(12) == b"HTTP/1.1 413"
    with Http2Client(server.port) as client:
        client.send(client.headers(1, [*FIELDS, (b"content-length", b"2147483648")], end=False))
        assert client.answer(1)[0][b":status"] == b"413"


def test_a_tensor_of_2_gib_in_a_few_bytes_is_refused(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel:
        predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for sizes in ((1 << 29,), (1 << 40, 1 << 40), (-1,), (0, 1 << 31, 1 << 31, 1 << 31)):
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "half_plus_two"
            request.inputs["x"].dtype = 1
            request.inputs["x"].float_val.append(1)
            for size in sizes:
                request.inputs["x"].tensor_shape.dim.add(size=size)
            with pytest.raises(grpc.RpcError) as refused:
                predictions.Predict(request, timeout=20)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_chunked_body_without_end_is_answered_413_or_cut(server: Server) -> None:
    with server.connect() as stream:
        stream.sendall(head(b"transfer-encoding: chunked"))
        piece = b"%x\r\n%b\r\n" % (1 << 20, b" " * (1 << 20))
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                stream.sendall(piece)
            raise AssertionError("100 MiB were taken")


def test_a_few_bytes_of_gzip_do_not_become_gigabytes(server: Server) -> None:
    bomb = gzip.compress(bytes(300 << 20), 1)
    url = f"http://{server.address}{PREDICT.decode()}"
    for _ in range(3):
        answer = requests.post(url, data=bomb, headers={"Content-Encoding": "gzip"}, timeout=20)
        assert answer.status_code == 413, answer.text
    with Http2Client(server.port) as client:
        fields = [*CALL, (b"grpc-encoding", b"gzip")]
        client.request(1, fields, b"\1" + len(bomb).to_bytes(4, "big") + bomb)
        headers, _, trailers = client.answer(1)
        assert (trailers or headers)[b"grpc-status"] == b"14"


def test_many_uploads_that_never_end_leave_room_for_others(server: Server) -> None:
    with contextlib.ExitStack() as open_sockets:
        for _ in range(40):
            stream = open_sockets.enter_context(server.connect())
            stream.sendall(head(b"content-length: 10000000"))
            with contextlib.suppress(ConnectionError):  # refused meanwhile
                stream.sendall(b" " * 9_000_000)
        assert_serves(server)


def test_slow_heads_slow_bodies_and_silent_connections_keep_nobody_else_waiting(server: Server) -> None:
    with contextlib.ExitStack() as open_sockets:
        for number in range(300):
            stream = open_sockets.enter_context(server.connect())
            stream.sendall((b"", b"POST /v1", head(b"content-length: 100") + b"{", h2.PREFACE[:10])[number % 4])
        assert_serves(server)


def test_answers_that_nobody_reads_are_not_piled_up(server: Server) -> None:
    large = json.dumps({"instances": [1.0] * 100_000}).encode()
    with contextlib.ExitStack() as open_sockets:
        for _ in range(10):
            stream = open_sockets.enter_context(server.connect())
            stream.settimeout(0.3)
            with contextlib.suppress(TimeoutError, ConnectionError):
                for _ in range(50):
                    stream.sendall(head(b"content-length: %d" % len(large)) + large)
        client = open_sockets.enter_context(Http2Client(server.port))
        client.socket.settimeout(0.3)
        with contextlib.suppress(TimeoutError, ConnectionError):
            client.send(h2.settings({h2.INITIAL_WINDOW_SIZE: h2.MAX_WINDOW}) + h2.window_update(0, 1 << 30))
            for number in range(1, 101, 2):
                client.request(number, FIELDS, large)
        assert_serves(server)


def rapid_reset(client: Http2Client) -> None:
    """Whole requests, each cancelled at once (CVE-2023-44487): work for the model, not only for the parser."""
    body = h2.frame(h2.DATA, h2.END_STREAM, 0, GOOD)
    for number in range(1, 10_000, 2):
        data = body[:5] + number.to_bytes(4, "big") + body[9:]
        client.send(client.headers(number, FIELDS, end=False) + data + h2.rst_stream(number, ErrorCode.CANCEL))


def reset_by_the_server(client: Http2Client) -> None:
    """Each request made wrong afterwards, so that the server resets it (CVE-2025-8671, "MadeYouReset")."""
    for number in range(1, 10_000, 2):
        client.send(client.headers(number, FIELDS, end=False) + h2.window_update(number, 0))


def empty_settings(client: Http2Client) -> None:
    for _ in range(500):
        client.send(h2.settings({}) * 50)


def pings(client: Http2Client) -> None:
    for _ in range(500):
        client.send(h2.frame(h2.PING, 0, 0, b"12345678") * 50)


def empty_frames(client: Http2Client) -> None:
    client.send(client.headers(1, FIELDS, end=False))
    for _ in range(500):
        client.send(h2.frame(h2.DATA, 0, 1, b"") * 50)


def continuations(client: Http2Client) -> None:
    client.send(h2.frame(h2.HEADERS, 0, 1, client.encoder.encode(FIELDS)))
    for _ in range(5000):
        client.send(h2.frame(h2.CONTINUATION, 0, 1, b"\0\1a\1b" * 200))


def tables(client: Http2Client) -> None:
    """The dynamic table made small and large again and again."""
    for number in range(1, 20_000, 2):
        client.send(h2.header_frames(number, b"\x20\x3f\xe1\x1f" * 4000, end=True, limit=16384))


def small_windows(client: Http2Client) -> None:
    """A long answer in dribbles (CVE-2019-9517)."""
    client.send(h2.settings({h2.INITIAL_WINDOW_SIZE: 1}))
    client.request(1, FIELDS, json.dumps({"instances": [1.0] * 50_000}).encode())
    for _ in range(500):
        client.send(h2.window_update(1, 1) * 50)


FLOODS = (
    rapid_reset,
    reset_by_the_server,
    empty_settings,
    pings,
    empty_frames,
    continuations,
    tables,
    small_windows,
)


@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.__name__)
def test_a_flood_over_http_2_ends_its_connection_while_others_are_served(
    server: Server, flood: Callable[[Http2Client], None]
) -> None:
    cut = threading.Event()

    def attack() -> None:
        with contextlib.suppress(ConnectionError), Http2Client(server.port) as client:
            flood(client)
            while True:  # until the server closes
                client.frame()
        cut.set()

    thread = threading.Thread(target=attack, daemon=True)
    thread.start()
    assert_serves(server)
    assert cut.wait(20), "the server goes on with it"
    thread.join(5)


def test_one_request_is_not_two(server: Server) -> None:
    """What proxies read differently (smuggling) is refused, and what follows is not read as a request."""
    hidden = b"GET /v1/models/hidden HTTP/1.1\r\nhost: t\r\n\r\n"
    for lines in (
        (b"content-length: %d" % len(hidden), b"transfer-encoding: chunked"),
        (b"transfer-encoding: chunked", b"content-length: 4"),
        (b"content-length: 0", b"content-length: 44"),
        (b"content-length: 0, 44",),
        (b"content-length : 44",),
        (b"content-length: +44",),
        (b"transfer-encoding: chunked, identity",),
        (b"transfer-encoding: xchunked",),
        (b"transfer-encoding:\x0bchunked",),
        (b"x: y\n transfer-encoding: chunked",),
        (b"x: y\rcontent-length: 44",),
    ):
        with server.connect() as stream:
            stream.sendall(head(*lines) + b"0\r\n\r\n" + hidden)
            answers = read_to_end(stream)
        assert answers.startswith(b"HTTP/1.1 400"), (lines, answers)
        assert answers.count(b"HTTP/1.1 ") == 1, (lines, answers)


def test_requests_sent_ahead_are_answered_in_order_and_no_more_of_them_held(server: Server) -> None:
    def request(value: int) -> bytes:
        body = json.dumps({"instances": [value]}).encode()
        return head(b"content-length: %d" % len(body)) + body

    count = 3000
    with server.connect() as stream:
        sender = threading.Thread(target=stream.sendall, args=(b"".join(map(request, range(count))),))
        sender.start()
        stream.settimeout(20)
        data = b""
        while data.count(b"predictions") < count or not data.endswith(b"}"):
            data += stream.recv(1 << 20)
        sender.join(5)
    found = [float(each.partition(b"]")[0]) for each in data.split(b'"predictions": [')[1:]]
    assert found == [value / 2 + 2 for value in range(count)]


def nested(depth: int) -> bytes:
    return b'{"instances": ' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    "body",
    [
        nested(1_000_000),
        b'{"instances": [' + b"{}," * 1_000_000 + b"{}]}",
        b'{"instances": [' + b'"a",' * 1_000_000 + b'"a"]}',
        b'{"instances": [' + b"9" * 5_000_000 + b"]}",
        b'{"signature_name": "' + b"\\u0000" * 1_000_000 + b'", "instances": [1]}',
        b'{"instances": [1.0' + b"0" * 5_000_000,
    ],
    ids=["nesting", "objects", "strings", "digits", "a long name", "cut off"],
)
def test_bodies_of_megabytes_that_mean_nothing_are_a_short_400(server: Server, body: bytes) -> None:
    for path in ("/v1/models/half_plus_two:predict", "/v1/models/golden_ex:classify", "/v2/models/half_plus_two/infer"):
        answer: Any = requests.post(f"http://{server.address}{path}", data=body, timeout=20)
        assert answer.status_code == 400, (path, answer.text[:200])
        assert len(answer.content) < 10_000
