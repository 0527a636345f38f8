"""Models on the local disk: fetched once, shared by all processes that use the same folder, limited in size.

    <directory>/<entry>/<version>/...    a whole version; <entry> is made of its URL, number and fingerprint
    <directory>/<entry>/record.json      its files: sizes, sums, identities
    <directory>/locks/<entry>            shared: in use; exclusive: being fetched or removed; its time: last use
    <directory>/.part-<entry>-...        on its way
    <directory>/.gone-...                on its way out

An entry appears by one rename, after every byte was verified, and disappears by one. Whoever uses it reads it against
its sums first: what a disk or a crash has damaged is fetched again, and into another entry where somebody still uses
the damaged one.

Files of the same content exist once, whatever their versions, models and names: a version that comes takes those it
shares with others as hard links (`loader.content_identity` says which), and fetches the rest.
"""

import errno
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from loader import archive, cache_record
from loader.archive import ArchiveLimits
from loader.cache_folder import CacheFolder
from loader.cache_lock import Locks
from loader.cache_record import FileRecord, Record
from loader.cache_reuse import reuse
from loader.cache_room import over_limit
from loader.completeness import missing, read_manifest
from loader.content_identity import identity
from loader.download import disk_full, download, is_full
from loader.manifest import Entry, ManifestError
from loader.part_sums import damaged, sums_of
from loader.status import Code, ServingError
from loader.storage import Storage, VersionListing, open_storage

logger = logging.getLogger("zeroserve.cache")

LOCK_SECONDS = 3600.0
"""How long a fetch waits for another process that fetches the same version."""

LOCK_POLL_SECONDS = 0.05

MAX_SPARES = 3
"""Entries that one version may have at once: more than one only while a damaged one is still in use."""

Counted = Callable[[str, int], None]
"""Is told where bytes came from, `storage` or `cache`, and how many."""


