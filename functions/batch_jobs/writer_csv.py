"""CSV with a first line of names; a cell that is a list or an object is its JSON."""

import csv
import io
import json
from collections.abc import Mapping
from typing import Any, BinaryIO

from functions.batch_jobs.results import Schema, plain_column
from functions.batch_jobs.rows import Column


class CsvWriter:
    """One part; see `Writer`. Each part has its first line: every one is a file of its own."""

    def __init__(self, file: BinaryIO, schema: Schema) -> None:
        self._file = file
        self._names = schema.names
        self._put([self._names])

    def write(self, columns: Mapping[str, Column], count: int) -> None:
        """See `Writer.write`."""
        del count
        listed = [plain_column(columns[name]) for name in self._names]
        self._put([map(_cell, row) for row in zip(*listed, strict=True)])

    def _put(self, rows: Any) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue().encode("utf-8", "surrogateescape"))

    def close(self) -> None:
        """Nothing is left to write."""


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict | bool):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return value
