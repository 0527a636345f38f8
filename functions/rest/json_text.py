"""JSON as RapidJSON parses and prints it: the stock server's error texts show both.

Used for what is wrong or unusual only; the bodies of good requests of numbers go another way
(`functions.rest.json_fast`).

Source: rapidjson reader.h, error/en.h, prettywriter.h (kFormatSingleLineArray), internal/dtoa.h;
tensorflow_serving/util/json_tensor.cc (ParseJson, JsonValueToDebugString).
"""

import re
from typing import Any

import numpy as np
import rapidjson

from functions.rest.json_number import pieces
from functions.web.message import json_string
from loader.status import Code, ServingError

MAX_DEPTH = 512
"""Levels of nesting that are read. RapidJSON recurses once for each: unchecked, a megabyte of brackets would end the
process."""

SHOWN_BYTES = 256
"""Bytes of an offending value after which an error shows no further part of it."""

SHOWN_PART_BYTES = 1024
"""Characters of one string in it; the stock server echoes a string of any size."""

_ERROR = re.compile(r"Parse error at offset (\d+): (.*)", re.DOTALL)
_BOM = b"\xef\xbb\xbf"
_TRAILING = "The document root must not be followed by other values."
# To its end or to that of the text: an attempt that fails would be repeated at every quote inside of it.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = np.zeros(256, np.int8)
_STEP[[ord("["), ord("{")]] = 1
_STEP[[ord("]"), ord("}")]] = -1


class _Decoder(rapidjson.Decoder):
    """Of equal keys the first counts, as `FindMember` finds it."""

    def start_object(self) -> list[tuple[str, Any]]:
        return []

    def end_object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            found.setdefault(key, value)
        return found


_DECODE = _Decoder()
_NATIVE = _Decoder(number_mode=rapidjson.NM_NATIVE | rapidjson.NM_NAN)


def parse_json(body: bytes) -> Any:
    """The value as Python objects: dict, list, str, int, float (also NaN and infinities), bool, None.

    A byte order mark before and text after the value are ignored. Thread-safe.

    Raises:
        ServingError: INVALID_ARGUMENT with the stock server's text; also for nesting deeper than `MAX_DEPTH`, and for
            a body that is not UTF-8 (which the stock server passes on).
    """
    if not body:
        raise _parse_error("The document is empty")
    skipped = len(_BOM) if body.startswith(_BOM) else 0
    document = body[skipped:]
    if _depth(document) > MAX_DEPTH:
        raise _parse_error(f"nesting is deeper than {MAX_DEPTH} levels; send flat lists and reshape in the model")
    try:
        return _decode(document.decode(), skipped)
    except UnicodeDecodeError as error:
        # What is wrong before the first such byte is said first: a body in UTF-16 has no value at offset 0.
        _decode(document.decode("utf-8", "replace"), skipped)
        raise _parse_error(
            f"Invalid encoding in string. at offset: {error.start + skipped}: byte 0x{document[error.start]:02x} is not"
            ' UTF-8; send bytes that are no text as {"b64": "<base64>"}'
        ) from error


def show(value: Any) -> str:
    """A value as error texts show it: pretty-printed by RapidJSON's rules, ending after `SHOWN_BYTES`."""
    if isinstance(value, float):
        # Alone, a number is written as results are; inside of others RapidJSON writes it.
        with np.errstate(over="ignore"):
            narrow = np.float32(value)
        kept = narrow if float(narrow) == value else np.float64(value)
        return pieces(np.array([kept], kept.dtype))[0][0]
    out: list[str] = []
    _write(value, 1, out, SHOWN_BYTES)
    return "".join(out)


def shortened(text: str) -> str:
    """A name as error texts show it: one of megabytes does not come back whole."""
    return text if len(text) <= SHOWN_PART_BYTES else f"{text[:SHOWN_PART_BYTES]}..."


def kind(value: Any) -> str:
    """RapidJSON's name for the type of a value."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "True" if value else "False"
    for python, name in ((dict, "Object"), (list, "Array"), (str, "String")):
        if isinstance(value, python):
            return name
    return "Number"


def _decode(text: str, skipped: int) -> Any:
    try:
        return _DECODE(text)
    except rapidjson.JSONDecodeError as error:
        message, offset = _reason(error)
    except ValueError:
        # An integer of more digits than Python converts. Native numbers have RapidJSON's own words for it.
        try:
            return _NATIVE(text)
        except rapidjson.JSONDecodeError as error:
            message, offset = _reason(error)
    if message == _TRAILING:
        return _DECODE(text.encode()[:offset])
    raise _parse_error(f"{message} at offset: {offset + skipped}")


def _reason(error: Exception) -> tuple[str, int]:
    found = _ERROR.match(str(error))
    return (found[2], int(found[1])) if found else (str(error), 0)


def _depth(document: bytes) -> int:
    """Levels of nesting, 0 where there are few brackets. For text that is not JSON, those up to the error."""
    if len(document.translate(None, _NOT_BRACKETS)) <= MAX_DEPTH:
        return 0
    # Brackets in strings do not nest.
    brackets = _STRING.sub(b"", document).translate(None, _NOT_BRACKETS)
    return int(_STEP[np.frombuffer(brackets, np.uint8)].cumsum(dtype=np.int64).max(initial=0))


def _parse_error(text: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, f"JSON Parse error: {text}")


def _write(value: Any, level: int, out: list[str], room: int) -> int:
    """Appends the text of `value`; returns how much room is left, and stops writing when there is none."""
    if isinstance(value, dict) and value:
        for index, (key, item) in enumerate(value.items()):
            comma = "," if index else "{"
            text = f"{comma}\n{'    ' * level}{json_string(shortened(key)).decode('utf-8', 'replace')}: "
            out.append(text)
            room = _write(item, level + 1, out, room - len(text))
            if room <= 0:
                return room
        text = f"\n{'    ' * (level - 1)}}}"
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            mark = ", " if index else "["
            out.append(mark)
            room = _write(item, level + 1, out, room - len(mark))
            if room <= 0:
                return room
        text = "]"
    else:
        text = _scalar(value)
    out.append(text)
    return room - len(text)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return json_string(shortened(value)).decode("utf-8", "replace")
    if isinstance(value, float):
        return _double(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "{}" if isinstance(value, dict) else str(value)


def _double(value: float) -> str:
    """Grisu2's shortest digits in RapidJSON's layout: `1e30`, `1e-7`, but `100000000000000000000.0`."""
    text = repr(value)
    if text in ("nan", "inf", "-inf"):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[text]
    mantissa, _, exponent = text.partition("e")
    if not exponent:
        return text
    sign = "-" if mantissa[0] == "-" else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    fraction = "" if fraction == "0" else fraction
    power = int(exponent)
    if len(whole) + power <= 21 and power > 0:
        return f"{sign}{(whole + fraction).ljust(1 + power, '0')}.0"
    if -6 < power + 1 <= 0:
        return f"{sign}0.{'0' * -(power + 1)}{whole}{fraction}"
    point = f".{fraction}" if fraction else ""
    return f"{sign}{whole}{point}e{power}"
