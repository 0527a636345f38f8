"""S3, Google Cloud Storage and Azure through obstore: the cold path's driver.

obstore imports in about 30 ms where s3fs needs a second. See docs/adr/0003-object-store-driver.md.
A process that was forked after obstore had been used can never use it: its threads are gone, and every call hangs.
Such a process is told so at once, and reads through fsspec (see `_ask`); gunicorn forks before anything is read.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from loader.store import (
    LIST_SECONDS,
    MAX_OBJECTS,
    READ_SECONDS,
    NeedsFsspecError,
    ObjectInfo,
    denied,
    first_line,
    replaced,
    shown_host,
    too_many,
    unavailable,
)
from loader.store_environment import Options
from loader.store_etag import md5_of

CONNECT_SECONDS = 5.0
RETRIES = 3
RETRY_SECONDS = 10.0
"""Retries of one request stop after this many seconds."""

PUT_PARTS = 4
"""Parts of one upload that are on their way at the same time, each of 5 MiB."""

PAGE_OBJECTS = 1000
"""Objects asked for at once; what S3 gives at most."""

_FOLDER_MARKERS = ("assets", "assets.extra", "variables")


_T = TypeVar("_T")


class _Runtime:
    """Which process started obstore's threads; None while nothing was asked yet."""

    pid: int | None = None


class ObstoreStore:
    """The objects below `scheme://bucket/prefix`."""

    def __init__(self, url: str, options: Options) -> None:
        self._url = url
        self._options = dict(options)
        self._anonymous = bool(self._options.pop("anonymous_first", False))
        self._lock = threading.Lock()
        self._store: ObjectStore | None = None

    def walk(self) -> list[ObjectInfo]:
        """All objects below the prefix; see `Store.walk`.

        Raises:
            NeedsFsspecError: obstore refuses to list this bucket.
        """
        return self._ask(self._walk, "the prefix")

    def _walk(self, store: ObjectStore) -> list[ObjectInfo]:
        deadline = time.monotonic() + LIST_SECONDS
        found: list[ObjectInfo] = []
        for page in obstore.list(store, chunk_size=PAGE_OBJECTS):
            found.extend(_info(item) for item in page)
            if len(found) > MAX_OBJECTS:
                raise too_many(self._url)
            if time.monotonic() > deadline:
                raise unavailable(self._url, f"listing took longer than {LIST_SECONDS:g} s")
        if not found:
            raise FileNotFoundError(self._url)
        found.sort(key=lambda info: info.path)
        return _without_markers(found)

    def size(self, path: str) -> int:
        """Bytes of one object."""
        return self._ask(lambda store: int(obstore.head(store, path)["size"]), path)

    def info(self, path: str) -> ObjectInfo:
        """One object; see `Store.info`."""
        return self._ask(lambda store: _info(obstore.head(store, path)), path)

    def put(self, path: str, file: Path) -> None:
        """Uploads a file, a large one in parts; see `Store.put`.

        Raises:
            NeedsFsspecError: Cloud Storage without credentials, as of an emulator: obstore signs all uploads.
        """
        if self._url.startswith("gs://") and self._options.get("skip_signature"):
            raise NeedsFsspecError("it is written without credentials")
        self._ask(lambda store: obstore.put(store, path, file, max_concurrency=PUT_PARTS), path, "write")

    def delete(self, path: str) -> None:
        """Removes one object."""
        with contextlib.suppress(FileNotFoundError):
            self._ask(lambda store: obstore.delete(store, path), path, "delete")

    def ranges(self, path: str) -> bool:
        """Always."""
        del path
        return True

    def read(self, path: str, start: int, end: int, etag: str | None = None) -> memoryview:
        """Bytes of one object; see `Store.read`."""
        options: Any = {"range": (start, end)}
        if etag is not None and not etag.startswith("W/"):  # a weak ETag never matches
            options["if_match"] = etag if etag.startswith('"') else f'"{etag}"'

        def ask(store: ObjectStore) -> memoryview:
            try:
                return memoryview(obstore.get(store, path, options=options).bytes())
            except BaseError as error:
                if "416 " in str(error):  # the object ends before `start`; an empty one always does
                    return memoryview(b"")
                raise

        return self._ask(ask, path)

    def _ask(self, call: Callable[[ObjectStore], _T], what: str, doing: str = "read") -> _T:
        """The answer of one call, its errors in the words of `Store`."""
        if _Runtime.pid is None:
            _Runtime.pid = os.getpid()
        elif _Runtime.pid != os.getpid():
            raise NeedsFsspecError("obstore was used before this process was forked")
        try:
            try:
                return call(self._made())
            except (PermissionDeniedError, UnauthenticatedError):
                if not self._sign_instead():
                    raise
                return call(self._made())
        except (NotFoundError, FileNotFoundError) as error:
            raise FileNotFoundError(f"{shown_host(self._url)}: {what} is not there") from error
        except PreconditionError as error:
            raise replaced(self._url, what) from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise denied(self._url, first_line(error), doing) from error
        except InvalidPathError as error:
            raise NeedsFsspecError(first_line(error)) from error
        except BaseError as error:
            text = str(error)
            if "NoSuchBucket" in text or "404 Not Found" in text or "ContainerNotFound" in text:
                raise FileNotFoundError(f"{shown_host(self._url)}: no such bucket") from error
            if "PermanentRedirect" in text or "AuthorizationHeaderMalformed" in text:
                raise NeedsFsspecError("the bucket is in another region") from error
            raise unavailable(self._url, first_line(error), doing) from error

    def _made(self) -> ObjectStore:
        with self._lock:
            if self._store is None:
                self._store = _make(self._url, self._options | ({"skip_signature": True} if self._anonymous else {}))
            return self._store

    def _sign_instead(self) -> bool:
        """Whether there is another way to ask: with the machine's own identity, after asking as nobody."""
        with self._lock:
            if not self._anonymous:
                return False
            self._anonymous = False
            self._store = None
            return True


