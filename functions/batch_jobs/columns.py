"""Columns of files become inputs of a signature: by name, cast to its types and shapes, wrong rows told apart."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from functions.batch_jobs.rows import MISSING, VALUE, Column, Fault, Rows, one_line
from functions.client.values import cast
from loader import dtypes
from loader.dtypes import Array
from loader.signature import Signature, TensorSpec
from loader.status import Code, ServingError

_SPECIAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_TRUTHS = {"true": True, "false": False, "1": True, "0": False}
_MAX_NAMED = 20
"""Columns that a message names."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that can be fed together.

    Attributes:
        places: of each row, its place among the good rows of its batch.
        inputs: by alias, a row of the model's batch for each of them.
    """

    places: Array
    inputs: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Fed:
    """A batch of rows, ready for the model.

    Attributes:
        count: rows of the batch, bad ones included.
        numbers, lines: of the good rows, as `Rows` has them.
        kept: the columns that go to the results.
        groups: the good rows; several where their shapes differ.
        faults: the bad rows.
    """

    count: int
    numbers: Sequence[int]
    lines: Sequence[int]
    kept: Mapping[str, Column]
    groups: Sequence[Group]
    faults: Sequence[Fault]


class Feeding:
    """Knows which columns feed which inputs. Immutable; safe from any thread.

    Args:
        signature: the model's.
        mapping: input -> columns, where the caller names them; several columns stand side by side in one input.
        kept: columns that go to the results as they are.
        columns: of the file; None where each row names its own.
        is_text: see `Reader.is_text`.
        records: whether rows without named columns are serialised records (TFRecord).

    Attributes:
        sources: input -> columns.
        wanted: all columns that are read.

    Raises:
        ServingError: INVALID_ARGUMENT: inputs without a column, or columns that are not there.
    """

    def __init__(
        self,
        signature: Signature,
        mapping: Mapping[str, Sequence[str]],
        kept: Sequence[str],
        columns: Sequence[str] | None,
        *,
        is_text: bool,
        records: bool = False,
    ) -> None:
        self._specs = {alias: spec for alias, spec in signature.inputs.items() if alias not in signature.defaults}
        self._specs |= {alias: signature.inputs[alias] for alias in mapping if alias in signature.inputs}
        for alias in signature.defaults:
            if columns is not None and alias in columns:
                self._specs[alias] = signature.inputs[alias]
        self._is_text = is_text
        self._kept = tuple(kept)
        unknown = sorted(set(mapping) - set(signature.inputs))
        if unknown:
            raise _invalid(f"--column: no input is named {unknown}: wanted {sorted(signature.inputs)}")
        scalars = [alias for alias, spec in self._specs.items() if spec.shape == ()]
        if scalars:
            raise _invalid(f"input {scalars[0]!r} takes one value for all rows, no batch: a job cannot feed it")
        self.sources = self._sources(mapping, columns, records=records)
        # A JSON line may be the value of the one input itself.
        self._bare = columns is None and not records and len(self._specs) == 1
        named = [name for names in self.sources.values() for name in names]
        self.wanted = tuple(dict.fromkeys([*named, *kept, *([VALUE] if self._bare else [])]))
        lacking = [name for name in self.wanted if columns is not None and name not in columns]
        if lacking:
            raise _invalid(f"no column {_shown(lacking)}: the file has {_shown(columns or ())} (--column INPUT=COLUMN)")

    def _sources(
        self, mapping: Mapping[str, Sequence[str]], columns: Sequence[str] | None, *, records: bool
    ) -> dict[str, tuple[str, ...]]:
        found = {alias: tuple(mapping.get(alias, (alias,))) for alias in self._specs}
        if len(self._specs) != 1 or mapping:
            return found
        alias, spec = next(iter(self._specs.items()))
        if records:
            # A model that takes one text for each row takes the record itself: a serialised tf.Example, a picture.
            is_bytes = spec.dtype == dtypes.STRING.number and (spec.shape is None or len(spec.shape) == 1)
            return {alias: (VALUE,)} if is_bytes else found
        if columns is None or alias in columns:
            return found
        others = [name for name in columns if name not in self._kept]
        width = spec.shape[1] if spec.shape is not None and len(spec.shape) == 2 else None
        if len(others) == 1 or width == len(others):
            return {alias: tuple(others)}
        return found

    def feed(self, rows: Rows) -> Fed:
        """The rows as inputs. Never raises for what is in them: a row that does not fit is a fault."""
        columns = {name: rows.columns.get(name, [MISSING] * len(rows.numbers)) for name in self.wanted}
        kept = {name: columns[name] for name in self._kept}
        count = len(rows.numbers)
        if not count:
            return Fed(rows.count, (), (), kept, (), rows.faults)
        try:
            inputs = {alias: self._input(alias, columns, slice(None), count) for alias in self._specs}
            if any(value is MISSING for column in kept.values() if isinstance(column, list) for value in column):
                raise _invalid("")
            groups = [Group(np.arange(count), inputs)]
            return Fed(rows.count, rows.numbers, rows.lines, kept, groups, rows.faults)
        except (ServingError, UnicodeEncodeError):
            return self._feed_each(rows, columns)

    def _feed_each(self, rows: Rows, columns: Mapping[str, Column]) -> Fed:
        """Row by row, which finds the bad ones; good ones of equal shapes are fed together."""
        good: list[int] = []
        fed: list[dict[str, Array]] = []
        faults = list(rows.faults)
        for place, (number, line) in enumerate(zip(rows.numbers, rows.lines, strict=True)):
            try:
                lacking = [name for name in self._kept if columns[name][place] is MISSING]
                if lacking:
                    raise _invalid(f"no column {lacking[0]!r}, which is to be kept")
                fed.append({alias: self._input(alias, columns, slice(place, place + 1), 1) for alias in self._specs})
                good.append(place)
            except ServingError as error:
                faults.append(Fault(number, line, one_line(error.message)))
            except UnicodeEncodeError:
                faults.append(Fault(number, line, "half of a surrogate pair, which no text has"))
        by_shape: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        for place, inputs in enumerate(fed):
            by_shape.setdefault(tuple(array.shape for array in inputs.values()), []).append(place)
        groups = [
            Group(
                np.asarray(places),
                {alias: np.concatenate([fed[place][alias] for place in places]) for alias in self._specs},
            )
            for places in by_shape.values()
        ]
        faults.sort(key=lambda fault: fault.row)
        kept = {name: _chosen(columns[name], good) for name in self._kept}
        numbers, lines = ([values[place] for place in good] for values in (rows.numbers, rows.lines))
        return Fed(rows.count, numbers, lines, kept, groups, faults)

    def _input(self, alias: str, columns: Mapping[str, Column], part: slice, count: int) -> Array:
        spec = self._specs[alias]
        names = self.sources[alias]
        if len(names) == 1:
            name = names[0]
            values = columns[name][part]
            if self._bare:
                values = _either(values, columns[VALUE][part])
            return _tensor(spec, values, count, name=name, is_text=self._is_text)
        one = replace(spec, shape=(-1,))
        parts = [_tensor(one, columns[name][part], count, name=name, is_text=self._is_text) for name in names]
        return _shaped(spec, np.stack(parts, axis=1), count)


def _tensor(spec: TensorSpec, values: Column, count: int, *, name: str, is_text: bool) -> Array:
    """A column as an input: an array whose first dimension counts rows. Raises ServingError INVALID_ARGUMENT."""
    if isinstance(values, list):
        odd = next((value for value in values if value is MISSING or value is None), "")
        if odd is MISSING:
            raise _invalid(f"no column {name!r}" if name else "not an object of columns")
        if odd is None:
            raise _invalid(f"column {name!r} has no value (null)")
        values = _parsed(spec, values, name) if is_text else _with_special(spec, values)
    elif values.dtype.kind in "SU":
        values = values.tolist()
    return _shaped(spec, cast(replace(spec, shape=None), values), count)


def _shaped(spec: TensorSpec, array: Array, count: int) -> Array:
    wanted = spec.shape
    if not array.shape or array.shape[0] != count:
        raise _invalid(f"input {spec.alias!r}: found shape {list(array.shape)} for {count} rows")
    if wanted is None or (len(wanted) == array.ndim and _fits(array.shape[1:], wanted[1:])):
        return array
    open_sizes = sum(size < 0 for size in wanted[1:])
    if array.ndim <= 2 and open_sizes <= 1 and (array.ndim == 2 or len(wanted) == 2):
        # A flat row has one meaning where the signature leaves no choice.
        try:
            return array.reshape(count, *wanted[1:])
        except ValueError:
            pass
    raise _invalid(f"input {spec.alias!r}: found shape {list(array.shape[1:])} of a row, wanted {list(wanted[1:])}")


def _fits(found: Sequence[int], wanted: Sequence[int]) -> bool:
    return all(size in (-1, own) for own, size in zip(found, wanted, strict=True))


def _parsed(spec: TensorSpec, cells: list[Any], name: str) -> Any:
    """Cells of a CSV file: numbers, texts, or lists in JSON."""
    dtype = dtypes.of_number(spec.dtype)
    if cells and cells[0][:1] == "[" and (spec.shape is None or len(spec.shape) > 1):
        try:
            return _with_special(spec, [json.loads(cell) for cell in cells])
        except (ValueError, RecursionError) as error:
            raise _invalid(f"column {name!r}: not a list in JSON: {error}"[:300]) from None
    if dtype is dtypes.STRING:
        return cells
    try:
        if dtype is dtypes.BOOL:
            return [_TRUTHS[cell.strip().lower()] for cell in cells]
        if "_" in "".join(cells):  # Python reads 1_000, nobody else does
            raise ValueError
        if dtype.numpy.kind in "iu":
            return [int(cell) for cell in cells]
        return np.array(cells, np.complex128 if dtype.numpy.kind == "c" else np.float64)
    except (ValueError, KeyError, OverflowError):
        shown = f"found {cells[0][:64]!r}" if len(cells) == 1 else "found something else"
        raise _invalid(f"column {name!r}: wanted {dtype.name}, {shown}") from None


def _with_special(spec: TensorSpec, values: list[Any]) -> list[Any]:
    """Values of JSON, with the words that stand for floats that JSON has not."""
    if len(values) != 1 or dtypes.of_number(spec.dtype) is dtypes.STRING:
        return values  # all rows at once: what is there is tried as it is, and then row by row
    return [_special(value) for value in values]


def _special(value: Any) -> Any:
    if isinstance(value, list):
        return [_special(each) for each in value]
    return _SPECIAL.get(value, value) if isinstance(value, str) else value


def _either(values: Column, bare: Column) -> Column:
    """Values by name, or where a row has none the row itself."""
    return [other if value is MISSING else value for value, other in zip(values, bare, strict=True)]


def _chosen(column: Column, places: Sequence[int]) -> Column:
    return [column[place] for place in places] if isinstance(column, list) else column[list(places)]


def _shown(names: Sequence[str]) -> str:
    text = ", ".join(repr(name) for name in names[:_MAX_NAMED])
    return text if len(names) <= _MAX_NAMED else f"{text}, and {len(names) - _MAX_NAMED} more"


def _invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)
