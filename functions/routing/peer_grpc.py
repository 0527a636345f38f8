"""Calls to other revisions over gRPC: bytes in, bytes out, with whatever status and metadata came back.

The client is grpcio's, which is there already wherever a call arrives. A channel is kept for each tag.
"""

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from functions.observing.outgoing import outgoing
from functions.routing.peer_address import PeerAddress
from functions.routing.peer_headers import FORWARDED, REVISION, answer_metadata, request_metadata
from functions.routing.peer_rest import MAX_WAITING
from loader.status import Code, ServingError

MAX_CHANNELS = 64
"""Tags that channels are kept for; the one that was not used for longest gives way."""

Metadata = Sequence[tuple[str, str | bytes]]

_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_receive_message_length", -1),  # the calling side's limits hold for what it gets back
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.use_local_subchannel_pool", 1),
)
_GONE = tuple(getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA") if hasattr(socket, name))


@dataclass(frozen=True, slots=True)
class GrpcAnswer:
    """What came back.

    Attributes:
        code, details: the call's status.
        initial, trailing: metadata that is to be handed on.
        message: serialized; empty unless the code is OK.
    """

    code: grpc.StatusCode
    details: str
    initial: Metadata
    trailing: Metadata
    message: bytes


class _Channel:
    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.in_flight = 0


class GrpcPeers:
    """Calls other revisions. Used on one event loop's thread."""

    def __init__(self, address: PeerAddress) -> None:
        self._address = address
        self._channels: dict[str, _Channel] = {}
        self._in_flight = 0
        self._draining = False
        self._closing: set[asyncio.Future[Any]] = set()

    async def ask(
        self, tag: str, method: str, message: bytes, metadata: Metadata, seconds: float | None
    ) -> GrpcAnswer | None:
        """The answer of the revision of `tag`; None where there is no such revision.

        Args:
            tag: of the revision.
            method: full name, `/tensorflow.serving.PredictionService/Predict`.
            message: serialized.
            metadata: as the call brought it.
            seconds: what the caller still waits; None for no limit.

        Raises:
            ServingError: RESOURCE_EXHAUSTED where too many calls are on their way already.
        """
        if self._in_flight >= MAX_WAITING:
            raise ServingError(
                Code.RESOURCE_EXHAUSTED, f"{MAX_WAITING} calls are on their way to other revisions", retry_after=1.0
            )
        kept = self._channel(tag)
        kept.in_flight += 1
        self._in_flight += 1
        try:
            answer = await self._call(kept.channel, method, message, metadata, seconds)
        finally:
            kept.in_flight -= 1
            self._in_flight -= 1
            if self._draining and not self._in_flight:
                self._close_all()
        return None if await self._absent(tag, answer) else answer

    def drain(self) -> None:
        """No channel outlives the calls in flight. On the event loop's thread."""
        self._draining = True
        if not self._in_flight:
            self._close_all()

    async def _call(
        self, channel: Any, method: str, message: bytes, metadata: Metadata, seconds: float | None
    ) -> GrpcAnswer:
        service, _, name = method[1:].partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
        with outgoing(method[1:], attributes) as sent:
            own = [
                pair
                for pair in request_metadata(metadata)
                if pair[0] not in sent.headers and pair[0] not in sent.without
            ]
            call = channel.unary_unary(method, None, None)(
                message, timeout=seconds, metadata=(*own, *sent.headers.items(), (FORWARDED, "1"))
            )
            try:
                answer: bytes = await call
            except grpc.aio.AioRpcError as error:
                code = error.code()
                sent.answered("rpc.grpc.status_code", code.value[0], code.name)
                return _failed(error)
            sent.answered("rpc.grpc.status_code", 0)
        initial = answer_metadata(await call.initial_metadata() or ())
        trailing = answer_metadata(await call.trailing_metadata() or ())
        return GrpcAnswer(grpc.StatusCode.OK, "", initial, trailing, answer)

    async def _absent(self, tag: str, answer: GrpcAnswer) -> bool:
        """Whether an answer without our mark says that there is no such host."""
        if any(key == REVISION for key, _ in (*answer.initial, *answer.trailing)):
            return False
        if answer.code is grpc.StatusCode.UNIMPLEMENTED:
            return True  # how proxies say 404 in gRPC
        if answer.code is not grpc.StatusCode.UNAVAILABLE or self._address.gateway:
            return False
        try:
            await asyncio.get_running_loop().getaddrinfo(self._address.host(tag), self._address.port)
        except socket.gaierror as error:
            return error.errno in _GONE
        return False

    def _channel(self, tag: str) -> _Channel:
        kept = self._channels.pop(tag, None)
        if kept is None:
            self._make_room()
            options = (*_OPTIONS, ("grpc.default_authority", self._address.authority(tag)))
            kept = _Channel(grpc.aio.insecure_channel(self._address.target(tag), options))
        self._channels[tag] = kept
        return kept

    def _make_room(self) -> None:
        if len(self._channels) < MAX_CHANNELS:
            return
        for tag, kept in self._channels.items():
            if not kept.in_flight:
                del self._channels[tag]
                self._close(kept)
                return
        raise ServingError(
            Code.RESOURCE_EXHAUSTED, f"calls are on their way to {MAX_CHANNELS} other revisions", retry_after=1.0
        )

    def _close_all(self) -> None:
        for kept in self._channels.values():
            self._close(kept)
        self._channels.clear()

    def _close(self, kept: _Channel) -> None:
        closing = asyncio.ensure_future(kept.channel.close(None))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


def _failed(error: Any) -> GrpcAnswer:
    return GrpcAnswer(
        error.code(),
        error.details() or "",
        answer_metadata(error.initial_metadata() or ()),
        answer_metadata(error.trailing_metadata() or ()),
        b"",
    )
