"""Our own event, `com.zeroserve.storage.object.created.v1`, as `events.watch_event` writes it. Pure.

Anybody who puts models into storage may send it: data is `{"url": "s3://bucket/models/resnet/7"}`, the address of a
version, of a file in one, or of the model's base path; `size` (bytes), `etag` and `order` may be added.
"""

from typing import Any

from events.error import MalformedError
from events.json_value import inner, mapping, optional_size, optional_text, text
from events.object_event import ObjectCreated, ObjectEvent, ObjectRemoved
from events.place import place_of

CREATED = "com.zeroserve.storage.object.created.v1"
REMOVED = "com.zeroserve.storage.object.removed.v1"
SWEEP = "com.zeroserve.sweep.v1"
"""Makes the deploy function look at everything; about no object."""


def storage_event(event_type: str, data: Any) -> tuple[ObjectEvent, ...]:
    """The event of `CREATED` or `REMOVED`.

    Raises:
        MalformedError: data names no URL.
    """
    if event_type not in {CREATED, REMOVED}:
        raise MalformedError(f"type {event_type!r:.100} is not one of ours")
    value = mapping(inner(data, "data"), "data")
    place = place_of(text(value.get("url"), "data.url"))
    order = optional_text(value.get("order"))
    if event_type == REMOVED:
        return (ObjectRemoved(place, order, tree=True),)
    etag = optional_text(value.get("etag")) or optional_text(value.get("fingerprint"))
    return (ObjectCreated(place, optional_size(value.get("size")), etag, order, tree=True),)
