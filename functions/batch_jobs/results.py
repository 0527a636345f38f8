"""What writers take: the rows of one batch with their results, column by column, in the order of the file."""

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from functions.batch_jobs.rows import Column
from loader.dtypes import Array


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of the results, the same in all parts.

    Attributes:
        kept: columns of the input that are written as they are, in this order and before the outputs.
        outputs: output alias -> the name of its column, in this order.
        types: Arrow types of kept columns, where the input has them.
    """

    kept: tuple[str, ...]
    outputs: Mapping[str, str]
    types: Mapping[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """All columns."""
        return (*self.kept, *self.outputs.values())


class Writer(Protocol):
    """One part on its way out. One thread at a time."""

    def write(self, columns: Mapping[str, Column], count: int) -> None:
        """More rows: `count` values in each column of the schema.

        Raises:
            ServingError: INVALID_ARGUMENT: the format cannot hold them.
        """
        ...

    def close(self) -> None:
        """Ends the part; its bytes depend on the rows alone."""
        ...


def plain(value: Any) -> Any:
    """A value of a row for JSON: floats that JSON has not as protobuf's words, bytes as text or `{"b64": ...}`."""
    if isinstance(value, float):
        return value if math.isfinite(value) else _word(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, str):
        # A cell that is no UTF-8 was read with its bytes kept: it is bytes then.
        return value if value.isascii() or _is_text(value) else plain(text_bytes(value))
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {text_bytes(str(name)).decode(errors="replace"): plain(each) for name, each in value.items()}
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    return str(value)


def plain_column(column: Column) -> list[Any]:
    """A column's values for JSON. A float32 0.1 reads 0.1, not 0.10000000149011612."""
    if isinstance(column, list):
        return [_plain_array(value) if isinstance(value, np.ndarray) else plain(value) for value in column]
    found: list[Any] = _plain_array(column)
    return found


def _plain_array(array: Array) -> Any:
    kind = array.dtype.kind
    if kind in "biu":
        return array.tolist()
    if kind == "O":
        return plain(array.tolist())
    if kind == "c":
        return plain(array.astype(str).tolist())
    if kind != "f":
        array = array.astype(np.float32)  # bfloat16 and smaller
    if array.dtype.itemsize < 8:
        flat = [float(text) for text in array.ravel().astype("U32").tolist()]
        array = np.array(flat).reshape(array.shape)
    listed = array.tolist()
    return listed if np.isfinite(array).all() else plain(listed)


def _word(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def text_bytes(value: str) -> bytes:
    """The bytes of a text as it was read."""
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")  # half a pair, as JSON can spell it


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
