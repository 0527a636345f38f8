"""The files of one version onto the local disk, by parallel ranged reads, each verified.

Worker threads take parts of `PART_BYTES` in order, write them where they belong, and digest a file as its beginning
becomes contiguous; nobody waits for anybody until the end. A file whose checksum differs is read again, and then given
up.

Cancelling returns at once: reads that are still under way end by themselves and write into files that nobody sees.
"""

import contextlib
import errno
import logging
import os
import queue
import threading
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from loader import manifest
from loader.checksum import checksum
from loader.part_sums import PartSums
from loader.status import Code, ServingError
from loader.storage import Storage, VersionListing
from loader.store import ObjectInfo

logger = logging.getLogger("zeroserve.download")

PART_BYTES = 8 << 20
"""Bytes of one ranged read: large enough that its round trip does not count, small enough for memory."""

PARALLEL_READS = 8
"""Ranged reads under way at once; each holds one part in memory."""

MAX_RANGELESS_BYTES = 1 << 30
"""Bytes of a file that has to be read at once, into memory, because its server knows no ranges."""

RETRIES = 3
"""How often one part is asked for again, after the driver's own retries."""

RETRY_SECONDS = 0.2
"""Pause before the first retry; each further one is twice as long."""

MAX_TRANSFERS = 3
"""How often one file is read before its checksum is believed to be wrong."""

_DIGEST_CHUNK = 256 << 10
"""Read back through one small buffer, which stays in the processor's cache."""

_NOTHING = memoryview(bytearray())


class _File:
    """One file on its way: its parts may be written in any order, its digest follows them in order.

    It is open from its first part to its last only: a version may have more files than a process may open.
    """

    def __init__(self, info: ObjectInfo, path: Path, entry: manifest.Entry | None, step: int) -> None:
        self.info = info
        self.wanted, self.certain, self._digest = checksum(info, entry)
        self.crc32 = [0] * len(range(0, info.size, step))
        self.step = step
        self.parts = [(at, min(info.size, at + step)) for at in range(0, info.size, step)]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(info.size)
        self._path = path
        self._file: BinaryIO | None = None
        self._opening = threading.Lock()
        self._written = [False] * len(self.parts)
        self._left = len(self.parts)
        self._digested = 0
        self._digesting = threading.Lock()

    def write(self, part: int, data: memoryview) -> None:
        start, end = self.parts[part]
        if len(data) != end - start:
            raise ServingError(
                Code.UNAVAILABLE, f"{self.info.path}: {len(data)} of the {end - start} bytes from byte {start} came"
            )
        self.crc32[part] = zlib.crc32(data)
        descriptor = self._descriptor()
        at = start
        while data:
            written = os.pwrite(descriptor, data, at)
            at, data = at + written, data[written:]
        self._written[part] = True
        self._follow(descriptor)
        with self._opening:
            self._left -= 1  # of the parts whose thread still needs the descriptor
            if not self._left:
                self._close()

    def close(self) -> None:
        """Closes the file, written or not; nobody is writing any more."""
        with self._opening:
            self._close()

    def _descriptor(self) -> int:
        with self._opening:
            if self._file is None:
                self._file = self._path.open("r+b")
            return self._file.fileno()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _follow(self, descriptor: int) -> None:
        """Digests what is contiguous by now. One thread at a time; the others go on reading."""
        buffer = memoryview(bytearray(_DIGEST_CHUNK)) if self._digest is not None and self._ready() else _NOTHING
        while self._digest is not None and self._ready() and self._digesting.acquire(blocking=False):
            try:
                while self._ready():
                    start, end = self.parts[self._digested]
                    for at in range(start, end, _DIGEST_CHUNK):
                        chunk = buffer[: min(_DIGEST_CHUNK, end - at)]
                        os.preadv(descriptor, [chunk], at)
                        self._digest.update(chunk)
                    self._digested += 1
            finally:
                self._digesting.release()
            # Looked at again after the release: a part that came just before it would else be left to nobody.

    def _ready(self) -> bool:
        return self._digested < len(self.parts) and self._written[self._digested]

    def found(self) -> str:
        """The checksum of what was written, in hexadecimal; empty where there is nothing to compare with."""
        return "" if self._digest is None else self._digest.digest().hex()


