"""SeaweedFS's webhook: entries of its filer, where buckets are folders below `/buckets`. Pure.

Source: seaweedfs/seaweedfs weed/notification/webhook, weed/pb/filer.proto (EventNotification).
"""

from collections.abc import Mapping
from typing import Any

from events.json_value import mapping, optional_size, optional_text, text
from events.object_event import ObjectCreated, ObjectEvent, ObjectRemoved
from events.place import Place

BUCKETS = "/buckets/"


def webhook(value: Mapping[str, Any]) -> tuple[ObjectEvent, ...]:
    """The events of one message; folders and what lies outside of buckets give none.

    A rename is told with the old and the new entry.

    Raises:
        MalformedError: it has no key.
    """
    kind = optional_text(value.get("event_type"))
    key = text(value.get("key"), "key")
    message = mapping(value.get("message") or {}, "message")
    found: list[ObjectEvent] = []
    old = message.get("old_entry")
    new = message.get("new_entry")
    if kind in {"delete", "rename"} and (gone := _place(key)) is not None:
        found.append(ObjectRemoved(gone, tree=_is_folder(old)))
    if kind == "delete" or new is None:
        return tuple(found)
    entry = mapping(new, "message.new_entry")
    moved = kind == "rename"
    parent = optional_text(message.get("new_parent_path"))
    path = f"{parent.rstrip('/')}/{optional_text(entry.get('name'))}" if moved else key
    place = _place(path)
    if place is not None and (moved or not _is_folder(entry)):
        attributes = mapping(entry.get("attributes") or {}, "attributes")
        etag = optional_text(attributes.get("md5"))
        found.append(ObjectCreated(place, optional_size(attributes.get("file_size")), etag, tree=_is_folder(entry)))
    return tuple(found)


def _is_folder(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("is_directory") is True


def _place(path: str) -> Place | None:
    bucket, slash, key = path.removeprefix(BUCKETS).partition("/")
    return Place("s3", bucket, key) if path.startswith(BUCKETS) and slash and bucket and key else None
