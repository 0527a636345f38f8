"""Everything that fsspec reads: hdfs and webhdfs, http(s), memory, and any other installed protocol.

Its drivers have deadlines of their own, up to 40 s for a closed port, and some have none; so each call runs in a
thread that is waited for no longer than this module's deadline. A call that is given up ends when its driver does;
its thread is a daemon, so it never holds up the end of the process.

No listing comes from a driver's cache (`use_listings_cache=False`): those never expire by default.
"""

import base64
import contextlib
import importlib
import importlib.util
import os
import threading
import urllib.request
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import fsspec

from loader.status import Code, ServingError
from loader.store import (
    LIST_SECONDS,
    MAX_DEPTH,
    MAX_OBJECTS,
    READ_SECONDS,
    WRITE_SECONDS,
    ObjectInfo,
    denied,
    first_line,
    shown_host,
    too_many,
    unavailable,
)
from loader.store_etag import md5_of

CONNECT_SECONDS = 5.0

WEBHDFS_PORT = 9870
"""`dfs.namenode.http-address`: where a name node speaks WebHDFS."""

_NAMENODE_RPC_PORTS = {8020, 9000}

_HADOOP = ("HADOOP_HOME", "ARROW_LIBHDFS_DIR")
"""Where one of these is set pyarrow finds `libhdfs`. pyarrow alone may be there for Parquet files only."""

_FLAT = {"s3", "gs", "gcs", "abfs", "az"}
"""Stores that list all descendants of a prefix at once; the others are walked folder by folder."""

_T = TypeVar("_T")


class FsspecStore:
    """The objects below one URL, through fsspec's driver for its protocol."""

    def __init__(self, url: str) -> None:
        self._url = driver_url(url)
        self._protocol = urlsplit(self._url).scheme
        self._lock = threading.Lock()
        self._made: tuple[Any, str] | None = None

    def walk(self) -> list[ObjectInfo]:
        """All objects below the URL; see `Store.walk`."""
        return self._within(LIST_SECONDS, self._walk)

    def _walk(self) -> list[ObjectInfo]:
        fs, base = self._driver()
        fs.invalidate_cache()
        flat = self._protocol in _FLAT
        # Left to itself a walk skips folders that it cannot list, and a version would seem to have lost its files.
        how: dict[str, Any] = {} if flat else {"maxdepth": MAX_DEPTH, "withdirs": True, "on_error": "raise"}
        found = fs.find(base, detail=True, **how)
        prefix = base.rstrip("/") + "/" if base.rstrip("/") else ""
        objects: list[ObjectInfo] = []
        for name, detail in found.items():
            path = name.removeprefix(prefix) if prefix and name.startswith(prefix) else name.lstrip("/")
            # A link that points elsewhere, or back to the page itself, is not below this URL.
            if not path or (prefix and not name.startswith(prefix)):
                continue
            is_folder = detail.get("type") == "directory" or path.endswith("/")
            objects.append(ObjectInfo(path.rstrip("/") + "/", 0) if is_folder else _info(path, detail))
            if len(objects) > MAX_OBJECTS:
                raise too_many(self._url)
        if not objects and not fs.isdir(base):
            raise FileNotFoundError(shown_host(self._url))
        objects.sort(key=lambda info: info.path)
        return [self._sized(fs, prefix, info) if info.size < 0 else info for info in _without_folders(objects)]

    def _sized(self, fs: Any, prefix: str, info: ObjectInfo) -> ObjectInfo:
        """An index page names files without their sizes: each is asked for."""
        detail = fs.info(prefix + info.path)
        size = detail.get("size")
        return _info(info.path, detail | {"size": -1 if size is None else size})

    def size(self, path: str) -> int:
        """Bytes of one object; -1 where the store does not say."""

        def ask() -> int:
            fs, base = self._driver()
            size = fs.info(_join(base, path)).get("size")
            return -1 if size is None else int(size)

        return self._within(READ_SECONDS, ask)

    def info(self, path: str) -> ObjectInfo:
        """One object; see `Store.info`."""

        def ask() -> ObjectInfo:
            fs, base = self._driver()
            fs.invalidate_cache()
            detail = fs.info(_join(base, path))
            if detail.get("type") == "directory":
                raise FileNotFoundError(f"{shown_host(self._url)}: {path} is a folder")
            return _info(path, detail)

        return self._within(READ_SECONDS, ask)

    def put(self, path: str, file: Path) -> None:
        """Uploads a file; see `Store.put`. File systems get it under another name first, which then takes the place."""

        def ask() -> None:
            fs, base = self._driver()
            target = _join(base, path)
            if self._protocol in _FLAT:
                fs.put_file(str(file), target)
                return
            folder, _, name = target.rpartition("/")
            fs.makedirs(folder, exist_ok=True)
            beside = f"{folder}/.{name}.{os.getpid()}"
            fs.put_file(str(file), beside)
            if fs.exists(target):  # HDFS moves nothing onto what is there
                fs.rm_file(target)
            fs.mv(beside, target)

        self._within(WRITE_SECONDS, ask, "write")

    def delete(self, path: str) -> None:
        """Removes one object."""

        def ask() -> None:
            fs, base = self._driver()
            fs.rm_file(_join(base, path))

        with contextlib.suppress(FileNotFoundError):
            self._within(READ_SECONDS, ask, "delete")

    def ranges(self, path: str) -> bool:
        """Whether a web server gives parts; everything else that fsspec reads does."""
        if self._protocol not in {"http", "https"}:
            return True
        url = self._driver()[1]
        request = urllib.request.Request(_join(url, path), headers={"Range": "bytes=0-0"})  # noqa: S310  # http(s)
        try:
            with urllib.request.urlopen(request, timeout=CONNECT_SECONDS) as response:  # noqa: S310
                return bool(response.status == HTTPStatus.PARTIAL_CONTENT)
        except (OSError, ValueError) as error:
            raise unavailable(self._url, first_line(error)) from error

    def read(self, path: str, start: int, end: int, etag: str | None = None) -> memoryview:
        """Bytes of one object; see `Store.read`. fsspec's drivers cannot ask for one ETag."""
        del etag

        def ask() -> memoryview:
            fs, base = self._driver()
            data = memoryview(fs.cat_file(_join(base, path), start=start, end=end))
            # A web server that does not know ranges gives all of it.
            return data if len(data) <= end - start else data[start:end]

        return self._within(READ_SECONDS, ask)

    def _driver(self) -> tuple[Any, str]:
        with self._lock:
            if self._made is None:
                options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
                if self._protocol == "s3":
                    options["config_kwargs"] = {
                        "connect_timeout": CONNECT_SECONDS,
                        "read_timeout": READ_SECONDS,
                        "retries": {"max_attempts": 2},
                    }
                elif self._protocol == "memory":
                    options = {}  # its instances share one store; a new one is not needed, and takes no options
                fs, base = fsspec.core.url_to_fs(self._url, **options)
                self._made = (fs, base)
            return self._made

    def _within(self, seconds: float, call: Callable[[], _T], doing: str = "read") -> _T:
        """The answer of `call`, its errors in the words of `Store`, within `seconds`."""
        load_driver(self._url)  # before the clock starts: importing s3fs takes a second, on a busy machine more
        answer: list[_T] = []
        failure: list[BaseException] = []

        def work() -> None:
            try:
                answer.append(call())
            except BaseException as error:  # noqa: BLE001  # carried to the caller's thread, and raised there
                failure.append(error)

        thread = threading.Thread(target=work, name="zeroserve-store", daemon=True)
        thread.start()
        thread.join(seconds)
        if answer:
            return answer[0]
        if not failure:
            raise unavailable(self._url, f"no answer within {seconds:g} s", doing)
        error = failure[0]
        if isinstance(error, (ServingError, FileNotFoundError)):
            raise error
        if isinstance(error, NotADirectoryError):
            raise FileNotFoundError(first_line(error)) from error
        if isinstance(error, PermissionError):
            raise denied(self._url, first_line(error), doing) from error
        if isinstance(error, NotImplementedError):
            raise unavailable(self._url, f"the driver of {self._protocol!r} cannot do that", doing) from error
        raise unavailable(self._url, first_line(error), doing) from error


