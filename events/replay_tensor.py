"""TensorProto -> JSON as REST takes and gives it, with the standard library: the deploy image has no numpy. Pure.

Source: tensorflow/core/framework/tensor.proto (field numbers), types.proto (dtypes), `Tensor::FromProto` in tensor.cc:
a typed field that is shorter than the tensor is continued with its last value, an empty one means zeros.
"""

import base64
import math
import struct
from collections.abc import Iterator
from typing import Any

from loader.wire import WireError, fields, signed

MAX_ELEMENTS = 1 << 24
"""Of one tensor: more is no golden request, and a few bytes could claim it."""

_STRING, _HALF, _BFLOAT16 = 7, 19, 14
_CONTENT = {
    1: "f",  # float
    2: "d",
    3: "i",
    4: "B",
    5: "h",
    6: "b",
    9: "q",
    10: "?",
    17: "H",
    _HALF: "e",
    22: "I",
    23: "Q",
}
"""Dtype -> its format in `tensor_content`. Types that JSON has no word for (complex, float8, 4 bits) are not here."""

FLOATS, INTEGERS = 5, 10
"""Fields of floats and of int64."""

_FIXED = {FLOATS: ("f", 4), 6: ("d", 8)}
"""Number of a typed field -> format and bytes of its elements; all other numbers are varints."""

_FIELDS = {1: 5, 2: 6, 3: 7, 4: 7, 5: 7, 6: 7, 9: 10, 10: 11, 17: 7, _HALF: 13, _BFLOAT16: 13, 22: 16, 23: 17}


class NotJsonError(ValueError):
    """A tensor that REST cannot carry."""


def tensor_json(content: memoryview) -> Any:
    """The value of a serialised TensorProto: nested lists, or the bare value of a scalar; strings as `{"b64": ...}`.

    Raises:
        WireError: no TensorProto.
        NotJsonError: its dtype or size is not for JSON.
    """
    shape: tuple[int, ...] = ()
    raw = memoryview(b"")
    typed: list[int | memoryview] = []
    found = list(fields(content))
    dtype = next((signed(value) for number, value in found if number == 1), 0)
    for number, value in found:
        if number == 2 and isinstance(value, memoryview):
            shape = tuple(_shape(value))
        elif number == 4 and isinstance(value, memoryview):
            raw = value
        elif number == (8 if dtype == _STRING else _FIELDS.get(dtype)):
            typed.append(value)
    count = math.prod(shape)
    if any(size < 0 for size in shape) or count > MAX_ELEMENTS:
        raise NotJsonError(f"a tensor of shape {list(shape)}")
    values = _values(dtype, raw, typed)
    if raw.nbytes and len(values) != count:
        raise WireError(f"tensor_content holds {len(values)} values, the shape wants {count}")
    if len(values) < count:
        filler = values[-1] if values else _zero(dtype)
        values = values + [filler] * (count - len(values))
    return _nested(values, shape)


def _shape(content: memoryview) -> Iterator[int]:
    for number, value in fields(content):
        if number == 3 and value:
            raise NotJsonError("a tensor of unknown rank")
        if number == 2 and isinstance(value, memoryview):
            yield next((signed(size) for inner, size in fields(value) if inner == 1), 0)


def _values(dtype: int, raw: memoryview, typed: list[int | memoryview]) -> list[Any]:
    if dtype == _STRING:
        return [b64(bytes(value)) for value in typed if isinstance(value, memoryview)]
    if raw.nbytes and dtype == _BFLOAT16:
        return [_bfloat16(bits) for (bits,) in struct.iter_unpack("<H", raw)]
    if dtype not in _FIELDS:
        raise NotJsonError(f"a tensor of dtype {dtype}")
    if raw.nbytes:
        form = "<" + _CONTENT[dtype]
        if raw.nbytes % struct.calcsize(form):
            raise WireError(f"tensor_content has {raw.nbytes} bytes")
        return [one for (one,) in struct.iter_unpack(form, raw)]
    found = [number for value in typed for number in numbers(value, _FIELDS[dtype])]
    if dtype == _HALF:
        return [struct.unpack("<e", struct.pack("<H", number & 0xFFFF))[0] for number in found]
    if dtype == _BFLOAT16:
        return [_bfloat16(number & 0xFFFF) for number in found]
    if dtype == 10:
        return [bool(number) for number in found]
    return found


def numbers(value: int | memoryview, field: int) -> Iterator[Any]:
    """The elements of one occurrence of a field, packed or not."""
    if field in _FIXED:
        form, size = _FIXED[field]
        if isinstance(value, int) or value.nbytes % size:
            raise WireError("a float field holds something else")
        for (one,) in struct.iter_unpack("<" + form, value):
            yield one
        return
    signed_field = field not in {16, 17}
    for number in [value] if isinstance(value, int) else _varints(value):
        yield signed(number) if signed_field else number


def _varints(content: memoryview) -> Iterator[int]:
    value = shift = 0
    for byte in content:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value = shift = 0
        elif shift > 63:
            raise WireError("a varint is too long")
    if shift:
        raise WireError("a varint is cut off")


def _bfloat16(bits: int) -> float:
    found: float = struct.unpack("<f", struct.pack("<I", bits << 16))[0]
    return found


def _zero(dtype: int) -> Any:
    return b64(b"") if dtype == _STRING else False if dtype == 10 else 0


def _nested(values: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return values[0]
    for size in reversed(shape[1:]):
        if not size:
            return _empty(shape)
        values = [values[at : at + size] for at in range(0, len(values), size)]
    return values


def _empty(shape: tuple[int, ...]) -> Any:
    return [_empty(shape[1:]) for _ in range(shape[0])] if shape else None


def b64(content: bytes) -> dict[str, str]:
    """Bytes as REST spells them."""
    return {"b64": base64.b64encode(content).decode()}
