"""One batch through the model: its rows come back in order, and what the model refuses is found row by row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from functions.batch_jobs.columns import Fed
from functions.batch_jobs.predictor import Predictor
from functions.batch_jobs.results import Schema
from functions.batch_jobs.rows import Column, Fault, one_line
from loader.dtypes import Array
from loader.signature import Signature
from loader.status import Code, ServingError

ROWS_FAULT = (Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE)
"""What a model answers because of the rows that it got: the batch is halved until the bad ones are alone."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A batch with its results.

    Attributes:
        count: rows of the batch, bad ones included.
        good: rows with results.
        columns: the columns of the schema, `good` values each.
        faults: the bad rows, in order.
        versions: of the model that answered.
    """

    count: int
    good: int
    columns: Mapping[str, Column]
    faults: Sequence[Fault]
    versions: frozenset[int]


class Asking:
    """Sends batches to the model. Safe from any thread.

    Args:
        predictor: who answers.
        schema: the columns of the results.
        max_errors: bad rows that the job may have: looking for more of them in one batch is of no use.

    Attributes:
        fixed_rows: rows that the signature wants in each batch; 0 for any number.
    """

    def __init__(self, predictor: Predictor, schema: Schema, max_errors: int) -> None:
        self._predictor = predictor
        self._schema = schema
        self._max_errors = max_errors
        self.fixed_rows = fixed_rows(predictor.signature)

    def answer(self, fed: Fed) -> Answered:
        """The batch with its results.

        Raises:
            ServingError: what no row is to blame for.
        """
        found: list[tuple[Array, Mapping[str, Array]]] = []
        faults: dict[int, str] = {}
        versions: set[int] = set()
        for group in fed.groups:
            self._ask(group.places, group.inputs, found, faults, versions)
        if len(found) == 1:
            places, outputs = found[0]
            columns: dict[str, Column] = dict(outputs)
        else:
            places = np.concatenate([places for places, _ in found]) if found else np.empty(0, np.int64)
            order = np.argsort(places)
            places = places[order]
            columns = {alias: _joined([one[alias] for _, one in found], order) for alias in self._schema.outputs}
        good = len(places)
        kept = fed.kept if good == len(fed.numbers) else {name: _taken(fed.kept[name], places) for name in fed.kept}
        named = {name: columns[alias] for alias, name in self._schema.outputs.items()}
        bad = [Fault(fed.numbers[place], fed.lines[place], reason) for place, reason in faults.items()]
        all_faults = sorted([*fed.faults, *bad], key=lambda fault: fault.row)
        return Answered(fed.count, good, {**kept, **named}, all_faults, frozenset(versions))

    def _ask(
        self,
        places: Array,
        inputs: Mapping[str, Array],
        found: list[tuple[Array, Mapping[str, Array]]],
        faults: dict[int, str],
        versions: set[int],
    ) -> None:
        count = len(places)
        try:
            outputs = self._run(inputs, count, versions)
        except ServingError as error:
            if error.code not in ROWS_FAULT:
                raise
            if count == 1:
                faults[int(places[0])] = one_line(error.message)
                return
        else:
            found.append((places, outputs))
            return
        half = count // 2
        for part in (slice(0, half), slice(half, count)):
            if len(faults) <= self._max_errors:
                self._ask(places[part], {name: one[part] for name, one in inputs.items()}, found, faults, versions)

    def _run(self, inputs: Mapping[str, Array], count: int, versions: set[int]) -> dict[str, Array]:
        given = self.fixed_rows or count
        if given > count:
            # The last row again: a model that takes so many rows and no others gets them.
            inputs = {
                name: np.concatenate([one, np.repeat(one[-1:], given - count, 0)]) for name, one in inputs.items()
            }
        answer = self._predictor.predict(inputs)
        if answer.version is not None:
            versions.add(answer.version)
        outputs = {}
        for alias in self._schema.outputs:
            array = answer.outputs.get(alias)
            if array is None or array.ndim == 0 or array.shape[0] != given:
                shape = "nothing" if array is None else f"shape {list(array.shape)}"
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    f"output {alias!r}: found {shape} for {given} rows, wanted one for each; --select leaves it out",
                )
            outputs[alias] = array[:count]
        return outputs


def fixed_rows(signature: Signature) -> int:
    """Rows that a signature wants in each batch; 0 for any number.

    Raises:
        ServingError: INVALID_ARGUMENT: its inputs want different numbers.
    """
    found = {spec.shape[0] for spec in signature.inputs.values() if spec.shape and spec.shape[0] > 0}
    if len(found) > 1:
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"signature {signature.name!r} takes {sorted(found)} rows in its inputs: a job feeds each the same number",
        )
    return found.pop() if found else 0


def _joined(arrays: Sequence[Array], order: Array) -> Column:
    """The results of groups in the order of the rows; a list where their shapes differ."""
    if not arrays:
        return []
    if len({array.shape[1:] for array in arrays}) == 1:
        joined: Array = np.concatenate(arrays)[order]
        return joined
    listed = [row for array in arrays for row in array]
    return [listed[place] for place in order.tolist()]


def _taken(column: Column, places: Array) -> Column:
    chosen: list[int] = places.tolist()
    return [column[place] for place in chosen] if isinstance(column, list) else column[chosen]
