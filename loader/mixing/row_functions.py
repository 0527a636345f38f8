"""The functions of expressions, over all rows at once; see `loader.mixing.evaluation`.

Each takes its own name, for errors, and its arguments; it works on each row by itself. Limits: `MAX_VALUE_BYTES` for
each result, known before it is computed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loader.dtypes import Array
from loader.mixing.rows import common_type
from loader.status import Code, ServingError

MAX_VALUE_BYTES = 256 << 20
"""Of the result of one function, and of all results together that one expression holds at a time."""

_WIDTH = 8


def unfit(text: str) -> ServingError:
    """A value does not fit what the mix does with it."""
    return ServingError(Code.FAILED_PRECONDITION, text)


Function = Callable[[str, list[Array]], Array]
Numbers = NDArray[np.float64]
Truths = NDArray[np.bool_]


def kind(array: Array) -> str:
    """The type of its elements, for errors."""
    return "text" if array.dtype.kind == "O" else str(array.dtype)


def _numbers(name: str, array: Array) -> Numbers:
    if array.dtype.kind in "biuf" or array.dtype.name in ("bfloat16", "float8_e5m2", "float8_e4m3fn"):
        return array.astype(np.float64)
    raise unfit(f"{name} takes numbers, found {kind(array)}")


def _truths(name: str, array: Array) -> Truths:
    if array.dtype != np.bool_:
        raise unfit(f"{name} takes truth values, found {kind(array)}")
    return array.astype(np.bool_, copy=False)


def _together(name: str, values: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """The same values with the same shape."""
    if len({value.shape for value in values}) == 1:
        return [*values]
    rank = max(value.ndim for value in values)
    aligned = [value.reshape(value.shape + (1,) * (rank - value.ndim)) for value in values]
    try:
        shape = np.broadcast_shapes(*[value.shape for value in aligned])
    except ValueError:
        shapes = ", ".join(str(list(value.shape)) for value in values)
        raise unfit(f"{name}: these shapes do not go together: {shapes}") from None
    _fits(name, shape)
    return [np.broadcast_to(value, shape) for value in aligned]


def _fits(name: str, shape: Sequence[int]) -> None:
    if math.prod(shape) * _WIDTH > MAX_VALUE_BYTES:
        raise ServingError(
            Code.RESOURCE_EXHAUSTED, f"{name}: a result of shape {list(shape)} has more than {MAX_VALUE_BYTES} bytes"
        )


def _columns(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """All of each row beside each other: [rows, n], n above 0."""
    flat = np.ascontiguousarray(array).reshape(array.shape[0], math.prod(array.shape[1:]))
    if flat.shape[1] == 0:
        raise unfit(f"{name} of no values: found shape {list(array.shape)}")
    return flat


def _elementwise(compute: Callable[[Numbers], Any]) -> Function:
    return lambda name, values: np.asarray(compute(_numbers(name, values[0])))


def _pairwise(compute: Callable[[Any, Any], Any]) -> Function:
    def apply(name: str, values: list[Array]) -> Array:
        left, right = _together(name, [_numbers(name, value) for value in values])
        return np.asarray(compute(left, right))

    return apply


def _logical(compute: Callable[[Any, Any], Any]) -> Function:
    def apply(name: str, values: list[Array]) -> Array:
        left, right = _together(name, [_truths(name, value) for value in values])
        return np.asarray(compute(left, right))

    return apply


def _equality(compute: Callable[[Any, Any], Any]) -> Function:
    def apply(name: str, values: list[Array]) -> Array:
        if any(value.dtype.kind == "O" for value in values):
            common_type(values)
            left, right = _together(name, values)
        else:
            left, right = _together(name, [_numbers(name, value) for value in values])
        return np.asarray(compute(left, right), np.bool_)

    return apply


def _reduction(compute: Callable[[Numbers], Any]) -> Function:
    return lambda name, values: np.asarray(compute(_columns(name, _numbers(name, values[0]))))


def _extreme(reduce: Function, pair: Callable[[Any, Any], Any]) -> Function:
    """Of each row's values with one argument; of several arguments element by element."""

    def apply(name: str, values: list[Array]) -> Array:
        if len(values) == 1:
            return reduce(name, values)
        best, *rest = _together(name, [_numbers(name, value) for value in values])
        for other in rest:
            best = pair(best, other)
        return np.asarray(best)

    return apply


def _average(name: str, values: list[Array]) -> Array:
    first, *rest = _together(name, [_numbers(name, value) for value in values])
    total: NDArray[Any] = first
    for value in rest:
        total = total + value
    return np.asarray(np.divide(total, len(values)))


