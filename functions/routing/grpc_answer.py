"""What a gRPC answer says, as arrays by name. Pure and thread-safe."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import loader.protos as _protos  # before the messages: see there
from functions.oip.contents import from_contents
from functions.oip.tensors import from_raw
from functions.proto import open_inference_pb2
from functions.routing.comparison import Answer
from loader.dtypes import Array
from loader.tensor_proto import to_array

assert _protos  # noqa: S101
from tensorflow_serving.apis import classification_pb2, inference_pb2, predict_pb2, regression_pb2  # noqa: E402


def read_grpc_answer(answer: tuple[bytes, str]) -> Answer:
    """The arrays of a good answer.

    Args:
        answer: the serialized message, and the full name of the method.

    Raises:
        ServingError: a tensor is not what it says.
        ValueError: the message cannot be parsed.
    """
    data, method = answer
    kind, read = _READERS[method.rpartition("/")[2]]
    message = kind()
    try:
        message.ParseFromString(data)
    except Exception as error:
        raise ValueError(f"not a {kind.__name__}") from error
    return read(message)


def _predict(message: Any) -> Answer:
    return {name: to_array(tensor) for name, tensor in message.outputs.items()}


def _classify(message: Any) -> Answer:
    return _classes("result", message.result)


def _regress(message: Any) -> Answer:
    return _values("result", message.result)


def _multi_inference(message: Any) -> Answer:
    found: dict[str, Array] = {}
    for index, result in enumerate(message.results):
        path = f"results[{index}]"
        if result.HasField("classification_result"):
            found |= _classes(path, result.classification_result)
        else:
            found |= _values(path, result.regression_result)
    return found


def _classes(path: str, result: Any) -> dict[str, Array]:
    rows = [row.classes for row in result.classifications]
    scores = np.array([one.score for row in rows for one in row], np.float64)
    width = len(rows[0]) if rows else 0
    if all(len(row) == width for row in rows):
        scores = scores.reshape(len(rows), width)
    labels = np.array([one.label for row in rows for one in row], object)
    return {f"{path}.scores": scores, f"{path}.labels": labels}


def _values(path: str, result: Any) -> dict[str, Array]:
    return {path: np.array([one.value for one in result.regressions], np.float64)}


def _infer(message: Any) -> Answer:
    raw: Sequence[bytes] = message.raw_output_contents
    return {
        output.name: from_raw(output.name, output.datatype, output.shape, raw[index])
        if raw
        else from_contents(output.name, output.datatype, output.shape, output.contents)
        for index, output in enumerate(message.outputs)
    }


_READERS: Mapping[str, tuple[Callable[[], Any], Callable[[Any], Answer]]] = {
    "Predict": (predict_pb2.PredictResponse, _predict),
    "Classify": (classification_pb2.ClassificationResponse, _classify),
    "Regress": (regression_pb2.RegressionResponse, _regress),
    "MultiInference": (inference_pb2.MultiInferenceResponse, _multi_inference),
    "ModelInfer": (open_inference_pb2.ModelInferResponse, _infer),
}
"""By the method's name: what it answers, and how that is read."""
