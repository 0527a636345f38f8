"""The versions of one model in storage: numbered folders, or numbered archives, below one base path.

The URL chooses the store: a plain path and `file://` the local file system, `s3://`, `gs://`, `abfs://`, `az://` the
object stores, everything else (`hdfs://`, `webhdfs://`, `http(s)://`, `memory://`, ...) fsspec. Credentials and
endpoints come from the drivers' own environment.
"""

import hashlib
import logging
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from loader import object_name
from loader.status import Code, ServingError
from loader.store import NeedsFsspecError, ObjectInfo, Store, shown_host
from loader.store_local import LocalStore

logger = logging.getLogger("zeroserve.storage")

DRIVERS = ("auto", "obstore", "fsspec")

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")

MAX_FILES = 20_000
"""Files that one version may hold."""

MAX_VERSION_BYTES = 1 << 40
"""Bytes that one version may hold: 1 TiB, more than fits any machine that serves."""

MAX_PROOFS = 1024
"""Proofs of completeness that one storage keeps."""

_SCHEMES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfss": "abfs", "wasb": "abfs", "wasbs": "abfs"}
_OBJECT_STORES = {"s3", "gs", "abfs", "az"}
_T = TypeVar("_T")
_INT64 = re.compile(r"[+-]?[0-9]{1,80}", re.ASCII)


@dataclass(frozen=True, slots=True)
class VersionListing:
    """One version as the storage shows it now.

    Attributes:
        version: its number.
        url: the folder or the archive, without credentials; for messages and as part of a cache key.
        name: its name below the base path: `00000123`, `7.tar.gz`.
        files: its files, paths relative to the folder, sorted; the one file itself for an archive.
        archive: the archive's name; None for a folder.
        fingerprint: 32 hexadecimal digits that change when any file comes, goes, grows or is replaced.
        refused: what is wrong with its names and numbers, in words; a version with any is never read.
    """

    version: int
    url: str
    name: str
    files: tuple[ObjectInfo, ...]
    archive: str | None
    fingerprint: str
    refused: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(max(0, info.size) for info in self.files)


