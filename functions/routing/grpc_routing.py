"""Routing before the gRPC services: a call is answered here, or by the revision it belongs to, byte for byte.

`RoutedServer` stands for the server where services are added: the methods that name a model get a handler that decides
first. A message is parsed once, by whoever answers it here and for the decision alike.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import grpc

from functions.observing.current_access import note_peer
from functions.routing.counts import RoutingCounts
from functions.routing.peer_grpc import GrpcAnswer, GrpcPeers
from functions.routing.peer_headers import COPY, FORWARDED, REVISION, TAG_HEADER
from functions.routing.router import Asked, Decision, Router, Why
from functions.routing.shadow import Copy, Shadow
from functions.routing.table import UserKey
from functions.routing.user_key import find_key
from functions.rpc.status import cut
from loader.status import Code, ServingError

_PREDICTION = "/tensorflow.serving.PredictionService/"
_OIP = "/inference.GRPCInferenceService/"
OIP_INFER = f"{_OIP}ModelInfer"
OIP_STREAM = f"{_OIP}ModelStreamInfer"

SHADOW_SECONDS = 30.0
"""What a shadow gets for a copy."""


class _Spec:
    """What a message names, and how the version stands in for a label."""

    def __init__(self, name: str, version: int | None, label: str | None, write: Callable[[int], None]) -> None:
        self.name = name
        self.version = version
        self.label = label
        self.write = write


def _tensorflow(message: Any) -> _Spec:
    spec = message.model_spec
    choice = spec.WhichOneof("version_choice")

    def write(version: int) -> None:
        spec.version.value = version

    version = spec.version.value if choice == "version" else None
    return _Spec(spec.name, version, spec.version_label if choice == "version_label" else None, write)


def _tasks(message: Any) -> _Spec:
    # Source: multi_inference.cc: the first task's model is everybody's.
    return _tensorflow(message.tasks[0]) if message.tasks else _Spec("", None, None, lambda _: None)


def _oip(message: Any, name: str, field: str) -> _Spec:
    text = getattr(message, field)

    def write(version: int) -> None:
        setattr(message, field, str(version))

    if text.isascii() and text.isdigit():
        significant = text.lstrip("0") or "0"
        version = int(significant) if len(significant) <= 19 else None
        return _Spec(name, version, None, write)
    return _Spec(name, None, text or None, write)


def _infer(message: Any) -> _Spec:
    return _oip(message, message.model_name, "model_version")


def _model(message: Any) -> _Spec:
    return _oip(message, message.name, "version")


_SPECS: Mapping[str, tuple[Callable[[Any], _Spec], bool]] = {
    f"{_PREDICTION}Predict": (_tensorflow, True),
    f"{_PREDICTION}Classify": (_tensorflow, True),
    f"{_PREDICTION}Regress": (_tensorflow, True),
    f"{_PREDICTION}MultiInference": (_tasks, True),
    f"{_PREDICTION}GetModelMetadata": (_tensorflow, False),
    "/tensorflow.serving.ModelService/GetModelStatus": (_tensorflow, False),
    OIP_INFER: (_infer, True),
    f"{_OIP}ModelReady": (_model, False),
    f"{_OIP}ModelMetadata": (_model, False),
}
"""How the message of each method names a model, and whether it asks for a prediction."""


class _Call(NamedTuple):
    path: str
    message: bytes
    metadata: Sequence[Any]


class GrpcRouting:
    """Decides for calls. One event loop owns it. Arguments as those of `RestRouting`."""

    def __init__(self, router: Router, peers: GrpcPeers, shadow: Shadow, counts: RoutingCounts) -> None:
        self._router = router
        self._peers = peers
        self._shadow = shadow
        self._counts = counts

    def before(self, path: str, handler: Any) -> Any:
        """The handler of `path` with routing before it, where the method names a model."""
        if path == OIP_STREAM:
            return grpc.stream_stream_rpc_method_handler(
                _Stream(self, handler), handler.request_deserializer, handler.response_serializer
            )
        if path not in _SPECS:
            return handler
        read, predicts = _SPECS[path]

        async def routed(message: bytes, context: Any) -> bytes:
            parsed = _parsed(handler.request_deserializer, message)

            async def here() -> bytes:
                answer: bytes = handler.response_serializer(await handler.unary_unary(parsed, context))
                return answer

            answer = await self._unary(path, message, read(parsed), context, here, predicts=predicts)
            if isinstance(answer, bytes):
                return answer
            if answer.code is not grpc.StatusCode.OK:
                context.set_trailing_metadata(())
                await context.send_initial_metadata(answer.initial)
                await context.abort(answer.code, cut(answer.details), answer.trailing)
            await context.send_initial_metadata(answer.initial)
            context.set_trailing_metadata(answer.trailing)
            return answer.message

        return grpc.unary_unary_rpc_method_handler(routed)

    def decide(self, spec: "_Spec", context: Any, *, predicts: bool) -> Decision:
        """Who answers a call."""
        decision = self._router.decide(_asked(spec, context, predicts=predicts))
        self._counts.note(decision)
        return decision

    async def _unary(
        self, path: str, message: bytes, spec: _Spec, context: Any, here: Callable[[], Any], *, predicts: bool
    ) -> bytes | GrpcAnswer:
        decision = self.decide(spec, context, predicts=predicts)
        call = _Call(path, message, context.invocation_metadata())
        if not decision.here:
            answer = await self.forward(decision.tag, path, message, context)
            if answer is not None:
                note_peer(decision.tag)
                if answer.code is grpc.StatusCode.OK:
                    self._copy(decision, decision.tag, call, answer.message)
                return answer
        if decision.version is not None:
            spec.write(decision.version)
        await context.send_initial_metadata(((REVISION, self._router.tag),))
        found: bytes = await here()
        if predicts:
            self._copy(decision, self._router.tag, call, found)
        return found

    async def forward(self, tag: str, path: str, message: bytes, context: Any) -> GrpcAnswer | None:
        """What the revision of `tag` answers; None where there is no such revision. Errors as `GrpcPeers.ask`."""
        started, result = time.monotonic(), "failed"
        try:
            answer = await self._peers.ask(tag, path, message, context.invocation_metadata(), context.time_remaining())
            if answer is None:
                result = "absent"
            elif answer.code is grpc.StatusCode.DEADLINE_EXCEEDED:
                result = "late"
            elif answer.code is not grpc.StatusCode.UNAVAILABLE:
                result = "answered"
        finally:
            self._counts.forwarded.add((tag if result == "answered" else "", "GRPC", result))
        if result == "answered":
            self._counts.forward_seconds.observe((tag, "GRPC"), time.monotonic() - started)
        return answer

    def _copy(self, decision: Decision, arm: str, call: _Call, answer: bytes) -> None:
        rule = self._shadow.wants() if decision.why is not Why.FIXED else None
        if rule is None or arm == rule.tag:
            return
        peers, metadata = self._peers, (*call.metadata, (COPY, "1"))

        async def send() -> tuple[bytes, str] | None:
            found = await peers.ask(rule.tag, call.path, call.message, metadata, SHADOW_SECONDS)
            return (found.message, call.path) if found is not None and found.code is grpc.StatusCode.OK else None

        from functions.routing.grpc_answer import read_grpc_answer  # noqa: PLC0415  only where there is a shadow

        size = len(call.message) + len(answer)
        self._shadow.offer(Copy(arm, rule, size, (answer, call.path), send, read_grpc_answer))


class _Stream:
    """`ModelStreamInfer`: every message of it is a request of its own."""

    def __init__(self, routing: GrpcRouting, handler: Any) -> None:
        self._routing = routing
        self._handler = handler

    async def __call__(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            async for answer in self._one(request, context):
                yield answer

    async def _one(self, request: Any, context: Any) -> AsyncIterator[Any]:
        from functions.proto import open_inference_pb2 as pb  # noqa: PLC0415  the service has imported it

        routing = self._routing
        spec = _infer(request)
        decision = routing.decide(spec, context, predicts=True)
        if not decision.here:
            try:
                found = await routing.forward(decision.tag, OIP_INFER, request.SerializeToString(), context)
            except ServingError as error:
                yield _stream_error(pb, request, error.message)
                return
            if found is not None and found.code is grpc.StatusCode.OK:
                yield pb.ModelStreamInferResponse(infer_response=pb.ModelInferResponse.FromString(found.message))
                return
            if found is not None:
                yield _stream_error(pb, request, found.details)
                return
        if decision.version is not None:
            spec.write(decision.version)
        async for answer in self._handler.stream_stream(_only(request), context):
            yield answer


def _stream_error(pb: Any, request: Any, text: str) -> Any:
    return pb.ModelStreamInferResponse(error_message=text, infer_response=pb.ModelInferResponse(id=request.id))


async def _only(request: Any) -> AsyncIterator[Any]:
    yield request


class RoutedServer:
    """Where services are added whose calls are routed: a server of grpcio's kind, as generated code sees it."""

    def __init__(self, server: Any, routing: GrpcRouting) -> None:
        self._server = server
        self._routing = routing

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """Adds a service."""
        self._server.add_generic_rpc_handlers([_RoutedService(handler, self._routing) for handler in handlers])

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Adds a service once more: newer generated code announces each twice, and once is enough here."""


class _RoutedService(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    def __init__(self, handler: Any, routing: GrpcRouting) -> None:
        self._handler = handler
        self._routing = routing

    def service(self, handler_call_details: Any) -> Any:
        found = self._handler.service(handler_call_details)
        return None if found is None else self._routing.before(handler_call_details.method, found)


def _parsed(deserializer: Any, message: bytes) -> Any:
    try:
        return deserializer(message)
    except Exception as error:
        # As grpcio says it, whatever the parser raises: the bytes are the caller's.
        raise ServingError(Code.INTERNAL, "Exception deserializing request!") from error


def _asked(spec: _Spec, context: Any, *, predicts: bool) -> Asked:
    metadata = context.invocation_metadata()
    names = {key for key, _ in metadata}

    def key(wanted: UserKey) -> bytes | None:
        headers = {name.encode(): value.encode() for name, value in metadata if isinstance(value, str)}
        return find_key(wanted, headers, b"")

    return Asked(
        spec.name,
        spec.version,
        spec.label,
        forwarded=FORWARDED in names,
        host=context.host(),
        by_tag_header=TAG_HEADER.decode() in names,
        predicts=predicts,
        key=key,
    )
