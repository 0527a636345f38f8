"""CRC-32s of the parts of a file: written down when the bytes come, compared whenever they are used again.

They find what disks and copies do to a file, not what an attacker does: who may write the cache may write the model.
zlib's CRC-32 takes 5 GB a second here, without Python's lock, and parts are checked side by side.
"""

import os
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

STEP_BYTES = 8 << 20
READ_BYTES = 1 << 20
"""Read at once: small enough for the processor's cache."""

THREADS = 4
"""Parts that are read at once; more would only wait for the disk."""


@dataclass(frozen=True, slots=True)
class PartSums:
    """What a file has to be.

    Attributes:
        size: bytes.
        step: bytes of each part but the last.
        crc32: of each part.
    """

    size: int
    step: int
    crc32: tuple[int, ...]


def sums_of(path: Path) -> PartSums:
    """The sums of a file as it is now."""
    size = path.stat().st_size
    with path.open("rb") as file:
        found = tuple(_crc32(file.fileno(), at, min(size, at + STEP_BYTES)) for at in range(0, size, STEP_BYTES))
    return PartSums(size, STEP_BYTES, found)


def damaged(folder: Path, files: Iterable[tuple[str, PartSums]]) -> list[str]:
    """The files below `folder` that are not what they have to be; a missing one is among them. Reads all of them."""
    parts: list[tuple[str, int, int, int]] = []
    bad: set[str] = set()
    for name, sums in files:
        try:
            size = (folder / name).stat().st_size
        except OSError:
            size = -1
        starts = range(0, sums.size, sums.step) if sums.step > 0 else range(0)
        if size != sums.size or len(starts) != len(sums.crc32):
            bad.add(name)
            continue
        parts += [(name, at, min(size, at + sums.step), wanted) for at, wanted in zip(starts, sums.crc32, strict=True)]

    def check(part: tuple[str, int, int, int]) -> None:
        name, start, end, wanted = part
        try:
            with (folder / name).open("rb") as file:
                right = _crc32(file.fileno(), start, end) == wanted
        except OSError:
            right = False
        if not right:
            bad.add(name)

    if len(parts) < 2 * THREADS and sum(end - start for _, start, end, _ in parts) < STEP_BYTES:
        for part in parts:
            check(part)
    else:
        with ThreadPoolExecutor(THREADS, "zeroserve-verify") as pool:
            list(pool.map(check, parts))
    return sorted(bad)


def _crc32(descriptor: int, start: int, end: int) -> int:
    buffer = memoryview(bytearray(min(READ_BYTES, max(1, end - start))))
    value = 0
    while start < end:
        count = os.preadv(descriptor, [buffer[: min(len(buffer), end - start)]], start)
        if not count:
            return -1  # it was cut off meanwhile
        value = zlib.crc32(buffer[:count], value)
        start += count
    return value
