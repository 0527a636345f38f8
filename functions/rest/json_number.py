"""Numbers as JSON text, many at a time, in the stock server's format.

A finite float is written with six digits (`%.6g`) if those say exactly that value, else with as many as the type needs
(`%.9g` for float, `%.17g` for double), and always looks like a float: `2.0`, `1e+06`, `0.333333343`. What is not finite
is written bare: `NaN`, `Infinity`, `-Infinity`. What is too small for a normal number of its type is zero: the stock
server's threads flush it (`tsl::port::ScopedFlushDenormal`), and so do the threads of TensorFlow's own pools.

Few numbers are tried in text, one by one. Of many, numpy chooses a `%` format for each, and one `%` operation writes
them all.

Source: tensorflow_serving/util/json_tensor.cc (WriteDecimal, AddSingleValueAndAdvance).
"""

import math
import struct
from typing import Any

import numpy as np

from loader import dtypes
from loader.dtypes import Array
from loader.status import Code, ServingError

FEW = 64
"""Up to so many floats are tried in text: the numpy way has a fixed cost of some 20 us."""
FEWEST = 12
"""Up to so many are not worth one numpy operation."""

Doubles = np.ndarray[Any, np.dtype[np.float64]]

_SIX, _NINE, _SEVENTEEN, _WHOLE = "%.6g", "%.9g", "%.17g", "%.1f"
# These take their argument and print nothing of it.
_NAN, _INFINITY, _MINUS_INFINITY = "NaN%.0s", "Infinity%.0s", "-Infinity%.0s"
_LONG_WHOLE = {_NINE: 1e9, _SEVENTEEN: 1e17}
_TINY = {np.dtype(kind): float(np.finfo(kind).tiny) for kind in (np.float32, np.float64)}
_FLOAT32 = struct.Struct("f")

# The bits that a double has and a float32 has not, and their middle.
_BELOW_FLOAT32, _HALF_OF_FLOAT32 = np.uint64(0x1FFFFFFF), np.uint64(0x10000000)

# Numbers of these decimal exponents become whole six-digit numbers, and back, by a power of ten up to the 22nd: the
# last that a double holds exactly. Rows of the tables: below the range, one for each exponent, above it.
_EXPONENTS = range(-16, 22)
_EDGES = np.array([float(f"1e{exponent}") for exponent in (*_EXPONENTS, 22)])
_UP = np.array([1.0, *(10.0 ** max(5 - exponent, 0) for exponent in _EXPONENTS), 1.0])
_DOWN = np.array([1.0, *(10.0 ** max(exponent - 5, 0) for exponent in _EXPONENTS), 1.0])


def pieces(array: Array) -> tuple[list[str], tuple[Any, ...] | None]:
    """The elements in row-major order, as JSON text.

    Returns:
        The texts and None; or a `%` format for each element, and the values that one `%` puts into all of them.

    Raises:
        ServingError: INVALID_ARGUMENT for a dtype that has no JSON form.
    """
    flat = array.ravel()
    if flat.dtype == np.bool_:
        return ["true" if value else "false" for value in flat.tolist()], None
    if flat.dtype.kind in "iu":
        return [str(value) for value in flat.tolist()], None
    if flat.dtype == np.float64:
        return _floats(flat, _SEVENTEEN)
    if flat.dtype != np.float32:
        dtype = dtypes.of_numpy(flat.dtype)
        if dtype not in (dtypes.HALF, dtypes.BFLOAT16):
            raise ServingError(Code.INVALID_ARGUMENT, f"Failed to write JSON value for tensor type: {dtype.name}")
        # Nine digits tell float32 numbers apart, so they do for the narrower types.
        with np.errstate(invalid="ignore"):
            flat = flat.astype(np.float32)
    return _floats(flat, _NINE)


def flush(array: Array) -> Array:
    """A float32 or float64 array with zeros, signs kept, for what is too small to be a normal number of its type."""
    tiny = _TINY[array.dtype]
    if array.size <= FEWEST and not any(0 < abs(number) < tiny for number in array.ravel().tolist()):
        return array
    small = np.abs(array) < tiny
    if small.any():
        # Zeros are common, and what is left without them is rare.
        small &= array != 0
    if not small.any():
        return array
    return np.where(small, np.copysign(array.dtype.type(0), array), array)


def _floats(values: Array, long_format: str) -> tuple[list[str], tuple[Any, ...] | None]:
    if values.size <= FEWEST:
        tiny = _TINY[values.dtype]
        return [_one(number, long_format, tiny) for number in values.tolist()], None
    values = flush(values)
    if values.size <= FEW:
        return _in_text(values, long_format), None
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        wide = values.astype(np.float64, copy=False)
        size = np.abs(wide)
        six = _says_all_in_six(values, wide, size)
        chosen = np.where(six, _SIX, long_format).astype(object)
        whole = wide == np.rint(wide)
    if whole.any():
        chosen[whole & np.where(six, size < 1e6, size < _LONG_WHOLE[long_format])] = _WHOLE
    if not np.isfinite(wide).all():
        chosen[np.isnan(wide)] = _NAN
        chosen[np.isposinf(wide)] = _INFINITY
        chosen[np.isneginf(wide)] = _MINUS_INFINITY
    return chosen.tolist(), tuple(wide.tolist())


def _one(number: float, long_format: str, tiny: float) -> str:
    if not math.isfinite(number):
        return _not_finite(number)
    if -tiny < number < tiny:
        return "-0.0" if math.copysign(1.0, number) < 0 else "0.0"
    text = _SIX % number
    said = float(text)
    if (_FLOAT32.unpack(_FLOAT32.pack(said))[0] if long_format is _NINE else said) != number:
        text = long_format % number
    return text if "." in text or "e" in text else text + ".0"


def _in_text(values: Array, long_format: str) -> list[str]:
    numbers = values.tolist()
    texts = [_SIX % number for number in numbers]
    same = (np.array(texts, np.float64).astype(values.dtype, copy=False) == values).tolist()
    for index, number in enumerate(numbers):
        text = texts[index] if same[index] else long_format % number
        if not math.isfinite(number):
            text = _not_finite(number)
        elif "." not in text and "e" not in text:
            text += ".0"
        texts[index] = text
    return texts


def _not_finite(number: float) -> str:
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _says_all_in_six(values: Array, wide: Doubles, size: Doubles) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Whether `%.6g` reads back as the value itself."""
    place = np.searchsorted(_EDGES, size, side="right")
    up, down = _UP[place], _DOWN[place]
    digits = np.rint(wide * up / down)
    # Six digits are exact, and so is the power of ten: this division rounds as reading the text does.
    read = digits / up * down
    six: np.ndarray[Any, np.dtype[np.bool_]] = read.astype(values.dtype, copy=False) == values
    unsure = (place == 0) | (place == len(_EDGES))
    if values.dtype == np.float32:
        # Halfway between two float32 the text may round to the other one than its nearest double.
        unsure |= (read.view(np.uint64) & _BELOW_FLOAT32) == _HALF_OF_FLOAT32
    if unsure.any():
        # Those are tried in text; they are rare, but for zeros.
        unsure &= (size != 0) & np.isfinite(wide)
        six |= size == 0
        for index in np.flatnonzero(unsure).tolist():
            six[index] = values.dtype.type(float(_SIX % wide[index])) == values[index]
    return six
