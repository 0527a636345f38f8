"""The infer call's REST body, JSON with or without raw tensors behind it, <-> arrays.

Source: kserve/open-inference-protocol, specification/protocol/inference_rest.md;
triton-inference-server/server, docs/protocol/extension_binary_data.md.
Thread safety: pure functions.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import simdjson

from functions.oip.calls import Inference
from functions.oip.tensors import from_json, from_raw, strings, to_raw, wire_datatype
from functions.rest.json_number import pieces
from functions.web.message import json_string
from loader.dtypes import Array
from loader.status import Code, ServingError

MAX_INPUTS = 1024
"""Tensors of one request."""


@dataclass(frozen=True, slots=True)
class InferRequest:
    """One infer call, read.

    Attributes:
        id: to be given back; empty for none.
        signature_name: empty for the default.
        timeout: seconds that the caller grants; None where it says nothing.
        inputs: by name.
        outputs: names wanted, in order, each with whether it is wanted raw; empty for all outputs.
        raw_outputs: whether outputs are wanted raw where `outputs` does not say.
    """

    id: str
    signature_name: str
    timeout: float | None
    inputs: Mapping[str, Array]
    outputs: Mapping[str, bool]
    raw_outputs: bool


def decode_infer(body: bytes, header_length: bytes | None) -> InferRequest:
    """Reads the body of an infer call.

    Args:
        body: JSON, then the raw tensors, if there are any.
        header_length: the header `Inference-Header-Content-Length`: how many bytes of the body are JSON; None: all.

    Raises:
        ServingError: INVALID_ARGUMENT, saying which tensor or key is wrong and what was wanted.
    """
    size = len(body) if header_length is None else _header_length(header_length, len(body))
    raw = memoryview(body)[size:]
    document = _parse(body if size == len(body) else body[:size])
    parameters = _parameters(document, "the request")
    inputs, at = _inputs(document, raw)
    if at != len(raw):
        raise _invalid(f"{len(raw)} bytes follow the JSON, but the inputs' `binary_data_size` add up to {at}")
    raw_outputs = _flag(parameters, "binary_data_output")
    return InferRequest(
        _text(document, "id"),
        _signature_name(parameters),
        _timeout(parameters),
        inputs,
        _outputs(document, raw_outputs),
        raw_outputs,
    )


def _header_length(value: bytes, size: int) -> int:
    if not value.isdigit() or len(value) > 19 or int(value) > size:
        raise _invalid(
            f"header Inference-Header-Content-Length: found {value[:32].decode('latin-1')!r}, "
            f"wanted the length of the JSON in bytes, at most the body's {size}"
        )
    return int(value)


def _parse(text: bytes) -> Any:
    try:
        document: Any = simdjson.Parser().parse(text)
    except (ValueError, RuntimeError):
        # NaN, Infinity and integers beyond 64 bits: no interoperable JSON, but what Python and C++ clients write.
        try:
            document = json.loads(text.decode())
        except (ValueError, RecursionError) as error:
            raise _invalid(f"the body is not JSON: {error}") from error
    if not _is_object(document):
        raise _invalid("the body is not a JSON object")
    return document


def _inputs(document: Any, raw: memoryview) -> tuple[dict[str, Array], int]:
    listed = document.get("inputs")
    if not _is_list(listed) or not len(listed):
        raise _invalid("`inputs` must be a list of one tensor or more")
    if len(listed) > MAX_INPUTS:
        raise _invalid(f"`inputs` has {len(listed)} tensors, {MAX_INPUTS} are allowed")
    inputs: dict[str, Array] = {}
    at = 0
    for tensor in listed:
        if not _is_object(tensor):
            raise _invalid("an element of `inputs` is not an object")
        name, datatype, shape = _text(tensor, "name"), _text(tensor, "datatype"), _shape(tensor)
        if not name or name in inputs:
            raise _invalid(f"input '{name}': " + ("given twice" if name else "every input needs a name"))
        parameters = _parameters(tensor, f"input '{name}'")
        data = tensor.get("data")
        if "binary_data_size" in parameters:
            size = parameters["binary_data_size"]
            if type(size) is not int or not 0 <= size <= len(raw) - at:
                raise _invalid(
                    f"input '{name}': binary_data_size is {str(size)[:32]}, but {len(raw) - at} bytes are left behind "
                    "the JSON (Inference-Header-Content-Length says where it ends)"
                )
            if data is not None:
                raise _invalid(f"input '{name}': found both `data` and `binary_data_size`, wanted one of them")
            inputs[name] = from_raw(name, datatype, shape, raw[at : at + size])
            at += size
        elif "shared_memory_region" in parameters:
            raise ServingError(Code.UNIMPLEMENTED, f"input '{name}': shared memory is not supported; send the data")
        elif not _is_list(data):
            raise _invalid(f"input '{name}': wanted a list in `data`, or raw bytes with `binary_data_size`")
        else:
            inputs[name] = from_json(name, datatype, shape, data, is_base64=parameters.get("content_type") == "base64")
    return inputs, at


def _outputs(document: Any, raw_outputs: bool) -> dict[str, bool]:
    listed = document.get("outputs")
    if listed is None:
        return {}
    if not _is_list(listed):
        raise _invalid("`outputs` must be a list")
    outputs: dict[str, bool] = {}
    for wish in listed:
        name = _text(wish, "name") if _is_object(wish) else ""
        if not name or name in outputs:
            raise _invalid(f"output '{name}': " + ("asked for twice" if name else "wanted an object with a `name`"))
        parameters = _parameters(wish, f"output '{name}'")
        if parameters.get("classification"):
            raise ServingError(
                Code.UNIMPLEMENTED, f"output '{name}': the classification extension is not supported; take the scores"
            )
        if "shared_memory_region" in parameters:
            raise ServingError(Code.UNIMPLEMENTED, f"output '{name}': shared memory is not supported")
        outputs[name] = _flag(parameters, "binary_data") if "binary_data" in parameters else raw_outputs
    return outputs


def _shape(tensor: Any) -> list[int]:
    shape = tensor.get("shape")
    sizes = shape.as_list() if hasattr(shape, "as_list") else shape
    if not isinstance(sizes, list) or not all(type(size) is int for size in sizes):
        raise _invalid(f"input '{_text(tensor, 'name')}': `shape` must be a list of whole numbers")
    return sizes


def _parameters(holder: Any, where: str) -> Mapping[str, Any]:
    found = holder.get("parameters")
    if found is None:
        return {}
    if not _is_object(found):
        raise _invalid(f"`parameters` of {where} must be an object")
    return found.as_dict() if hasattr(found, "as_dict") else dict(found)


def _signature_name(parameters: Mapping[str, Any]) -> str:
    name = parameters.get("signature_name", "")
    if not isinstance(name, str):
        raise _invalid("the parameter `signature_name` must be a text")
    return name


def _timeout(parameters: Mapping[str, Any]) -> float | None:
    """The parameter `timeout`, in microseconds (Triton's schedule policy extension), as seconds."""
    timeout = parameters.get("timeout", 0)
    if type(timeout) is not int or not 0 <= timeout < 1 << 63:
        raise _invalid("the parameter `timeout` must be a whole number of microseconds")
    return timeout / 1e6 or None


def _flag(parameters: Mapping[str, Any], key: str) -> bool:
    value = parameters.get(key, False)
    if type(value) is not bool:
        raise _invalid(f"the parameter `{key}` must be true or false")
    return value


def _text(holder: Any, key: str) -> str:
    value = holder.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _invalid(f"`{key}` must be a text")
    return value


def _is_object(value: Any) -> bool:
    return isinstance(value, simdjson.Object | dict)


def _is_list(value: Any) -> bool:
    return isinstance(value, simdjson.Array | list)


def _invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)


