"""Who uses an entry of the cache, and who is changing it: locks on small files, which end with their process.

`flock` holds between all processes of one machine, pods too, and on network file systems that carry it to their server
(NFS, CephFS). Where a volume refuses it or only pretends, nothing is ever removed: see `Locks.work`.
"""

import contextlib
import fcntl
import functools
import os
from collections.abc import Iterator
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Locks:
    """One lock for each name. Safe for threads and processes that share the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._work: bool | None = None

    def work(self) -> bool:
        """Whether this folder has locks that exclude. Tried once."""
        if self._work is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            probe = self._folder / f"probe-{os.getpid()}-{id(self):x}"
            first, second = self._opened(probe), self._opened(probe)
            try:
                fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
                try:
                    fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._work = False
                except BlockingIOError:
                    self._work = True
            except OSError:
                self._work = False
            finally:
                os.close(first)
                os.close(second)
                probe.unlink(missing_ok=True)
        return self._work

    def shared(self, name: str) -> int | None:
        """In use from now on, until the descriptor is closed; None while somebody has it exclusively."""
        return self._take(name, fcntl.LOCK_SH)

    @contextlib.contextmanager
    def exclusive(self, name: str, *, without: bool = False) -> Iterator[bool]:
        """Whether nobody uses it; if so it stays ours inside the block.

        Args:
            without: what is said where locks do not work.
        """
        if not self.work():
            yield without
            return
        descriptor = self._take(name, fcntl.LOCK_EX)
        try:
            yield descriptor is not None
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def last_use(self, name: str) -> float:
        """When it was last taken by `shared`, in seconds since 1970; 0 for never."""
        try:
            return (self._folder / name).stat().st_mtime
        except OSError:
            return 0.0

    def forget(self, name: str) -> None:
        """Removes the file of a lock that the caller has exclusively. The last thing it does with it."""
        (self._folder / name).unlink(missing_ok=True)

    def _take(self, name: str, kind: int) -> int | None:
        path = self._folder / name
        while True:
            descriptor = self._opened(path)
            try:
                if self.work():
                    fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                if kind == fcntl.LOCK_SH:
                    os.utime(descriptor)
                if os.fstat(descriptor).st_ino == path.stat().st_ino:
                    return descriptor
            except BlockingIOError:
                os.close(descriptor)
                return None
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # a file that `forget` has removed meanwhile: whoever comes now locks another one

    def _opened(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


@functools.cache
def boot() -> str:
    """Names this boot of this machine, in 8 digits; zeros where the system does not say."""
    try:
        return _BOOT_ID.read_text()[:8]
    except OSError:
        return "0" * 8
