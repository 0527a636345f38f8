"""TensorFlow Lite models (LiteRT): whether `model.tflite` is whole. `loader.tflite_session` runs them.

A flatbuffer says nowhere how long it is, so each buffer of weights is looked up: the file must reach to its end.

Source: tensorflow/compiler/mlir/lite/schema/schema.fbs (Model, Buffer); flatbuffers.dev/internals.
"""

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from loader.file_window import FileWindow
from loader.format import Read
from loader.wire import WireError

if TYPE_CHECKING:
    from loader.session import Session
    from loader.signature import Signature

_IDENTIFIER = b"TFL3"
_BUFFERS = 4
_DATA, _OFFSET, _SIZE = 0, 1, 2


class TfliteFormat:
    """The format of `model.tflite`; see `loader.format.Format`."""

    def faults(self, read: Read, size: int, sizes: Mapping[str, int]) -> Iterator[str]:
        """A file that is cut off, or no TensorFlow Lite model."""
        try:
            _walk(FileWindow(read, size), size)
        except (WireError, struct.error) as error:
            yield f"model.tflite: {size} bytes that are not a whole TensorFlow Lite model ({error})"

    def load(self, file: Path, threads: int) -> "tuple[Mapping[str, Signature], Session]":
        """See `loader.tflite_session.load`."""
        from loader.tflite_session import load  # noqa: PLC0415  a proof needs no runtime

        return load(file, threads)


def _walk(window: FileWindow, size: int) -> None:
    if size < 8 or bytes(window.view(4, 8)) != _IDENTIFIER:
        raise WireError(f"it does not begin with {_IDENTIFIER.decode()}")
    root = _number(window, size, 0)
    buffers = _field(window, size, root, _BUFFERS)
    if not buffers:
        raise WireError("it has no buffers")
    vector = buffers + _number(window, size, buffers)
    for index in range(_number(window, size, vector)):
        entry = vector + 4 + 4 * index
        _check_buffer(window, size, entry + _number(window, size, entry))


def _check_buffer(window: FileWindow, size: int, table: int) -> None:
    end = 0
    data = _field(window, size, table, _DATA)
    if data:
        vector = data + _number(window, size, data)
        end = vector + 4 + _number(window, size, vector)
    # Models of more than 2 GiB hold their weights behind the flatbuffer.
    offset, length = (_field(window, size, table, field) for field in (_OFFSET, _SIZE))
    if offset and length:
        end = max(end, _number(window, size, offset, 8) + _number(window, size, length, 8))
    if end > size:
        raise WireError(f"a buffer wants bytes up to {end}, but there are {size}")


def _field(window: FileWindow, size: int, table: int, number: int) -> int:
    """Where a field of a table lies; 0 for one that is not set."""
    vtable = table - struct.unpack("<i", _bytes(window, size, table, 4))[0]
    entry = 4 + 2 * number
    if entry + 2 > _number(window, size, vtable, 2):
        return 0
    offset = _number(window, size, vtable + entry, 2)
    return table + offset if offset else 0


def _number(window: FileWindow, size: int, at: int, width: int = 4) -> int:
    return int.from_bytes(_bytes(window, size, at, width), "little")


def _bytes(window: FileWindow, size: int, at: int, width: int) -> memoryview:
    if at < 0 or at + width > size:
        raise WireError(f"it wants bytes up to {at + width}, but there are {size}")
    return window.view(at, at + width)
