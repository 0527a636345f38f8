"""Files that a version needs and another one in the cache already has."""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from loader import cache_record
from loader.cache_record import FileRecord
from loader.part_sums import damaged

logger = logging.getLogger("zeroserve.cache")


def reuse(entries: Iterable[Path], wanted: Mapping[str, str | None], folder: Path) -> dict[str, FileRecord]:
    """Puts files of other entries into `folder`, as hard links where the volume has them, else as copies.

    An entry may be removed meanwhile: a link either holds on to the file or is never made. Each file is read against
    its sums, so that what a disk has damaged does not spread.

    Args:
        entries: folders of entries.
        wanted: the identity of each file, by path; None where it has none.
        folder: of the version that is being fetched; nobody else uses it.

    Returns:
        The files that are there now; the others have to be fetched.
    """
    known: dict[str, tuple[Path, FileRecord]] = {}
    for entry in entries:
        record = cache_record.read(entry)
        for name, one in ({} if record is None else record.files).items():
            if one.identity is not None and record is not None:
                known.setdefault(one.identity, (entry / record.folder / name, one))
    found: dict[str, FileRecord] = {}
    for name, asked in wanted.items():
        if asked in known:
            source, one = known[asked]
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if _link(source, target):
                found[name] = one
    for name in damaged(folder, ((name, one.sums) for name, one in found.items())):
        logger.warning("%s in the cache is damaged and is fetched instead", known[found.pop(name).identity or ""][0])
        with contextlib.suppress(FileNotFoundError):
            (folder / name).unlink()
    return found


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except FileNotFoundError:
        return False  # removed meanwhile
    except OSError:  # no hard links here, or too many of this file
        try:
            shutil.copyfile(source, target)
        except OSError:
            target.unlink(missing_ok=True)
            return False
    return True
