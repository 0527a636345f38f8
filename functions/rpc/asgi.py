"""gRPC over ASGI: grpcio's servicers behind any ASGI server that has HTTP/2 trailers.

A servicer is added with grpcio's generated `add_...Servicer_to_server(servicer, application)`; its methods are
coroutines or async generators, as in `grpc.aio`. A `ServingError` that they raise ends the call with its code.

Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple

import grpc

from functions.rpc.context import CallAborted, CallContext, parse_timeout
from functions.rpc.messages import ACCEPTED, ENCODINGS, MAX_MESSAGE_BYTES, MessageReader, framed
from functions.rpc.status import INTERNAL_TEXT, cut
from functions.web import eager
from functions.web.body_budget import BodyBudget, BodyHold
from functions.web.service import Receive, Scope, Send
from loader.status import Code, ServingError

_CONTENT_TYPE = (b"content-type", b"application/grpc")
_STATUS = {Code(status.value[0]): status for status in grpc.StatusCode}
_ENCODING_NAMES = {
    grpc.Compression.NoCompression: b"identity",
    grpc.Compression.Gzip: b"gzip",
    grpc.Compression.Deflate: b"deflate",
}
_log = logging.getLogger("zeroserve.grpc")


class _CallDetails(NamedTuple):
    # What grpcio's generic handlers look at.
    method: str
    invocation_metadata: Sequence[Any] = ()


class GrpcApplication:
    """An ASGI application that answers gRPC calls. Used on one event loop's thread.

    Args:
        max_receive_bytes: a longer request message ends its call with RESOURCE_EXHAUSTED.
        max_send_bytes: likewise for answers.
        budget: what all requests together may hold; by default a budget of its own, as large as two messages.
    """

    def __init__(
        self,
        *,
        max_receive_bytes: int = MAX_MESSAGE_BYTES,
        max_send_bytes: int = MAX_MESSAGE_BYTES,
        budget: BodyBudget | None = None,
    ) -> None:
        self._budget = budget or BodyBudget(2 * max_receive_bytes)
        self._max_receive_bytes = max_receive_bytes
        self._max_send_bytes = max_send_bytes
        self._handlers: list[Any] = []
        self._methods: dict[str, Any] = {}
        self._late: set[asyncio.Future[Any]] = set()

    # What grpcio's generated code calls.

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """Adds a service."""
        self._handlers.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Adds a service once more: newer generated code announces each twice."""

    # Calls.

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one call."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if "http.response.trailers" not in scope["extensions"]:
            await send({"type": "http.response.start", "status": 426, "headers": [(b"upgrade", b"h2c")]})
            await send({"type": "http.response.body", "body": b"gRPC needs HTTP/2\n"})
            return
        timeout = headers.get(b"grpc-timeout")
        seconds = parse_timeout(timeout) if timeout is not None else None
        context = CallContext(scope, None if seconds is None else time.monotonic() + seconds)
        answer = _Answer(send, context, self._max_send_bytes)
        hold = BodyHold(self._budget)
        try:
            await self._call(scope["path"], headers, receive, context, answer, hold=hold)
        except CallAborted:
            pass
        except ServingError as error:
            context.status, context.text = _STATUS[error.code], cut(error.message)
        except Exception:  # noqa: BLE001  a defect: logged with its traceback, answered without its text
            _log.exception("a gRPC call failed: %s", scope["path"])
            context.status, context.text = grpc.StatusCode.INTERNAL, INTERNAL_TEXT
        finally:
            hold.release()
            context.finish(cancelled=context.status in _CANCELLED)
        await answer.end()

    async def _call(
        self,
        path: str,
        headers: Mapping[bytes, bytes],
        receive: Receive,
        context: CallContext,
        answer: "_Answer",
        *,
        hold: BodyHold,
    ) -> None:
        handler = self._methods.get(path) or self._find(path)
        if handler is None:
            raise ServingError(Code.UNIMPLEMENTED, f"no gRPC method {path}")
        if b"grpc-timeout" in headers and context.time_remaining() is None:
            raise ServingError(Code.INTERNAL, f"malformed grpc-timeout {headers[b'grpc-timeout'].decode('latin-1')!r}")
        encoding = headers.get(b"grpc-encoding", b"identity")
        if encoding not in ENCODINGS:
            answer.accepted = True
            raise ServingError(Code.UNIMPLEMENTED, f"grpc-encoding {encoding.decode('latin-1')!r} is not supported")
        if encoding in headers.get(b"grpc-accept-encoding", b"identity").replace(b" ", b"").split(b","):
            answer.encoding = encoding
        reader = MessageReader(receive, encoding, self._max_receive_bytes, hold)
        if handler.request_streaming:
            argument: Any = _requests(reader, handler.request_deserializer, hold)
        else:
            message = await reader.read()
            if message is None:
                if not reader.gone:
                    raise ServingError(Code.INTERNAL, "a call without a message")
                context.status = grpc.StatusCode.CANCELLED
                return
            argument = _parsed(handler.request_deserializer, message)
        if handler.response_streaming:
            method = handler.stream_stream if handler.request_streaming else handler.unary_stream
            work = _stream(method(argument, context), handler.response_serializer, answer)
        else:
            method = handler.stream_unary if handler.request_streaming else handler.unary_unary
            work = _single(method(argument, context), handler.response_serializer, answer)
        running = eager.start(work, asyncio.get_running_loop())
        if not running.done():
            await self._watch(running, None if handler.request_streaming else reader, context)
        if running.done():
            running.result()

    def _find(self, path: str) -> Any:
        for service in self._handlers:
            handler = service.service(_CallDetails(path))
            if handler is not None:
                self._methods[path] = handler
                return handler
        return None

    async def _watch(self, running: "asyncio.Future[None]", reader: MessageReader | None, context: CallContext) -> None:
        # Until the call is done, its deadline has passed, or the caller has gone.
        waiting: set[asyncio.Future[Any]] = {running}
        # More messages than a unary call has are dropped, as grpcio does.
        gone = asyncio.ensure_future(reader.wait_gone()) if reader is not None else None
        if gone is not None:
            waiting.add(gone)
        try:
            await asyncio.wait(waiting, timeout=context.time_remaining(), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            running.cancel()
            raise
        finally:
            if gone is not None:
                gone.cancel()
        if running.done():
            return
        if gone is not None and gone.done() and not gone.cancelled():
            context.status, context.text = grpc.StatusCode.CANCELLED, ""
        else:
            context.status, context.text = grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"
        # A session run cannot always be stopped: the caller is answered now, the task ends when it can.
        running.cancel()
        self._late.add(running)
        running.add_done_callback(self._forget)

    def _forget(self, running: "asyncio.Future[None]") -> None:
        self._late.discard(running)
        if not running.cancelled():
            running.exception()  # it came too late to tell anybody


_CANCELLED = (grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)


class _Answer:
    """The answer of one call: headers with the first message, trailers with the status."""

    def __init__(self, send: Send, context: CallContext, max_bytes: int) -> None:
        self._send = send
        self._context = context
        self._max_bytes = max_bytes
        self._started = False
        self._ended = False
        self.encoding = b"identity"
        self.accepted = False

    async def message(self, message: bytes, *, last: bool) -> None:
        """Sends a message; `last` says that only the status follows."""
        if self._ended:
            return
        if len(message) > self._max_bytes:
            raise ServingError(
                Code.RESOURCE_EXHAUSTED, f"SERVER: Sent message larger than max ({len(message)} vs. {self._max_bytes})"
            )
        chosen = self._context.compression
        encoding = self.encoding if chosen is None else _ENCODING_NAMES[chosen]
        data = await framed(message, encoding)
        if not self._started:
            self._started = True
            headers = [_CONTENT_TYPE, *self._context.initial_headers()]
            if encoding != b"identity":
                headers.append((b"grpc-encoding", encoding))
            await self._send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
        self._ended = last
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def end(self) -> None:
        """Sends the status."""
        status = self._context.status_headers()
        if self._started:
            if not self._ended:
                self._ended = True
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            await self._send({"type": "http.response.trailers", "headers": status, "more_trailers": False})
            return
        self._started = self._ended = True
        headers = [_CONTENT_TYPE, *self._context.initial_headers(), *status]
        if self.accepted:
            headers.append((b"grpc-accept-encoding", ACCEPTED))
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": b""})


def _parsed(deserializer: Any, message: bytes) -> Any:
    if deserializer is None:
        return message
    try:
        return deserializer(message)
    except Exception as error:
        # Whatever the parser raises, the bytes are the caller's. Source: grpcio's text and code.
        raise ServingError(Code.INTERNAL, "Exception deserializing request!") from error


async def _requests(reader: MessageReader, deserializer: Any, hold: BodyHold) -> AsyncIterator[Any]:
    while (message := await reader.read()) is not None:
        yield _parsed(deserializer, message)
        hold.release()


async def _single(call: Any, serializer: Any, answer: _Answer) -> None:
    response = await call
    await answer.message(response if serializer is None else serializer(response), last=True)


async def _stream(responses: AsyncIterator[Any], serializer: Any, answer: _Answer) -> None:
    async for response in responses:
        await answer.message(response if serializer is None else serializer(response), last=False)