def encode_infer(inference: Inference, request: InferRequest) -> tuple[bytes, int | None]:
    """The body of an answer.

    Returns:
        The body, and how many bytes of it are JSON; None where all of it is.

    Raises:
        ServingError: UNIMPLEMENTED for an output of a type that the protocol does not have.
    """
    described: list[bytes] = []
    blobs: list[bytes] = []
    for name, array in inference.outputs:
        head = b'{"name":%b,"datatype":"%b","shape":%b,' % (
            json_string(name),
            wire_datatype(array, name).encode(),
            _compact(list(array.shape)),
        )
        if request.outputs.get(name, request.raw_outputs):
            blobs.append(to_raw(array))
            described.append(head + b'"parameters":{"binary_data_size":%d}}' % len(blobs[-1]))
        else:
            described.append(head + _data(array) + b"}")
    echoed = b'"id":%b,' % json_string(request.id) if request.id else b""
    text = b'{"model_name":%b,"model_version":%b,%b"outputs":[%b]}' % (
        json_string(inference.model_name),
        json_string(inference.model_version),
        echoed,
        b",".join(described),
    )
    if not blobs:
        return text, None
    return b"".join((text, *blobs)), len(text)


def _data(array: Array) -> bytes:
    if array.dtype.kind == "O":
        return _encode_strings(list(strings(array)))
    texts, numbers = pieces(array)
    text = ",".join(texts)
    return b'"data":[' + (text if numbers is None else text % numbers).encode() + b"]"


def _encode_strings(elements: Sequence[bytes]) -> bytes:
    """UTF-8 as text; else all elements as base64, marked as MLServer's clients know it."""
    try:
        texts = [json_string(each.decode()) for each in elements]
    except UnicodeDecodeError:
        encoded = b",".join(b'"' + base64.b64encode(each) + b'"' for each in elements)
        return b'"parameters":{"content_type":"base64"},"data":[' + encoded + b"]"
    return b'"data":[' + b",".join(texts) + b"]"


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
