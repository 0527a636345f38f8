"""The counts of workers that have ended, so that the server's counters never go down.

A worker that is asked for its counts writes them to a file before it answers. So whatever was shown once is on disk,
and still counts when the worker has been killed since.
"""

import contextlib
import fcntl
import os
import pickle
from collections.abc import Collection, Iterator
from pathlib import Path

from functions.observing.metrics_text import Samples, total

_PREFIX = "counts-"


class Ledger:
    """The counts of one worker's processes, in the folder that all workers share. Safe from any thread.

    Args:
        folder: enterable by the workers only.
        index: the worker; the processes that have this number follow one another.
    """

    def __init__(self, folder: Path, index: int) -> None:
        self._folder = folder
        self._index = index
        self.key = f"{_PREFIX}{index}-{os.getpid()}"

    def inherit(self) -> None:
        """Adds up what the processes before this one have left, into one file."""
        with self._locked():
            left = sorted(self._folder.glob(f"{_PREFIX}{self._index}-*"))
            if left:
                self._write(f"{_PREFIX}{self._index}-0", total(map(_read, left)))
            for path in left:
                if path.name != f"{_PREFIX}{self._index}-0":
                    path.unlink()

    def keep(self, samples: list[Samples]) -> None:
        """Writes down the counts of this process; gauges end with it."""
        with self._locked():
            self._write(self.key, [one for one in samples if one.kind != "gauge"])

    def others(self, living: Collection[str]) -> list[list[Samples]]:
        """The counts of all processes whose `key` is not among the `living`."""
        with self._locked():
            return [_read(path) for path in self._folder.glob(f"{_PREFIX}*") if path.name not in living]

    def _write(self, name: str, samples: list[Samples]) -> None:
        partial = self._folder / f"partial-{name}"
        partial.write_bytes(pickle.dumps(samples))
        partial.rename(self._folder / name)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / "ledger-lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _read(path: Path) -> list[Samples]:
    samples: list[Samples] = pickle.loads(path.read_bytes())  # noqa: S301  written above, in a folder of our own
    return samples