class Storage:
    """One base path. All methods block and may be called by several threads; a fork makes its own connections.

    Attributes:
        url: the base path as given.
        local: the folder, where the base path is one of this machine; None for remote storage.
        proofs: fingerprints of versions that were proved complete; `loader.completeness` keeps them here.
    """

    def __init__(self, url: str, make: Callable[[str], Store], local: Path | None = None) -> None:
        self.url = url
        self.local = local
        self.proofs: OrderedDict[str, None] = OrderedDict()
        self._make = make
        self._lock = threading.Lock()
        self._store: tuple[int, Store] | None = None
        self._warned: set[tuple[str, str]] = set()

    def __repr__(self) -> str:
        return f"Storage({shown_host(self.url)!r})"

    def list_versions(self) -> dict[int, VersionListing]:
        """What is there now, never from a cache: version number to listing, in ascending order.

        Children whose names are not numbers are ignored. Where two names mean the same number the later one by name
        wins, with a warning.

        Raises:
            FileNotFoundError: the base path does not exist; in an object store: nothing lies below it.
            ServingError: UNAVAILABLE, PERMISSION_DENIED, RESOURCE_EXHAUSTED.

        Source: tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc (IndexChildrenByVersion).
        """
        children: dict[str, list[ObjectInfo]] = {}
        for info in self.walk():
            head, slash, rest = info.path.partition("/")
            below = children.setdefault(head, [])
            if not slash:
                below.append(replace(info, path=""))
            elif rest:
                below.append(replace(info, path=rest))
        versions: dict[int, VersionListing] = {}
        for name in sorted(children):
            listing = self._listing(name, children[name])
            if listing is None:
                continue
            other = versions.get(listing.version)
            if other is not None and (other.name, name) not in self._warned:
                self._warned.add((other.name, name))
                logger.warning(
                    "%s and %s under %s both mean version %d; %s is served: remove one of them",
                    object_name.shown(other.name),
                    object_name.shown(name),
                    shown_host(self.url),
                    listing.version,
                    object_name.shown(name),
                )
            versions[listing.version] = listing
        return dict(sorted(versions.items()))

    def read(self, path: str, start: int = 0, end: int | None = None, etag: str | None = None) -> bytes:
        """The bytes `[start, end)` of one object; fewer where it ends sooner.

        Args:
            path: relative to the base path: `7/saved_model.pb`.
            start: first byte.
            end: one past the last byte; None for the object's end.
            etag: from the listing, where only these very bytes will do.

        Raises:
            FileNotFoundError: no such object.
            ServingError: UNAVAILABLE, PERMISSION_DENIED; ABORTED where the object was replaced.
        """
        return bytes(self.view(path, start, end, etag))

    def view(self, path: str, start: int = 0, end: int | None = None, etag: str | None = None) -> memoryview:
        """Like `read`, without copying what the driver gave."""
        if end is None:
            size = self.size(path)
            if size < 0:
                raise ServingError(Code.FAILED_PRECONDITION, f"{shown_host(self.url)} does not say how large {path} is")
            end = size
        if end <= start:
            return memoryview(b"")
        stop = end
        return self._ask(lambda store: store.read(path, start, stop, etag))

    def size(self, path: str) -> int:
        """Bytes of one object; -1 where the store does not say. Errors as `read`."""
        return self._ask(lambda store: store.size(path))

    def walk(self) -> list[ObjectInfo]:
        """All objects below the base path, never from a cache; see `Store.walk`."""
        return self._ask(lambda store: store.walk())

    def info(self, path: str) -> ObjectInfo:
        """One object as a listing shows it. Errors as `read`."""
        return self._ask(lambda store: store.info(path))

    def put(self, path: str, file: Path) -> None:
        """Makes the bytes of a local file the object at `path`, whole or not at all; what was there is replaced.

        Raises:
            ServingError: UNAVAILABLE, PERMISSION_DENIED.
        """
        self._ask(lambda store: store.put(path, file))

    def delete(self, path: str) -> None:
        """Removes one object; one that is gone already is fine. Errors as `put`."""
        self._ask(lambda store: store.delete(path))

    def store(self) -> Store:
        """The connection of this process. One that was made before a fork is never used after it."""
        with self._lock:
            if self._store is None or self._store[0] != os.getpid():
                self._store = (os.getpid(), self._make(self.url))
            return self._store[1]

    def _ask(self, call: Callable[[Store], _T]) -> _T:
        """The answer of the store; of the fsspec driver from then on where obstore has to give up."""
        try:
            return call(self.store())
        except NeedsFsspecError as error:
            from loader.store_fsspec import FsspecStore  # noqa: PLC0415  # only where obstore cannot

            logger.warning("%s is read through fsspec from now on: %s", shown_host(self.url), error)
            with self._lock:
                self._make, self._store = FsspecStore, None
            return call(self.store())

    def _listing(self, name: str, below: list[ObjectInfo]) -> VersionListing | None:
        archive = next((suffix for suffix in ARCHIVE_SUFFIXES if name.endswith(suffix)), None)
        itself = next((info for info in below if not info.path), None)
        if (itself is None) == (archive is not None):
            return None  # a file that is no archive, or a folder that is named like one
        version = version_number(name.removesuffix(archive or ""))
        if version is None:
            return None
        if itself is not None:
            files: tuple[ObjectInfo, ...] = (replace(itself, path=name),)
            refused: list[str] = []
        else:
            files = tuple(info for info in below if not info.path.endswith("/"))
            refused = [] if self.local is not None else object_name.faults(info.path for info in files)
        if len(files) > MAX_FILES:
            refused.append(f"{len(files)} files, at most {MAX_FILES} are taken")
        size = sum(info.size for info in files)
        if size > MAX_VERSION_BYTES:
            refused.append(f"{size} bytes, at most {MAX_VERSION_BYTES} are taken")
        refused.extend(f"{info.path}: the store does not say how large it is" for info in files if info.size < 0)
        url = f"{shown_host(self.url).rstrip('/')}/{name}"
        return VersionListing(
            version, url, name, files, name if archive else None, _fingerprint(url, files), tuple(refused)
        )


