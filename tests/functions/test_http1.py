"""HTTP/1.1 as clients speak it, well and badly."""

import asyncio
import contextlib
import threading
from typing import Any

import pytest

from functions.web.service import HttpLimits
from tests.functions.http_running import Running, read_answer, read_to_end, running

GONE = threading.Event()


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Sends back the body; some paths do other things."""
    path = scope["path"]
    if path == "/raise":
        raise ValueError("secret")
    if path == "/early":
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body", "body": b"too much"})
        return
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            GONE.set()
            return
        body += message["body"]
        if not message["more_body"]:
            break
    if path == "/wait":
        message = await receive()
        assert message["type"] == "http.disconnect"
        GONE.set()
        return
    if path == "/slow":
        await asyncio.sleep(0.2)
    if path == "/large":
        body = b"x" * (32 << 20)
    if path == "/headers":
        body = b" ".join(name for name, _ in scope["headers"])
    if path == "/describe":
        body = f"{scope['method']} {scope['path']} {scope['query_string'].decode()} {scope['http_version']}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    if path == "/pieces":
        await send({"type": "http.response.body", "body": b"one ", "more_body": True})
        await send({"type": "http.response.body", "body": b"two", "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def server() -> Any:
    with running(echo, HttpLimits(head_bytes=4096, discard_bytes=1 << 20)) as found:
        yield found


def post(path: str, body: bytes, extra: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {len(body)}\r\n{extra}\r\n".encode() + body


def test_one_connection_answers_many_requests(server: Running) -> None:
    with server.connect() as stream:
        for number in range(3):
            stream.sendall(post("/", b"%d" % number))
            status, headers, body = read_answer(stream)
            assert (status, body) == (200, b"%d" % number)
            assert "date" in headers


def test_requests_sent_at_once_are_answered_in_order(server: Running) -> None:
    with server.connect() as stream:
        stream.sendall(b"".join(post("/slow" if n == 1 else "/", b"%03d" % n) for n in range(40)))
        text = b""
        while text.count(b"HTTP/1.1 200") < 40 or not text.endswith(b"039"):
            text += stream.recv(65536)
    assert [int(part.rpartition(b"\r\n\r\n")[2]) for part in text.split(b"HTTP/1.1 200 OK")[1:]] == list(range(40))


def test_a_body_may_come_byte_by_byte_or_in_chunks(server: Running) -> None:
    with server.connect() as stream:
        for byte in post("/", b"abc"):
            stream.sendall(bytes((byte,)))
        assert read_answer(stream)[2] == b"abc"
        stream.sendall(
            b"POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )
        assert read_answer(stream)[2] == b"abcde"


def test_an_answer_in_pieces_is_chunked(server: Running) -> None:
    with server.connect() as stream:
        stream.sendall(post("/pieces", b"", "connection: close\r\n"))
        text = read_to_end(stream)
    assert b"transfer-encoding: chunked" in text
    assert text.endswith(b"4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n")


def test_http_1_0_is_answered_and_closed(server: Running) -> None:
    with server.connect() as stream:
        stream.sendall(b"POST /pieces HTTP/1.0\r\ncontent-length: 0\r\n\r\n")
        text = read_to_end(stream)
    assert text.startswith(b"HTTP/1.1 200")
    assert text.endswith(b"\r\n\r\none two")


def test_a_head_request_gets_no_body(server: Running) -> None:
    with server.connect() as stream:
        stream.sendall(b"HEAD /describe HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n")
        text = read_to_end(stream)
    assert b"content-length: 19" in text
    assert text.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("/describe?a=%20b", "/describe a=%20b"),
        ("http://host:1/describe?q", "/describe q"),
        ("/%64escribe", "/describe "),
    ],
)
def test_targets_reach_the_application(server: Running, target: str, told: str) -> None:
    with server.connect() as stream:
        stream.sendall(f"GET {target} HTTP/1.1\r\nhost: t\r\n\r\n".encode())
        assert read_answer(stream)[2].decode() == f"GET {told} 1.1"


def test_a_client_that_waits_for_100_continue_is_told(server: Running) -> None:
    with server.connect() as stream:
        stream.sendall(post("/", b"abc", "expect: 100-continue\r\n")[:-3])
        assert stream.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        stream.sendall(b"abc")
        assert read_answer(stream)[2] == b"abc"


def test_an_early_answer_is_readable_though_the_body_is_on_its_way(server: Running) -> None:
    with server.connect() as stream:
        stream.sendall(post("/early", b"x" * 500_000))
        assert read_answer(stream)[0] == 413
        stream.sendall(post("/", b"next"))
        assert read_answer(stream)[2] == b"next"


def test_a_client_that_sends_on_after_an_early_answer_is_cut(server: Running) -> None:
    with server.connect() as stream:
        stream.sendall(post("/early", b"").replace(b"content-length: 0", b"content-length: 100000000000"))
        with pytest.raises(ConnectionError):
            stream.sendall(b"x" * (64 << 20))


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\nhost: t\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS to a port without TLS
    ],
)
def test_what_is_not_http_is_answered_400_and_closed(server: Running, request_bytes: bytes) -> None:
    with server.connect() as stream:
        stream.sendall(request_bytes)
        assert read_to_end(stream).startswith(b"HTTP/1.1 400 Bad Request")


def test_answers_before_what_is_not_http_are_sent_first(server: Running) -> None:
    with server.connect() as stream:
        stream.sendall(post("/slow", b"one") + post("/", b"two") + b"GARBAGE\r\n\r\n")
        answers = read_to_end(stream).split(b"HTTP/1.1 ")[1:]
    assert [each[:3] for each in answers] == [b"200", b"200", b"400"]
    assert answers[0].endswith(b"one")
    assert answers[1].endswith(b"two")


def test_what_follows_the_last_request_of_a_connection_is_ignored(server: Running) -> None:
    with server.connect() as stream:
        stream.sendall(post("/", b"one", "connection: close\r\n") + post("/", b"two"))
        text = read_to_end(stream)
    assert text.endswith(b"one")


CHUNKED = b"POST /headers HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n"


def test_trailers_do_not_pass_for_headers(server: Running) -> None:
    with server.connect() as stream:
        stream.sendall(CHUNKED + b"1\r\na\r\n0\r\ncontent-type: other\r\n\r\n")
        assert read_answer(stream)[2] == b"host transfer-encoding"


@pytest.mark.parametrize("endless", [b"1;" + b"x" * 100, b"1\r\na\r\n0\r\n" + b"t: " + b"x" * 100])
def test_trailers_and_extensions_of_chunks_do_not_go_on_for_ever(server: Running, endless: bytes) -> None:
    with server.connect() as stream:
        stream.sendall(CHUNKED + endless)
        with contextlib.suppress(ConnectionError):
            for _ in range(10_000):
                stream.sendall(b"x" * 1000)
            raise AssertionError("10 MB of them are taken")
        assert read_to_end(stream)[:12] in (b"HTTP/1.1 431", b"")  # the kernel may drop it with what is unread


def test_a_head_that_is_too_long_is_answered_431(server: Running) -> None:
    with server.connect() as stream:
        stream.sendall(b"GET / HTTP/1.1\r\nlong: " + b"x" * 5000)
        assert read_to_end(stream).startswith(b"HTTP/1.1 431")


def test_an_application_that_raises_is_answered_500_without_its_text(server: Running) -> None:
    with server.connect() as stream:
        stream.sendall(post("/raise", b""))
        text = read_to_end(stream)
    assert text.startswith(b"HTTP/1.1 500")
    assert b"secret" not in text


def test_the_application_learns_that_the_client_has_gone(server: Running) -> None:
    GONE.clear()
    with server.connect() as stream:
        stream.sendall(post("/wait", b"abc"))
    assert GONE.wait(10)


def test_a_request_head_that_never_ends_is_answered_408() -> None:
    with running(echo, HttpLimits(head_seconds=0.2)) as server, server.connect() as slow:
        slow.sendall(b"POST / HTTP/1.1\r\n")
        assert read_to_end(slow).startswith(b"HTTP/1.1 408")


def test_a_connection_without_a_byte_is_closed() -> None:
    with running(echo, HttpLimits(head_seconds=0.2)) as server, server.connect() as silent:
        assert read_to_end(silent) == b""


def test_a_body_that_never_ends_is_answered_408() -> None:
    with running(echo, HttpLimits(stall_seconds=0.2)) as server, server.connect() as slow:
        slow.sendall(post("/", b"abc")[:-1])
        assert read_to_end(slow).startswith(b"HTTP/1.1 408")


def test_an_idle_connection_is_closed() -> None:
    with running(echo, HttpLimits(idle_seconds=0.2)) as server, server.connect() as idle:
        idle.sendall(post("/", b"abc"))
        assert read_answer(idle)[2] == b"abc"
        assert read_to_end(idle) == b""


def test_a_client_that_does_not_read_is_cut() -> None:
    with running(echo, HttpLimits(stall_seconds=0.5)) as server, server.connect() as stream:
        stream.sendall(post("/large", b""))
        stream.recv(10)
        threading.Event().wait(3)  # not reading is the point
        assert len(read_to_end(stream)) < 32 << 20


def test_connections_over_the_limit_are_closed() -> None:
    with running(echo, HttpLimits(connections=2)) as server:
        first, second = server.connect(), server.connect()
        for each in (first, second):
            each.sendall(post("/", b"abc"))
            assert read_answer(each)[2] == b"abc"
        with server.connect() as third:
            assert read_to_end(third) == b""
        first.close()
        second.close()


def test_a_drain_finishes_what_is_in_flight_and_closes_what_is_idle() -> None:
    with running(echo) as server:
        idle, busy = server.connect(), server.connect()
        idle.sendall(post("/", b"abc"))
        assert read_answer(idle)[2] == b"abc"
        busy.sendall(post("/slow", b"abc")[:-1])
        server.begin_stop()
        assert read_to_end(idle) == b""
        busy.sendall(b"c")
        status, headers, body = read_answer(busy)
        assert (status, headers["connection"], body) == (200, "close", b"abc")
        assert read_to_end(busy) == b""
        idle.close()
        busy.close()
