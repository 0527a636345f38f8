"""Stands before the application where somebody wants to know of requests: makes their records, and gives them on.

Nothing stands there otherwise, so a server that nobody watches does nothing for it. Probes and metrics are nobody's
request: they have no record.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from urllib.parse import unquote_to_bytes

from functions.asgi import AsgiApplication, Message, Receive, Scope, Send, is_grpc
from functions.observing.access import GRPC, REQUEST_ID, REST, Access, Sink, new_access
from functions.observing.current_access import current
from functions.observing.metrics import DEFAULT_PATH
from functions.readiness import PROBES
from loader.run_observer import run_observer
from loader.status import Code

_CODES = {b"%d" % code.value: code for code in Code}
_STATUS_CODES = {400: Code.INVALID_ARGUMENT, 404: Code.NOT_FOUND, 413: Code.INVALID_ARGUMENT, 499: Code.CANCELLED}
MAX_ERROR = 4096
"""Bytes of an error's text that are kept, percent-encoded as they are."""

_HEALTH = "/grpc.health.v1.Health/"
_log = logging.getLogger("zeroserve.access")


class AccessDoor:
    """An ASGI application before another one. Used on one event loop's thread.

    Args:
        application: answers.
        sinks: who wants records; asked in this order.
        is_ready: whether the server's start is over, and those have come that waited for it in front of the process.
        unwatched: paths without a record, beside the probes.
    """

    def __init__(
        self,
        application: AsgiApplication,
        sinks: Sequence[Sink],
        *,
        is_ready: Callable[[], bool],
        unwatched: Sequence[str] = (DEFAULT_PATH,),
    ) -> None:
        self._application = application
        self._sinks = tuple(sinks)
        self._is_ready = is_ready
        self._unwatched = frozenset((*(f"/{probe}" for probe in PROBES), *unwatched))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        path = "" if scope["type"] != "http" else (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        if not path or path in self._unwatched or path.startswith(_HEALTH):
            await self._application(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        protocol = GRPC if is_grpc(headers.get(b"content-type", b"")) else REST
        access = new_access(protocol, scope["method"], path, headers)
        if protocol == GRPC:
            access.api = path.rpartition("/")[2]
        access.cold = not self._is_ready()
        for sink in self._sinks:
            sink.begun(access)
        current.set(access)
        run_observer.set(access)
        try:
            await self._application(scope, _Counted(receive, access).receive, _Answered(send, access).send)
        except asyncio.CancelledError:
            access.code = Code.CANCELLED
            raise
        finally:
            current.set(None)
            run_observer.set(None)
            self._end(access)

    def _end(self, access: Access) -> None:
        access.end()
        if not access.status and access.code is Code.OK:
            access.code = Code.CANCELLED  # the client has gone
        for sink in self._sinks:
            try:
                sink.ended(access)
            except Exception:  # noqa: BLE001  the answer is given: what is told of it cannot fail it any more
                _log.exception("what wants to know of requests has failed")
        if access.trace is None:
            access.runs = []  # its batches know their requests: no circle is left to the collector


class _Counted:
    """ASGI's `receive`, with the body's bytes counted."""

    __slots__ = ("_access", "_receive")

    def __init__(self, receive: Receive, access: Access) -> None:
        self._receive = receive
        self._access = access

    async def receive(self) -> Message:
        message = await self._receive()
        self._access.request_bytes += len(message.get("body", b""))
        return message


class _Answered:
    """ASGI's `send`, with the answer's status and bytes noted and its id added."""

    __slots__ = ("_access", "_send")

    def __init__(self, send: Send, access: Access) -> None:
        self._send = send
        self._access = access

    async def send(self, message: Message) -> None:
        access, kind = self._access, message["type"]
        if kind == "http.response.body":
            access.response_bytes += len(message.get("body", b""))
        elif kind == "http.response.start":
            headers = message.get("headers", ())
            access.status = message["status"]
            self._note(headers)
            own = (REQUEST_ID, access.request_id.encode("ascii"))
            message = {**message, "headers": [*_without_id(headers), *access.answer_headers, own]}
        elif kind == "http.response.trailers":
            headers = message.get("headers", ())
            self._note(headers)
            message = {**message, "headers": _without_id(headers)}
        await self._send(message)

    def _note(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """The code of a gRPC call; that of any other answer where its door has said none."""
        access = self._access
        if access.protocol == GRPC:
            for name, value in headers:
                if name == b"grpc-status":
                    access.code = _CODES.get(value, Code.UNKNOWN)
                elif name == b"grpc-message":
                    access.error = unquote_to_bytes(value[:MAX_ERROR]).decode("utf-8", "replace")
        elif access.status >= 400 and access.code is Code.OK:
            access.code = _STATUS_CODES.get(access.status, Code.UNKNOWN)


def _without_id(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of an answer, without the id that another revision has put there: it is the same one."""
    return [pair for pair in headers if pair[0] != REQUEST_ID]
