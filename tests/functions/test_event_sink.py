"""Events leave for real sinks that answer, refuse, fail, hang and go away; none is lost without being counted."""

import contextlib
import http.server
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from functions.tap import event_sink
from functions.tap.counts import TapCounts
from functions.tap.event_sink import Event, EventSink, Letter, trusted
from functions.tap.outbox import Outbox
from tests.servers.sink import sink_server

EXIT = "prediction_log"


def letter(number: int = 0) -> Letter:
    attributes = {"id": str(number), "type": "t", "source": "s", "subject": "é\r\nx"}
    return Letter(EXIT, "m", lambda: Event(attributes, "application/json", b"{}"))


def dropped(counts: TapCounts) -> dict[str, float]:
    return {reason: row[0] for (_, reason), row in counts.dropped.samples().rows.items()}


def assert_all_are_counted(counts: TapCounts, sampled: int) -> None:
    assert counts.sampled.value((EXIT,)) == sampled
    assert counts.passed.value((EXIT,)) + sum(dropped(counts).values()) == sampled
    logged = sum(row[0] for row in counts.logged.samples().rows.values())
    assert logged == sampled


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_sink, "PAUSE_SECONDS", 0.01)


def test_events_are_binary_and_no_header_can_be_smuggled_in() -> None:
    counts = TapCounts()
    with sink_server() as server:
        sink = EventSink(server.url, counts, {"team": "a", "type": "other"})
        assert sink.offer(letter(7), 10)
        found = server.next()
        sink.close(10)
    assert (found.headers["ce-id"], found.headers["ce-type"], found.headers["ce-team"]) == ("7", "t", "a")
    assert found.headers["ce-subject"] == "%C3%A9%0D%0Ax"
    assert_all_are_counted(counts, 1)


def test_what_fails_is_sent_again_and_what_is_refused_is_not() -> None:
    counts = TapCounts()
    with sink_server((500, {}), (503, {}), (202, {}), (400, {}), (302, {"location": "http://127.0.0.1:9/"})) as server:
        sink = EventSink(server.url, counts)
        for number in range(3):
            sink.offer(letter(number), 10)
            ids = [server.next().headers["ce-id"] for _ in range(3 if number == 0 else 1)]
            assert ids == [str(number)] * len(ids)
        sink.close(10)
    assert counts.passed.value((EXIT,)) == 1
    assert dropped(counts) == {"refused": 2}
    assert_all_are_counted(counts, 3)


def test_a_sink_that_only_fails_is_given_up_after_some_tries() -> None:
    counts = TapCounts()
    with sink_server(*[(500, {})] * 100) as server:
        sink = EventSink(server.url, counts, tries=3)
        sink.offer(letter(), 10)
        for _ in range(3):
            server.next()
        sink.close(10)
        assert server.received.empty()
    assert dropped(counts) == {"failed": 1}


def test_an_event_that_cannot_be_made_takes_no_other_with_it() -> None:
    counts = TapCounts()

    def broken() -> Event:
        raise ZeroDivisionError

    with sink_server() as server:
        sink = EventSink(server.url, counts)
        sink.offer(Letter(EXIT, "m", broken), 10)
        sink.offer(letter(1), 10)
        assert server.next().headers["ce-id"] == "1"
        sink.close(10)
    assert dropped(counts) == {"unreadable": 1}
    assert_all_are_counted(counts, 2)


@contextlib.contextmanager
def hanging() -> Iterator[str]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def test_a_sink_that_hangs_costs_the_caller_nothing_and_the_end_a_bounded_time() -> None:
    counts = TapCounts()
    with hanging() as url:
        sink = EventSink(url, counts)
        began = time.monotonic()
        taken = sum(sink.offer(letter(number), 1000) for number in range(5000))
        assert time.monotonic() - began < 5
        assert event_sink.MAX_EVENTS <= taken <= event_sink.MAX_EVENTS + event_sink.SENDERS
        assert dropped(counts)["queue_full"] == 5000 - taken
        began = time.monotonic()
        sink.close(0.2)
        assert time.monotonic() - began < 5
        on_way = taken - dropped(counts)["shutdown"]
        assert 0 <= on_way <= event_sink.SENDERS  # they give up as soon as their silence is over
        assert not sink.offer(letter(), 10)


def test_large_events_fill_the_queue_by_their_bytes() -> None:
    counts = TapCounts()
    with hanging() as url:
        sink = EventSink(url, counts)
        taken = sum(sink.offer(letter(number), 16 << 20) for number in range(20))
        assert taken <= 4 + event_sink.SENDERS
        sink.close(0.1)


def test_a_sink_that_is_not_there_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
    counts = TapCounts()
    sink = EventSink(url, counts)
    sink.offer(letter(), 10)
    sink.close(10)
    assert dropped(counts) == {"failed": 1}


def test_a_connection_that_the_sink_has_closed_is_made_anew() -> None:
    closed = threading.Event()

    class Once(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(202)
            self.send_header("content-length", "0")
            self.end_headers()
            self.close_connection = True  # without a word of it, as a server that restarts

        def finish(self) -> None:
            super().finish()
            closed.set()

        def log_message(self, *_: object) -> None:
            pass

    counts = TapCounts()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Once) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        sink = EventSink(f"http://127.0.0.1:{server.server_address[1]}/", counts, tries=1)
        for number in range(3):
            sink.offer(letter(number), 10)
            assert closed.wait(30)
            closed.clear()
        sink.close(10)
        server.shutdown()
    assert counts.passed.value((EXIT,)) == 3


def test_a_sink_over_tls_is_checked_against_the_certificates_that_are_told() -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    passed = {}
    with sink_server(tls=context) as server:
        for name, ca in (("told", authority), ("another's", stranger)):
            counts = TapCounts()
            sink = EventSink(server.url, counts, tls=trusted(server.url, ca.cert_pem.bytes().decode()), tries=1)
            sink.offer(letter(), 10)
            sink.close(30)
            passed[name] = counts.passed.value((EXIT,))
            assert_all_are_counted(counts, 1)
    assert passed == {"told": 1, "another's": 0}
    with pytest.raises(ValueError, match="no certificates"):
        trusted("https://h/", "nothing")


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 10), st.integers(1, 100))
def test_a_queue_keeps_its_limits_and_its_order(sizes: list[int], items: int, total: int) -> None:
    box: Outbox[int] = Outbox(items, total)
    taken: list[int] = []
    for number, size in enumerate(sizes):
        if box.offer(number, size):
            taken.append(number)
        held = [sizes[one] for one in taken]
        assert len(box) == len(taken) <= items
        assert sum(held) <= total or len(held) == 1
    found = [box.take(0) for _ in taken]
    assert (found, box.take(0)) == (taken, None)
    box.close()
    assert not box.offer(1, 1)
