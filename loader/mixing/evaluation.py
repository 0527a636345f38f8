"""Expressions over arrays: every function works on each row by itself, all rows at once.

Arithmetic is done in float64, whatever the types of the tensors, so that a row's result does not depend on the rows
beside it. A value that is only passed on keeps its type. Where two values have different ranks, the one with fewer
dimensions gets more of size 1 at its end: `max(x)` of [rows] goes with `x` of [rows, n].
"""

import numpy as np
from numpy.typing import NDArray

from loader.dtypes import Array
from loader.mixing import row_functions
from loader.mixing.declaration import Tensor
from loader.mixing.expression import Apply, Constant, Expression, Item
from loader.mixing.row_functions import FUNCTIONS, kind, unfit
from loader.mixing.rows import Rows
from loader.status import Code, ServingError


def evaluate(expression: Expression, rows: Rows) -> Array:
    """The value of each row: `[rows.count, ...]`.

    Raises:
        ServingError: FAILED_PRECONDITION where the values do not fit the expression (text for a number, a column that
            is not there, shapes that do not go together), RESOURCE_EXHAUSTED for a result that is too large.
    """
    with np.errstate(all="ignore"):
        return _value(expression, rows)


def conditions(expression: Expression, rows: Rows) -> NDArray[np.bool_]:
    """Which rows it holds for: bool[rows.count]. Errors as `evaluate`."""
    found = evaluate(expression, rows)
    if found.dtype != np.bool_ or found.size != rows.count:
        raise unfit(
            f"a condition gives {found.dtype} of shape {list(found.shape)}, wanted one truth value for each row"
        )
    return found.reshape(rows.count).astype(np.bool_, copy=False)


def conform(name: str, tensor: Tensor, array: Array) -> Array:
    """An output as it is declared.

    Raises:
        ServingError: FAILED_PRECONDITION for a value that is of another kind, does not fit the type, or has another
            shape.
    """
    wanted = tensor.shape
    if len(array.shape) != len(wanted) or any(
        size not in (-1, found) for size, found in zip(wanted[1:], array.shape[1:], strict=True)
    ):
        raise unfit(f"output {name!r} has shape {list(array.shape)}, wanted {list(wanted)}")
    return cast(
        f"output {name!r}", np.ascontiguousarray(array), np.dtype(object if tensor.dtype == "string" else tensor.dtype)
    )


def nothing(tensor: Tensor) -> Array:
    """An output of no rows."""
    return np.empty((0, *(max(0, size) for size in tensor.shape[1:])), _dtype(tensor))


def _dtype(tensor: Tensor) -> "np.dtype[np.generic]":
    return np.dtype(object if tensor.dtype == "string" else tensor.dtype)


def cast(what: str, array: Array, dtype: "np.dtype[np.generic]") -> Array:
    """The same values in another type; `what` names them in errors.

    Raises:
        ServingError: FAILED_PRECONDITION where the values would change: a fraction or a number out of range as an
            integer, a number as a truth value, text as a number.
    """
    if array.dtype == dtype:
        return array
    if (array.dtype.kind == "O") != (dtype.kind == "O") or dtype.kind == "b":
        raise unfit(f"{what}: found {kind(array)}, wanted {dtype if dtype.kind != 'O' else 'text'}")
    with np.errstate(all="ignore"):
        changed = array.astype(dtype)
        if dtype.kind in "iu" and not np.array_equal(changed.astype(np.float64), array.astype(np.float64)):
            raise unfit(f"{what}: a value does not fit into {dtype}")
    return changed


def _value(expression: Expression, rows: Rows, held: int = 0) -> Array:
    """The value; `held` is the size in bytes of what the functions around this one have of their arguments already."""
    if isinstance(expression, Constant):
        return _constant(expression.value, rows.count)
    if isinstance(expression, Item):
        return _item(_value(expression.value, rows, held), expression)
    if isinstance(expression, Apply):
        values = []
        for argument in expression.arguments:
            value = _value(argument, rows, held)
            if isinstance(argument, Apply):  # other values are there anyway
                held += value.nbytes
                if held > row_functions.MAX_VALUE_BYTES:
                    raise ServingError(
                        Code.RESOURCE_EXHAUSTED,
                        f"{expression.function}: its arguments have more than {row_functions.MAX_VALUE_BYTES} bytes",
                    )
            values.append(value)
        return FUNCTIONS[expression.function](expression.function, values)
    return rows.value(expression)


def _constant(value: float | bool | bytes, count: int) -> Array:
    dtype = np.dtype(object) if isinstance(value, bytes) else np.dtype(type(value))
    whole = np.empty(count, dtype)
    whole[:] = value
    return whole


def _item(array: Array, item: Item) -> Array:
    columns = array.shape[1] if array.ndim > 1 else 0
    if max(item.start + 1, item.stop or 0) > columns:
        place = f"{item.start}" if item.stop is None else f"{item.start}:{item.stop}"
        raise unfit(f"[{place}] of a value of shape {list(array.shape)}: there are {columns} columns")
    return array[:, item.start] if item.stop is None else array[:, item.start : item.stop]
