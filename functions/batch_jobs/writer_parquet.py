"""Parquet, with pyarrow (extra `parquet`). Texts are strings, rows of tensors lists of a fixed size."""

import json
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from functions.batch_jobs.reader_parquet import arrow
from functions.batch_jobs.results import Schema, plain
from functions.batch_jobs.rows import Column
from loader.dtypes import Array
from loader.status import Code, ServingError

GROUP_ROWS = 1 << 16
"""Rows that are held until they are written as a group; a part has as many by default."""

GROUP_BYTES = 64 << 20
"""What is held is written once it is larger."""


class ParquetWriter:
    """One part; see `Writer`."""

    def __init__(self, file: BinaryIO, schema: Schema) -> None:
        self._arrow = arrow()
        self._file = file
        self._schema = schema
        self._writer: Any = None
        self._held: list[Any] = []

    def write(self, columns: Mapping[str, Column], count: int) -> None:
        """See `Writer.write`."""
        del count
        try:
            batch = self._arrow.RecordBatch.from_arrays(
                [self._values(name, columns[name]) for name in self._schema.names], list(self._schema.names)
            )
            if self._writer is None:
                self._writer = self._arrow.parquet.ParquetWriter(self._file, batch.schema)
            batch = batch.cast(self._writer.schema)
        except (self._arrow.ArrowException, TypeError, ValueError) as error:
            text = " ".join(str(error).split())[:300]
            raise ServingError(
                Code.INVALID_ARGUMENT, f"Parquet cannot hold the results: {text}; --output-format=jsonl can"
            ) from None
        self._held.append(batch)
        if sum(one.num_rows for one in self._held) >= GROUP_ROWS or sum(one.nbytes for one in self._held) > GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._held:
            self._writer.write_table(self._arrow.Table.from_batches(self._held))
            self._held = []

    def _values(self, name: str, column: Column) -> Any:
        if name in self._schema.types and name in self._schema.kept:
            return self._arrow.array(column, self._schema.types[name])
        if isinstance(column, list):
            if column and all(isinstance(value, np.ndarray) for value in column):
                return self._arrow.array([value.tolist() for value in column])  # rows of different lengths
            return self._arrow.array([_text(value) for value in column], self._arrow.string())
        return self._tensor(column)

    def _tensor(self, array: Array) -> Any:
        if array.dtype.kind == "V" and array.dtype.names is None:
            array = array.astype(np.float32)  # bfloat16 and smaller
        flat = array.ravel()
        found = (
            self._arrow.array([value.decode() for value in flat.tolist()], self._arrow.string())
            if array.dtype.kind == "O"
            else self._arrow.array(flat)
        )
        for size in reversed(array.shape[1:]):
            found = self._arrow.FixedSizeListArray.from_arrays(found, size)
        return found

    def close(self) -> None:
        """Writes what is held, and the footer."""
        if self._writer is not None:
            self._flush()
            self._writer.close()


def _text(value: Any) -> str | None:
    """A kept value of no certain type as text, so that all parts have one type."""
    found = plain(value)
    return found if found is None or isinstance(found, str) else json.dumps(found, ensure_ascii=False)
