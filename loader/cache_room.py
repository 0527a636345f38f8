"""How much a cache holds, and what goes when more has to fit: what was not used for longest.

Versions share files by hard links, so bytes are counted by inode: a file of three versions counts once, and goes with
the last of them. Two fetches that begin in the same moment may both find the same room; the limit is then exceeded
until the next one begins.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from loader import cache_record
from loader.status import Code, ServingError

Inode = tuple[int, int]


def make_room(
    directory: Path,
    size: int,
    max_bytes: int,
    *,
    arriving: Iterable[Path],
    entries: Iterable[str],
    remove: Callable[[str], bool],
) -> None:
    """Removes entries until `size` more bytes fit under the limit and onto the disk.

    Args:
        directory: of the cache.
        size: bytes that are still to come.
        max_bytes: 0 for no limit.
        arriving: folders of fetches under way, this one's among them.
        entries: those that could go, in the order in which they should.
        remove: removes an entry unless somebody uses it; says whether it did.

    Raises:
        ServingError: RESOURCE_EXHAUSTED: they do not fit beside what is in use.
    """
    order = list(entries)
    held = {name: _inodes(directory / name) for name in order}
    sizes: dict[Inode, int] = {}
    owners: Counter[Inode] = Counter()
    for found in [*held.values(), *(_inodes(path) for path in arriving)]:
        sizes |= found
        owners.update(found.keys())
    used = sum(sizes.values())

    def fits() -> bool:
        return (not max_bytes or used + size <= max_bytes) and size <= shutil.disk_usage(directory).free

    for name in order:
        if fits():
            return
        if remove(name):
            for inode in held[name]:
                owners[inode] -= 1
                if not owners[inode]:
                    used -= sizes[inode]
    if max_bytes and used + size > max_bytes:
        raise over_limit(directory, size, used, max_bytes)
    free = shutil.disk_usage(directory).free
    if size > free:
        raise ServingError(
            Code.RESOURCE_EXHAUSTED,
            f"a version that needs {size} bytes does not fit into the {free} bytes free in {directory}: give the cache "
            "a larger disk",
        )


def over_limit(directory: Path, size: int, used: int, max_bytes: int) -> ServingError:
    """The limit stands in the way."""
    return ServingError(
        Code.RESOURCE_EXHAUSTED,
        f"a version of {size} bytes does not fit into the cache {directory}: {used} of {max_bytes} bytes are in use; "
        "raise --cache_max_bytes or serve fewer versions",
    )


def _inodes(folder: Path) -> dict[Inode, int]:
    """Sizes of all files below a folder but its record; what disappears meanwhile counts nothing."""
    found: dict[Inode, int] = {}
    for path in folder.rglob("*"):
        try:
            stat = path.stat()
        except OSError:
            continue
        if path.is_file() and path != folder / cache_record.NAME:
            found[stat.st_dev, stat.st_ino] = stat.st_size
    return found