def version_number(name: str) -> int | None:
    """The number that a folder's name is, as int64 in decimal: `00000123` is 123; None for any other name.

    Source: tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc (strings::safe_strto64).
    """
    if _INT64.fullmatch(name) is None:
        return None
    number = int(name)
    return number if -(1 << 63) <= number < 1 << 63 else None


def open_storage(url: str, driver: str = "auto", environ: Mapping[str, str] | None = None) -> Storage:
    """The storage of one model; nothing is contacted yet.

    Args:
        url: a plain path, `file://`, or the URL of any store.
        driver: who reads s3, gs and abfs: `auto` takes obstore where it can honour the environment and fsspec
            otherwise, `obstore` and `fsspec` insist.
        environ: the drivers' environment; the process's own where None.

    Raises:
        ServingError: INVALID_ARGUMENT for an empty URL, an unknown driver, or a protocol that nothing here reads.
    """
    if driver not in DRIVERS:
        raise ServingError(Code.INVALID_ARGUMENT, f"unknown storage driver {driver!r}; wanted one of {DRIVERS}")
    if not url or "\0" in url:
        raise ServingError(Code.INVALID_ARGUMENT, "the base path is empty or has a NUL; wanted a folder or a URL")
    scheme = urlsplit(url).scheme if "://" in url else ""
    if scheme in {"", "file", "local"}:
        path = Path(unquote(urlsplit(url).path) if scheme else url)
        return Storage(url, lambda _: LocalStore(path), local=path)
    if scheme in _SCHEMES:
        scheme, url = _SCHEMES[scheme], _SCHEMES[scheme] + url[len(scheme) :]
    variables = os.environ if environ is None else environ
    options = None
    if scheme in _OBJECT_STORES:
        from loader import store_environment  # noqa: PLC0415  # local models need none of it

        reader = {"s3": store_environment.s3, "gs": store_environment.gcs}.get(scheme, store_environment.azure)
        options = reader(variables) if driver != "fsspec" else None
        if options is None and driver == "obstore":
            raise ServingError(
                Code.INVALID_ARGUMENT,
                f"obstore cannot read {shown_host(url)} with the credentials that the environment names (a profile, or "
                "settings of fsspec only); use the storage driver 'auto' or 'fsspec'",
            )
    if options is not None:
        from loader.store_obstore import ObstoreStore  # noqa: PLC0415  # 30 ms that other stores need not pay

        found = options
        return Storage(url, lambda target: ObstoreStore(target, found))
    from loader.store_fsspec import FsspecStore, load_driver  # noqa: PLC0415  # drivers cost up to 1.5 s

    load_driver(url)
    return Storage(url, FsspecStore)


def read_object(url: str, limit: int, driver: str = "auto") -> bytes:
    """One whole object, for configuration files and the objects that events refer to.

    Raises:
        FileNotFoundError: no such object.
        ServingError: as `open_storage` and `Storage.read`; OUT_OF_RANGE where it has more than `limit` bytes.
    """
    folder, slash, name = url.rpartition("/")
    if not slash:
        folder, name = ".", url
    storage = open_storage(folder or "/", driver)
    size = storage.size(name)
    if size > limit:
        raise ServingError(
            Code.OUT_OF_RANGE, f"{shown_host(url)} has {size} bytes, at most {limit} are read from there"
        )
    data = storage.read(name, 0, limit + 1 if size < 0 else size)
    if len(data) > limit:
        raise ServingError(Code.OUT_OF_RANGE, f"{shown_host(url)} has more than {limit} bytes")
    return data


def _fingerprint(url: str, files: tuple[ObjectInfo, ...]) -> str:
    digest = hashlib.sha256(url.encode(errors="surrogateescape"))
    for info in files:
        line = f"\0{info.path}\0{info.size}\0{info.etag or info.md5 or info.mtime}"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]
