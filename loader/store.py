"""What every store gives: the objects below one base path, ranges of their bytes, and room for new ones.

A store knows nothing of models or versions. Implementations: `loader.store_local`, `loader.store_obstore`,
`loader.store_fsspec`; `loader.storage` chooses between them by the URL.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from loader.status import Code, ServingError

MAX_OBJECTS = 100_000
"""Objects that one listing may hold, over all versions of a model."""

MAX_DEPTH = 16
"""Parts of a name below the base path; what lies deeper is refused, or not looked at in a local folder."""

LIST_SECONDS = 30.0
"""How long one listing may take, all pages and retries together."""

READ_SECONDS = 60.0
"""How long one ranged read may take."""

WRITE_SECONDS = 600.0
"""How long one object may take to be written."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object as a listing shows it.

    Attributes:
        path: relative to what was listed, parts separated by `/`; one that ends in `/` is a folder without objects.
        size: bytes; -1 where the store does not say.
        mtime: seconds since 1970; None where the store does not say.
        etag: the store's own identity of these bytes, as it wrote it; None where it has none.
        md5: 32 hexadecimal digits; None where the store has none. One taken from an ETag may be something else: see
            `md5_certain`.
        crc32c: as an unsigned number; None where the store has none.
        md5_certain: whether the store calls `md5` an MD5. S3 says only ETag, which is an MD5 unless the object was
            encrypted with KMS or uploaded in parts.
    """

    path: str
    size: int
    mtime: float | None = None
    etag: str | None = None
    md5: str | None = None
    crc32c: int | None = None
    md5_certain: bool = False


class NeedsFsspecError(Exception):
    """This store cannot serve this base path (an odd name in the bucket, another region); the fsspec driver can."""


class Store(Protocol):
    """The objects below one base path. All methods block; all may be called by several threads at once.

    Every method raises FileNotFoundError where there is nothing, and ServingError (UNAVAILABLE, PERMISSION_DENIED,
    UNAUTHENTICATED, RESOURCE_EXHAUSTED) where the store cannot be asked, within its own deadline.
    """

    def walk(self) -> list[ObjectInfo]:
        """All objects below the base path, in the order of their names, as the store has them now."""

    def size(self, path: str) -> int:
        """Bytes of the object at `path`, relative to the base path."""

    def info(self, path: str) -> ObjectInfo:
        """The object at `path` as a listing would show it."""

    def put(self, path: str, file: Path) -> None:
        """Makes the bytes of a local file the object at `path`, whole or not at all; what was there is replaced."""

    def delete(self, path: str) -> None:
        """Removes the object at `path`; one that is gone already is fine."""

    def ranges(self, path: str) -> bool:
        """Whether parts of the object at `path` can be read; a plain web server may only give all of it."""

    def read(self, path: str, start: int, end: int, etag: str | None = None) -> memoryview:
        """The bytes `[start, end)` of the object at `path`; fewer where it ends sooner.

        Args:
            path: relative to the base path.
            start: first byte.
            end: one past the last byte.
            etag: the identity from the listing; a store that can asks for exactly this one, and raises ServingError
                ABORTED where the object has been replaced since.
        """


def shown(url: str) -> str:
    """The URL as messages may show it: without user, password and query, which carry keys."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def shown_host(url: str) -> str:
    """Like `shown`, but keeps `container@account` of abfs URLs, which is an address and not a password."""
    parts = urlsplit(url)
    if parts.scheme in {"abfs", "abfss", "az", "wasb", "wasbs"} and ":" not in parts.netloc:
        return f"{parts.scheme}://{parts.netloc}{parts.path}"
    return shown(url)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without control characters; its type where it has no text."""
    line = next(iter(str(error).splitlines()), "").strip()
    return "".join(c if c.isprintable() else " " for c in line)[:500] or type(error).__name__


def unavailable(url: str, reason: str, doing: str = "read") -> ServingError:
    """The store cannot be reached or does not answer."""
    return ServingError(
        Code.UNAVAILABLE,
        f"cannot {doing} {shown_host(url)}: {reason}; check that its endpoint is right and reachable from here, and "
        "the credentials in the driver's own environment",
    )


def denied(url: str, reason: str, doing: str = "read") -> ServingError:
    """The store answers, and says no."""
    remedy = "list and read, or make it public" if doing == "read" else doing
    return ServingError(
        Code.PERMISSION_DENIED,
        f"may not {doing} {shown_host(url)}: {reason}; give its driver credentials that may {remedy}",
    )


def replaced(url: str, path: str) -> ServingError:
    """The object is no longer the one that was listed."""
    return ServingError(
        Code.ABORTED, f"{path} under {shown_host(url)} was replaced while it was read; the next look lists it anew"
    )


def too_many(url: str) -> ServingError:
    """The listing is longer than anybody keeps in memory."""
    return ServingError(
        Code.RESOURCE_EXHAUSTED,
        f"more than {MAX_OBJECTS} objects under {shown_host(url)}; point the base path at one model, or remove "
        "versions that are not served",
    )
