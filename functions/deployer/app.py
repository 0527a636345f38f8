"""The ASGI application of the deploy function, under functions-framework and under `zeroserve deployer` alike."""

import asyncio
from collections.abc import Callable

from events.answer import Answer
from events.door import BodyTooLongError
from functions.asgi import Receive, Scope, Send
from functions.deployer.function import DeployFunction
from functions.observing.landing_metrics import PROXIED
from functions.observing.metrics import DEFAULT_PATH

PROBES = frozenset({"/healthz", "/readyz"})


class DeployApplication:
    """Answers requests on any path. One event loop owns it.

    Args:
        make: the function; made with the first event, which is after any fork.
    """

    def __init__(self, make: Callable[[], DeployFunction]) -> None:
        self._make = make
        self._made: DeployFunction | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            return
        method, path = scope["method"], scope["path"]
        if method in {"GET", "HEAD"} and path in PROBES:
            await _send(send, Answer(200, "ok"), head=method == "HEAD")
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if method in {"GET", "HEAD"} and path == DEFAULT_PATH and not PROXIED & headers.keys():
            text = self._function().counts.text().decode()
            await _send(send, Answer(200, text, content_type="text/plain; version=0.0.4"), head=method == "HEAD")
            return
        if headers.get("content-encoding", "identity") != "identity":
            await _send(send, Answer(415, "events are taken as they are, without content-encoding"))
            return

        async def read(limit: int) -> bytes:
            length = headers.get("content-length", "0")
            if length.isdecimal() and int(length[:20]) > limit:
                raise BodyTooLongError
            body = bytearray()
            while True:
                message = await receive()
                body += message.get("body", b"")
                if len(body) > limit:
                    raise BodyTooLongError
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return bytes(body)

        function = self._function()
        # Our own server takes the first step of a request outside of any task, where a deadline cannot be set.
        answer = await asyncio.ensure_future(function.door.handle(method, headers, read))
        function.counts.answered(answer.status)
        await _send(send, answer, head=method == "HEAD")

    def _function(self) -> DeployFunction:
        if self._made is None:
            self._made = self._make()
        return self._made

    def close(self) -> None:
        """Ends the function's work."""
        if self._made is not None:
            self._made.close()


async def _send(send: Send, answer: Answer, *, head: bool = False) -> None:
    body = answer.text.encode("utf-8", "backslashreplace")
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    if body:
        headers.append((b"content-type", answer.content_type.encode("latin-1")))
    if answer.status != 204:
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})
