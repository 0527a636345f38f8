"""The record of one cached version: which files it has, what their bytes have to be, and what they could serve again.

Nothing is synced to the disk: that would cost a cold start as much as the download. A crash of the machine may so leave
files that are shorter than they were or full of zeros; their sums tell, whenever a version is used.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loader.part_sums import PartSums

NAME = "record.json"

MAX_BYTES = 64 << 20
"""Of a record that is read: 20,000 files with long names have less."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file.

    Attributes:
        sums: what its bytes have to be.
        identity: what other files with the same bytes share; None where nobody can tell. See `content_identity`.
    """

    sums: PartSums
    identity: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """What an entry holds.

    Attributes:
        url: where it came from, for people who look.
        folder: the version's folder in the entry.
        files: by path below that folder.
    """

    url: str
    folder: str
    files: Mapping[str, FileRecord]


def read(entry: Path) -> Record | None:
    """The record in the folder of an entry; None where there is none, or none that makes sense."""
    try:
        path = entry / NAME
        if path.stat().st_size > MAX_BYTES:
            return None
        content = json.loads(path.read_bytes())
        files = {str(name): _file(one) for name, one in content["files"].items()}
        return Record(str(content["url"]), str(content["folder"]), files)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def write(entry: Path, record: Record) -> None:
    """Puts a record into a folder that nobody else sees yet."""
    files = {
        name: {"size": one.sums.size, "step": one.sums.step, "crc32": one.sums.crc32, "identity": one.identity}
        for name, one in record.files.items()
    }
    (entry / NAME).write_text(json.dumps({"url": record.url, "folder": record.folder, "files": files}))


def complete(entry: Path) -> bool:
    """Whether an entry has a record and all files with their sizes; what is in them is not read."""
    record = read(entry)
    if record is None:
        return False
    folder = entry / record.folder
    try:
        return all((folder / name).stat().st_size == one.sums.size for name, one in record.files.items())
    except (OSError, ValueError):
        return False


def _file(content: Any) -> FileRecord:
    found = content["identity"]
    sums = PartSums(int(content["size"]), int(content["step"]), tuple(int(one) for one in content["crc32"]))
    return FileRecord(sums, None if found is None else str(found))
