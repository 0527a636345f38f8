"""Parquet, with pyarrow (extra `parquet`): the columns that are needed, page after page of each row group.

Source: arrow.apache.org/docs/python/parquet.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from functions.batch_jobs.input_file import InputFile, SeekableFile
from functions.batch_jobs.rows import Column, Options, Position, Rows
from loader.status import Code, ServingError

BUFFER_BYTES = 1 << 20


def arrow() -> Any:
    """The package pyarrow.

    Raises:
        ServingError: FAILED_PRECONDITION: it is not installed.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415  an extra, and half a second
        import pyarrow.parquet  # noqa: PLC0415  makes the attribute
    except ImportError:
        raise ServingError(
            Code.FAILED_PRECONDITION, "Parquet needs the package pyarrow: pip install 'zeroserve[parquet]'"
        ) from None
    return pa


class ParquetReader:
    """One file; see `Reader`."""

    is_text = False

    def __init__(self, file: InputFile, options: Options) -> None:
        del options  # pages are as large as whoever wrote them wanted
        self._file = file
        self._arrow = arrow()
        local = file.storage.local
        source = str(local / file.name) if local else io.BufferedReader(SeekableFile(file), BUFFER_BYTES)
        with self._errors():
            self._parquet = self._arrow.parquet.ParquetFile(source, pre_buffer=False, buffer_size=BUFFER_BYTES)
            schema = self._parquet.schema_arrow
        self.columns: tuple[str, ...] = tuple(schema.names)
        self.types: Mapping[str, Any] = {one.name: one.type for one in schema}
        if len(self.types) < len(self.columns):
            raise ServingError(Code.INVALID_ARGUMENT, f"{file.url}: two of its columns have one name")

    def rows(self, start: Position, count: int, wanted: Sequence[str]) -> Iterator[Rows]:
        """See `Reader.rows`."""
        with self._errors():
            row, pending, held = start.row, [], 0
            for piece in self._pieces(start.row, count, [name for name in wanted if name in self.columns]):
                pending.append(piece)
                held += piece.num_rows
                while held >= count:
                    table = self._arrow.Table.from_batches(pending)
                    yield self._rows(table.slice(0, count), row)
                    pending = table.slice(count).to_batches()
                    row, held = row + count, held - count
            if held:
                yield self._rows(self._arrow.Table.from_batches(pending), row)

    def _pieces(self, skip: int, count: int, wanted: list[str]) -> Iterator[Any]:
        """What follows the first `skip` rows, in pieces of `count` rows at most."""
        metadata = self._parquet.metadata
        group = 0
        while group < metadata.num_row_groups and skip >= metadata.row_group(group).num_rows:
            skip -= metadata.row_group(group).num_rows
            group += 1
        groups = list(range(group, metadata.num_row_groups))
        for piece in self._parquet.iter_batches(count, row_groups=groups, columns=wanted):
            passed = min(skip, piece.num_rows)
            skip -= passed
            if passed < piece.num_rows:
                yield piece.slice(passed)

    def _rows(self, table: Any, row: int) -> Rows:
        columns = {name: _column(self._arrow, table.column(name).combine_chunks()) for name in table.column_names}
        end = row + table.num_rows
        return Rows(table.num_rows, range(row, end), range(row + 1, end + 1), columns, (), Position(end, end, end))

    def share(self, end: Position) -> float:
        """See `Reader.share`."""
        return end.row / self._parquet.metadata.num_rows if self._parquet.metadata.num_rows else 1.0

    def close(self) -> None:
        """Closes the file."""
        self._parquet.close()

    def _errors(self) -> "_Errors":
        return _Errors(self._file.url, self._arrow)


class _Errors:
    """pyarrow's errors as ours."""

    def __init__(self, url: str, package: Any) -> None:
        self._url = url
        self._arrow = package

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, ServingError):
            return
        if isinstance(error, (self._arrow.ArrowException, OSError, UnicodeDecodeError)):
            text = " ".join(str(error).split())[:300]
            raise ServingError(Code.DATA_LOSS, f"{self._url}: not a Parquet file that can be read: {text}") from None


def _column(package: Any, values: Any) -> Column:
    """An Arrow array as a column: numbers, and lists of one length, without an object for each."""
    types = package.types
    if values.null_count == 0:
        kind = values.type
        if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
            found: Column = values.to_numpy(zero_copy_only=False)
            return found
        if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            inner = _column(package, values.flatten())
            lengths = (
                set(values.value_lengths().to_pylist()) if not types.is_fixed_size_list(kind) else {kind.list_size}
            )
            if not isinstance(inner, list) and len(lengths) == 1:
                return inner.reshape(len(values), lengths.pop(), *inner.shape[1:])
    try:
        listed: list[Any] = values.to_pylist()
    except UnicodeDecodeError:  # a text that is none keeps its bytes
        listed = values.cast(package.large_binary()).to_pylist()
    return listed