def _concat(name: str, values: list[Array]) -> Array:
    dtype = common_type(values)
    parts = [value.reshape(-1, 1) if value.ndim == 1 else value for value in values]
    shapes = {(part.ndim, part.shape[:-1]) for part in parts}
    if len(shapes) > 1:
        raise unfit(f"{name}: these shapes do not go together: {', '.join(str(list(v.shape)) for v in values)}")
    _fits(name, (*parts[0].shape[:-1], sum(part.shape[-1] for part in parts)))
    return np.concatenate(parts, axis=-1).astype(dtype, copy=False)


def _if(name: str, values: list[Array]) -> Array:
    dtype = common_type(values[1:])
    where, yes, no = _together(name, values)
    return np.asarray(np.where(_truths(name, where), yes, no), dtype)


def _vote(name: str, values: list[Array]) -> Array:
    """What most of them say; of equals the one that is named first."""
    dtype = common_type(values)
    votes = [vote.astype(dtype, copy=False) for vote in _together(name, values)]
    _fits(name, (len(votes), *votes[0].shape))
    counts = np.zeros((len(votes), *votes[0].shape), np.int8)
    for place, vote in enumerate(votes):
        for other in votes:
            counts[place] += np.asarray(vote == other, np.bool_)
    winner = np.argmax(counts, axis=0)
    chosen = votes[0]
    for place, vote in enumerate(votes):
        chosen = np.where(winner == place, vote, chosen)
    return np.asarray(chosen, dtype)


def _last(name: str, array: Array) -> Numbers:
    """Numbers whose last dimension is not the rows and not empty."""
    numbers = _numbers(name, array)
    if numbers.ndim < 2 or numbers.shape[-1] == 0:
        raise unfit(f"{name} takes a list of numbers for each row, found shape {list(array.shape)}")
    return np.ascontiguousarray(numbers)


def _argmax(name: str, values: list[Array]) -> Array:
    return np.asarray(np.argmax(_last(name, values[0]), axis=-1), np.int64)


def _softmax(name: str, values: list[Array]) -> Array:
    numbers = _last(name, values[0])
    powers: Numbers = np.exp(numbers - numbers.max(axis=-1, keepdims=True))
    return np.asarray(np.divide(powers, powers.sum(axis=-1, keepdims=True)))


def _entropy(columns: Numbers) -> Array:
    # 0 log 0 is 0; what is below 0 is no probability and gives NaN.
    logs = np.where(columns == 0, 0, np.log(np.where(columns == 0, 1, columns)))
    return np.asarray(np.negative((columns * logs).sum(axis=1)))


def _margin(columns: Numbers) -> Array:
    if columns.shape[1] == 1:
        return columns[:, 0]
    best = np.sort(columns, axis=1)
    return np.subtract(best[:, -1], best[:, -2])


def _any(name: str, values: list[Array]) -> Array:
    return np.asarray(_columns(name, _truths(name, values[0])).any(axis=1))


def _all(name: str, values: list[Array]) -> Array:
    return np.asarray(_columns(name, _truths(name, values[0])).all(axis=1))


FUNCTIONS: Mapping[str, Function] = {
    "+": _pairwise(np.add),
    "-": _pairwise(np.subtract),
    "*": _pairwise(np.multiply),
    "/": _pairwise(np.divide),
    "<": _pairwise(np.less),
    "<=": _pairwise(np.less_equal),
    ">": _pairwise(np.greater),
    ">=": _pairwise(np.greater_equal),
    "==": _equality(np.equal),
    "!=": _equality(np.not_equal),
    "and": _logical(np.logical_and),
    "or": _logical(np.logical_or),
    "not": lambda name, values: np.logical_not(_truths(name, values[0])),
    "negative": _elementwise(np.negative),
    "abs": _elementwise(np.abs),
    "all": _all,
    "any": _any,
    "argmax": _argmax,
    "average": _average,
    "concat": _concat,
    "entropy": _reduction(_entropy),
    "exp": _elementwise(np.exp),
    "if": _if,
    "log": _elementwise(np.log),
    "margin": _reduction(_margin),
    "max": _extreme(_reduction(lambda columns: columns.max(axis=1)), np.maximum),
    "mean": _reduction(lambda columns: columns.mean(axis=1)),
    "min": _extreme(_reduction(lambda columns: columns.min(axis=1)), np.minimum),
    "round": _elementwise(np.round),
    "softmax": _softmax,
    "sqrt": _elementwise(np.sqrt),
    "sum": _reduction(lambda columns: columns.sum(axis=1)),
    "vote": _vote,
}
"""By the names of `loader.mixing.vocabulary`."""
