"""JSON Lines: an object a row."""

import json
from collections.abc import Mapping
from typing import BinaryIO

from functions.batch_jobs.results import Schema, plain_column
from functions.batch_jobs.rows import Column

_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class JsonlWriter:
    """One part; see `Writer`."""

    def __init__(self, file: BinaryIO, schema: Schema) -> None:
        self._file = file
        self._names = schema.names

    def write(self, columns: Mapping[str, Column], count: int) -> None:
        """See `Writer.write`."""
        del count
        listed = [plain_column(columns[name]) for name in self._names]
        lines = [_ENCODE(dict(zip(self._names, row, strict=True))) for row in zip(*listed, strict=True)]
        self._file.write("\n".join([*lines, ""]).encode("utf-8", "surrogateescape"))

    def close(self) -> None:
        """Nothing is left to write."""
