"""JSON Lines: one row a line, an object of columns or a bare value. Empty lines are none.

Source: jsonlines.org; protobuf's JSON form, whose "NaN", "Infinity" and "-Infinity" `columns` takes for numbers.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import simdjson

from functions.batch_jobs.input_file import InputFile
from functions.batch_jobs.line_stream import TOO_LONG, LineStream
from functions.batch_jobs.rows import VALUE, Gathering, Options, Position, Rows

MAX_FAST_BYTES = 16 << 20
"""simdjson reads six times faster, and needs some times a line's length of memory."""

_BOM = b"\xef\xbb\xbf"


class JsonlReader:
    """One file; see `Reader`."""

    columns = None
    is_text = False
    types: Mapping[str, Any] = {}

    def __init__(self, file: InputFile, options: Options) -> None:
        self._file = file
        self._options = options
        self._share = 0.0
        self._fast = simdjson.Parser()

    def rows(self, start: Position, count: int, wanted: Sequence[str]) -> Iterator[Rows]:
        """See `Reader.rows`."""
        lines = LineStream(self._file, start, self._options.max_row_bytes)
        row = start.row
        batch = Gathering(wanted)
        while (line := lines.next()) is not None:
            if line is not TOO_LONG and not line.strip():
                continue
            self._add(batch, row, lines.line, line)
            row += 1
            if batch.count == count:
                self._share = lines.share
                yield batch.done(Position(row, lines.offset, lines.line))
                batch = Gathering(wanted)
        if batch.count:
            yield batch.done(Position(row, lines.offset, lines.line))

    def _add(self, batch: Gathering, row: int, number: int, line: bytes) -> None:
        if line is TOO_LONG:
            batch.refuse(row, number, f"the line has more than {self._options.max_row_bytes} bytes")
            return
        if row == 0:
            line = line.removeprefix(_BOM)
        try:
            value = self._value(line)
        except (ValueError, RecursionError) as error:
            batch.refuse(row, number, f"not JSON: {error}"[:300])
            return
        is_object = isinstance(value, dict) and value.keys() != {"b64"}
        batch.add(row, number)
        batch.put(value if is_object else {VALUE: value})

    def _value(self, line: bytes) -> Any:
        if len(line) <= MAX_FAST_BYTES:
            try:
                return self._fast.parse(line, True)
            except (ValueError, RuntimeError):
                pass  # NaN, numbers beyond 64 bits, lines that are wrong: Python's own reader knows what it is
        return json.loads(line)

    def share(self, end: Position) -> float:
        """See `Reader.share`."""
        size = self._file.info.size
        return self._share if self._file.is_compressed or not size else end.offset / size

    def close(self) -> None:
        """Nothing is held."""
