"""What readers of files give: rows in batches, with exact positions, and the rows that cannot be read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from functions.batch_jobs.limits import MAX_ROW_BYTES
from loader.dtypes import Array

MAX_REASON = 300
"""Characters of what is said of a bad row."""

VALUE = ""
"""The column of rows without named columns: a JSON line that is no object, an array of numbers, a record's bytes."""


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()
"""Stands in a column for a row that has no such column."""

Column = Array | list[Any]
"""The values of one column, one for each row: an array, or Python values."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two rows of one file, from which reading goes on exactly.

    Attributes:
        row: rows before it.
        offset: bytes before it, of the decompressed file; for formats that count rows only, the same as `row`.
        line: lines before it; for formats without lines, the same as `row`.
    """

    row: int = 0
    offset: int = 0
    line: int = 0

    def as_json(self) -> list[int]:
        """For a checkpoint."""
        return [self.row, self.offset, self.line]


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that could not be used.

    Attributes:
        row: rows of the file before it.
        line: its first line in the file, from 1; for formats without lines its number, from 1.
        reason: in one line.
    """

    row: int
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows that follow each other in a file.

    Attributes:
        count: how many, bad ones included.
        numbers: of each good row, how many rows of the file are before it.
        lines: of each good row, where it is, as `Fault.line`.
        columns: the good rows' values by column.
        faults: the bad rows.
        end: the place after the last row.
    """

    count: int
    numbers: Sequence[int]
    lines: Sequence[int]
    columns: Mapping[str, Column]
    faults: Sequence[Fault]
    end: Position


@dataclass(frozen=True, slots=True)
class Options:
    """How a file is to be read.

    Attributes:
        columns: names of a CSV file without a header; None: its first line has them.
        delimiter: between the cells of a CSV file; empty: a comma, and in a `.tsv` file a tab.
        max_row_bytes: a longer row is a bad one.
    """

    columns: tuple[str, ...] | None = None
    delimiter: str = ""
    max_row_bytes: int = MAX_ROW_BYTES


class Reader(Protocol):
    """One open file. One thread at a time."""

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The columns' names; None where each row names its own."""
        ...

    @property
    def is_text(self) -> bool:
        """Whether values are text that stands for numbers too (CSV)."""
        ...

    @property
    def types(self) -> Mapping[str, Any]:
        """Arrow types of columns, where the file has them."""
        ...

    def rows(self, start: Position, count: int, wanted: Sequence[str]) -> Iterator[Rows]:
        """The rows from `start` on, `count` in each batch; fewer only in the last one.

        Args:
            start: a place that an earlier batch ended at, or the file's begin.
            count: rows of a batch.
            wanted: the columns that are needed.

        Raises:
            ServingError: DATA_LOSS where what follows cannot be told apart into rows; what storage raises.
        """
        ...

    def share(self, end: Position) -> float:
        """How much of the file lies before a place, 0 to 1; an estimate where the file does not say."""
        ...

    def close(self) -> None:
        """Frees what it holds."""
        ...


def one_line(text: str) -> str:
    """A message of a model or a library as one line of `MAX_REASON` characters at most."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= MAX_REASON else line[:MAX_REASON] + "..."


@dataclass(slots=True)
class Gathering:
    """Rows of a batch on their way in: for formats that are read row by row."""

    wanted: Sequence[str]
    count: int = 0
    numbers: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(init=False)
    faults: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.columns = {name: [] for name in self.wanted}

    def add(self, row: int, line: int) -> None:
        """A good row, whose values follow."""
        self.count += 1
        self.numbers.append(row)
        self.lines.append(line)

    def put(self, values: Mapping[str, Any]) -> None:
        """The values of the row that was added; a column that it lacks is MISSING."""
        for name, column in self.columns.items():
            column.append(values.get(name, MISSING))

    def refuse(self, row: int, line: int, reason: str) -> None:
        """A bad row."""
        self.count += 1
        self.faults.append(Fault(row, line, reason))

    def done(self, end: Position) -> Rows:
        """The batch."""
        return Rows(self.count, self.numbers, self.lines, self.columns, self.faults, end)
