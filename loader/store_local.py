"""Files of the local file system, mounted volumes included."""

import contextlib
import os
import shutil
from pathlib import Path

from loader.store import MAX_DEPTH, MAX_OBJECTS, ObjectInfo, denied, first_line, too_many, unavailable

_COPY_BYTES = 1 << 20


class LocalStore:
    """The files below one folder. Links are followed: whoever may write here is the operator.

    Kubernetes mounts volumes of ConfigMaps and the like as links to folders.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def walk(self) -> list[ObjectInfo]:
        """All files below the folder; see `Store.walk`."""
        found: list[ObjectInfo] = []
        try:
            self._walk(str(self.path), "", 0, found)
        except FileNotFoundError:
            raise
        except NotADirectoryError as error:
            raise FileNotFoundError(f"{self.path} is not a folder") from error
        except PermissionError as error:
            raise denied(str(self.path), first_line(error)) from error
        except OSError as error:
            raise unavailable(str(self.path), first_line(error)) from error
        return found

    def _walk(self, folder: str, prefix: str, depth: int, found: list[ObjectInfo]) -> None:
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
        if prefix and not ordered:
            found.append(ObjectInfo(prefix, 0))
        for entry in ordered:
            name = prefix + entry.name
            try:
                if entry.is_dir():
                    if depth < MAX_DEPTH:
                        self._walk(entry.path, name + "/", depth + 1, found)
                    continue
                found.append(_info(name, entry.stat()))
            except FileNotFoundError:
                # Gone between the listing and now, or a link to nowhere: the next look sees what is there.
                continue
            if len(found) > MAX_OBJECTS:
                raise too_many(str(self.path))

    def size(self, path: str) -> int:
        """Bytes of one file."""
        return (self.path / path).stat().st_size

    def info(self, path: str) -> ObjectInfo:
        """One file; see `Store.info`."""
        target = self.path / path
        stat = target.stat()
        if not target.is_file():
            raise FileNotFoundError(f"{target} is not a file")
        return _info(path, stat)

    def put(self, path: str, file: Path) -> None:
        """Copies a file under another name first, which then takes the place; see `Store.put`."""
        target = self.path / path
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as source, beside.open("wb") as copy:
                shutil.copyfileobj(source, copy, _COPY_BYTES)
                copy.flush()
                os.fsync(copy.fileno())
            beside.replace(target)
        except PermissionError as error:
            raise denied(str(target), first_line(error), "write") from error
        except OSError as error:
            raise unavailable(str(target), first_line(error), "write") from error
        finally:
            with contextlib.suppress(OSError):  # usually it took the place already
                beside.unlink()

    def delete(self, path: str) -> None:
        """Removes one file, and the folders that only it was in: in an object store they are gone with it, too."""
        target = self.path / path
        try:
            target.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # the first that is not empty ends it
                for folder in target.parents[: path.count("/")]:
                    folder.rmdir()
        except OSError as error:
            raise denied(str(self.path / path), first_line(error), "delete") from error

    def ranges(self, path: str) -> bool:
        """Always."""
        del path
        return True

    def read(self, path: str, start: int, end: int, etag: str | None = None) -> memoryview:
        """Bytes of one file; see `Store.read`. `etag` is not asked for: the file that is open stays the same."""
        del etag
        try:
            with (self.path / path).open("rb") as file:
                return memoryview(os.pread(file.fileno(), end - start, start))
        except PermissionError as error:
            raise denied(str(self.path / path), first_line(error)) from error


def _info(path: str, stat: os.stat_result) -> ObjectInfo:
    # The inode tells a file that was renamed into place from the one before it with the same size and time.
    return ObjectInfo(path, stat.st_size, stat.st_mtime, f"{stat.st_ino}-{stat.st_mtime_ns}-{stat.st_ctime_ns}")
