"""The routes file, read again when it has changed.

A ConfigMap's volume swaps a symbolic link for a folder with the new files, so a change is another inode or time behind
the path. Nothing runs in the background: a request looks, at most once in `LOOK_SECONDS`.

Source: kubernetes pkg/volume/util/atomic_writer.go.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from functions.routing.table import Routes, parse_routes
from loader.status import Code, ServingError

LOOK_SECONDS = 1.0
"""Between two looks at the file."""

MAX_BYTES = 1 << 20
"""Of the file, as much as a ConfigMap can hold."""

_log = logging.getLogger("zeroserve.routing")

Identity = tuple[int, int, int, int]


class RoutesFile:
    """The routes in force. Used on the event loop's thread only.

    A file that is not there means no routes; one that is broken leaves the last good ones in force.

    Args:
        path: empty for none.
        on_broken: called once for each broken state of the file.
        clock: seconds, as `time.monotonic`.
    """

    def __init__(self, path: str, on_broken: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._path = Path(path) if path else None
        self._on_broken = on_broken
        self._clock = clock
        self._next_look = 0.0
        self._seen: Identity | None = None
        self._routes = Routes()

    def routes(self) -> Routes:
        """What holds now."""
        now = self._clock()
        if self._path is not None and now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._look(self._path)
        return self._routes

    def _look(self, path: Path) -> None:
        try:
            found = path.stat()
            identity = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
            if identity == self._seen:
                return
            self._seen = identity
            if found.st_size > MAX_BYTES:
                raise ServingError(Code.INVALID_ARGUMENT, f"routes: {found.st_size} bytes, {MAX_BYTES} are allowed")
            self._routes = parse_routes(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            self._seen, self._routes = None, Routes()
        except (OSError, ServingError) as error:
            _log.error(
                "%s: %s; the last good routes stay", path, error.message if isinstance(error, ServingError) else error
            )
            self._on_broken()
        else:
            _log.info("routes read from %s", path)
