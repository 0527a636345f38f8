"""The body of a classify or regress request: JSON to serialized tf.Examples.

Source: tensorflow_serving/util/json_tensor.cc (FillClassifyRegressRequestFromJson, AddFeature), rows A3.1-A3.3 of the
reference; tensorflow/core/example/feature.proto.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import loader.protos
from functions.rest.json_base64 import is_base64
from functions.rest.json_exact import to_bytes
from functions.rest.json_text import kind, parse_json, shortened, show
from loader.dtypes import Array
from loader.status import Code, ServingError

if TYPE_CHECKING:
    from tensorflow.core.example.example_pb2 import Example

assert loader.protos  # noqa: S101  imported for what it does to `tensorflow`

_INT64_MIN, _INT64_MAX, _UINT64_MAX = -(2**63), 2**63 - 1, 2**64 - 1
_FLOAT_LIMIT = 2.0**128


@dataclass(frozen=True, slots=True)
class ExamplesBody:
    """A classify or regress request as JSON says it.

    Attributes:
        signature_name: "" where the body names none.
        examples: serialized tf.Examples with the context's features merged in, string[batch].
    """

    signature_name: str
    examples: Array


def decode_examples(body: bytes) -> ExamplesBody:
    """Reads a classify or regress request. Pure and thread-safe.

    Args:
        body: JSON text.

    Raises:
        ServingError: INVALID_ARGUMENT with the stock server's text.
    """
    document = parse_json(body)
    if not isinstance(document, dict):
        raise _about(document, "Is not object")
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise _about(document, "not formatted correctly. 'signature_name' key must be a string value.")
    prefix = _example(document["context"]) if "context" in document else b""
    if "examples" not in document:
        # The stock server says "classify" here whatever the method is, and clients match on it.
        raise _about(document, "When method is classify, key 'examples' is expected and was not found")
    examples = document["examples"]
    if not isinstance(examples, list):
        raise _about(document, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise _about(document, "'examples' value is an empty array")
    serialized = np.empty(len(examples), object)
    for index, example in enumerate(examples):
        # Messages merge by concatenation: the example's own features win over the context's.
        serialized[index] = prefix + _example(example)
    return ExamplesBody(name, serialized)


def _example(features: Any) -> bytes:
    from tensorflow.core.example.example_pb2 import Example  # noqa: PLC0415  only classify and regress need it

    if not isinstance(features, dict):
        raise _invalid(f"Example must be JSON object but got JSON {kind(features)}")
    message = Example()
    for name, value in features.items():
        _add_feature(message, name, value if isinstance(value, list) else [value])
    return bytes(message.SerializeToString())


def _add_feature(message: "Example", name: str, values: list[Any]) -> None:
    feature = message.features.feature[name]
    name = shortened(name)
    expected = ""
    for value in values:
        found = _kind_of(name, value)
        expected = expected or found
        if found != expected:
            raise _invalid(f"Unexpected element type in feature: {name} expecting type: {expected}")
        if found == "bytes":
            feature.bytes_list.value.append(to_bytes(value))
        elif found == "float":
            feature.float_list.value.append(_to_float(value))
        else:
            feature.int64_list.value.append(int(value))


def _to_float(value: float) -> float:
    try:
        return value if abs(value) < _FLOAT_LIMIT else math.copysign(math.inf, value)
    except OverflowError as error:
        raise _invalid("JSON Parse error: Number too big to be stored in double.") from error


def _kind_of(name: str, value: Any) -> str:
    if isinstance(value, str) or is_base64(value):
        return "bytes"
    # What no 64 bits hold is a double to rapidjson, too.
    if isinstance(value, float) or (isinstance(value, int) and not _INT64_MIN <= value <= _UINT64_MAX):
        return "float"
    if isinstance(value, int):
        if value > _INT64_MAX:
            raise _invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        return "int64"
    raise _invalid(f"Feature: {name} has element with unexpected JSON type: {kind(value)}")


def _about(value: Any, text: str) -> ServingError:
    return _invalid(f"JSON Value: {show(value)} {text}")


def _invalid(text: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, text)
