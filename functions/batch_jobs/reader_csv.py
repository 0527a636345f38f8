"""CSV as Python's csv module reads it: quotes, doubled quotes, line ends in quotes; a first line of names.

A row that is wrong costs itself only: where a quote is never closed, its first line is a bad row and the next line a
new one.

Source: RFC 4180; docs.python.org/3/library/csv (`strict`).
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from functions.batch_jobs.input_file import InputFile
from functions.batch_jobs.line_stream import TOO_LONG, LineStream
from functions.batch_jobs.rows import Gathering, Options, Position, Rows
from loader.status import Code, ServingError

MAX_COLUMNS = 1 << 20
_BOM = "\ufeff"


class _TooLongError(Exception):
    """A line of the record is longer than a row may be."""


class _Lines:
    """What csv.reader pulls; remembers the lines of the record at hand."""

    def __init__(self, stream: LineStream, limit: int) -> None:
        self.stream = stream
        self._limit = limit
        self.record: list[bytes] = []
        self._bytes = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self.stream.next()
        if line is None:
            raise StopIteration
        if line is not TOO_LONG:
            self.record.append(line)
            self._bytes += len(line)
        if line is TOO_LONG or self._bytes > self._limit:
            raise _TooLongError
        return line.decode("utf-8", "surrogateescape")

    def begin(self) -> None:
        """The next line begins a record."""
        self.record.clear()
        self._bytes = 0


class CsvReader:
    """One file; see `Reader`. A cell that is not UTF-8 keeps its bytes (surrogateescape).

    Raises:
        ServingError: INVALID_ARGUMENT for a first line that names no columns, or one twice.
    """

    is_text = True
    types: Mapping[str, Any] = {}

    def __init__(self, file: InputFile, options: Options) -> None:
        self._file = file
        self._options = options
        self._share = 0.0
        self._delimiter = options.delimiter or ("\t" if file.plain_name.lower().endswith(".tsv") else ",")
        # The module's own limit is for all readers of the process; ours counts bytes of whole rows.
        csv.field_size_limit(options.max_row_bytes)
        self._begin = Position()
        self.columns: tuple[str, ...] = options.columns if options.columns is not None else self._header()

    def _header(self) -> tuple[str, ...]:
        lines = _Lines(LineStream(self._file, Position(), self._options.max_row_bytes), self._options.max_row_bytes)
        try:
            names = next(self._parser(lines), [])
        except (csv.Error, _TooLongError) as error:
            raise self._invalid(f"its first line is no CSV: {error}") from None
        self._begin = Position(0, lines.stream.offset, lines.stream.line)
        if names:
            names[0] = names[0].removeprefix(_BOM)
        twice = sorted({name for name in names if names.count(name) > 1}) if len(names) < MAX_COLUMNS else ["..."]
        if not names or twice:
            raise self._invalid(f"its first line names {twice or 'no columns'}: wanted each column once (--columns)")
        return tuple(names)

    def _parser(self, lines: _Lines) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=self._delimiter, strict=True)

    def rows(self, start: Position, count: int, wanted: Sequence[str]) -> Iterator[Rows]:
        """See `Reader.rows`."""
        if start.offset < self._begin.offset:
            start = self._begin
        limit = self._options.max_row_bytes
        lines = _Lines(LineStream(self._file, start, limit), limit)
        places = [(name, self.columns.index(name)) for name in wanted if name in self.columns]
        parser, row, batch = self._parser(lines), start.row, Gathering(wanted)
        table: list[list[str]] = []
        while True:
            lines.begin()
            first = lines.stream.line + 1
            try:
                cells = next(parser, None)
            except (csv.Error, _TooLongError) as error:
                self._refuse(batch, lines, row, first, error)
                parser = self._parser(lines)
            else:
                if cells is None:
                    break
                if not cells:
                    continue  # an empty line
                if len(cells) == len(self.columns):
                    batch.add(row, first)
                    table.append(cells)
                else:
                    batch.refuse(row, first, f"{len(cells)} cells, wanted {len(self.columns)}")
            row += 1
            if batch.count == count:
                self._share = lines.stream.share
                batch.columns = {name: [cells[place] for cells in table] for name, place in places}
                yield batch.done(Position(row, lines.stream.offset, lines.stream.line))
                batch, table = Gathering(wanted), []
        if batch.count:
            batch.columns = {name: [cells[place] for cells in table] for name, place in places}
            yield batch.done(Position(row, lines.stream.offset, lines.stream.line))

    def _refuse(self, batch: Gathering, lines: _Lines, row: int, first: int, error: Exception) -> None:
        if isinstance(error, _TooLongError):
            reason = f"the row has more than {self._options.max_row_bytes} bytes"
        else:
            reason = f"not CSV: {error}"
        if len(lines.record) > 1:
            reason += "; a quote on its first line is not closed"
            lines.stream.back(lines.record[1:])
        batch.refuse(row, first, reason)

    def share(self, end: Position) -> float:
        """See `Reader.share`."""
        size = self._file.info.size
        return self._share if self._file.is_compressed or not size else end.offset / size

    def close(self) -> None:
        """Nothing is held."""

    def _invalid(self, reason: str) -> ServingError:
        return ServingError(Code.INVALID_ARGUMENT, f"{self._file.url}: {reason}")
