"""The door that makes a watcher look at once."""

import contextlib
import http.client
import threading
from collections.abc import Iterator

import requests

from events.watch_door import MAX_BODY_BYTES, Door


@contextlib.contextmanager
def door(secret: str = "") -> Iterator[tuple[str, threading.Event]]:
    knocked = threading.Event()
    one = Door("127.0.0.1", 0, secret, knocked.set)
    one.start()
    try:
        yield f"http://127.0.0.1:{one.port}", knocked
    finally:
        one.close()


def test_whoever_posts_is_heard() -> None:
    with door() as (url, knocked):
        assert requests.post(f"{url}/hdfs", json={"eventType": "RENAME"}, timeout=10).status_code == 204
        assert knocked.is_set()


def test_whoever_does_not_know_the_secret_is_not_heard() -> None:
    with door("word") as (url, knocked):
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "word"}):
            assert requests.post(url, data=b"x", headers=headers, timeout=10).status_code == 401
        assert not knocked.is_set()
        assert requests.post(url, data=b"x", headers={"authorization": "Bearer word"}, timeout=10).status_code == 204
        assert knocked.is_set()


def test_a_body_that_is_too_long_is_refused_unread() -> None:
    with door() as (url, knocked):
        client = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
        client.request("POST", "/", headers={"content-length": str(MAX_BODY_BYTES + 1)})
        assert client.getresponse().status == 413
        client.close()
        assert not knocked.is_set()


def test_probes_are_answered_and_nothing_else_is_there() -> None:
    with door() as (url, _):
        assert requests.get(f"{url}/healthz", timeout=10).status_code == 200
        assert requests.get(f"{url}/other", timeout=10).status_code == 404
