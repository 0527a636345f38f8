"""Local folders that are watched for changes: inotify on Linux, through `watchfiles`.

A notice says *look*, never what is there: notices are lost when the kernel's queue overflows, and none come for what
another machine writes to a shared file system. So every watcher looks on an interval too.
"""

import logging
import os
import threading
from collections.abc import Callable, Collection
from pathlib import Path

CALM_MILLISECONDS = 20
"""Changes that follow one another within this time are one notice."""

BUSY_MILLISECONDS = 200
"""While changes never stop, a notice is given at least this often."""

RENEW_SECONDS = 1.0
"""Between two looks at which folders there are to watch: one may be made, moved away, or come anew."""

FAILED_SECONDS = 30.0
"""After a watch that could not be made."""

CLOSE_SECONDS = 3.0

_REMOTE = frozenset(
    {
        "9p",
        "afs",
        "ceph",
        "cifs",
        "fuse",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
        "virtiofs",
    }
)

_log = logging.getLogger("zeroserve.watch")


class FolderWatch:
    """Tells when something changes below any of some folders. Order of use: `start`, `close`.

    Args:
        folders: gives the folders to watch now; those that are not there are watched once they are.
        changed: called on the watch's thread for each notice; must return soon.
    """

    def __init__(self, folders: Callable[[], Collection[Path]], changed: Callable[[], None]) -> None:
        self._folders = folders
        self._changed = changed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="folder-watch", daemon=True)

    def start(self) -> None:
        """Begins to watch, in a thread of its own."""
        self._thread.start()

    def close(self) -> None:
        """Ends the watch; waits for its thread, at most `CLOSE_SECONDS`."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        said = ""
        while not self._stop.is_set():
            there = _there(self._folders())
            pause = RENEW_SECONDS
            try:
                if there:
                    self._watch(there)
                    continue
            except FileNotFoundError:
                pass  # gone while its watch was made
            except (OSError, RuntimeError) as error:  # too many watches, for instance
                if str(error) != said:
                    _log.warning("not told of changes below %s: %s; only the interval finds them", _names(there), error)
                said, pause = str(error), FAILED_SECONDS
            self._stop.wait(pause)

    def _watch(self, watched: dict[Path, tuple[int, int]]) -> None:
        """Gives notices until the folders are others."""
        from watchfiles import watch  # noqa: PLC0415  only those who watch folders pay for it

        notices = watch(
            *watched,
            watch_filter=None,
            debounce=BUSY_MILLISECONDS,
            step=CALM_MILLISECONDS,
            stop_event=self._stop,
            rust_timeout=int(RENEW_SECONDS * 1000),
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
            force_polling=False,
        )
        # The first notice speaks for what changed before there was a watch; the one after the last change for what was
        # written into a new folder before it was watched too.
        due = True
        for changes in notices:
            if changes or due:
                self._changed()
            due = bool(changes)
            if _there(self._folders()) != watched:
                self._changed()  # what the watch has seen and not told yet ends with it
                return


def _names(folders: Collection[Path]) -> str:
    return ", ".join(map(str, folders))


def _there(folders: Collection[Path]) -> dict[Path, tuple[int, int]]:
    """Those folders that are there, each with what tells it from another of its name."""
    found = {}
    for folder in sorted(folders):
        try:
            stat = folder.stat()
        except OSError:
            continue
        found[folder] = (stat.st_dev, stat.st_ino)
    return found


def is_remote(folder: Path, mounts: str | None = None) -> bool:
    """Whether a folder lies on a file system that other machines write to, of which the kernel is not told.

    Args:
        folder: needs not be there.
        mounts: the text of `/proc/self/mountinfo`; None reads it. Without one (not on Linux) nothing is remote.

    Source: proc_pid_mountinfo(5).
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text()
        except OSError:
            return False
    target = os.path.realpath(folder)
    best, kind = "", ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields, type_ = left.split(" "), right.partition(" ")[0]
        if len(fields) < 5:
            continue
        point = fields[4].encode().decode("unicode_escape")  # a space is written \040
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, type_
    return kind.partition(".")[0] in _REMOTE
