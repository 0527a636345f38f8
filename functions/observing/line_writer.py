"""Writes lines in a thread of its own: whoever has a line to say neither waits for the disk nor for who reads the pipe.

Lines are collected for a moment and written together, whole lines in pieces that a pipe takes at once (PIPE_BUF), so
that those of several processes do not mix. What does not fit into memory is dropped and counted.
"""

import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

MAX_LINES = 10_000
"""Lines that wait to be written."""

COLLECT_SECONDS = 0.05
"""How long lines are collected."""

PIPE_BYTES = select.PIPE_BUF


WRITTEN, DROPPED = "written", "dropped"


class LineWriter:
    """Takes lines from one thread. The writing thread starts with the first one, and again after it has ended.

    Args:
        write: puts bytes where they belong; may block, and may raise OSError.
        counted: is told how many lines were `WRITTEN` or `DROPPED`; from any thread.
    """

    def __init__(self, write: Callable[[bytes], object], counted: Callable[[str, int], None]) -> None:
        self._write = write
        self._lines: deque[bytes] = deque()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._counted = counted

    def put(self, line: bytes) -> None:
        """Takes a line, which ends with its line break, or drops it."""
        if len(self._lines) >= MAX_LINES or self._closed:
            self._counted(DROPPED, 1)
            return
        self._lines.append(line)
        if not self._wake.is_set():
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="zeroserve-lines", daemon=True)
                self._thread.start()
            self._wake.set()

    def close(self, timeout: float) -> None:
        """Writes what there is, and ends; gives up after so many seconds."""
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _work(self) -> None:
        while True:
            self._wake.wait()
            if not self._closed:
                time.sleep(COLLECT_SECONDS)
            self._wake.clear()
            for piece, count in self._pieces():
                try:
                    self._write(piece)
                except OSError:
                    self._counted(DROPPED, count)
                else:
                    self._counted(WRITTEN, count)
            if self._closed and not self._lines:
                return

    def _pieces(self) -> Iterator[tuple[bytes, int]]:
        """Whole lines, and how many, in pieces of at most `PIPE_BYTES`; a line that is longer is one of its own."""
        lines: list[bytes] = []
        size = 0
        while self._lines:
            line = self._lines.popleft()
            if lines and size + len(line) > PIPE_BYTES:
                yield b"".join(lines), len(lines)
                lines, size = [], 0
            lines.append(line)
            size += len(line)
        if lines:
            yield b"".join(lines), len(lines)
