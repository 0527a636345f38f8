"""HTTP/2 as clients speak it, well and badly. Conformance as such is h2spec's business: see ADR 0002."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.web import http2_frames as h2
from functions.web.http2_frames import ErrorCode
from functions.web.service import HttpLimits
from tests.functions.http2_client import GET, POST, Http2Client
from tests.functions.http_running import Running, read_to_end, running

GONE = threading.Event()
SECONDS = {"/sleep": 0.2, "/long": 2.5}
LIMITS = HttpLimits(nuisances=300, nuisances_per_second=10, streams=50, stall_seconds=30)


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
        assert (await receive())["type"] == "http.disconnect"
        GONE.set()
        return
    if path in SECONDS:
        await asyncio.sleep(SECONDS[path])
    if path == "/trailers":
        start = {"type": "http.response.start", "status": 200, "headers": [(b"Upper", b"1")], "trailers": True}
        await send(start)
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})
        await send({"type": "http.response.trailers", "headers": [(b"status", b"fine")]})
        return
    if path == "/large":
        body = bytes(range(256)) * (20 << 10)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body or b"nothing"})


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(echo, LIMITS) as found:
        yield found


@pytest.fixture
def client(server: Running) -> Iterator[Http2Client]:
    with Http2Client(server.port) as found:
        yield found


def at(path: bytes, fields: list[tuple[bytes, bytes]] = POST) -> list[tuple[bytes, bytes]]:
    return [(name, path if name == b":path" else value) for name, value in fields]


def assert_serves(server: Running) -> None:
    with Http2Client(server.port) as good:
        good.request(1, POST, b"good")
        assert good.answer(1)[1] == b"good"


def test_requests_with_and_without_a_body_are_answered(client: Http2Client) -> None:
    client.request(1, GET)
    headers, body, _ = client.answer(1)
    assert (headers[b":status"], headers[b"content-length"], body) == (b"200", b"7", b"nothing")
    assert b"date" in headers
    assert b"connection" not in headers
    client.request(3, POST, b"abc")
    assert client.answer(3)[1] == b"abc"


def test_requests_on_one_connection_do_not_wait_for_each_other(client: Http2Client) -> None:
    client.request(1, at(b"/sleep"), b"slow")
    client.request(3, POST, b"quick")
    assert client.answer(3)[1] == b"quick"
    assert client.answer(1)[1] == b"slow"


def test_trailers_follow_the_body(client: Http2Client) -> None:
    client.request(1, at(b"/trailers", GET))
    headers, body, trailers = client.answer(1)
    assert (headers[b"upper"], body, trailers) == (b"1", b"ab", {b"status": b"fine"})


def test_a_body_larger_than_every_window_arrives(client: Http2Client) -> None:
    sent = bytes(range(256)) * (80 << 10)
    client.send(client.headers(1, POST, end=False))
    windows = {0: h2.DEFAULT_WINDOW, 1: LIMITS.stream_window_bytes}
    at = 0
    while at < len(sent):
        size = min(16384, len(sent) - at, *windows.values())
        if size <= 0:
            found = client.until(h2.WINDOW_UPDATE)
            windows[found.stream] += int.from_bytes(found.payload, "big")
            continue
        at += size
        client.send(h2.frame(h2.DATA, h2.END_STREAM if at == len(sent) else 0, 1, sent[at - size : at]))
        windows = {stream: window - size for stream, window in windows.items()}
    assert client.answer(1)[1] == sent


@pytest.mark.parametrize("window", [1, 100, 20000])
def test_answers_keep_to_the_clients_windows(server: Running, window: int) -> None:
    settings_frame = h2.settings({h2.INITIAL_WINDOW_SIZE: window})
    with Http2Client(server.port, settings=settings_frame) as client:
        client.request(1, POST, b"x" * (3 * window))
        sizes = []
        while sum(sizes) < 3 * window:
            found = client.until(h2.DATA)
            sizes.append(len(found.payload))
            assert sizes[-1] <= window
            client.send(h2.window_update(1, sizes[-1]))


def test_a_window_that_shrinks_below_zero_holds_data_back(client: Http2Client) -> None:
    client.send(h2.settings({h2.INITIAL_WINDOW_SIZE: 10}))
    client.request(1, POST, b"x" * 30)
    assert len(client.until(h2.DATA).payload) == 10
    client.send(h2.settings({h2.INITIAL_WINDOW_SIZE: 0}) + h2.window_update(1, 5))
    client.send(h2.frame(h2.PING, 0, 0, b"12345678"))
    assert client.until(h2.PING).payload == b"12345678"  # and no data before it
    client.send(h2.window_update(1, 25))
    assert len(client.until(h2.DATA).payload) == 20


def test_the_application_learns_that_a_request_is_cancelled(client: Http2Client) -> None:
    GONE.clear()
    client.request(1, at(b"/wait"), b"abc")
    client.send(h2.frame(h2.PING, 0, 0, b"12345678"))
    client.until(h2.PING)
    client.send(h2.rst_stream(1, ErrorCode.CANCEL))
    assert GONE.wait(10)


def test_an_early_answer_ends_the_stream_and_what_is_still_sent_is_ignored(client: Http2Client) -> None:
    client.send(client.headers(1, at(b"/early"), end=False) + h2.frame(h2.DATA, 0, 1, b"x" * 1000))
    assert client.answer(1)[1] == b"too much"
    client.send(h2.frame(h2.DATA, 0, 1, b"x" * 1000) * 5)
    client.request(3, POST, b"next")
    assert client.answer(3)[1] == b"next"


def test_an_application_that_raises_is_answered_500_without_its_text(client: Http2Client) -> None:
    client.request(1, at(b"/raise"), b"abc")
    headers, body, _ = client.answer(1)
    assert (headers[b":status"], body) == (b"500", b"")


def test_requests_over_the_limit_are_refused_and_the_others_answered(client: Http2Client) -> None:
    count = LIMITS.streams + 5
    for number in range(count):
        client.request(2 * number + 1, at(b"/sleep"), b"x")
    refused = answered = 0
    while refused + answered < count:
        found = client.frame()
        if found.kind == h2.RST_STREAM:
            assert int.from_bytes(found.payload, "big") == ErrorCode.REFUSED_STREAM
            refused += 1
        elif found.flags & h2.END_STREAM and found.kind == h2.DATA:
            answered += 1
    assert (refused, answered) == (5, LIMITS.streams)


def test_a_drain_says_goaway_twice_and_answers_what_came_before_the_second() -> None:
    with running(echo, LIMITS) as server, Http2Client(server.port) as client:
        for number in (1, 3):
            client.request(number, at(b"/sleep"), b"x")
        client.send(h2.frame(h2.PING, 0, 0, b"12345678"))
        client.until(h2.PING)
        server.begin_stop()
        first = client.until(h2.GOAWAY).payload
        assert first[:8] == h2.MAX_WINDOW.to_bytes(4, "big") + bytes(4), "nothing is refused yet, and nothing is wrong"
        client.request(5, at(b"/sleep"), b"y")  # sent before the client had read that
        ended: dict[int, int] = {}
        with contextlib.suppress(ConnectionError):
            while True:
                found = client.frame()
                if found.kind == h2.GOAWAY:
                    assert found.payload[:8] == (5).to_bytes(4, "big") + bytes(4)
                    client.request(7, at(b"/echo"), b"z")
                elif found.kind == h2.RST_STREAM or found.flags & h2.END_STREAM:
                    ended[found.stream] = found.kind
        assert [ended.pop(number) for number in (1, 3, 5)] == [h2.DATA] * 3
        assert ended in ({}, {7: h2.RST_STREAM}), "what comes after the second GOAWAY is refused, or finds nobody"


def test_a_client_with_one_request_in_flight_reads_goaway_behind_its_answer() -> None:
    with running(echo, LIMITS) as server, Http2Client(server.port) as client:
        client.request(1, at(b"/sleep"), b"x")
        client.send(h2.frame(h2.PING, 0, 0, b"12345678"))
        client.until(h2.PING)
        server.begin_stop()
        assert client.answer(1)[1] == b"x"
        assert [client.until(h2.GOAWAY).payload[:4] for _ in range(2)] == [
            h2.MAX_WINDOW.to_bytes(4, "big"),
            (1).to_bytes(4, "big"),
        ]
        with pytest.raises(ConnectionError):
            client.frame()


def test_an_answer_that_a_draining_server_gives_is_followed_by_goaway_in_one_piece() -> None:
    with running(echo, LIMITS) as server, Http2Client(server.port) as client:
        client.request(1, at(b"/echo"), b"x")
        assert client.answer(1)[1] == b"x"
        server.delay = 1.0
        server.begin_stop()
        client.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.until(h2.GOAWAY)  # an idle client may be sending just now
        client.request(3, at(b"/echo"), b"y")
        assert client.until(h2.DATA).payload == b"y"
        assert client.frame().payload[:4] == h2.MAX_WINDOW.to_bytes(4, "big")
        client.request(5, at(b"/echo"), b"z")
        assert client.until(h2.DATA).payload == b"z"


def flood(frame: bytes) -> Callable[[Http2Client], None]:
    def send(client: Http2Client) -> None:
        for _ in range(200):
            client.send(frame * 50)

    return send


def rapid_reset(client: Http2Client) -> None:
    for number in range(1, 4001, 2):
        client.send(client.headers(number, POST, end=False) + h2.rst_stream(number, ErrorCode.CANCEL))


def continuations(client: Http2Client) -> None:
    block = client.encoder.encode(POST)
    client.send(h2.frame(h2.HEADERS, 0, 1, block))
    for _ in range(10_000):
        client.send(h2.frame(h2.CONTINUATION, 0, 1, b""))


def empty_data(client: Http2Client) -> None:
    client.send(client.headers(1, POST, end=False))
    for _ in range(10_000):
        client.send(h2.frame(h2.DATA, 0, 1, b""))


def header_bomb(client: Http2Client) -> None:
    # One long header in the table, then thousands of references to it: a few kB that mean tens of MB.
    encoder = hpack.Encoder()
    client.send(h2.header_frames(1, encoder.encode([*POST, (b"x", b"y" * 3000)]), end=False, limit=16384))
    client.send(h2.header_frames(3, encoder.encode(POST) + b"\xbe" * 16000, end=False, limit=16384))


def table_sizes(client: Http2Client) -> None:
    client.send(h2.header_frames(1, b"\x20\x3f\xe1\x1f" * 4000, end=True, limit=16384))


def long_headers(client: Http2Client) -> None:
    for number in range(1, 4001, 2):
        block = client.encoder.encode(POST) + b"\0\1a\1b" * 1000
        client.send(h2.header_frames(number, block, end=False, limit=16384))


FLOODS = {
    "long headers": long_headers,
    "ping": flood(h2.frame(h2.PING, 0, 0, b"12345678")),
    "settings": flood(h2.settings({h2.INITIAL_WINDOW_SIZE: 1000})),
    "priority": flood(h2.frame(h2.PRIORITY, 0, 1, b"\x00\x00\x00\x00\x01")),
    "unknown frames": flood(h2.frame(0xEE, 0, 0, b"")),
    "dribbled windows": flood(h2.window_update(0, 1)),
    "rapid reset": rapid_reset,
    "continuation": continuations,
    "empty data": empty_data,
    "headers": header_bomb,
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_its_connection_and_nobody_elses(server: Running, name: str) -> None:
    with Http2Client(server.port) as bystander, Http2Client(server.port) as hostile:
        with contextlib.suppress(ConnectionError):  # cut before it had sent all
            FLOODS[name](hostile)
        code = ErrorCode.ENHANCE_YOUR_CALM
        with contextlib.suppress(ConnectionError):  # the kernel threw the last words away with the rest
            code = ErrorCode(hostile.goaway())
        assert code is ErrorCode.ENHANCE_YOUR_CALM
        bystander.request(1, POST, b"good")
        assert bystander.answer(1)[1] == b"good"
    assert_serves(server)


def test_a_table_that_changes_its_size_again_and_again_ends_the_connection(client: Http2Client) -> None:
    table_sizes(client)
    assert client.goaway() == ErrorCode.COMPRESSION_ERROR


def test_a_client_that_asks_for_much_and_reads_nothing_is_held_back_and_cut() -> None:
    limits = HttpLimits(stall_seconds=0.5)
    with running(echo, limits) as server, Http2Client(server.port) as greedy:
        greedy.send(h2.settings({h2.INITIAL_WINDOW_SIZE: h2.MAX_WINDOW}) + h2.window_update(0, 1 << 30))
        requests = b"".join(greedy.headers(number, at(b"/large", GET), end=True) for number in range(1, 500, 2))
        greedy.send(requests)
        threading.Event().wait(3)  # not reading is the point
        assert len(read_to_end(greedy.socket)) < 100 << 20
        assert_serves(server)


@pytest.fixture(scope="module")
def impatient() -> Iterator[Running]:
    with running(echo, HttpLimits(stall_seconds=0.3)) as found:
        yield found


def test_an_upload_that_stalls_is_answered_408_and_the_others_go_on(impatient: Running) -> None:
    with Http2Client(impatient.port) as client:
        client.request(1, at(b"/long"), b"patience")
        client.send(client.headers(3, POST, end=False) + h2.frame(h2.DATA, 0, 3, b"some"))
        assert client.answer(3)[0][b":status"] == b"408"
        assert client.answer(1)[1] == b"patience"


def test_an_answer_that_nobody_takes_is_reset_and_the_others_go_on(impatient: Running) -> None:
    with Http2Client(impatient.port, settings=h2.settings({h2.INITIAL_WINDOW_SIZE: 4})) as client:
        client.request(1, POST, b"more than the window")
        client.request(3, at(b"/long"), b"four")
        with pytest.raises(ConnectionResetError) as reset:
            client.answer(1, window=False)
        assert reset.value.args == (ErrorCode.CANCEL,)
        assert client.answer(3)[1] == b"four"


def test_a_call_may_pause_between_its_messages(impatient: Running) -> None:
    with Http2Client(impatient.port) as client:
        client.send(client.headers(1, [*POST, (b"content-type", b"application/grpc")], end=False))
        client.send(h2.frame(h2.DATA, 0, 1, b"one "))
        threading.Event().wait(2)  # pausing is the point
        client.send(h2.frame(h2.DATA, h2.END_STREAM, 1, b"two"))
        assert client.answer(1)[1] == b"one two"


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ([*POST, (b":path", b"/")], "a pseudo-header twice"),
        ([*POST, (b":unknown", b"/")], "an unknown pseudo-header"),
        ([*POST[:2], POST[3]], "no path"),
        ([*POST, (b"Upper", b"1")], "an upper-case name"),
        ([*POST, (b"connection", b"close")], "a header of HTTP/1.1"),
        ([*POST, (b"te", b"gzip")], "another te than trailers"),
        ([*POST, (b"x", b"a\r\nb")], "a line end in a value"),
        ([*POST, (b"content-length", b"5")], "a body of another length"),
        ([*POST, (b"content-length", b"3"), (b"content-length", b"3")], "two lengths"),
        ([*POST[:2], (b":path", b"/a\r\nb"), POST[3]], "a line end in the path"),
        ([*POST, (b"content-length", b"nan")], "a length that is no number"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_malformed_request_resets_its_stream_only(client: Http2Client, fields: Any, what: str) -> None:
    client.request(1, fields, b"abc")
    with pytest.raises(ConnectionResetError):
        client.answer(1)
    client.request(3, POST, b"good")
    assert client.answer(3)[1] == b"good"


FRAMES = st.builds(
    h2.frame,
    st.integers(0, 11),
    st.integers(0, 255),
    st.sampled_from([0, 1, 2, 3, 5, h2.MAX_WINDOW]),
    st.one_of(
        st.binary(max_size=40),
        st.just(hpack.Encoder().encode(POST)),
        st.integers(0, 2**32 - 1).map(lambda value: value.to_bytes(4, "big")),
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(FRAMES, max_size=12).map(b"".join) | st.binary(max_size=200))
def test_whatever_is_sent_the_server_goes_on(server: Running, data: bytes) -> None:
    with Http2Client(server.port) as hostile, contextlib.suppress(ConnectionError):
        hostile.send(data)
        hostile.send(h2.frame(h2.PING, 0, 0, b"12345678"))
    assert_serves(server)
