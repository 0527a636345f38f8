"""Predict bodies of numbers, straight from text into arrays.

simdjson parses the body; `as_buffer` flattens a nested list of numbers into one block without a Python object for each.
It does not say how the list was nested, so that is proved from the text: the body without everything but its brackets,
braces, commas and quotes must be, byte for byte, what a regular nesting of the shape found would leave. Both steps run
at memory speed; nothing here loops over numbers.

`read_numbers` gives None for whatever it is not sure of (strings, other keys, irregular lists, wrong types, errors):
then `functions.rest.json_decode` takes the exact way. It never gives another result than that way.

Thread safety: one parser for each thread.
"""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import simdjson

from functions.rest.json_exact import FLOATS, INTEGERS, MAX_RANK, cast, narrowed
from loader import dtypes
from loader.dtypes import Array, DType
from loader.signature import DEFAULT_SIGNATURE, Signature, TensorSpec

INSTANCES = "instances"
INPUTS = "inputs"
OUTPUT_FILTER = "output_filter"

MAX_KEPT_BYTES = 16 << 20
"""A parser keeps memory for the largest body that it has seen; larger ones than this get a parser of their own."""

_FLESH = bytes(set(range(256)) - set(b'[]{},"'))
# A string that holds one of these could pass for structure.
_STRUCTURE = re.compile(r'[][{},"\\]')

# JSON has no word for what is not finite, RapidJSON has; simdjson has not. The words become numbers that nobody sends,
# and in the array what they meant. A word that is a part of something else leaves what is no JSON, or one number less.
_STAND_INS = (
    (b"-NaN", b"1.79543e308"),
    (b"NaN", b"1.79543e308"),
    (b"Infinity", b"1.79547e308"),
    (b"Inf", b"1.79547e308"),
)
_NOT_FINITE = {1.79543e308: np.nan, 1.79547e308: np.inf, -1.79547e308: -np.inf}

# What `as_buffer` is asked for, by the number of the data type.
_CODES: dict[int, Any] = {each.number: "d" for each in FLOATS} | {
    each.number: "u" if each is dtypes.UINT64 else "i" for each in INTEGERS
}
_BUFFERS = {"d": np.dtype(np.float64), "i": np.dtype(np.int64), "u": np.dtype(np.uint64)}

_local = threading.local()


@dataclass(frozen=True, slots=True)
class NumberBody:
    """A predict request whose inputs are numbers. Attributes as those of `functions.rest.json_decode.PredictBody`."""

    signature_name: str
    inputs: Mapping[str, Array]
    row: bool


class _Unsure(Exception):  # noqa: N818  not an error: the exact way is taken
    """This is not one of the bodies that can be read fast."""


_DOUBTS = (_Unsure, TypeError, KeyError, OverflowError, ValueError, RuntimeError)
"""What simdjson raises for a type, a key, a number or a text that it does not take, and our own."""


def read_numbers(body: bytes, signatures: Mapping[str, Signature]) -> NumberBody | None:
    """The request, if it is made of numbers in regular lists; None otherwise."""
    try:
        return _read(body, signatures, stand_ins=False)
    except _DOUBTS:
        pass
    words = body.count(b"NaN") + body.count(b"Inf")
    if not words:
        return None
    for word, number in _STAND_INS:
        body = body.replace(word, number)
    try:
        found = _read(body, signatures, stand_ins=True)
    except _DOUBTS:
        return None
    # Every word must have become one number of an input, and nobody may have sent such a number or one as large.
    count = sum(int(np.count_nonzero(~np.isfinite(array))) for array in found.inputs.values())
    return found if count == words else None


def _parser(size: int) -> Any:
    if size > MAX_KEPT_BYTES:
        return simdjson.Parser()
    try:
        return _local.parser
    except AttributeError:
        _local.parser = simdjson.Parser()
        return _local.parser


def _read(body: bytes, signatures: Mapping[str, Signature], *, stand_ins: bool) -> NumberBody:
    document: Any = _parser(len(body)).parse(body)
    if type(document) is not simdjson.Object:
        raise _Unsure
    name, holder = "", ""
    skeleton: list[bytes] = []
    for key in document:
        if not holder and key in (INSTANCES, INPUTS):
            holder, place = key, len(skeleton)
            skeleton.append(b"")
        elif key == "signature_name":
            text = document[key]
            if not isinstance(text, str) or _STRUCTURE.search(text):
                raise _Unsure
            name = text
            skeleton.append(b'""""')
        else:
            skeleton.append(_ignored(key, document[key]))
    if not holder or len(set(document)) != len(skeleton):
        raise _Unsure
    specs = signatures[name or DEFAULT_SIGNATURE].inputs
    value = document[holder]
    if holder == INSTANCES:
        inputs, pattern = _rows(value, specs)
    else:
        inputs, pattern = _columns(value, specs)
    skeleton[place] = b'""' + pattern
    if body.translate(None, _FLESH) != b"{" + b",".join(skeleton) + b"}":
        raise _Unsure
    return NumberBody(
        name,
        {alias: _converted(flat, specs[alias], stand_ins=stand_ins) for alias, flat in inputs.items()},
        holder == INSTANCES,
    )