class ModelCache:
    """A folder of fetched versions. Safe for threads and processes that share the folder.

    A fetched version stays while it is held: `release` it when the model is unloaded, so that room can be made.
    """

    def __init__(
        self,
        directory: Path,
        max_bytes: int = 0,
        limits: ArchiveLimits | None = None,
        *,
        private: bool = False,
        counted: Counted = lambda source, size: None,
    ) -> None:
        """Args: `max_bytes` is what all entries may hold together, 0 for no limit; `limits` bound an archive;
        `private` is for a folder whose name anybody knows: one that belongs to another user is not trusted.
        """
        self._directory = directory
        self._private = private
        self._max_bytes = max_bytes
        self._limits = limits or ArchiveLimits()
        self._counted = counted
        self._locks = Locks(directory / "locks")
        self._folder = CacheFolder(directory, self._locks, max_bytes)
        self._lock = threading.Lock()
        self._held: dict[str, tuple[int, int]] = {}
        self._sound: set[str] = set()  # of those held: read against their sums, or fetched by us

    def fetch(self, storage: Storage, listing: VersionListing, cancel: threading.Event | None = None) -> Path:
        """The folder of a version on this machine, complete and verified.

        A local folder is used where it lies. Everything else is read from storage unless it is here already; a fetch
        of the same version by another thread or process is waited for.

        Raises:
            ServingError: as `loader.download`; FAILED_PRECONDITION for a version that is refused or, once unpacked,
                not complete; RESOURCE_EXHAUSTED where it does not fit; CANCELLED.
            FileNotFoundError: it is gone from storage.
        """
        if listing.refused:
            raise ServingError(Code.FAILED_PRECONDITION, f"{listing.url} is refused: {'; '.join(listing.refused[:10])}")
        if storage.local is not None and listing.archive is None:
            return storage.local / listing.name
        self._make_directory()
        deadline = time.monotonic() + LOCK_SECONDS
        wait: Callable[[float], object] = time.sleep if cancel is None else cancel.wait
        while True:
            for entry in _entry_names(listing):
                path = self._directory / entry / str(listing.version)
                held = self._hold(entry)
                if held and self._is_sound(entry, listing):
                    return path
                filled = False
                with self._locks.exclusive(entry, without=not path.exists()) as owned:
                    if owned and (held or not cache_record.complete(path.parent)):
                        filled = self._fill(storage, listing, entry, cancel)
                if filled and self._hold(entry, sound=True):
                    return path
                if owned or not path.exists():
                    break  # it is there, or somebody else is fetching it
            if cancel is not None and cancel.is_set():
                raise ServingError(Code.CANCELLED, f"waiting for {listing.url} was cancelled")
            if time.monotonic() > deadline:
                raise ServingError(
                    Code.UNAVAILABLE,
                    f"another process has been fetching {listing.url} into {self._directory} for "
                    f"{LOCK_SECONDS:g} s: end it, or give this one another --cache_directory",
                )
            wait(LOCK_POLL_SECONDS)

    def release(self, path: Path) -> None:
        """Gives back what `fetch` returned: from now on it may be removed to make room. Unknown paths are ignored."""
        entry = path.parent.name
        with self._lock:
            held = self._held.get(entry)
            if held is None or path.parent.parent != self._directory:
                return
            count, descriptor = held
            if count > 1:
                self._held[entry] = (count - 1, descriptor)
            else:
                self._drop(entry)

    def _drop(self, entry: str) -> None:
        os.close(self._held.pop(entry)[1])
        self._sound.discard(entry)

    def _make_directory(self) -> None:
        try:
            if self._private:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                if self._directory.stat().st_uid != os.geteuid():
                    # A model runs as whatever its files say: whoever owns them here would own this process.
                    raise PermissionError(errno.EPERM, "it belongs to another user")
            (self._directory / "locks").mkdir(parents=True, exist_ok=True)
            if not self._locks.work():
                logger.warning(
                    "%s has no file locks: nothing in it is ever removed; put --cache_directory on another volume",
                    self._directory,
                )
        except OSError as error:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                f"cannot write to the cache folder {self._directory}: {error.strerror}; set --cache_directory to one "
                "that this user may write",
            ) from error

    def _hold(self, entry: str, *, sound: bool = False) -> bool:
        """Whether the entry is there with all its files; it is held from then on.

        Args:
            sound: we have just fetched it: its bytes are known to be right.
        """
        folder = self._directory / entry
        with self._lock:
            held = self._held.get(entry)
            if held is not None:
                if cache_record.complete(folder):
                    self._held[entry] = (held[0] + 1, held[1])
                    return True
                # Somebody removed it by hand. Holding on would keep the new fetch waiting for ourselves.
                self._drop(entry)
            if not folder.exists():
                return False
            descriptor = self._locks.shared(entry)
            if descriptor is None:
                return False
            if not cache_record.complete(folder):
                os.close(descriptor)
                return False
            self._held[entry] = (1, descriptor)
            if sound:
                self._sound.add(entry)
            return True

    def _is_sound(self, entry: str, listing: VersionListing) -> bool:
        """Whether the bytes of a held entry are what they were; it is given back where they are not."""
        if entry in self._sound:
            return True
        folder = self._directory / entry / str(listing.version)
        record = cache_record.read(folder.parent)
        files = {} if record is None else record.files
        started = time.monotonic()
        bad = damaged(folder, ((name, one.sums) for name, one in files.items()))
        if bad or record is None:
            logger.warning("%s in the cache is damaged (%s): it is fetched again", listing.url, ", ".join(bad[:3]))
            self.release(folder)
            return False
        size = sum(one.sums.size for one in files.values())
        logger.info("found %s in the cache: %d bytes verified in %.3f s", listing.url, size, time.monotonic() - started)
        self._counted("cache", size)
        self._sound.add(entry)
        return True

    def _fill(self, storage: Storage, listing: VersionListing, entry: str, cancel: threading.Event | None) -> bool:
        """Fetches a version into its entry; whether it is ours that is there now.

        The caller holds the entry's exclusive lock, or there are no locks and nobody has the entry yet.
        """
        if self._max_bytes and listing.size > self._max_bytes:  # nothing that could be removed would help
            raise over_limit(self._directory, listing.size, 0, self._max_bytes)
        if self._locks.work():
            self._folder.discard(entry)
        part = self._folder.part(entry)
        started = time.monotonic()
        try:
            part.mkdir()
            fill = self._fill_from_files if listing.archive is None else self._fill_from_archive
            files = fill(storage, listing, part, cancel)
            cache_record.write(part, Record(listing.url, str(listing.version), files))
            part.rename(self._directory / entry)
        except OSError as error:
            if error.errno in {errno.EEXIST, errno.ENOTEMPTY}:
                return False  # without locks: somebody else was sooner
            if is_full(error):
                raise disk_full(self._directory, listing) from error
            raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
        size = sum(one.sums.size for one in files.values())
        logger.info("read %s: %d files, %d bytes in %.3f s", listing.url, len(files), size, time.monotonic() - started)
        return True

    def _fill_from_files(
        self, storage: Storage, listing: VersionListing, part: Path, cancel: threading.Event | None
    ) -> dict[str, FileRecord]:
        folder = part / str(listing.version)
        folder.mkdir()
        entries = _manifest(storage, listing)
        identities = {info.path: identity(listing.url, info, entries.get(info.path)) for info in listing.files}
        # First the links: what they hold on to cannot be removed any more to make room for the rest.
        files = reuse(self._folder.entries(), identities, folder)
        rest = replace(listing, files=tuple(info for info in listing.files if info.path not in files))
        self._folder.make_room(part, rest.size)
        sums = download(storage, rest, folder, entries, cancel)
        self._counted("cache", listing.size - rest.size)
        self._counted("storage", rest.size)
        return files | {name: FileRecord(found, identities[name]) for name, found in sums.items()}

    def _fill_from_archive(
        self, storage: Storage, listing: VersionListing, part: Path, cancel: threading.Event | None
    ) -> dict[str, FileRecord]:
        folder = part / str(listing.version)
        name = listing.archive or ""
        self._folder.make_room(part, listing.size)
        if storage.local is not None:
            packed = storage.local / name
        else:
            download(storage, listing, part, {}, cancel)
            packed = part / name
        archive.unpack(packed, folder, self._limits, cancel)
        if storage.local is None:
            packed.unlink()
        self._counted("storage", listing.size)
        self._folder.make_room(part, 0)
        unpacked = open_storage(str(part))
        lacks = missing(unpacked, unpacked.list_versions()[listing.version])
        if lacks:
            raise ServingError(Code.FAILED_PRECONDITION, f"{listing.url} is not complete: {'; '.join(lacks[:10])}")
        found = (path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): FileRecord(sums_of(path)) for path in found}


def _entry_names(listing: VersionListing) -> list[str]:
    name = f"v{listing.version}-{listing.fingerprint}"
    return [name, *(f"{name}.{number}" for number in range(2, MAX_SPARES + 1))]


def _manifest(storage: Storage, listing: VersionListing) -> dict[str, Entry]:
    try:
        return read_manifest(storage, listing)
    except ManifestError as error:
        raise ServingError(Code.FAILED_PRECONDITION, f"the manifest of {listing.url} {error}") from error
