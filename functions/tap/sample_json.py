"""A sample as JSON that every parser takes. Pure.

    {"model": "m", "version": 7, "kind": "predict", "request_id": "...", "protocol": "REST", "api": "predict",
     "milliseconds": 1.9,
     "inputs": {"x": {"dtype": "DT_FLOAT", "shape": [2], "values": [1.0, 2.0]}},
     "answers": [{"signature": "serving_default",
                  "outputs": {"y": {"dtype": "DT_FLOAT", "shape": [2], "omitted": "size"}}}]}

Numbers that JSON has none for are texts (`"NaN"`, `"Infinity"`, `"-Infinity"`), as in protobuf's JSON; bytes that are
no UTF-8 are `{"b64": "..."}`, as in the REST API; a complex number is its two parts. Examples are objects of features.
"""

import base64
import json
import math
from typing import Any

import numpy as np

import loader.protos as _protos  # before the messages: see there
from functions.tap.sample import PREDICT, Omitted, Sample, Value
from loader import dtypes
from loader.dtypes import Array

assert _protos  # noqa: S101
from google.protobuf.message import DecodeError  # noqa: E402
from tensorflow.core.example.example_pb2 import Example  # noqa: E402


def sample_json(sample: Sample) -> bytes:
    """The text."""
    inputs = {alias: _value(value) for alias, value in sample.inputs.items()}
    if sample.kind != PREDICT:
        inputs = {alias: _examples(value) for alias, value in sample.inputs.items()}
    found = {
        "model": sample.model,
        "version": sample.version,
        "kind": sample.kind,
        "request_id": sample.request_id,
        "protocol": sample.protocol,
        "api": sample.api,
        "milliseconds": round(sample.seconds * 1000, 3),
        "inputs": inputs,
        "answers": [
            {"signature": one.signature, "outputs": {alias: _value(value) for alias, value in one.outputs.items()}}
            for one in sample.answers
        ],
    }
    return json.dumps(found, allow_nan=False, separators=(",", ":")).encode()


def _value(value: Value) -> dict[str, Any]:
    if isinstance(value, Omitted):
        dtype = dtypes.of_number(value.dtype).proto_name
        return {"dtype": dtype, "shape": list(value.shape), "omitted": value.reason}
    return {
        "dtype": dtypes.of_numpy(value.dtype).proto_name,
        "shape": list(value.shape),
        "values": _nested(value),
    }


def _examples(value: Value) -> dict[str, Any]:
    found = _value(value)
    if not isinstance(value, Omitted):
        found["values"] = [_example(bytes(text)) for text in value.ravel().tolist()]
    return found


def _example(text: bytes) -> Any:
    try:
        features = Example.FromString(text).features.feature
    except DecodeError:
        return _text(text)
    found: dict[str, Any] = {}
    for name, feature in sorted(features.items()):
        kind = feature.WhichOneof("kind")
        values = [] if kind is None else getattr(feature, kind).value
        found[name] = [_text(one) if isinstance(one, bytes) else _number(one) for one in values]
    return found


def _nested(array: Array) -> Any:
    if array.dtype.kind in "OS":
        return _mapped(array.tolist(), _text)
    if array.dtype.kind == "c":
        parts = np.stack([array.real, array.imag], axis=-1)
        return _nested(parts)
    if array.dtype.kind == "V" or array.dtype.name not in _OWN:  # bfloat16 and its kin, which numpy knows as foreign
        array = array.astype(np.float64)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return _mapped(array.tolist(), _number)
    return array.tolist()


_OWN = frozenset(
    {"float16", "float32", "float64", "bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
)


def _mapped(value: Any, change: Any) -> Any:
    return [_mapped(one, change) for one in value] if isinstance(value, list) else change(value)


def _number(value: float) -> float | str:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _text(value: Any) -> Any:
    if isinstance(value, str):
        return value
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode("ascii")}
