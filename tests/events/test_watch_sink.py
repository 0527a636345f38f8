"""What a sink's answers mean, from a real server."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from events.watch_event import Landed
from events.watch_sink import MAX_RETRY_AFTER_SECONDS, Sink, retry_after
from tests.servers.process import free_port
from tests.servers.sink import sink_server

LANDED = Landed("/models/m", "7", "ab12", 3, 9)
NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def test_a_sink_that_takes_an_event_has_it() -> None:
    with sink_server() as server:
        assert Sink(server.url, {"team": "a"}).send(LANDED).delivered
        received = server.next()
    assert received.headers["ce-id"] == "ab12"
    assert received.headers["ce-team"] == "a"
    assert received.data["url"] == "/models/m/7"


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    with sink_server((status, {})) as server:
        answer = Sink(server.url, {}).send(LANDED)
    assert (answer.delivered, answer.again) == (False, True)


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 413, 415])
def test_what_will_not_pass_is_final(status: int) -> None:
    with sink_server((status, {"location": "/elsewhere"})) as server:
        answer = Sink(server.url, {}).send(LANDED)
        assert server.received.qsize() == 1
    assert (answer.delivered, answer.again) == (False, False)
    assert str(status) in answer.text


def test_the_time_that_a_sink_asks_for_is_heard() -> None:
    with sink_server((503, {"retry-after": "7"})) as server:
        assert Sink(server.url, {}).send(LANDED).after == 7


def test_a_sink_that_is_not_there_is_tried_again() -> None:
    answer = Sink(f"http://127.0.0.1:{free_port()}/", {}).send(LANDED)
    assert (answer.delivered, answer.again) == (False, True)
    assert "does not answer" in answer.text


def test_a_token_is_read_anew_for_each_event(tmp_path: Path) -> None:
    token = tmp_path / "token"
    with sink_server() as server:
        sink = Sink(server.url, {}, token)
        for word in ("first", "second"):
            token.write_text(word + "\n")
            sink.send(LANDED)
            assert server.next().headers["authorization"] == f"Bearer {word}"


def test_a_token_that_cannot_be_read_is_tried_again(tmp_path: Path) -> None:
    with sink_server() as server:
        assert Sink(server.url, {}, tmp_path / "none").send(LANDED).again


def test_authorities_that_are_no_certificates_are_refused() -> None:
    with pytest.raises(ssl.SSLError):
        Sink("https://sink/", {}, None, "nonsense")
    Sink("https://sink/", {}, None, trustme.CA().cert_pem.bytes().decode())


@pytest.mark.parametrize("url", ["", "sink", "ftp://sink/", "http://", "file:///etc/passwd"])
def test_what_is_no_http_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="wanted http"):
        Sink(url, {})


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("12", 12),
        (" 0 ", 0),
        ("99999999999999999999", MAX_RETRY_AFTER_SECONDS),
        ("Mon, 23 Nov 2026 12:00:30 GMT", 30),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds
