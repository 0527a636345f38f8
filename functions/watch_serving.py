"""`zeroserve serve --watch`: what lands in storage is looked at, at once, by the server that serves it.

Two things wake the server's own source: inotify for base paths on this machine, and storage events that are posted to
`/events` (CloudEvents, and the webhooks of stores and queues as they are). Neither says what to load: that follows from
storage, completeness and policy exactly as with the poll, which goes on and heals what is lost. So a half-copied model
is never served, and a flood of events costs a few looks a second.

| POST /events | answer |
|---|---|
| an event | 204, whether it is about a model of this server or not |
| no event | 400 |
| nobody says who sends it / who sends it may not | 401 / 403 |
| too long | 413 |
"""

import asyncio
import json
import logging
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from events import azure, decode
from events.envelope import envelopes, is_cloud_event
from events.error import MalformedError
from events.json_value import parse
from events.object_event import ObjectEvent, look_at
from events.place import place_of
from events.sender import SenderError, Senders, parse_secrets
from events.watch_folder import FolderWatch, is_remote
from functions.asgi import AsgiApplication, Receive, Scope, Send
from functions.server import Server
from loader.status import Code, ServingError
from loader.storage import open_storage

PATH = "/events"

MAX_EVENT_BYTES = 4 << 20
"""Of one request. An event refers to objects, it does not hold them."""

SPACE_SECONDS = 0.2
"""Between two looks that events and notices ask for: a flood of them costs five listings a second."""

_log = logging.getLogger("zeroserve.watch")


class WatchedServing:
    """Wakes a server's source. Order of use: `application` on the event loop, `close` at the end.

    Args:
        server: whose source is woken; need not have started.
        senders: who may post to `/events`; None closes that door.
    """

    def __init__(self, server: Server, senders: Senders | None) -> None:
        self._server = server
        self._senders = senders
        self._due = threading.Event()
        self._closed = threading.Event()
        self._folders = FolderWatch(self._local_folders, self._due.set)
        self._thread = threading.Thread(target=self._run, name="watch-look", daemon=True)
        self._thread.start()
        self._folders.start()

    @property
    def application(self) -> AsgiApplication:
        """The server's application, with the door before it."""
        return self._answer if self._senders is not None else self._server.application

    def close(self) -> None:
        """Wakes nobody any more."""
        self._closed.set()
        self._due.set()
        self._folders.close()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._due.wait()
            self._due.clear()
            if not self._closed.is_set():
                self._server.look_now()
            self._closed.wait(SPACE_SECONDS)

    def _local_folders(self) -> set[Path]:
        """The base paths on this machine; those that other machines write to are left to the poll."""
        storages = (open_storage(url) for url in self._server.base_paths() if "://" not in url or url[:5] == "file:")
        return {storage.local for storage in storages if storage.local is not None and not is_remote(storage.local)}

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH:
            await self._server.application(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            answer = await self._door(scope["method"], headers, receive)
        except SenderError as error:
            answer = _said(error.status, str(error), ("www-authenticate", 'Bearer, Basic realm="events"'))
        except MalformedError as error:
            answer = _said(400, str(error))
        except _GoneError:
            return
        status, extra, body = answer
        headers_out = [*((name.encode(), value.encode("latin-1", "replace")) for name, value in extra)]
        headers_out.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": headers_out})
        await send({"type": "http.response.body", "body": body})

    async def _door(self, method: str, headers: dict[str, str], receive: Receive) -> "_Answer":
        if method == "OPTIONS":
            # Source: cloudevents/spec http-webhook.md 4.2. It allows to send; each event is checked all the same.
            return 200, [("webhook-allowed-origin", azure.allowed_origin(headers)), ("allow", "POST")], b""
        if method != "POST":
            return _said(405, "events are sent with POST", ("allow", "POST, OPTIONS"))
        assert self._senders is not None  # noqa: S101  without them there is no door
        self._senders.check(headers)
        body = await _read(receive)
        if body is None:
            return _said(413, f"the event has more than {MAX_EVENT_BYTES} bytes")
        code, found = await asyncio.to_thread(_decoded, headers, body)
        if code is not None:
            return 200, [("content-type", "application/json")], json.dumps({"validationResponse": code}).encode()
        if _concerns(found, self._server.base_paths()):
            self._due.set()
        return 204, [], b""


_Answer = tuple[int, list[tuple[str, str]], bytes]


class _GoneError(Exception):
    """The client has gone before its event was whole."""


def _said(status: int, text: str, *headers: tuple[str, str]) -> _Answer:
    return status, [("content-type", "text/plain; charset=utf-8"), *headers], text.encode()


async def _read(receive: Receive) -> bytes | None:
    """The body; None for one that is too long."""
    chunks, size = [], 0
    while True:
        message: Any = await receive()
        if message["type"] != "http.request":
            raise _GoneError
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > MAX_EVENT_BYTES:
            return None
        if not message.get("more_body", False):
            return b"".join(chunks)


def _decoded(headers: dict[str, str], body: bytes) -> tuple[str | None, Sequence[ObjectEvent]]:
    """The code with which Event Grid checks an address, if it does; and the storage events.

    Raises:
        MalformedError: neither.
    """
    if is_cloud_event(headers):
        found = envelopes(headers, body)
        for event in found:
            if event.type == azure.VALIDATION:
                return azure.validation_code({"type": event.type, "data": event.data}), ()
        return None, [one for event in found for one in decode.of_cloud_event(event)]
    code = azure.validation_code(parse(body, "the body"))
    return (code, ()) if code is not None else (None, decode.of_request(headers, body))


def _concerns(events: Iterable[ObjectEvent], base_paths: Iterable[str]) -> bool:
    """Whether one of the events is about one of these models."""
    bases = [place_of(url) for url in base_paths]
    return any(look_at(event, base) is not None for event in events for base in bases)


def read_senders(file: str) -> Senders:
    """Those who know one of the secrets of a file, one on each line; the file is read anew for each request.

    Raises:
        ServingError: it cannot be read, or holds no good secret.
    """

    def read() -> Sequence[str]:
        return parse_secrets(Path(file).read_text())

    try:
        if not read():
            raise ValueError("it is empty")
    except (OSError, ValueError) as error:
        raise ServingError(Code.INVALID_ARGUMENT, f"--watch_secret_file={file}: {error}") from None
    return Senders(read, None, anonymous=False)
