"""The values of a batch's rows: gathered for a branch, scattered back in order.

Every value has the rows as its first dimension. Thread safety: one request owns its rows.
"""

from collections.abc import Mapping

import numpy as np

from loader.dtypes import Array
from loader.mixing.expression import Reference
from loader.status import Code, ServingError


class Rows:
    """What is known of some rows.

    Attributes:
        count: how many rows.
    """

    def __init__(self, count: int, values: Mapping[Reference, Array]) -> None:
        """Args: `values` may grow meanwhile: what a step gives is put there."""
        self.count = count
        self._values = values

    def value(self, reference: Reference) -> Array:
        """The values of these rows, in their order."""
        return self._values[reference]

    def take(self, places: Array) -> "Rows":
        """The rows at these places (int64[n], ascending); nothing is copied before it is read."""
        return self if len(places) == self.count else _Taken(self, places)


class _Taken(Rows):
    def __init__(self, whole: Rows, places: Array) -> None:
        super().__init__(len(places), {})
        self._whole = whole
        self._places = places
        self._kept: dict[Reference, Array] = {}

    def value(self, reference: Reference) -> Array:
        kept = self._kept.get(reference)
        if kept is None:
            kept = self._kept[reference] = self._whole.value(reference)[self._places]
        return kept


def scatter(count: int, parts: "list[tuple[Array, Array]]") -> Array:
    """One array of `count` rows from several: each part has the places of its rows, and their values.

    The parts cover every place once. Numbers of different types meet in the type that holds both.

    Raises:
        ServingError: FAILED_PRECONDITION where the parts' rows are of different shapes, or text beside numbers.
    """
    filled = [(places, values) for places, values in parts if len(places)]
    if len(filled) == 1:
        return filled[0][1]
    first = filled[0][1]
    for _, values in filled[1:]:
        if values.shape[1:] != first.shape[1:]:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                f"rows of shape {list(first.shape[1:])} and of shape {list(values.shape[1:])} cannot be one output",
            )
    whole = np.empty((count, *first.shape[1:]), common_type([values for _, values in filled]))
    for places, values in filled:
        whole[places] = values
    return whole


def common_type(arrays: "list[Array]") -> "np.dtype[np.generic]":
    """The type that holds the values of all; FAILED_PRECONDITION for text beside something else."""
    texts = [array.dtype.kind == "O" for array in arrays]
    if any(texts):
        if not all(texts):
            raise ServingError(Code.FAILED_PRECONDITION, "text and numbers cannot be one output")
        return np.dtype(object)
    try:
        return np.result_type(*[array.dtype for array in arrays])
    except TypeError:
        names = ", ".join(str(array.dtype) for array in arrays)
        raise ServingError(Code.FAILED_PRECONDITION, f"these types have no common one: {names}") from None