def _ignored(key: str, value: Any) -> bytes:
    """What a member leaves that means nothing here, such as a user's name; only simple ones are taken."""
    if key in (INSTANCES, INPUTS, OUTPUT_FILTER) or _STRUCTURE.search(key):
        raise _Unsure
    if isinstance(value, str):
        if _STRUCTURE.search(value):
            raise _Unsure
        return b'""""'
    if value is not None and not isinstance(value, bool | int | float):
        raise _Unsure
    return b'""'


def _rows(value: Any, specs: Mapping[str, TensorSpec]) -> tuple[dict[str, Array], bytes]:
    if not isinstance(value, simdjson.Array) or not len(value):
        raise _Unsure
    first: Any = value[0]
    if isinstance(first, simdjson.Object):
        return _named_rows(value, first, specs)
    flat, pattern = _tensor(value, _lone(specs))
    return {_lone(specs).alias: flat}, pattern


def _columns(value: Any, specs: Mapping[str, TensorSpec]) -> tuple[dict[str, Array], bytes]:
    if type(value) is not simdjson.Object:
        flat, pattern = _tensor(value, _lone(specs))
        return {_lone(specs).alias: flat}, pattern
    inputs: dict[str, Array] = {}
    patterns = []
    for alias in value:
        inputs[alias], pattern = _tensor(value[alias], _plain(specs[alias]))
        patterns.append(b'""' + pattern)
    if len(inputs) != len(specs) or len(patterns) != len(inputs):
        raise _Unsure
    return inputs, b"{" + b",".join(patterns) + b"}"


def _named_rows(value: Any, first: Any, specs: Mapping[str, TensorSpec]) -> tuple[dict[str, Array], bytes]:
    """Rows with the names of the first row in its order, and its shapes: the skeleton proves both."""
    aliases = list(first)
    if len(aliases) != len(specs):
        raise _Unsure
    shapes = {alias: _shape(first[alias]) for alias in aliases}
    if len(shapes) != len(aliases):
        raise _Unsure
    codes = [(alias, _CODES[_plain(specs[alias]).dtype], shape) for alias, shape in shapes.items()]
    columns: dict[str, list[Any]] = {alias: [] for alias in aliases}
    count = 0
    for row in value:
        count += 1
        if not isinstance(row, simdjson.Object) or list(row) != aliases:
            raise _Unsure
        for alias, code, shape in codes:
            item: Any = row[alias]
            columns[alias].append(item.as_buffer(of_type=code) if shape else item)
    inputs: dict[str, Array] = {}
    for alias, code, shape in codes:
        if shape:
            flat = np.concatenate([np.frombuffer(buffer, _BUFFERS[code]) for buffer in columns[alias]])
        else:
            flat = _scalars(columns[alias], code)
        inputs[alias] = flat.reshape((count, *shape))
    row_pattern = b"{" + b",".join([b'""' + _regular(shape) for _, _, shape in codes]) + b"}"
    return inputs, _repeated(row_pattern, count)


def _tensor(value: Any, spec: TensorSpec) -> tuple[Array, bytes]:
    code = _CODES[spec.dtype]
    if type(value) is not simdjson.Array:
        return _scalars([value], code).reshape(()), b""
    shape = _shape(value)
    return np.frombuffer(value.as_buffer(of_type=code), _BUFFERS[code]).reshape(shape), _regular(shape)


def _scalars(values: list[Any], code: str) -> Array:
    kinds = set(map(type, values))
    if not kinds <= ({int, float} if code == "d" else {int}):
        raise _Unsure
    return np.array(values, _BUFFERS[code])


def _converted(flat: Array, spec: TensorSpec, *, stand_ins: bool) -> Array:
    dtype = dtypes.of_number(spec.dtype)
    if _CODES[spec.dtype] == "d":
        numbers: np.ndarray[Any, np.dtype[np.float64]] = flat  # type: ignore[assignment]  # what "d" means
        if stand_ins:
            numbers = numbers.copy()
            for number, meant in _NOT_FINITE.items():
                numbers[numbers == number] = meant
        return narrowed(numbers, dtype)
    return _in_range(flat, dtype)


def _in_range(flat: Array, dtype: DType) -> Array:
    limits = np.iinfo(dtype.numpy_name)
    if flat.size and not limits.min <= int(flat.min()) <= int(flat.max()) <= limits.max:
        raise _Unsure
    return cast(flat, dtype)


def _lone(specs: Mapping[str, TensorSpec]) -> TensorSpec:
    if len(specs) != 1:
        raise _Unsure
    return next(iter(specs.values()))


def _plain(spec: TensorSpec) -> TensorSpec:
    if _STRUCTURE.search(spec.alias):
        raise _Unsure
    return spec


def _shape(value: Any) -> tuple[int, ...]:
    sizes: list[int] = []
    while type(value) is simdjson.Array:
        size = len(value)
        if not size or len(sizes) == MAX_RANK:
            raise _Unsure
        sizes.append(size)
        value = value[0]
    return tuple(sizes)


def _regular(shape: tuple[int, ...]) -> bytes:
    """The brackets and commas of a regular nesting: `[[,],[,]]` for (2, 2)."""
    pattern = b""
    for size in reversed(shape):
        pattern = _repeated(pattern, size)
    return pattern


def _repeated(pattern: bytes, count: int) -> bytes:
    return b"[" + (pattern + b",") * (count - 1) + pattern + b"]"