def download(
    storage: Storage,
    listing: VersionListing,
    folder: Path,
    entries: Mapping[str, manifest.Entry],
    cancel: threading.Event | None = None,
) -> dict[str, PartSums]:
    """Reads all files of a version into `folder`; gives the sums of what came, by path.

    Args:
        storage: where the version lies.
        listing: its files; an archive is one file.
        folder: an existing folder that nobody else uses; half filled after an error.
        entries: what the version's manifest says, by path.
        cancel: ends the download when set.

    Raises:
        ServingError: CANCELLED; UNAVAILABLE; ABORTED where a file was replaced meanwhile; DATA_LOSS where a checksum
            differs in every transfer; RESOURCE_EXHAUSTED where the disk is full.
        FileNotFoundError: a file is gone.
    """
    left = list(listing.files)
    sums: dict[str, PartSums] = {}
    seen: dict[str, str] = {}
    for attempt in range(MAX_TRANSFERS):
        try:
            files = [
                _File(info, folder / info.path, entries.get(info.path), _step(storage, listing, info)) for info in left
            ]
            transfer = _Transfer(storage, listing, files, cancel)
            try:
                transfer.run()
            finally:
                transfer.close()
        except OSError as error:
            if is_full(error):
                raise disk_full(folder.parent, listing) from error
            raise
        left = []
        for file in files:
            sums[file.info.path] = PartSums(file.info.size, file.step, tuple(file.crc32))
            found = file.found()
            if found == file.wanted:
                continue
            if not file.certain and seen.get(file.info.path) == found:
                # Twice the same bytes: this ETag is no MD5 (S3 with KMS keys). Size and identity are what is left.
                logger.info("%s of %s: its ETag is not its MD5", file.info.path, listing.url)
                continue
            if attempt + 1 == MAX_TRANSFERS:
                raise ServingError(
                    Code.DATA_LOSS,
                    f"{file.info.path} of {listing.url} has checksum {found}, but {file.wanted} was promised, "
                    f"{MAX_TRANSFERS} times: upload it again",
                )
            seen[file.info.path] = found
            left.append(file.info)
        if not left:
            break
    return sums


def is_full(error: OSError) -> bool:
    """Whether the disk is full, or a limit on it is reached."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def disk_full(folder: Path, listing: VersionListing) -> ServingError:
    """The folder's disk is full."""
    return ServingError(
        Code.RESOURCE_EXHAUSTED,
        f"{folder} has no room for the {listing.size} bytes of {listing.url}: give the cache a larger disk, or limit "
        "it with --cache_max_bytes",
    )


class _Transfer:
    """One go at some files."""

    def __init__(
        self, storage: Storage, listing: VersionListing, files: list[_File], cancel: threading.Event | None
    ) -> None:
        self._storage = storage
        self._listing = listing
        self._cancel = cancel
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._work: queue.SimpleQueue[tuple[_File, int]] = queue.SimpleQueue()
        self._files = files
        self._lock = threading.Lock()
        self._large = threading.Lock()  # one file that has to be read at once is in memory at a time
        self._reading = 0
        self._closed = False
        self._count = 0
        for file in files:
            for part in range(len(file.parts)):
                self._work.put((file, part))
                self._count += 1

    def run(self) -> None:
        threads = [
            threading.Thread(target=self._worker, name="zeroserve-download", daemon=True)
            for _ in range(min(PARALLEL_READS, self._count))
        ]
        self._reading = len(threads)
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.1 if self._cancel is not None else None)
                if self._cancel is not None and self._cancel.is_set():
                    self._stop.set()
                    raise ServingError(Code.CANCELLED, f"reading {self._listing.url} was cancelled")
        if self._failure is not None:
            raise self._failure

    def _worker(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    file, part = self._work.get_nowait()
                except queue.Empty:
                    return
                file.write(part, self._read(file, part))
        except BaseException as error:  # noqa: BLE001  # carried to the thread that waits, and raised there
            if not self._stop.is_set():
                self._failure = error
            self._stop.set()
        finally:
            with self._lock:
                self._reading -= 1
                self._close_unread()

    def close(self) -> None:
        """Closes the files: now, or when the last read that is still under way has ended."""
        with self._lock:
            self._closed = True
            self._close_unread()

    def _close_unread(self) -> None:
        if self._closed and not self._reading:
            for file in self._files:
                file.close()

    def _read(self, file: _File, part: int) -> memoryview:
        start, end = file.parts[part]
        info = file.info
        path = _path(self._listing, info)
        pause = RETRY_SECONDS
        for attempt in range(RETRIES + 1):
            try:
                with self._large if end - start > PART_BYTES else contextlib.nullcontext():
                    data = self._storage.view(path, start, end, info.etag)
                if len(data) == end - start or attempt == RETRIES:
                    return data
            except ServingError as error:
                if error.code is not Code.UNAVAILABLE or attempt == RETRIES:
                    raise
                logger.warning(
                    "%s of %s from byte %d is asked for again: %s", info.path, self._listing.url, start, error
                )
            if self._stop.wait(pause):
                break
            pause *= 2
        raise ServingError(Code.CANCELLED, f"reading {self._listing.url} was cancelled")


def _path(listing: VersionListing, info: ObjectInfo) -> str:
    return listing.name if listing.archive else f"{listing.name}/{info.path}"


def _step(storage: Storage, listing: VersionListing, info: ObjectInfo) -> int:
    """Bytes of one part: all of the file where its server gives no less."""
    if info.size <= PART_BYTES or storage.store().ranges(_path(listing, info)):
        return PART_BYTES
    if info.size > MAX_RANGELESS_BYTES:
        raise ServingError(
            Code.FAILED_PRECONDITION,
            f"{info.path} of {listing.url} has {info.size} bytes and its server gives no ranges, at most "
            f"{MAX_RANGELESS_BYTES} are read then: use a server that does",
        )
    return info.size
