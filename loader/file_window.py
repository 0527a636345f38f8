"""Looks into a large file through a few small reads: what a proof needs of a model with gigabytes."""

from collections.abc import Callable, Iterator

from loader.wire import FIXED32, FIXED64, LENGTH, VARINT, WireError

WINDOW_BYTES = 1 << 20
"""Bytes that are read at once: most models' whole `saved_model.pb`."""

MAX_FIELD_BYTES = 64 << 20
"""Bytes of one small field (a list of assets, a saver) that are read."""

_HEADER_BYTES = 20


class FileWindow:
    """Random access to a file in reads of at least `WINDOW_BYTES`.

    Args:
        read: the bytes `[start, end)` of the file.
        size: bytes of the file.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read = read
        self._size = size
        self._at = 0
        self._data = b""

    def view(self, start: int, end: int) -> memoryview:
        """The bytes `[start, end)`.

        Raises:
            WireError: the file ends before, or these are more than `MAX_FIELD_BYTES`.
        """
        if end - start > MAX_FIELD_BYTES:
            raise WireError(f"a field has {end - start} bytes, at most {MAX_FIELD_BYTES} are read")
        if start < self._at or end > self._at + len(self._data):
            stop = min(self._size, max(end, start + WINDOW_BYTES))
            self._data = self._read(start, stop)
            self._at = start
            if len(self._data) < end - start:
                raise WireError(f"the file ends at byte {start + len(self._data)} of {self._size}")
        return memoryview(self._data)[start - self._at : end - self._at]

    def fields(self, at: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Field number, start and end of the content of each field in `[at, end)`, without reading the content.

        Raises:
            WireError: the bytes are no message, or it is cut off.
        """
        while at < end:
            header = self.view(at, min(end, at + _HEADER_BYTES))
            tag, used = _varint(header, 0)
            number, kind = tag >> 3, tag & 7
            start = at + used
            if number == 0:
                raise WireError(f"field number 0 at byte {at}")
            if kind == VARINT:
                _, used = _varint(header, used)
                stop = at + used
            elif kind == LENGTH:
                length, used = _varint(header, used)
                start = at + used
                stop = start + length
            elif kind in {FIXED64, FIXED32}:
                stop = start + (8 if kind == FIXED64 else 4)
            else:
                raise WireError(f"wire type {kind} at byte {at}")
            if stop > end:
                raise WireError(f"a field wants bytes up to {stop}, but there are {end}")
            yield number, start, stop
            at = stop


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise WireError("a number is cut off or longer than 64 bits")
