"""S3's notifications: `{"Records": [...]}` of Amazon, MinIO, Ceph and moto, and what they are packed in. Pure.

The key of a record is form-encoded: once undone, `+` is a space and `%2B` a plus; it is never undone twice. MinIO
also encodes `/`, says `s3:ObjectCreated:Put` where Amazon says `ObjectCreated:Put`, and sends CompleteMultipartUpload
for what was uploaded in parts.

Source: docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html, .../lambda/latest/dg/
with-sqs.html and with-sns.html; minio/minio internal/event/event.go; cloudevents/spec adapters/aws-s3.md.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from events import sns
from events.error import MalformedError
from events.json_value import MAX_NESTING, inner, items, mapping, optional_size, optional_text, text
from events.object_event import ObjectCreated, ObjectEvent, ObjectRemoved
from events.place import Place

MAX_RECORDS = 1000
"""Records of one request."""

ADAPTER = "com.amazonaws.s3."
"""How the types of the CloudEvents adapter for S3 begin."""

TEST_EVENT = "s3:TestEvent"
"""What Amazon sends when a notification is configured."""

EVENT_BRIDGE = "aws.s3"
_CREATED = "ObjectCreated"
_REMOVED = ("ObjectRemoved", "LifecycleExpiration")


def records(notification: Any, depth: int = 0) -> tuple[ObjectEvent, ...]:
    """The events of a notification; records of other events (tags, restores) give none.

    A record may also be a message of a queue or a topic that holds a notification.

    Raises:
        MalformedError: it is none, or holds one that is too long or packed too deep.
    """
    value = mapping(notification, "the notification")
    if value.get("Event") == TEST_EVENT:
        return ()
    found: list[ObjectEvent] = []
    for entry in items(value.get("Records"), "Records", MAX_RECORDS):
        one = mapping(entry, "a record")
        packed = one.get("body") if "body" in one else mapping(one.get("Sns") or {}, "Sns").get("Message")
        if packed is None:
            found += record(one)
            continue
        if depth == MAX_NESTING:
            raise MalformedError(f"the notification is packed more than {MAX_NESTING} times")
        found += unpacked(packed, depth + 1)
        if len(found) > MAX_RECORDS:
            raise MalformedError(f"Records hold more than {MAX_RECORDS} events")
    return tuple(found)


def record(entry: Mapping[str, Any], event_name: str = "") -> tuple[ObjectEvent, ...]:
    """The event of one record.

    Args:
        entry: the record.
        event_name: where the record does not say itself.

    Raises:
        MalformedError: it names no bucket or key.
    """
    name = optional_text(entry.get("eventName") or event_name).removeprefix("s3:")
    if not name.startswith((_CREATED, *_REMOVED)):
        return ()
    s3 = mapping(entry.get("s3"), "s3")
    thing = mapping(s3.get("object"), "s3.object")
    bucket = text(mapping(s3.get("bucket"), "s3.bucket").get("name"), "s3.bucket.name")
    place = Place("s3", bucket, decoded_key(text(thing.get("key"), "s3.object.key")))
    order = optional_text(thing.get("sequencer"))
    if name.startswith(_REMOVED):
        return (ObjectRemoved(place, order),)
    return (ObjectCreated(place, optional_size(thing.get("size")), optional_text(thing.get("eTag")), order),)


def decoded_key(key: str) -> str:
    """The name of an object by the key of a record.

    Raises:
        MalformedError: its bytes are not UTF-8.
    """
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        raise MalformedError("s3.object.key is not UTF-8") from None


def unpacked(message: Any, depth: int = 0) -> tuple[ObjectEvent, ...]:
    """The events of a message's body, which is a notification, an event of EventBridge, or a topic's envelope.

    Raises:
        MalformedError: as `records`.
    """
    value = mapping(inner(message, "the message"), "the message")
    if value.get("Type") == "Notification" and "Message" in value:
        if depth == MAX_NESTING:
            raise MalformedError(f"the notification is packed more than {MAX_NESTING} times")
        return unpacked(value["Message"], depth + 1)
    if sns.is_sns(value):
        return ()  # the begin or the end of a subscription
    if value.get("source") == EVENT_BRIDGE:
        return bridged(value)
    return records(value, depth)


def bridged(event: Any) -> tuple[ObjectEvent, ...]:
    """The event of EventBridge; here the key is not encoded.

    Raises:
        MalformedError: it names no bucket or key.

    Source: docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html.
    """
    value = mapping(event, "the event")
    kind = optional_text(value.get("detail-type"))
    if kind not in {"Object Created", "Object Deleted"}:
        return ()
    detail = mapping(value.get("detail"), "detail")
    thing = mapping(detail.get("object"), "detail.object")
    bucket = text(mapping(detail.get("bucket"), "detail.bucket").get("name"), "detail.bucket.name")
    place = Place("s3", bucket, text(thing.get("key"), "detail.object.key"))
    order = optional_text(thing.get("sequencer"))
    if kind == "Object Deleted":
        return (ObjectRemoved(place, order),)
    etag = optional_text(thing.get("etag") or thing.get("eTag"))
    return (ObjectCreated(place, optional_size(thing.get("size")), etag, order),)


def adapted(event_type: str, source: str, subject: str, data: Any) -> tuple[ObjectEvent, ...]:
    """The event of the CloudEvents adapter for S3: the record as data; without it, what the attributes say.

    Raises:
        MalformedError: it names no bucket or key.
    """
    name = event_type.removeprefix(ADAPTER)
    if data is not None:
        return record(mapping(inner(data, "data"), "data"), name)
    if not name.startswith((_CREATED, *_REMOVED)):
        return ()
    # aws:s3.<region>.<bucket>; a region has no dot, a bucket may.
    bucket = source.partition(".")[2].partition(".")[2]
    place = Place("s3", text(bucket, "source's bucket"), text(subject, "subject"))
    return (ObjectRemoved(place),) if name.startswith(_REMOVED) else (ObjectCreated(place),)
