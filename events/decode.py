"""What a request says about storage, whoever sent it: one decoder for each kind of message, by its form. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

from events import azure, gcs, hdfs, own_event, s3, seaweedfs, sns
from events.envelope import Envelope
from events.error import MalformedError
from events.json_value import inner, items, optional_text, parse
from events.object_event import ObjectEvent

MAX_EVENTS = 1000
"""Of one request."""

KNATIVE_QUEUE = frozenset({"dev.knative.eventing.aws-sqs", "dev.knative.eventing.aws-sns"})
"""Types of Knative's sources whose data is the text of a message of SQS or SNS."""

KNATIVE_BUCKET = "dev.knative.eventing.aws-s3"
"""Type of the source that sends objects themselves, and deletes them from the bucket unless it is told not to."""


def of_cloud_event(event: Envelope) -> tuple[ObjectEvent, ...]:
    """The storage events of a CloudEvent; empty for one about something else.

    Raises:
        MalformedError: its type promises what its data does not hold.
    """
    kind, data = event.type, event.data
    if kind in {own_event.CREATED, own_event.REMOVED}:
        return own_event.storage_event(kind, data)
    if kind == gcs.FINALIZED:
        return (gcs.created(inner(data, "data")),)
    if kind in gcs.DELETED:
        return (gcs.removed(inner(data, "data")),)
    if kind == gcs.PUBLISHED:
        return gcs.pushed(inner(data, "data"))
    if kind.startswith(s3.ADAPTER):
        return s3.adapted(kind, event.source, event.subject, data)
    if kind in KNATIVE_QUEUE:
        return s3.unpacked(inner(data, "data"))
    if kind == KNATIVE_BUCKET:
        raise MalformedError(
            f"type {KNATIVE_BUCKET} carries the object and not its name, and its source deletes objects: send the "
            "bucket's notifications through a queue (aws.sqs) or a webhook instead"
        )
    if kind.startswith(azure.PREFIX):
        return azure.storage_event(kind, event.source, event.subject, inner(data, "data"))
    decoder = _by_form(data, {}) if isinstance(data, dict) else None
    return decoder(data) if decoder is not None else ()


def of_request(headers: Mapping[str, str], body: bytes) -> tuple[ObjectEvent, ...]:
    """The storage events of a request that is no CloudEvent: a store's or a queue's own webhook.

    Raises:
        MalformedError: it is none that is known.
    """
    value = parse(body, "the body")
    if isinstance(value, list):
        return azure.grid_events(items(value, "the body", MAX_EVENTS))
    decoder = _by_form(value, headers) if isinstance(value, dict) else None
    if decoder is None:
        raise MalformedError(
            "the body is no storage event that is known here: wanted a CloudEvent, a notification of S3, MinIO, Ceph, "
            "SQS, SNS, EventBridge, Pub/Sub, Cloud Storage, SeaweedFS or HDFS, or a delivery of Event Grid"
        )
    return decoder(value)


def _by_form(value: dict[str, Any], headers: Mapping[str, str]) -> Callable[[Any], tuple[ObjectEvent, ...]] | None:
    """The decoder for a message of this form; None for a form that nobody here knows."""
    if "Records" in value or value.get("Event") == s3.TEST_EVENT or sns.is_sns(value):
        return s3.unpacked
    if value.get("source") == s3.EVENT_BRIDGE and "detail-type" in value:
        return s3.bridged
    if "message" in value and "subscription" in value:
        return gcs.pushed
    if value.get("kind") == gcs.KIND:
        # A push without its envelope: the message's attributes are headers, where they are written at all.
        return lambda found: gcs.by_type(found, headers.get("eventtype", ""))
    if "event_type" in value and "key" in value:
        return seaweedfs.webhook
    if optional_text(value.get("eventType")) in hdfs.KINDS:
        return hdfs.inotify
    return None
