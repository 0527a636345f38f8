"""What the workers of one server see of each other without asking: a few numbers in shared memory.

Made by the parent before the forks. Each number is written by one process only, its worker; the parent writes it when
the worker has ended. A number is four aligned bytes, so nobody reads half of one.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

MAX_FAILURE_BYTES = 4096
"""Length of the text that says why a worker's start failed; more is cut off."""

_NOT_ACCEPTING = -1


class Board:
    """The shared numbers of `count` workers, and room for one text each."""

    def __init__(self, count: int) -> None:
        self._texts = 4 * (2 * count + 1)
        self._memory = mmap.mmap(-1, self._texts + count * MAX_FAILURE_BYTES)
        numbers = memoryview(self._memory)[: self._texts].cast("i")
        self._connections, self._loaded = numbers[:count], numbers[count : 2 * count]
        self._restarts = numbers[2 * count :]
        for worker in range(count):
            self.ended(worker)

    def accepting(self, worker: int, connections: int) -> None:
        """The worker accepts connections and has so many."""
        self._connections[worker] = connections

    def ended(self, worker: int) -> None:
        """The worker accepts none: it has ended, or ends."""
        self._connections[worker] = _NOT_ACCEPTING

    def connections(self, worker: int) -> int:
        """How many connections the worker has; less than 0 when it accepts none."""
        return self._connections[worker]

    def accepts(self, worker: int) -> bool:
        """Whether the worker accepts connections."""
        return self._connections[worker] != _NOT_ACCEPTING

    def fewest(self) -> int:
        """The smallest number of connections of a worker that accepts; 0 when none does."""
        return min((number for number in self._connections if number != _NOT_ACCEPTING), default=0)

    def loaded(self, worker: int) -> None:
        """The worker's first loads went well."""
        self._loaded[worker] = 1

    @property
    def ever_loaded(self) -> bool:
        """Whether any worker has ever got so far: then what to serve can be served, and a failure is an accident."""
        return any(self._loaded)

    def restarted(self) -> None:
        """The parent puts a new worker into the place of one that has ended."""
        self._restarts[0] += 1

    @property
    def restarts(self) -> int:
        """How often that was."""
        return self._restarts[0]

    def fail(self, worker: int, text: str) -> None:
        """Leaves word why the worker's start failed."""
        content = text.encode("utf-8", "replace")[: MAX_FAILURE_BYTES - 4]
        place = self._texts + worker * MAX_FAILURE_BYTES
        self._memory[place : place + 4 + len(content)] = struct.pack("<i", len(content)) + content

    def failure(self, worker: int) -> str:
        """Why the worker's start failed; empty when it left no word."""
        place = self._texts + worker * MAX_FAILURE_BYTES
        (length,) = struct.unpack_from("<i", self._memory, place)
        return self._memory[place + 4 : place + 4 + length].decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Berth:
    """One worker's place in the crew.

    Attributes:
        index: its number, 0 to `count` - 1; who comes after it has the same.
        count: how many workers there are.
        again: whether it takes the place of one that has ended.
        folder: what the workers share on disk: sockets, locks, counts of the dead.
        lifeline: the end of a pipe that reads as closed once the parent is gone.
    """

    index: int
    count: int
    again: bool
    folder: Path
    lifeline: int
    board: Board
