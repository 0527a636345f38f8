"""JSON Lines: an object a row."""

import json
from collections.abc import Mapping
from typing import BinaryIO

from functions.batch_jobs.results import Schema, plain_column
from functions.batch_jobs.rows import Column


class JsonlWriter:
    """One part; see `Writer`."""

    def __init__(self, file: BinaryIO, schema: Schema) -> None:
        self._file = file
        self._names = schema.names

    def write(self, columns: Mapping[str, Column], count: int) -> None:
        """See `Writer.write`."""
        del count
        listed = [plain_column(columns[name]) for name in self._names]
        lines = (
            json.dumps(dict(zip(self._names, row, strict=True)), ensure_ascii=False, separators=(",", ":"))
            for row in zip(*listed, strict=True)
        )
        self._file.write("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))

    def close(self) -> None:
        """Nothing is left to write."""
