"""Google Cloud Storage: an object's resource, by Eventarc or in a Pub/Sub message. Pure.

Source: cloud.google.com/storage/docs/json_api/v1/objects, .../pubsub-notifications; googleapis/google-cloudevents
proto/google/events/cloud/storage/v1/data.proto (int64s are texts in JSON, and numbers in some servers).
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from events.error import MalformedError
from events.json_value import inner, mapping, optional_size, optional_text, text
from events.object_event import ObjectCreated, ObjectEvent, ObjectRemoved
from events.place import Place

FINALIZED = "google.cloud.storage.object.v1.finalized"
DELETED = frozenset({"google.cloud.storage.object.v1.deleted", "google.cloud.storage.object.v1.archived"})
PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"
KIND = "storage#object"

_FINALIZE = "OBJECT_FINALIZE"
_GONE = frozenset({"OBJECT_DELETE", "OBJECT_ARCHIVE"})


def created(resource: Any) -> ObjectCreated:
    """The event of a finalized object, from its resource.

    Raises:
        MalformedError: it is no object's resource.
    """
    value = mapping(resource, "the object")
    return ObjectCreated(
        _place(value),
        optional_size(value.get("size")),
        optional_text(value.get("etag")) or optional_text(value.get("md5Hash")),
        optional_text(value.get("generation")),
    )


def removed(resource: Any) -> ObjectRemoved:
    """The event of a deleted object; as `created`."""
    value = mapping(resource, "the object")
    return ObjectRemoved(_place(value), optional_text(value.get("generation")))


def by_type(resource: Any, event_type: str) -> tuple[ObjectEvent, ...]:
    """The events of a resource by the attribute `eventType` of a notification; empty says nothing, and means created.

    Raises:
        MalformedError: as `created`.
    """
    if event_type in _GONE:
        return (removed(resource),)
    return (created(resource),) if event_type in {_FINALIZE, ""} else ()


def pushed(envelope: Any) -> tuple[ObjectEvent, ...]:
    """The events of a Pub/Sub push: `{"message": {"attributes": {...}, "data": base64}, "subscription": ...}`.

    Raises:
        MalformedError: it is none, or not about an object.
    """
    message = mapping(mapping(envelope, "the push").get("message"), "message")
    attributes: Mapping[str, Any] = mapping(message.get("attributes") or {}, "message.attributes")
    event_type = optional_text(attributes.get("eventType"))
    bucket, name = attributes.get("bucketId"), attributes.get("objectId")
    if bucket is not None and name is not None:
        # The attributes say all that matters, whatever the payload's format is (JSON_API_V1 or NONE).
        attributed = {"bucket": bucket, "name": name, "generation": attributes.get("objectGeneration")}
        return by_type({**_data(message, required=False), **attributed}, event_type)
    return by_type(_data(message, required=True), event_type)


def _data(message: Mapping[str, Any], *, required: bool) -> dict[str, Any]:
    try:
        return mapping(inner(_decoded(message.get("data")), "message.data"), "message.data")
    except MalformedError:
        if required:
            raise
        return {}


def _decoded(data: Any) -> bytes:
    if not isinstance(data, str):
        raise MalformedError("message.data is missing, and the message's attributes name no object")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError(f"message.data is not base64: {error}") from None


def _place(value: Mapping[str, Any]) -> Place:
    return Place("gs", text(value.get("bucket"), "bucket"), text(value.get("name"), "name"))
