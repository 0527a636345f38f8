"""What lies under a watched place: the versions of one model, or of every model in a folder of models.

A place is either a model's base path (`models/resnet`, with `7/` in it) or a folder of such folders (`models`, with
`resnet/7/` in it), or both at once. One listing of it serves all its models.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from events.watch_event import Landed
from loader import completeness
from loader.storage import ARCHIVE_SUFFIXES, Storage, VersionListing, version_number
from loader.store import ObjectInfo, Store

MAX_MODELS = 1000
"""Models of one place that are looked at; the others are named once, and wait for a place of their own."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One version that a look saw.

    Attributes:
        landed: what an event tells of it.
        lacks: why it is not complete, in words; empty when it is.
    """

    landed: Landed
    lacks: str


class WatchedPlace:
    """One place, looked at again and again by one thread at a time.

    Attributes:
        storage: the place itself; nothing is contacted before the first look.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._models: dict[str, _Model] = {}

    def look(self) -> list[Sight]:
        """All versions that are there now, never from a cache, sorted by their names.

        Raises:
            FileNotFoundError: there is no such place.
            ServingError: it cannot be listed, or holds too much.
        """
        listed = self.storage.store().walk()
        below = _by_model(listed)
        self._models = {name: self._models.get(name) or _Model(self.storage, name) for name in below}
        sights = []
        for name, objects in below.items():
            model = self._models[name]
            model.branch.objects = objects
            sights += [self._sight(name, model.storage, found) for found in model.storage.list_versions().values()]
        return sights

    def _sight(self, model: str, storage: Storage, listing: VersionListing) -> Sight:
        subject = f"{model}/{listing.name}" if model else listing.name
        landed = Landed(self.storage.url, subject, listing.fingerprint, len(listing.files), listing.size)
        return Sight(landed, "; ".join(completeness.missing(storage, listing)))


class _Model:
    """One model below the place: what was listed of it, and the proofs of its versions."""

    def __init__(self, place: Storage, name: str) -> None:
        self.branch = _Branch(place.store, f"{name}/" if name else "")
        local = place.local / name if place.local is not None else None
        url = f"{place.url.rstrip('/')}/{name}" if name else place.url
        self.storage = Storage(url, lambda _: self.branch, local)


class _Branch:
    """A part of a store that was listed already: see `loader.store.Store`."""

    def __init__(self, store: Callable[[], Store], prefix: str) -> None:
        self.objects: list[ObjectInfo] = []
        self._store = store
        self._prefix = prefix

    def walk(self) -> list[ObjectInfo]:
        return self.objects

    def size(self, path: str) -> int:
        return self._store().size(self._prefix + path)

    def info(self, path: str) -> ObjectInfo:
        return replace(self._store().info(self._prefix + path), path=path)

    def put(self, path: str, file: Path) -> None:
        self._store().put(self._prefix + path, file)

    def delete(self, path: str) -> None:
        self._store().delete(self._prefix + path)

    def ranges(self, path: str) -> bool:
        return self._store().ranges(self._prefix + path)

    def read(self, path: str, start: int, end: int, etag: str | None = None) -> memoryview:
        return self._store().read(self._prefix + path, start, end, etag)


def _by_model(listed: list[ObjectInfo]) -> dict[str, list[ObjectInfo]]:
    """Model -> the objects of its versions, paths relative to the model; "" is the place itself."""
    found: dict[str, list[ObjectInfo]] = {}
    for info in listed:
        first, _, rest = info.path.partition("/")
        if _is_version(first):
            found.setdefault("", []).append(info)
        elif _is_version(rest.partition("/")[0]) and (first in found or len(found) < MAX_MODELS):
            found.setdefault(first, []).append(replace(info, path=rest))
    return found


def _is_version(name: str) -> bool:
    return any(version_number(name.removesuffix(suffix)) is not None for suffix in ("", *ARCHIVE_SUFFIXES))
