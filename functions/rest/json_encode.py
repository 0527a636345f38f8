"""Results as JSON text, laid out as the stock server lays them out.

Rows stand on one line each, columns spread one element to a line; both end as rapidjson's PrettyWriter ends them when
the layout is switched in the middle, which is why a list of predictions closes on a line of its own.

Source: tensorflow_serving/util/json_tensor.cc (MakeRowFormatJsonFromTensors, MakeColumnarFormatJsonFromTensors,
MakeJsonFromClassificationResult, MakeJsonFromRegressionResult); rapidjson's prettywriter.h. Deliberate difference: a
string that is not UTF-8 becomes `{"b64": ...}` where the stock server writes invalid JSON.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

from functions.rest.json_number import pieces
from functions.web.message import json_string
from loader.dtypes import Array
from loader.inference import Classifications, Regressions
from loader.status import Code, ServingError

_INDENT = "    "
_BYTES_SUFFIX = "_bytes"
_ONE_LINE = ("[", ", ", "]")


def encode_predictions(outputs: Mapping[str, Array], *, row: bool) -> bytes:
    """`{"predictions": [...]}` for rows, `{"outputs": ...}` for columns. Pure and thread-safe.

    Args:
        outputs: by alias; strings as object arrays of bytes. Those of an alias that ends in `_bytes` become base64.
        row: whether all outputs share a first dimension and are answered by it.

    Raises:
        ServingError: INVALID_ARGUMENT for outputs that have no rows in common, or no JSON form.
    """
    if not outputs:
        raise _invalid("Cannot convert empty tensor map to JSON")
    if not row:
        return _columns(outputs)
    count = _row_count(outputs)
    if len(outputs) > 1:
        return _rows(outputs, count)
    alias, array = next(iter(outputs.items()))
    texts, numbers = _elements(array, alias, 2 + array.ndim)
    return _single_line("predictions", _filled(_nested(texts, array.shape), numbers))


def encode_classifications(result: Classifications) -> bytes:
    """`{"results": [[["label", score], ...], ...]}`: "" for a model without labels, 0.0 for one without scores."""
    classes, scores = result.classes, result.scores
    shape = scores.shape if scores is not None else classes.shape if classes is not None else (0, 0)
    labels = ['""'] * math.prod(shape) if classes is None else _elements(classes, "", 5)[0]
    values, numbers = (["0.0"] * len(labels), None) if scores is None else pieces(scores)
    if numbers is not None:
        values = ("\n".join(values) % numbers).split("\n")
    pairs = [f"[{label}, {value}]" for label, value in zip(labels, values, strict=True)]
    return _single_line("results", _nested(pairs, shape))


def encode_regressions(result: Regressions) -> bytes:
    """`{"results": [value, ...]}`."""
    texts, numbers = pieces(result.values)
    return f'{{\n{_INDENT}"results": {_filled(_nested(texts, result.values.shape), numbers)}\n}}'.encode()


def _row_count(outputs: Mapping[str, Array]) -> int:
    count = 0
    for alias, array in outputs.items():
        if array.ndim == 0:
            raise _invalid(f"Tensor name: {alias} has no shape information ")
        if array.shape[0] < 1:
            raise _invalid(f"Tensor name: {alias} has invalid batch size: {array.shape[0]}")
        if count and array.shape[0] != count:
            raise _invalid(f"Tensor name: {alias} has inconsistent batch size: {array.shape[0]} expecting: {count}")
        count = array.shape[0]
    return count


def _rows(outputs: Mapping[str, Array], count: int) -> bytes:
    columns = [_cells(array, alias) for alias, array in outputs.items()]
    names = [f"{_INDENT * 3}{_text(alias)}: " for alias in outputs]
    rows = []
    for cells in zip(*columns, strict=True):
        fields = ",\n".join([name + cell for name, cell in zip(names, cells, strict=True)])
        rows.append(f"\n{_INDENT * 2}{{\n{fields}\n{_INDENT * 2}}}")
    assert len(rows) == count  # noqa: S101  _row_count saw to it
    return _single_line("predictions", f"[{','.join(rows)}]")


def _cells(array: Array, alias: str) -> list[str]:
    """The text of each row."""
    texts, numbers = _elements(array, alias, 3 + array.ndim)
    for axis in range(array.ndim - 1, 0, -1):
        texts = _grouped(texts, array.shape, axis, _ONE_LINE)
    return texts if numbers is None else ("\n".join(texts) % numbers).split("\n")


def _single_line(key: str, text: str) -> bytes:
    return f'{{\n{_INDENT}"{key}": {text[:-1]}\n{_INDENT}]\n}}'.encode("utf-8", "surrogateescape")


def _columns(outputs: Mapping[str, Array]) -> bytes:
    if len(outputs) == 1:
        alias, array = next(iter(outputs.items()))
        text = _spread(array, alias, 1)
    else:
        spread = [f"{_INDENT * 2}{_text(alias)}: {_spread(array, alias, 2)}" for alias, array in outputs.items()]
        fields = ",\n".join(spread)
        text = f"{{\n{fields}\n{_INDENT}}}"
    return f'{{\n{_INDENT}"outputs": {text}\n}}'.encode("utf-8", "surrogateescape")


def _spread(array: Array, alias: str, level: int) -> str:
    """A tensor with each element on a line of its own."""
    shape = array.shape
    texts, numbers = _elements(array, alias, level + len(shape) + 1)
    for axis in range(len(shape) - 1, -1, -1):
        inner, outer = _INDENT * (level + axis + 1), _INDENT * (level + axis)
        if shape[axis]:
            texts = _grouped(texts, shape, axis, (f"[\n{inner}", f",\n{inner}", f"\n{outer}]"))
        else:
            texts = ["[]"] * math.prod(shape[:axis])
    return _filled(texts[0], numbers)


def _elements(array: Array, alias: str, level: int) -> tuple[list[str], tuple[Any, ...] | None]:
    """As `json_number.pieces`, for any dtype; `level` is how deep the members of an object among them stand."""
    if array.dtype != object:
        return pieces(array)
    values = array.ravel().tolist()
    if not alias.endswith(_BYTES_SUFFIX):
        try:
            return [_text(value.decode()) for value in values], None
        except UnicodeDecodeError:
            return [_text_or_base64(value, level) for value in values], None
    return [_base64(value, level) for value in values], None


def _text(text: str) -> str:
    return json_string(text).decode()


def _text_or_base64(value: bytes, level: int) -> str:
    # JSON text is UTF-8: what is not has no other form.
    try:
        return _text(value.decode())
    except UnicodeDecodeError:
        return _base64(value, level)


def _base64(value: bytes, level: int) -> str:
    return f'{{\n{_INDENT * level}"b64": "{base64.b64encode(value).decode()}"\n{_INDENT * (level - 1)}}}'


def _nested(texts: Sequence[str], shape: Sequence[int]) -> str:
    """Elements in brackets by `shape`, on one line; the rank is at least 1."""
    parts = list(texts)
    for axis in range(len(shape) - 1, -1, -1):
        parts = _grouped(parts, shape, axis, _ONE_LINE)
    return parts[0]


def _grouped(texts: Sequence[str], shape: Sequence[int], axis: int, marks: tuple[str, str, str]) -> list[str]:
    """Every `shape[axis]` neighbours as one list; `marks` are its start, its comma and its end."""
    size, count = shape[axis], math.prod(shape[:axis])
    start, comma, end = marks
    if count == 1:
        return [f"{start}{comma.join(texts)}{end}"]
    return [f"{start}{comma.join(texts[at * size : (at + 1) * size])}{end}" for at in range(count)]


def _filled(text: str, numbers: tuple[Any, ...] | None) -> str:
    return text if numbers is None else text % numbers


def _invalid(text: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, text)
