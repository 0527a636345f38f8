"""JSON values to tensors, element by element, with the stock server's rules and error texts.

The slow and exact way: for strings, for what is unusual, and for finding out what is wrong. Numbers of good requests
go through `functions.rest.json_fast`, which must agree with this module.

Source: tensorflow_serving/util/json_tensor.cc (GetDenseTensorShape, FillTensorProto, AddValueToTensor,
AddInstanceItem). Deliberate differences: small integers are checked for their range, and half, bfloat16 and uint16 are
accepted.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from functions.rest.json_base64 import decode_base64, is_base64
from functions.rest.json_number import flush
from functions.rest.json_text import kind, show
from loader import dtypes
from loader.dtypes import Array, DType
from loader.signature import TensorSpec
from loader.status import Code, ServingError
from loader.tensor import ZERO_COPY_BYTES, aligned_empty

FLOATS = (dtypes.FLOAT, dtypes.DOUBLE, dtypes.HALF, dtypes.BFLOAT16)
INTEGERS = (
    dtypes.INT8,
    dtypes.INT16,
    dtypes.INT32,
    dtypes.INT64,
    dtypes.UINT8,
    dtypes.UINT16,
    dtypes.UINT32,
    dtypes.UINT64,
)

MAX_RANK = 64
"""Dimensions of one tensor: numpy's own limit. TensorFlow's is 254, but hardly an operation takes more than 8."""


class Column:
    """The values of one input: one value of it for columns, one after another for rows.

    Args:
        spec: the input, for its dtype. Its shape is not looked at: the runtime knows better.
    """

    def __init__(self, spec: TensorSpec) -> None:
        self._spec = spec
        self._dtype = dtypes.of_number(spec.dtype)
        self._element = _converter(self._dtype)
        self._flat: list[Any] = []
        self._shape: tuple[int, ...] = ()
        self._size = -1
        self._count = 0

    def add(self, value: Any) -> None:
        """Appends a value, whose shape is that of its nesting.

        Raises:
            ServingError: INVALID_ARGUMENT for a ragged list, a value of another type, or another shape than the
                values before; UNIMPLEMENTED for a dtype that JSON cannot carry.
        """
        shape = _shape(value)
        if len(shape) >= MAX_RANK:
            self._check_rank(shape)
        before = len(self._flat)
        if shape:
            self._fill(value, 0, shape)
        else:
            self._flat.append(self._element(value))
        size = len(self._flat) - before
        self._count += 1
        if self._size < 0:
            self._size, self._shape = size, shape
        elif size != self._size:
            raise _invalid(f"Expecting tensor size: {self._size} but got: {size}")
        elif shape != self._shape:
            found, wanted = (",".join(map(str, each)) for each in (shape, self._shape))
            raise _invalid(f"Expecting shape [{wanted}] but got: [{found}]")

    def value(self) -> Array:
        """The one value that was added."""
        return self._array(self._shape)

    def rows(self) -> Array:
        """All values, `[count, ...]`."""
        shape = (self._count, *self._shape)
        self._check_rank(shape)
        return self._array(shape)

    def _array(self, shape: tuple[int, ...]) -> Array:
        flat, dtype = self._flat, self._dtype
        if dtype is dtypes.STRING:
            array: Array = np.empty(len(flat), object)
            array[:] = flat
        elif dtype in FLOATS:
            array = narrowed(np.array(flat, np.float64), dtype)
        else:
            # A dtype that JSON cannot carry was refused with the first value; an empty list has none.
            array = np.array(flat, dtype.numpy if dtype.numpy_name else np.uint8)
        return array.reshape(shape)

    def _check_rank(self, shape: tuple[int, ...]) -> None:
        if len(shape) > MAX_RANK:
            raise _invalid(
                f"input {self._spec.alias}: found a list of {len(shape)} dimensions, wanted at most {MAX_RANK}"
            )

    def _fill(self, value: Any, level: int, shape: tuple[int, ...]) -> None:
        rank = len(shape)
        if level >= rank:
            raise _invalid(f"Encountered list at unexpected level: {level} expected < {rank}")
        if len(value) != shape[level]:
            raise _invalid(
                f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
            )
        element, append = self._element, self._flat.append
        for item in value:
            if isinstance(item, list):
                self._fill(item, level + 1, shape)
            elif level + 1 != rank:
                raise _invalid(
                    f"JSON Value: {show(item)} found at incorrect level: {level + 1} in the JSON DOM. Expected at"
                    f" level: {rank}"
                )
            else:
                append(element(item))


def narrowed(numbers: "np.ndarray[Any, np.dtype[np.float64]]", dtype: DType) -> Array:
    """Doubles as a float dtype: too large is infinite, too small for a normal number zero, as in the stock server."""
    if dtype is dtypes.DOUBLE:
        return flush(numbers)
    with np.errstate(over="ignore"):
        array = cast(numbers, dtype)
    return flush(array) if dtype is dtypes.FLOAT else array


def cast(numbers: Array, dtype: DType) -> Array:
    """Numbers of one dtype as another; a large result lies where TensorFlow reads it without a copy."""
    wanted = dtype.numpy
    if numbers.dtype == wanted or numbers.size * wanted.itemsize < ZERO_COPY_BYTES:
        return numbers.astype(wanted, copy=False)
    array = aligned_empty(numbers.shape, wanted)
    np.copyto(array, numbers, casting="unsafe")
    return array


def to_bytes(value: Any) -> bytes:
    """One element of a string tensor: a text as UTF-8, or what `{"b64": ...}` holds."""
    if isinstance(value, str):
        return value.encode()
    if is_base64(value):
        decoded = decode_base64(value["b64"])
        if decoded is None:
            raise _invalid("Unable to base64 decode")
        return decoded
    if isinstance(value, dict):
        raise _invalid(f"JSON Value: {show(value)} not formatted correctly for base64 data")
    raise _wrong_type(value, dtypes.STRING)


@functools.cache
def _converter(dtype: DType) -> Callable[[Any], Any]:
    """What makes an element of a JSON value that is no list."""
    if dtype is dtypes.STRING:
        return to_bytes
    if dtype in FLOATS:
        return functools.partial(_to_float, dtype)
    if dtype in INTEGERS:
        limits = np.iinfo(dtype.numpy_name)
        return functools.partial(_to_integer, dtype, limits.min, limits.max)
    if dtype is dtypes.BOOL:
        return _to_bool
    return functools.partial(_refuse, dtype)


def _to_float(dtype: DType, value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is not int:
        raise _wrong_type(value, dtype)
    try:
        return float(value)
    except OverflowError as error:
        raise _invalid("JSON Parse error: Number too big to be stored in double.") from error


def _to_integer(dtype: DType, lowest: int, highest: int, value: Any) -> int:
    if type(value) is int and lowest <= value <= highest:
        return value
    raise _wrong_type(value, dtype)


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _wrong_type(value, dtypes.BOOL)


def _refuse(dtype: DType, value: Any) -> Any:
    if isinstance(value, dict):
        raise _wrong_type(value, dtype)
    raise ServingError(Code.UNIMPLEMENTED, f"Conversion of JSON Value: {show(value)} to type: {dtype.name}")


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        return ()
    sizes: list[int] = []
    while isinstance(value, list):
        sizes.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(sizes)


def _wrong_type(value: Any, dtype: DType) -> ServingError:
    return _invalid(f"JSON Value: {show(value)} Type: {kind(value)} is not of expected type: {dtype.name}")


def _invalid(text: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, text)
