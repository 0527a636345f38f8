"""Tensors of the Open Inference Protocol <-> numpy arrays: raw bytes and JSON data.

Every decoder first checks the claimed shape, then that the data holds exactly as many elements, and only then
allocates: a few bytes that claim a large tensor cost nothing.

Source: kserve/open-inference-protocol, specification/protocol/inference_rest.md "Tensor Data Types" and "Tensor Data";
triton-inference-server/server, docs/protocol/extension_binary_data.md (little-endian, row-major, BYTES elements with
a 4-byte length). Thread safety: pure functions.
"""

import base64
import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from loader import dtypes
from loader.dtypes import Array, DType
from loader.status import Code, ServingError

MAX_RANK = 64
"""What a numpy array can have; TensorFlow's own kernels stop at 8 or so."""

MAX_ELEMENTS = (1 << 31) - 1
"""Elements of one tensor; no message can carry more, even at one byte each."""

BYTES_PREFIX = 4
"""Bytes of the length that stands before each element of a BYTES tensor."""

DATATYPES: dict[str, DType] = {
    "BOOL": dtypes.BOOL,
    "UINT8": dtypes.UINT8,
    "UINT16": dtypes.UINT16,
    "UINT32": dtypes.UINT32,
    "UINT64": dtypes.UINT64,
    "INT8": dtypes.INT8,
    "INT16": dtypes.INT16,
    "INT32": dtypes.INT32,
    "INT64": dtypes.INT64,
    "FP16": dtypes.HALF,
    "FP32": dtypes.FLOAT,
    "FP64": dtypes.DOUBLE,
    "BYTES": dtypes.STRING,
    "BF16": dtypes.BFLOAT16,
}
_NAMES = {dtype.number: name for name, dtype in DATATYPES.items()}


def dtype_of(datatype: str, name: str) -> DType:
    """The element type that a tensor's `datatype` names.

    Raises:
        ServingError: INVALID_ARGUMENT for a datatype that the protocol does not have.
    """
    found = DATATYPES.get(datatype)
    if found is None:
        raise ServingError(
            Code.INVALID_ARGUMENT, f"tensor '{name}': unknown datatype {datatype[:32]!r}, wanted one of {[*DATATYPES]}"
        )
    return found


def datatype_of(number: int) -> str:
    """The protocol's name for a `DataType` number; TensorFlow's (`DT_COMPLEX64`) for what the protocol cannot carry."""
    return _NAMES.get(number) or dtypes.of_number(number).proto_name


def wire_datatype(array: Array, name: str) -> str:
    """The protocol's name for an array's dtype.

    Raises:
        ServingError: UNIMPLEMENTED for a dtype that the protocol cannot carry (complex, float8).
    """
    dtype = dtypes.of_numpy(array.dtype)
    found = _NAMES.get(dtype.number)
    if found is None:
        raise ServingError(
            Code.UNIMPLEMENTED,
            f"tensor '{name}': the Open Inference Protocol has no datatype for {dtype.name}; "
            "leave it out of `outputs`, or use the gRPC Predict call",
        )
    return found


