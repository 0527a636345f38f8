"""The lines of a file in order, each with its place; one that is too long is passed over, not held."""

from collections.abc import Sequence

from functions.batch_jobs.input_file import ByteStream, InputFile
from functions.batch_jobs.rows import Position

TOO_LONG = b""
"""Stands for a line that was longer than it may be."""


class LineStream:
    """Lines from any place on. One thread at a time.

    Args:
        file: what is read.
        start: where a line begins.
        limit: bytes that a line may have.

    Attributes:
        offset: where the next line begins.
        line: lines before it.
    """

    def __init__(self, file: InputFile, start: Position, limit: int) -> None:
        self._stream = ByteStream(file, start.offset)
        self._limit = limit
        self._lines: list[bytes] = []
        self._next = 0
        self._tail = b""
        self.offset, self.line = start.offset, start.line

    def next(self) -> bytes | None:
        """The next line with its end; TOO_LONG for one that was; None at the end of the file."""
        if self._next == len(self._lines):
            self._lines, self._next = [], 0
            passed = self._fill()
            if passed:
                self.offset += passed
                self.line += 1
                return TOO_LONG
            if not self._lines:
                return None
        line = self._lines[self._next]
        self._next += 1
        self.offset += len(line)
        self.line += 1
        return line if len(line) <= self._limit else TOO_LONG

    def back(self, lines: Sequence[bytes]) -> None:
        """Puts the lines that `next` gave last back in front."""
        self._lines, self._next = [*lines, *self._lines[self._next :]], 0
        self.offset -= sum(map(len, lines))
        self.line -= len(lines)

    @property
    def share(self) -> float:
        """How much of the stored file was read, 0 to 1."""
        return self._stream.share

    def _fill(self) -> int:
        """Gets more lines, none at the end. Gives the bytes of a line that was too long to be held, else 0."""
        parts, size = [self._tail], len(self._tail)
        while data := self._stream.block():
            if b"\n" in data:
                self._cut(b"".join([*parts, data]))
                return 0
            parts.append(data)
            size += len(data)
            if size > self._limit:
                return self._pass(size)
        rest = b"".join(parts)
        self._lines, self._tail = ([rest] if rest else []), b""
        return 0

    def _pass(self, size: int) -> int:
        self._tail = b""
        while data := self._stream.block():
            end = data.find(b"\n") + 1
            if end:
                self._cut(data[end:])
                return size + end
            size += len(data)
        return size

    def _cut(self, data: bytes) -> None:
        end = data.rfind(b"\n") + 1
        self._lines = [line + b"\n" for line in data[: end - 1].split(b"\n")] if end else []
        self._tail = data[end:]
