"""The Open Inference Protocol over gRPC: `inference.GRPCInferenceService`.

The class is one of grpcio's generated servicers with async methods: it runs in a `grpc.aio` server, and in whatever
mounts such servicers elsewhere.

Source: kserve/open-inference-protocol, specification/protocol/inference_grpc.md; rows E7-E10 of the project's
reference.
"""

import time
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc

from functions.observing.metrics import OIP_GRPC, Metrics
from functions.oip.calls import EXTENSIONS, SERVER_NAME, Inference, OipModels
from functions.oip.contents import from_contents, has_contents, to_contents
from functions.oip.tensors import from_raw, to_raw, wire_datatype
from functions.proto import open_inference_pb2 as pb
from functions.proto import open_inference_pb2_grpc as pb_grpc
from loader.dtypes import Array
from loader.status import Code, ServingError

SERVICE = "inference.GRPCInferenceService"
_RAW_ONLY = ("FP16", "BF16")
_STATUS = {status.value[0]: status for status in grpc.StatusCode}


class OipServicer(pb_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # generated code has no types
    """Answers the protocol's gRPC calls. One event loop owns it.

    Args:
        models: what the calls mean.
        metrics: where infer calls are counted.
    """

    def __init__(self, models: OipModels, metrics: Metrics) -> None:
        self._models = models
        self._metrics = metrics
        self._count = metrics.request_count.by(OIP_GRPC)

    async def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802  names are the service's
        """True as soon as anything answers."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Whether every model that was wanted at the start has been loaded."""
        return pb.ServerReadyResponse(ready=self._models.ready)

    async def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Name, version and extensions of this server."""
        return pb.ServerMetadataResponse(name=SERVER_NAME, version=self._models.server_version, extensions=EXTENSIONS)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Whether a model version answers."""
        try:
            return pb.ModelReadyResponse(ready=self._models.model_ready(request.name, request.version))
        except ServingError as error:
            await _abort(context, error)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """What a model takes and gives."""
        try:
            found = self._models.metadata(request.name, request.version)
        except ServingError as error:
            await _abort(context, error)
        tensor = pb.ModelMetadataResponse.TensorMetadata
        return pb.ModelMetadataResponse(
            name=found.name,
            versions=found.versions,
            platform=found.platform,
            inputs=[tensor(name=one.name, datatype=one.datatype, shape=one.shape) for one in found.inputs],
            outputs=[tensor(name=one.name, datatype=one.datatype, shape=one.shape) for one in found.outputs],
            properties={"signature_name": found.signature_name, "signatures": ",".join(found.signatures)},
        )

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Runs one prediction."""
        try:
            return await self._infer(request, context)
        except ServingError as error:
            await _abort(context, error)

    async def ModelStreamInfer(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Runs predictions one after the other; one that fails is answered with its text and ends nothing."""
        async for request in request_iterator:
            try:
                yield pb.ModelStreamInferResponse(infer_response=await self._infer(request, context))
            except ServingError as error:
                yield pb.ModelStreamInferResponse(
                    error_message=error.message, infer_response=pb.ModelInferResponse(id=request.id)
                )

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Every known version of every model."""
        index = pb.RepositoryIndexResponse.ModelIndex
        return pb.RepositoryIndexResponse(
            models=[
                index(name=line.name, version=line.version, state=line.state, reason=line.reason)
                for line in self._models.index(only_ready=request.ready)
            ]
        )

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Serves a model again."""
        name = request.model_name or request.repository_name
        try:
            await self._models.load(name)
        except ServingError as error:
            await _abort(context, error)
        return pb.RepositoryModelLoadResponse(model_name=name, loaded=True)

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Serves a model no longer."""
        name = request.model_name or request.repository_name
        try:
            await self._models.unload(name)
        except ServingError as error:
            await _abort(context, error)
        return pb.RepositoryModelUnloadResponse(model_name=name, unloaded=True)

    async def _infer(self, request: Any, context: Any) -> Any:
        started, code = time.perf_counter(), Code.INTERNAL
        try:
            remaining = context.time_remaining()
            inference = await self._models.infer(
                request.model_name,
                request.model_version,
                signature_name=_signature_name(request),
                inputs=decode_inputs(request),
                outputs=_outputs(request),
                deadline=None if remaining is None else time.monotonic() + remaining,
            )
            response = encode_inference(inference, raw=bool(request.raw_input_contents))
            response.id = request.id
            code = Code.OK
        except ServingError as error:
            code = error.code
            raise
        finally:
            known = code is Code.OK or self._models.known(request.model_name)
            self._count.add((request.model_name if known else "", code.name))
        self._metrics.request_latency.observe(
            (request.model_name, "ModelInfer", "GRPC"), (time.perf_counter() - started) * 1e6
        )
        return response


def decode_inputs(request: Any) -> dict[str, Array]:
    """The input tensors of a `ModelInferRequest`, by name. They may share memory with the message.

    Raises:
        ServingError: INVALID_ARGUMENT when raw contents are given for some inputs only or beside typed ones, when a
            name comes twice, and when a tensor's datatype, shape and content do not fit each other.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"raw_input_contents has {len(raw)} entries for {len(request.inputs)} inputs: wanted one for each, or none",
        )
    inputs: dict[str, Array] = {}
    for index, tensor in enumerate(request.inputs):
        if not tensor.name or tensor.name in inputs:
            raise ServingError(
                Code.INVALID_ARGUMENT,
                f"input '{tensor.name}' is given twice" if tensor.name else f"input {index} has no name",
            )
        if "shared_memory_region" in tensor.parameters:
            raise ServingError(
                Code.UNIMPLEMENTED, f"input '{tensor.name}': shared memory is not supported; send the data"
            )
        if not raw:
            inputs[tensor.name] = from_contents(tensor.name, tensor.datatype, tensor.shape, tensor.contents)
        elif has_contents(tensor):
            raise ServingError(
                Code.INVALID_ARGUMENT,
                f"input '{tensor.name}': found both `contents` and raw_input_contents, wanted one of them",
            )
        else:
            inputs[tensor.name] = from_raw(tensor.name, tensor.datatype, tensor.shape, raw[index])
    return inputs


def encode_inference(inference: Inference, *, raw: bool) -> Any:
    """A `ModelInferResponse`.

    Args:
        inference: who answered, and the outputs.
        raw: write raw contents; 16-bit floats make them raw in any case, since no typed field holds them.

    Raises:
        ServingError: UNIMPLEMENTED for an output of a type that the protocol does not have.
    """
    response = pb.ModelInferResponse(model_name=inference.model_name, model_version=inference.model_version)
    datatypes = [wire_datatype(array, name) for name, array in inference.outputs]
    raw = raw or any(datatype in _RAW_ONLY for datatype in datatypes)
    for (name, array), datatype in zip(inference.outputs, datatypes, strict=True):
        tensor = response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            response.raw_output_contents.append(to_raw(array))
        else:
            to_contents(array, tensor.contents)
    return response


def _outputs(request: Any) -> list[str]:
    names: list[str] = [output.name for output in request.outputs]
    for output in request.outputs:
        for key in ("classification", "shared_memory_region"):
            if key in output.parameters:
                raise ServingError(Code.UNIMPLEMENTED, f"output '{output.name}': parameter `{key}` is not supported")
    return names


def _signature_name(request: Any) -> str:
    # Looking a key up in a protobuf map would insert it.
    return str(request.parameters["signature_name"].string_param) if "signature_name" in request.parameters else ""


async def _abort(context: Any, error: ServingError) -> NoReturn:
    await context.abort(_STATUS[error.code], error.message)
    raise AssertionError("abort returned")
