"""Files of recorded requests, as a server with `--record_to` leaves them: one, or all below a folder, newest first.

Files of records can be put behind each other: what is read of a folder is one file of records again.
"""

from collections.abc import Iterator

from loader.storage import open_storage, read_object
from loader.store import shown_host

SUFFIX = ".tfrecord"

MAX_FILES = 10_000
"""Of one folder that are looked at: the newest."""


def record_files(url: str, limit: int, driver: str = "auto") -> Iterator[tuple[str, bytes]]:
    """Name and content of each file, the newest first by the time in its name; no more than `limit` bytes in all.

    Args:
        url: of one file, or of a folder where it ends in `/`.
        limit: bytes of all files; of a folder, files that would be too many are left out.
        driver: see `loader.storage.open_storage`.

    Raises:
        FileNotFoundError: no such file, or none below the folder.
        ServingError: as `loader.storage.read_object`.
    """
    if not url.endswith("/"):
        yield url, read_object(url, limit, driver)
        return
    storage = open_storage(url.rstrip("/"), driver)
    files = sorted(
        (info for info in storage.walk() if info.path.endswith(SUFFIX)),
        key=lambda info: info.path.rpartition("/")[2],
        reverse=True,
    )
    if not files:
        raise FileNotFoundError(f"no {SUFFIX} file below {shown_host(url)}")
    left = limit
    for info in files[:MAX_FILES]:
        if info.size > left:
            continue
        content = storage.read(info.path)
        left -= len(content)
        yield info.path, content


def read_records(url: str, limit: int, driver: str = "auto") -> bytes:
    """All of them as one; errors as `record_files`."""
    return b"".join(content for _, content in record_files(url, limit, driver))
