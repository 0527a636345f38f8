"""What a REST answer says, as arrays by name: TensorFlow Serving's JSON, and the Open Inference Protocol's.

Pure and thread-safe.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from functions.oip.tensors import from_raw
from functions.routing.comparison import Answer
from loader.dtypes import Array

HEADER_LENGTH = b"inference-header-content-length"
IDENTITY = frozenset({"id", "model_name", "model_version"})
"""Members of an answer that say who gave it."""


def read_rest_answer(answer: tuple[bytes, Mapping[bytes, bytes]]) -> Answer:
    """The arrays of a good answer.

    Args:
        answer: body and headers.

    Raises:
        ValueError: it is not JSON.
        ServingError: a raw tensor is not what it says.
    """
    body, headers = answer
    length = headers.get(HEADER_LENGTH)
    size = len(body) if length is None else int(length)
    document = json.loads(body[:size])
    if isinstance(document, dict) and isinstance(document.get("outputs"), list) and "model_name" in document:
        return _tensors(document["outputs"], memoryview(body)[size:])
    found: dict[str, Array] = {}
    _collect("", document, found)
    return found


def _tensors(outputs: list[Any], raw: memoryview) -> Answer:
    found: dict[str, Array] = {}
    at = 0
    for output in outputs:
        name, shape = output["name"], output["shape"]
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            found[name] = _array(output["data"]).reshape(shape)
            continue
        found[name] = from_raw(name, output["datatype"], shape, raw[at : at + size])
        at += size
    return found


def _collect(path: str, value: Any, found: dict[str, Array]) -> None:
    """Puts arrays under the paths of the objects they are in: `predictions.scores`; rows of objects become columns."""
    if isinstance(value, dict):
        for name, member in value.items():
            if path or name not in IDENTITY:
                _collect(f"{path}.{name}" if path else name, member, found)
    elif isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        names = value[0].keys()
        if any(row.keys() != names for row in value):
            raise ValueError("rows with different names")
        for name in names:
            found[f"{path}.{name}"] = _array([row[name] for row in value])
    else:
        found[path] = _array(value)


def _array(value: Any) -> Array:
    """Numbers as float64, everything else (texts, ragged lists) as objects."""
    try:
        array: Array = np.asarray(value)
    except ValueError:  # ragged
        array = np.empty(len(value), object)
        array[:] = value
        return array
    if array.dtype.kind in "biuf":
        return array.astype(np.float64)
    return np.asarray(value, object)