def checked_shape(name: str, shape: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """A claimed shape and the number of elements that it takes.

    Raises:
        ServingError: INVALID_ARGUMENT for a negative size, for more than `MAX_RANK` sizes, or when the product of the
            sizes (a 0 counted as 1, since arrays have strides) is over `MAX_ELEMENTS`.
    """
    if len(shape) > MAX_RANK:
        raise ServingError(
            Code.INVALID_ARGUMENT, f"tensor '{name}': shape has {len(shape)} dimensions, {MAX_RANK} are allowed"
        )
    room = 1
    for size in shape:
        if size < 0:
            raise ServingError(
                Code.INVALID_ARGUMENT, f"tensor '{name}': shape {list(shape)} has a negative size; send the real one"
            )
        room *= size or 1
        if room > MAX_ELEMENTS:
            raise ServingError(
                Code.INVALID_ARGUMENT,
                f"tensor '{name}': shape {list(shape)} has more than the allowed {MAX_ELEMENTS} elements",
            )
    return tuple(shape), math.prod(shape)


def from_raw(name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview) -> Array:
    """A tensor from raw bytes.

    Args:
        name: for error texts.
        datatype: the protocol's name ("FP32").
        shape: as the caller claims it.
        data: little-endian, row-major; BYTES: a 4-byte length before each element.

    Returns:
        An array that may be read-only and share memory with `data`. BYTES: an object array of `bytes`.

    Raises:
        ServingError: INVALID_ARGUMENT when datatype, shape and length do not fit each other.
    """
    dtype = dtype_of(datatype, name)
    sizes, count = checked_shape(name, shape)
    if dtype is dtypes.STRING:
        return _split_bytes(name, data, count).reshape(sizes)
    wanted = count * dtype.numpy.itemsize
    if len(data) != wanted:
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"tensor '{name}': found {len(data)} bytes, but {datatype} of shape {list(shape)} takes {wanted}",
        )
    if dtype is dtypes.BOOL:
        # Any other byte than 0 and 1 in a C++ bool is undefined behaviour inside the runtime.
        truths: Array = np.frombuffer(data, np.uint8) != 0
        return truths.reshape(sizes)
    array = np.frombuffer(data, dtype.numpy)
    if not array.flags.aligned:
        array = array.copy()
    return array.reshape(sizes)


def _split_bytes(name: str, data: bytes | memoryview, count: int) -> Array:
    if count * BYTES_PREFIX > len(data):
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"tensor '{name}': found {len(data)} bytes, but {count} BYTES elements take {count * BYTES_PREFIX} or more",
        )
    out = np.empty(count, object)
    view, at, end = memoryview(data), 0, len(data)
    read = struct.Struct("<I").unpack_from
    for index in range(count):
        if at + BYTES_PREFIX > end:
            raise _cut(name, index, end)
        (size,) = read(view, at)
        at += BYTES_PREFIX
        if at + size > end:
            raise _cut(name, index, end)
        out[index] = bytes(view[at : at + size])
        at += size
    if at != end:
        raise ServingError(
            Code.INVALID_ARGUMENT, f"tensor '{name}': {end - at} bytes are left after its {count} BYTES elements"
        )
    return out


def _cut(name: str, index: int, size: int) -> ServingError:
    return ServingError(
        Code.INVALID_ARGUMENT, f"tensor '{name}': BYTES element {index} ends after the tensor's {size} bytes"
    )


def to_raw(array: Array) -> bytes:
    """The raw form of an array: little-endian, row-major; strings each with a 4-byte length before it."""
    if array.dtype.kind == "O":
        pack = struct.Struct("<I").pack
        parts: list[bytes] = []
        for element in strings(array):
            parts.append(pack(len(element)))
            parts.append(element)
        return b"".join(parts)
    return array.tobytes()


def strings(array: Array) -> Iterable[bytes]:
    """The elements of a string array in row-major order, texts as UTF-8."""
    return (each.encode() if isinstance(each, str) else each for each in array.ravel().tolist())


def shaped(name: str, datatype: str, shape: Sequence[int], flat: Array) -> Array:
    """`flat` in the shape that the caller claims.

    Raises:
        ServingError: INVALID_ARGUMENT when the shape takes another number of elements.
    """
    sizes, count = checked_shape(name, shape)
    if flat.size != count:
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"tensor '{name}': found {flat.size} elements, but {datatype} of shape {list(shape)} takes {count}",
        )
    return flat.reshape(sizes)


def narrowed(name: str, datatype: str, values: Array, dtype: DType) -> Array:
    """Integers as `dtype`, each checked to fit.

    Raises:
        ServingError: INVALID_ARGUMENT for a value out of the type's range; it never wraps.
    """
    target = dtype.numpy
    if values.dtype == target:
        return values
    if values.size and target.kind in "iu":
        limits = np.iinfo(target.name)
        low, high = int(values.min()), int(values.max())
        if low < limits.min or high > limits.max:
            wrong = low if low < limits.min else high
            raise ServingError(Code.INVALID_ARGUMENT, f"tensor '{name}': {wrong} does not fit into {datatype}")
    return values.astype(target)