def driver_url(url: str) -> str:
    """The URL as fsspec's driver wants it.

    `hdfs://` goes over WebHDFS unless pyarrow and Hadoop's own libraries, which it needs, are installed: an RPC port of
    the name node (none, 8020, 9000) becomes its HTTP port 9870, any other port is taken as the HTTP port.
    """
    parts = urlsplit(url)
    hadoop = any(name in os.environ for name in _HADOOP) and importlib.util.find_spec("pyarrow") is not None
    if parts.scheme != "hdfs" or hadoop:
        return url
    port = parts.port
    http_port = WEBHDFS_PORT if port is None or port in _NAMENODE_RPC_PORTS else port
    user = f"{parts.username}@" if parts.username else ""
    return f"webhdfs://{user}{parts.hostname}:{http_port}{parts.path}"


def load_driver(url: str) -> None:
    """Imports the driver of a URL.

    Raises:
        ServingError: INVALID_ARGUMENT where no installed package knows the protocol.
    """
    protocol = urlsplit(url).scheme.partition("::")[0]
    if protocol in {"gs", "gcs"} and os.environ.get("STORAGE_EMULATOR_HOST"):
        # gcsfs would first wait 60 s for the emulator to speak gRPC over TLS; it reads this when it is imported.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    try:
        fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError) as error:
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"cannot open {shown_host(url)}: {first_line(error)}; install the fsspec driver of {protocol!r}, or use "
            "one of file, s3, gs, abfs, hdfs, webhdfs, http, https",
        ) from error


def _join(base: str, path: str) -> str:
    return f"{base.rstrip('/')}/{path}" if base else path


def _info(path: str, detail: dict[str, Any]) -> ObjectInfo:
    size = detail.get("size")
    etag = detail.get("ETag") or detail.get("etag") or detail.get("Last-Modified")
    md5 = md5_of(_text(detail.get("md5Hash")))
    crc32c = detail.get("crc32c")
    return ObjectInfo(
        path,
        -1 if size is None else int(size),
        _seconds(detail),
        _text(etag),
        md5=md5 or md5_of(_text(etag)),
        crc32c=int.from_bytes(base64.b64decode(crc32c), "big") if isinstance(crc32c, str) else None,
        md5_certain=md5 is not None,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _seconds(detail: dict[str, Any]) -> float | None:
    for name in ("mtime", "LastModified", "modificationTime", "last_modified", "created"):
        value = detail.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, (int, float)):
            # WebHDFS counts milliseconds; no file is from the year 5000.
            return value / 1000 if value > 1e11 else float(value)
    return None


def _without_folders(objects: list[ObjectInfo]) -> list[ObjectInfo]:
    """Keeps a folder only where nothing lies below it; `objects` are sorted, so that would come right after it."""
    following = [*(info.path for info in objects[1:]), ""]
    return [
        info
        for info, after in zip(objects, following, strict=True)
        if not (info.path.endswith("/") and after.startswith(info.path))
    ]
