"""The folder of a cache: what lies in it, what goes, and what crashes have left there."""

import contextlib
import logging
import shutil
import time
import uuid
from pathlib import Path

from loader import cache_record
from loader.cache_lock import Locks, boot
from loader.cache_room import make_room

logger = logging.getLogger("zeroserve.cache")

LEFTOVER_SECONDS = 6 * 3600.0
"""After this time what another machine has left half fetched on a shared volume is removed."""


class CacheFolder:
    """Entries by name. Safe for threads and processes that share the folder.

    Args:
        directory: the folder.
        locks: who uses what.
        max_bytes: what all entries may hold together; 0 for no limit.
    """

    def __init__(self, directory: Path, locks: Locks, max_bytes: int) -> None:
        self._directory = directory
        self._locks = locks
        self._max_bytes = max_bytes

    def entries(self) -> list[Path]:
        """The folders of all entries."""
        return [path.parent for path in self._directory.glob(f"v*/{cache_record.NAME}")]

    def part(self, entry: str) -> Path:
        """Where a fetch into `entry` may write; not there yet, and nobody else's."""
        return self._directory / f".part-{entry}-{boot()}-{uuid.uuid4().hex[:8]}"

    def make_room(self, part: Path, size: int) -> None:
        """Removes leftovers, and what was not used for longest, until `size` more bytes fit beside those in `part`.

        Raises:
            ServingError: RESOURCE_EXHAUSTED: they do not fit beside what is in use.
        """
        for gone in self._directory.glob(".gone-*"):
            shutil.rmtree(gone, ignore_errors=True)
        parts = self._directory.glob(".part-*")
        make_room(
            self._directory,
            size,
            self._max_bytes,
            arriving=[other for other in parts if other == part or not self._is_leftover(other)],
            entries=sorted((path.name for path in self.entries()), key=self._locks.last_use),
            remove=self._remove,
        )

    def discard(self, entry: str) -> None:
        """Removes an entry that the caller has exclusively, and what fetches of it have left.

        It disappears at once, whatever happens meanwhile.
        """
        gone = self._directory / f".gone-{uuid.uuid4().hex}"
        with contextlib.suppress(FileNotFoundError):
            (self._directory / entry).rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
        for left in self._directory.glob(f".part-{entry}-{boot()}-*"):
            shutil.rmtree(left, ignore_errors=True)

    def _remove(self, entry: str) -> bool:
        with self._locks.exclusive(entry) as owned:
            if owned:
                logger.info("removed %s from the cache to make room", entry)
                self.discard(entry)
                self._locks.forget(entry)
        return owned

    def _is_leftover(self, part: Path) -> bool:
        """Removes what a fetch left that ended without tidying up: nobody holds the lock of its entry."""
        entry, machine, _ = part.name.removeprefix(".part-").rsplit("-", 2)
        if machine == boot() and self._locks.work():
            with self._locks.exclusive(entry) as owned:
                if owned:
                    shutil.rmtree(part, ignore_errors=True)
            return owned
        # Of another machine, whose locks may not reach us, or of one where there are none: time tells.
        with contextlib.suppress(OSError):
            newest = max(path.stat().st_mtime for path in [part, *part.rglob("*")])
            if time.time() - newest > LEFTOVER_SECONDS:
                shutil.rmtree(part, ignore_errors=True)
                return True
        return False
