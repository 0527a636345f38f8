"""Files that appear whole or not at all."""

import os
from pathlib import Path


def write_whole(target: Path, data: bytes) -> None:
    """Writes a file such that nobody reads half of it: under another name first, which then takes the place.

    What is there and no regular file (a device such as /dev/null, a pipe) is written to, never replaced: as root a
    rename would turn the device itself into a file, for every program of the machine.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    if is_special(target):
        with target.open("wb", buffering=0) as file:
            file.write(data)
        return
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        beside.write_bytes(data)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def is_special(target: Path) -> bool:
    """Whether something is there that is no regular file."""
    return target.exists() and not target.is_file()
