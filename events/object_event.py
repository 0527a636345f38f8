"""What every storage event comes down to: an object came, or an object went. Pure values.

An event only says where to look. What is done about it follows from what lies in storage, so a wrong, old or doubled
event can do no harm, and nothing here is trusted but the place.
"""

from dataclasses import dataclass

from events.place import Place, version_below
from loader import object_name


@dataclass(frozen=True, slots=True)
class ObjectCreated:
    """An object was written, replaced, copied or renamed to here.

    Attributes:
        place: where.
        size: bytes; None where the event does not say.
        etag: the store's identity of the bytes; empty where the event does not say.
        order: the store's mark of order (a generation, a sequencer, a transaction), as it wrote it; empty where the
            event has none. Marks of different objects say nothing about each other.
        tree: all that lies below the place came with it, or may have.
    """

    place: Place
    size: int | None = None
    etag: str = ""
    order: str = ""
    tree: bool = False


@dataclass(frozen=True, slots=True)
class ObjectRemoved:
    """An object was deleted or renamed away; the attributes are those of `ObjectCreated`."""

    place: Place
    order: str = ""
    tree: bool = False


ObjectEvent = ObjectCreated | ObjectRemoved


@dataclass(frozen=True, slots=True)
class Look:
    """What an event asks for at one base path.

    Attributes:
        version: that the object belongs to; None where the event is about more than one version.
    """

    version: int | None


def look_at(event: ObjectEvent, base: Place) -> Look | None:
    """What is to be looked at below the base path of a model because of `event`; None: the event is not about it.

    A name that could not be written below a folder (traversal, control characters, too long) is about nothing: the
    version that holds such an object is refused by its listing anyway.
    """
    name = event.place.below(base)
    if name is None:
        above = event.tree and base.below(event.place) is not None
        return Look(None) if above and not _fault(event.place.key) else None
    if not name.strip("/"):
        return Look(None)
    if _fault(name):
        return None
    version = version_below(name)
    return None if version is None else Look(version)


def _fault(name: str) -> bool:
    return bool(name) and object_name.fault(name.removesuffix("/")) is not None
