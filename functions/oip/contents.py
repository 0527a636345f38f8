"""`inference.InferTensorContents` <-> numpy arrays: the typed fields of the protocol's gRPC form.

Arrays of fixed-size numbers pass as packed bytes, not as a Python object for each element.

Source: kserve/open-inference-protocol, specification/protocol/inference_grpc.md, "Tensor Data".
Thread safety: pure functions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from functions.oip.tensors import checked_shape, dtype_of, narrowed, shaped, strings
from loader import dtypes
from loader.dtypes import Array
from loader.status import Code, ServingError
from loader.wire import length_field

_FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_WIRE_TYPES = {
    "bool_contents": np.dtype(bool),
    "int_contents": np.dtype(np.int32),
    "int64_contents": np.dtype(np.int64),
    "uint_contents": np.dtype(np.uint32),
    "uint64_contents": np.dtype(np.uint64),
    "fp32_contents": np.dtype(np.float32),
    "fp64_contents": np.dtype(np.float64),
}


def has_contents(tensor: Any) -> bool:
    """Whether an `InferInputTensor` carries anything in its typed fields."""
    return tensor.HasField("contents") and bool(tensor.contents.ListFields())


def from_contents(name: str, datatype: str, shape: Sequence[int], contents: Any) -> Array:
    """A tensor from the typed field that belongs to its datatype.

    Raises:
        ServingError: INVALID_ARGUMENT when datatype, shape and content do not fit each other, an integer does not fit
            into its type, another field is filled, or the datatype has no typed field.
    """
    dtype = dtype_of(datatype, name)
    checked_shape(name, shape)
    field = _FIELDS.get(datatype)
    if field is None:
        raise ServingError(
            Code.INVALID_ARGUMENT, f"tensor '{name}': {datatype} has no typed contents, send it in raw_input_contents"
        )
    for other, _ in contents.ListFields():
        if other.name != field:
            raise ServingError(
                Code.INVALID_ARGUMENT, f"tensor '{name}': found {other.name}, but {datatype} belongs into {field}"
            )
    values = getattr(contents, field)
    if dtype is dtypes.STRING:
        elements = np.empty(len(values), object)
        elements[:] = values
        return shaped(name, datatype, shape, elements)
    flat: Array
    if field in ("fp32_contents", "fp64_contents"):
        flat = _unpacked(contents, _WIRE_TYPES[field])
    else:
        flat = np.fromiter(values, _WIRE_TYPES[field], len(values))
    return shaped(name, datatype, shape, narrowed(name, datatype, flat, dtype))


def _unpacked(contents: Any, dtype: "np.dtype[np.generic]") -> Array:
    # protobuf writes a packed field that is alone in its message as tag, length, bytes: the array is its tail.
    contents.DiscardUnknownFields()
    packed = contents.SerializeToString()
    size = len(contents.fp32_contents) * 4 + len(contents.fp64_contents) * 8
    return np.frombuffer(packed, dtype, offset=len(packed) - size) if size else np.empty(0, dtype)


def to_contents(array: Array, contents: Any) -> None:
    """Fills the typed field that belongs to an array's dtype; 16-bit floats have none and must go raw."""
    datatype = dtypes.of_numpy(array.dtype)
    if datatype is dtypes.STRING:
        contents.bytes_contents.extend(strings(array))
    elif datatype is dtypes.FLOAT or datatype is dtypes.DOUBLE:
        number = 6 if datatype is dtypes.FLOAT else 7
        contents.MergeFromString(length_field(number, array.tobytes()))
    else:
        getattr(contents, _FIELDS[datatype.name.upper()]).extend(array.ravel().tolist())