def _make(url: str, options: Options) -> ObjectStore:
    parts = urlsplit(url)
    config: Any = options
    endpoint = str(config.get("endpoint") or config.get("base_url") or "")
    client: Any = {
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "timeout": timedelta(seconds=READ_SECONDS),
        "user_agent": "zeroserve",
    }
    if endpoint.startswith("http://"):
        client["allow_http"] = True
    retry: Any = {
        "max_retries": RETRIES,
        "retry_timeout": timedelta(seconds=RETRY_SECONDS),
        "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
    }
    prefix = parts.path.strip("/") or None
    if parts.scheme == "s3":
        return S3Store(parts.netloc, prefix=prefix, client_options=client, retry_config=retry, **config)
    if parts.scheme == "gs":
        return GCSStore(parts.netloc, prefix=prefix, client_options=client, retry_config=retry, **config)
    container, _, host = parts.netloc.partition("@")
    if host:
        config = {"account_name": host.partition(".")[0], **config}
    return AzureStore(container, prefix=prefix, client_options=client, retry_config=retry, **config)


def _info(item: Any) -> ObjectInfo:
    etag = item["e_tag"]
    return ObjectInfo(item["path"], item["size"], item["last_modified"].timestamp(), etag, md5=md5_of(etag))


def _without_markers(found: list[ObjectInfo]) -> list[ObjectInfo]:
    """Consoles and copy tools put empty objects where a folder is; obstore shows them without their last `/`."""
    folders = {info.path[:at] for info in found for at, c in enumerate(info.path) if c == "/"}
    kept = []
    for info in found:
        if info.size == 0 and (info.path in folders or info.path.rpartition("/")[2] in _FOLDER_MARKERS):
            continue
        if info.size == 0 and "/" not in info.path:
            kept.append(ObjectInfo(info.path + "/", 0))
        else:
            kept.append(info)
    return kept
