"""NPY: one array of numbers, or a structured one where there are several columns.

Source: numpy/lib/format.py; a header leaves room for the number of rows to grow, so it is written last in its place.
"""

from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from functions.batch_jobs.results import Schema
from functions.batch_jobs.rows import Column
from loader.dtypes import Array
from loader.status import Code, ServingError


class NpyWriter:
    """One part; see `Writer`."""

    def __init__(self, file: BinaryIO, schema: Schema) -> None:
        self._file = file
        self._names = schema.names
        self._dtype: np.dtype[Any] | None = None
        self._tail: tuple[int, ...] = ()
        self._count = 0

    def write(self, columns: Mapping[str, Column], count: int) -> None:
        """See `Writer.write`."""
        arrays = {name: _array(name, columns[name]) for name in self._names}
        if len(arrays) == 1:
            array = next(iter(arrays.values()))
        else:
            fields = [(name, array.dtype, array.shape[1:]) for name, array in arrays.items()]
            together: NDArray[Any] = np.empty(count, fields)
            for name, values in arrays.items():
                together[name] = values
            array = together
        if self._dtype is None:
            self._dtype, self._tail = array.dtype, array.shape[1:]
            self._header(0)
        if (array.dtype, array.shape[1:]) != (self._dtype, self._tail):
            raise _invalid(f"results of shape {array.shape[1:]} follow some of {self._tail}")
        self._count += count
        self._file.write(np.ascontiguousarray(array).tobytes())

    def _header(self, count: int) -> None:
        assert self._dtype is not None  # noqa: S101  the first rows said it
        shape = (count, *self._tail)
        npy.write_array_header_1_0(
            self._file, {"descr": npy.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        )

    def close(self) -> None:
        """Writes the number of rows into the header."""
        if self._dtype is not None:
            self._file.seek(0)
            self._header(self._count)


def _array(name: str, column: Column) -> Array:
    if isinstance(column, list) or column.dtype.kind == "O":
        raise _invalid(f"column {name!r} holds texts, or rows of different shapes")
    return column.astype(np.float32) if column.dtype.kind == "V" and column.dtype.names is None else column


def _invalid(reason: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, f"NPY cannot hold the results: {reason}; --output-format=jsonl can")