def from_json(name: str, datatype: str, shape: Sequence[int], data: Any, *, is_base64: bool = False) -> Array:
    """A tensor from the `data` of a JSON request, flat or nested, row-major.

    Args:
        name: for error texts.
        datatype: the protocol's name.
        shape: as the caller claims it.
        data: a simdjson array (numbers go straight into the tensor's memory), or the Python list of a lenient parser.
        is_base64: BYTES elements are base64 text, not UTF-8.

    Raises:
        ServingError: INVALID_ARGUMENT when datatype, shape and data do not fit each other.
    """
    dtype = dtype_of(datatype, name)
    checked_shape(name, shape)
    if dtype is dtypes.STRING:
        return shaped(name, datatype, shape, _texts(name, data, is_base64=is_base64))
    return shaped(name, datatype, shape, _numbers(name, datatype, data, dtype))


def _numbers(name: str, datatype: str, data: Any, dtype: DType) -> Array:
    kind = dtype.numpy.kind
    if hasattr(data, "as_buffer") and dtype is not dtypes.BOOL:
        code, numpy_code = {"i": ("i", "i8"), "u": ("u", "u8")}.get(kind, ("d", "f8"))
        try:
            values = np.frombuffer(data.as_buffer(of_type=code), numpy_code)
        except (TypeError, ValueError) as error:
            raise _wrong_element(name, datatype) from error
        if kind in "iu":
            return narrowed(name, datatype, values, dtype)
        with np.errstate(over="ignore"):  # beyond the type's range is infinity, as in the stock server's parser
            return values.astype(dtype.numpy)
    flat = list(_flattened(data.as_list() if hasattr(data, "as_list") else data))
    if dtype is dtypes.BOOL:
        # 0 and 1 are what several clients send for a bool
        if not all(each is True or each is False or (type(each) is int and each in (0, 1)) for each in flat):
            raise _wrong_element(name, datatype)
        return np.array(flat, bool)
    allowed = (int,) if kind in "iu" else (int, float)
    if not all(type(each) in allowed for each in flat):
        raise _wrong_element(name, datatype)
    try:
        with np.errstate(over="ignore"):
            # Not straight into bfloat16: it has no error of its own for a number that no double holds.
            return np.array(flat, dtype.numpy if kind in "iu" else np.float64).astype(dtype.numpy, copy=False)
    except OverflowError as error:
        raise ServingError(
            Code.INVALID_ARGUMENT, f"tensor '{name}': an element does not fit into {datatype}"
        ) from error


def _texts(name: str, data: Any, *, is_base64: bool) -> Array:
    flat = list(_flattened(data.as_list() if hasattr(data, "as_list") else data))
    out = np.empty(len(flat), object)
    for index, each in enumerate(flat):
        if not isinstance(each, str):
            raise _wrong_element(name, "BYTES")
        try:
            out[index] = base64.b64decode(each, validate=True) if is_base64 else each.encode("utf-8", "surrogateescape")
        except ValueError as error:  # not base64; or half of a surrogate pair, which JSON can write and UTF-8 cannot
            wanted = "base64" if is_base64 else "text"
            raise ServingError(
                Code.INVALID_ARGUMENT, f"tensor '{name}': element {index} is not {wanted}: {error}"
            ) from error
    return out


def _flattened(data: Any) -> Iterable[Any]:
    """The elements of nested lists in order, without recursion: the depth is the caller's choice."""
    stack = [iter([data] if not isinstance(data, list) else data)]
    while stack:
        for each in stack[-1]:
            if isinstance(each, list):
                stack.append(iter(each))
                break
            yield each
        else:
            stack.pop()


def _wrong_element(name: str, datatype: str) -> ServingError:
    wanted = {"BYTES": "text", "BOOL": "true or false"}.get(datatype, "numbers")
    if datatype.startswith(("INT", "UINT")):
        wanted = "whole numbers in its range"
    return ServingError(Code.INVALID_ARGUMENT, f"tensor '{name}': an element of its data is not {wanted} ({datatype})")
