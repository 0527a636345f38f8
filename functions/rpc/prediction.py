"""`tensorflow.serving.PredictionService`, with the stock server's messages, codes and texts.

The class is one of grpcio's generated servicers with async methods: it runs in a `grpc.aio` server and in ours.

Source: tensorflow_serving/model_servers/prediction_service_impl.cc, servables/tensorflow/predict_util.cc,
multi_inference.cc, get_model_metadata_impl.cc; rows A4.3-A4.13 of the project's reference.
"""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import numpy as np

import loader.protos as _protos  # before the messages: see there
from functions.first_load import FirstLoad
from functions.observing.current_access import note_asked
from functions.observing.metrics import GRPC, Metrics
from functions.rpc.results import write_classifications, write_regressions
from functions.rpc.status import abort, abort_unknown
from functions.run_call import run_call
from loader.dtypes import Array
from loader.inference import (
    Call,
    Classifications,
    classify_call,
    multi_inference_call,
    predict_call,
    regress_call,
)
from loader.manager import ServableManager
from loader.servable import ModelSpec, Servable
from loader.status import Code, ServingError
from loader.tensor_proto import to_array, write

assert _protos  # noqa: S101
from tensorflow_serving.apis import (  # noqa: E402
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

SIGNATURE_DEF = "signature_def"
"""The only metadata field there is."""

THREAD_BYTES = 256 << 10
"""Outputs of this size or more are encoded in a thread."""

_T = TypeVar("_T")
_Method = Callable[["PredictionServicer", Any, Any], Awaitable[Any]]


def _answered(api: str, method: _Method) -> _Method:
    """Counts calls, and turns what `method` raises into the call's status."""

    @functools.wraps(method)
    async def call(self: "PredictionServicer", request: Any, context: Any) -> Any:
        started = time.perf_counter()
        name = _name(request)
        try:
            response = await method(self, request, context)
        except ServingError as error:
            self.count.add((name, error.code.name))
            await abort(context, error)
        except asyncio.CancelledError:
            self.count.add((name, Code.CANCELLED.name))
            raise
        except Exception:  # noqa: BLE001  a defect: logged with its traceback, answered without its text
            self.count.add((name, Code.INTERNAL.name))
            await abort_unknown(context, api)
        self.count.add((name, "OK"))
        self.metrics.request_latency.observe((name, api, "GRPC"), (time.perf_counter() - started) * 1e6)
        return response

    return call


class PredictionServicer(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]  # generated
    """Answers predictions. One event loop owns it.

    Args:
        manager: the models.
        first_load: what a call for a model that is not there yet waits for.
        metrics: where calls are counted.
        tensor_content: outputs as packed bytes instead of typed fields
            (`--enable_serialization_as_tensor_content`).
    """

    def __init__(
        self, manager: ServableManager, first_load: FirstLoad, metrics: Metrics, *, tensor_content: bool = False
    ) -> None:
        self._manager = manager
        self._first_load = first_load
        self._tensor_content = tensor_content
        self.metrics = metrics
        self.count = metrics.request_count.by(GRPC)

    async def _predict(self, request: Any, context: Any) -> Any:
        spec = model_spec(request)
        note_asked("predict", spec)
        deadline = _deadline(context)
        await self._wait(spec, deadline)
        with self._manager.handle(spec) as handle:
            servable = handle.servable
            inputs = {alias: _tensor(alias, proto) for alias, proto in request.inputs.items()}
            call = predict_call(servable.model, request.model_spec.signature_name, inputs, tuple(request.output_filter))
            predictions = await run_call(servable, "predict", call, deadline, self.metrics)
            response = predict_pb2.PredictResponse()
            _answer_spec(response.model_spec, servable, predictions.signature.name)
        if sum(array.nbytes for array in predictions.outputs.values()) < THREAD_BYTES:
            _encode(predictions.outputs, response, content=self._tensor_content)
        else:
            await asyncio.to_thread(_encode, predictions.outputs, response, content=self._tensor_content)
        return response

    async def _classify(self, request: Any, context: Any) -> Any:
        response = classification_pb2.ClassificationResponse()
        signature_name = request.model_spec.signature_name
        results = await self._examples(
            request, context, "classify", response, lambda model, rows: classify_call(model, signature_name, rows)
        )
        write_classifications(results.classes, results.scores, response.result)
        return response

    async def _regress(self, request: Any, context: Any) -> Any:
        response = regression_pb2.RegressionResponse()
        signature_name = request.model_spec.signature_name
        results = await self._examples(
            request, context, "regress", response, lambda model, rows: regress_call(model, signature_name, rows)
        )
        write_regressions(results.values, response.result)
        return response

    async def _examples(
        self, request: Any, context: Any, api: str, response: Any, make: Callable[[Any, Array], Call[_T]]
    ) -> _T:
        spec = model_spec(request)
        note_asked(api, spec)
        deadline = _deadline(context)
        await self._wait(spec, deadline)
        with self._manager.handle(spec) as handle:
            servable = handle.servable
            call = make(servable.model, examples(request.input))
            results = await run_call(servable, api, call, deadline, self.metrics)
            signature: Any = results
            _answer_spec(response.model_spec, servable, signature.signature.name)
        return results

    async def _multi_inference(self, request: Any, context: Any) -> Any:
        if not request.tasks:
            raise ServingError(Code.INVALID_ARGUMENT, "Inference request must contain at least one task.")
        spec = model_spec(request.tasks[0])
        note_asked("multi_inference", spec)
        if any(task.model_spec.name != spec.name for task in request.tasks):
            raise ServingError(
                Code.INVALID_ARGUMENT,
                "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
            )
        deadline = _deadline(context)
        await self._wait(spec, deadline)
        tasks = [(task.model_spec.signature_name, task.method_name) for task in request.tasks]
        response = inference_pb2.MultiInferenceResponse()
        with self._manager.handle(spec) as handle:
            servable = handle.servable
            call = multi_inference_call(servable.model, tasks, examples(request.input))
            for result in await run_call(servable, "multi_inference", call, deadline, self.metrics):
                entry = response.results.add()
                _answer_spec(entry.model_spec, servable, result.signature.name)
                if isinstance(result, Classifications):
                    write_classifications(result.classes, result.scores, entry.classification_result)
                else:
                    write_regressions(result.values, entry.regression_result)
        return response

    async def _metadata(self, request: Any, context: Any) -> Any:
        spec = model_spec(request)
        note_asked("metadata", spec)
        if not request.metadata_field:
            raise ServingError(
                Code.INVALID_ARGUMENT, "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for field in request.metadata_field:
            if field != SIGNATURE_DEF:
                raise ServingError(Code.INVALID_ARGUMENT, f"Metadata field {field} is not supported")
        await self._wait(spec, _deadline(context))
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with self._manager.handle(spec) as handle:
            servable = handle.servable
            for name, signature in servable.model.signatures.items():
                signatures.signature_def[name].CopyFrom(signature.proto)
            _answer_spec(response.model_spec, servable, "")
        response.metadata[SIGNATURE_DEF].Pack(signatures)
        return response

    Predict = _answered("Predict", _predict)
    Classify = _answered("Classify", _classify)
    Regress = _answered("Regress", _regress)
    MultiInference = _answered("MultiInference", _multi_inference)
    GetModelMetadata = _answered("GetModelMetadata", _metadata)

    async def _wait(self, spec: ModelSpec, deadline: float | None) -> None:
        if not self._first_load.done.done():
            await self._first_load.wait_for(spec, _FAR if deadline is None else deadline)


_FAR = float("inf")


def model_spec(request: Any) -> ModelSpec:
    """What a request asks for.

    Raises:
        ServingError: INVALID_ARGUMENT without a `model_spec`. (One without a name is the manager's to refuse.)
    """
    if not request.HasField("model_spec"):
        raise ServingError(Code.INVALID_ARGUMENT, "Missing ModelSpec")
    spec = request.model_spec
    choice = spec.WhichOneof("version_choice")
    if choice is None:
        return ModelSpec(spec.name)
    if choice == "version":
        return ModelSpec(spec.name, version=spec.version.value)
    return ModelSpec(spec.name, label=spec.version_label)


def examples(message: Any) -> Array:
    """The tf.Examples of an `Input`, serialized: string[batch]; empty where there are none.

    A context stands before each example: parsers merge what is concatenated.
    Source: tensorflow_serving/util/input.cc and servables/tensorflow/util.cc, `InputToSerializedExampleTensor`.
    """
    kind = message.WhichOneof("kind")
    if kind == "example_list_with_context":
        inner = message.example_list_with_context
        context = inner.context.SerializeToString()
    else:
        inner, context = message.example_list, b""
    rows = [context + example.SerializeToString() for example in inner.examples]
    array = np.empty(len(rows), object)
    array[:] = rows
    return array


def _tensor(alias: str, proto: Any) -> Array:
    try:
        return to_array(proto)
    except ServingError:
        # The stock server's words; they do not tell more, so neither does the caller's error change with our reasons.
        raise ServingError(Code.INVALID_ARGUMENT, f"tensor parsing error: {alias}") from None


def _encode(outputs: Any, response: Any, *, content: bool) -> None:
    for alias, array in outputs.items():
        write(array, response.outputs[alias], content=content)


def _answer_spec(spec: Any, servable: Servable, signature_name: str) -> None:
    spec.name = servable.id.name
    spec.version.value = servable.id.version
    if signature_name:
        spec.signature_name = signature_name


def _deadline(context: Any) -> float | None:
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining


def _name(request: Any) -> str:
    tasks = getattr(request, "tasks", None)
    if tasks is None:
        return str(request.model_spec.name)
    return str(tasks[0].model_spec.name) if tasks else ""
