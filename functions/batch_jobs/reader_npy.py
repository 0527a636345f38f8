"""NPY and NPZ: numpy's arrays, read row by row; nothing in them is executed.

An array without fields is the column VALUE; the fields of a structured one are columns, and so are the arrays of an
NPZ.

Source: numpy/lib/format.py (the header is a literal, never evaluated); PKWARE's APPNOTE for the archive.
"""

import io
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from functions.batch_jobs.input_file import ByteStream, ExactStream, InputFile, SeekableFile
from functions.batch_jobs.rows import VALUE, Column, Options, Position, Rows
from loader.dtypes import Array
from loader.status import Code, ServingError

_SKIP_BYTES = 1 << 20
_HEADERS: Mapping[tuple[int, int], Any] = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class _Bytes(Protocol):
    def read(self, size: int) -> bytes: ...


class _Sound:
    """Bytes of an array; what is damaged is said in our words."""

    def __init__(self, stream: _Bytes, url: str) -> None:
        self._stream = stream
        self._url = url

    def read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise ServingError(Code.DATA_LOSS, f"{self._url}: {error}") from None


class _Stored:
    """One array on its way in."""

    def __init__(self, stream: _Bytes, url: str, options: Options) -> None:
        self._stream = _Sound(stream, url)
        self._url = url
        shape, is_fortran, self.dtype = self._header()
        if self.dtype.hasobject:
            raise self._invalid("it holds Python objects, which are never loaded: save numbers or texts")
        if not shape:
            raise self._invalid("it holds one number and no rows: wanted an array whose first dimension counts rows")
        if is_fortran and len(shape) > 1:
            raise self._invalid("its columns are stored one after the other: save numpy.ascontiguousarray(x)")
        self.count, self._tail = shape[0], shape[1:]
        self._row_bytes = self.dtype.itemsize * int(np.prod(self._tail, dtype=object))
        if not 0 < self._row_bytes <= options.max_row_bytes:
            raise self._invalid(f"a row has {self._row_bytes} bytes: wanted 1 to {options.max_row_bytes}")

    def _header(self) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        try:
            version = npy.read_magic(self._stream)  # type: ignore[arg-type]  # it only reads
            if version not in _HEADERS:
                raise ValueError(f"version {version}, which only fields with names beyond latin-1 need")
            found: tuple[tuple[int, ...], bool, np.dtype[Any]] = _HEADERS[version](self._stream)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError, tokenize.TokenError) as error:
            raise self._invalid(f"not an array that numpy saved: {' '.join(str(error).split())[:200]}") from None
        if any(size < 0 for size in found[0]):
            raise self._invalid(f"shape {found[0]}")
        return found

    def skip(self, rows: int) -> None:
        """Passes over rows."""
        left = rows * self._row_bytes
        while left:
            data = self._read(min(left, _SKIP_BYTES))
            left -= len(data)

    def rows(self, count: int) -> NDArray[Any]:
        """The next rows."""
        data = self._read(count * self._row_bytes)
        array: NDArray[Any] = np.frombuffer(data, self.dtype).reshape(count, *self._tail)
        return array.astype(self.dtype.newbyteorder("="), copy=False)

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise ServingError(Code.DATA_LOSS, f"{self._url} ends before the rows that its header announces")
        return data

    def _invalid(self, reason: str) -> ServingError:
        return ServingError(Code.INVALID_ARGUMENT, f"{self._url}: {reason}")


class NpyReader:
    """One file; see `Reader`."""

    is_text = False
    types: Mapping[str, Any] = {}

    def __init__(self, file: InputFile, options: Options) -> None:
        self._file = file
        self._options = options
        self._archive = self._open_archive() if file.plain_name.endswith(".npz") else None
        stored = self._stored()
        counts = {name: one.count for name, one in stored.items()}
        if len(set(counts.values())) != 1:
            raise ServingError(
                Code.INVALID_ARGUMENT, f"{file.url}: its arrays have different numbers of rows: {counts}"
            )
        self._count = next(iter(counts.values()))
        fields = stored[VALUE].dtype.names if VALUE in stored else None
        self.columns: tuple[str, ...] = fields or tuple(stored)

    def _open_archive(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(io.BufferedReader(SeekableFile(self._file), 1 << 20))
        except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, struct.error) as error:
            raise ServingError(Code.INVALID_ARGUMENT, f"{self._file.url}: not a .npz file: {error}") from None

    def _stored(self) -> dict[str, _Stored]:
        if self._archive is None:
            return {VALUE: _Stored(ExactStream(ByteStream(self._file)), self._file.url, self._options)}
        found = {}
        for name in self._archive.namelist():
            try:
                stream = self._archive.open(name)
            except (zipfile.BadZipFile, RuntimeError, ValueError, struct.error) as error:
                raise ServingError(Code.INVALID_ARGUMENT, f"{self._file.url}: {name[:80]!r}: {error}") from None
            found[name.removesuffix(".npy")] = _Stored(stream, f"{self._file.url}, {name[:80]!r}", self._options)
        if not found:
            raise ServingError(Code.INVALID_ARGUMENT, f"{self._file.url}: it holds no arrays")
        return found

    def rows(self, start: Position, count: int, wanted: Sequence[str]) -> Iterator[Rows]:
        """See `Reader.rows`."""
        stored = {name: one for name, one in self._stored().items() if name in wanted or name == VALUE}
        for one in stored.values():
            one.skip(start.row)
        for row in range(start.row, self._count, count):
            size = min(count, self._count - row)
            columns: dict[str, Column] = {}
            for name, one in stored.items():
                array = one.rows(size)
                if array.dtype.names is None:
                    columns[name] = _texts(array)
                else:
                    columns |= {key: _texts(array[key]) for key in array.dtype.names if key in wanted}
            numbers = range(row, row + size)
            end = row + size
            yield Rows(size, numbers, range(row + 1, end + 1), columns, (), Position(end, end, end))

    def share(self, end: Position) -> float:
        """See `Reader.share`."""
        return end.row / self._count if self._count else 1.0

    def close(self) -> None:
        """Closes the archive."""
        if self._archive is not None:
            self._archive.close()


def _texts(array: Array) -> Column:
    """Texts as Python values: numpy pads them to one length."""
    return array.tolist() if array.dtype.kind in "SU" else array
