"""Azure Blob Storage through Event Grid: in its CloudEvents schema and in its own; both validation handshakes. Pure.

Azure Data Lake tells of a file when it is made, with no bytes in it; what counts there is `FlushWithClose`.

Source: learn.microsoft.com/azure/event-grid/event-schema-blob-storage, .../cloud-event-schema-blob-storage,
.../end-point-validation-cloud-events-schema, .../end-point-validation-event-grid-events-schema;
cloudevents/spec http-webhook.md (the OPTIONS handshake).
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from events.error import MalformedError
from events.json_value import mapping, optional_size, optional_text, text
from events.object_event import ObjectCreated, ObjectEvent, ObjectRemoved
from events.place import Place, azure_bucket

PREFIX = "Microsoft.Storage."
VALIDATION = "Microsoft.EventGrid.SubscriptionValidationEvent"

_SUBJECT = re.compile(r"/blobServices/default/containers/([^/]+)/blobs/(.+)", re.DOTALL)
_ACCOUNT = re.compile(r"/storageAccounts/([a-z0-9]{3,24})", re.IGNORECASE)
_CODE = re.compile(r"[A-Za-z0-9-]{1,128}")
_ORIGIN = re.compile(r"[A-Za-z0-9.:/_-]{1,255}")
_EMPTY_AT_FIRST = "CreateFile"
"""The call that makes a file without bytes; `FlushWithClose` tells of it again when they are there."""


def storage_event(event_type: str, topic: str, subject: str, data: Any) -> tuple[ObjectEvent, ...]:
    """The events of `Microsoft.Storage.*`; those that are no blob that came or went give none.

    Args:
        event_type: `Microsoft.Storage.BlobCreated`.
        topic: what names the account: `source` in the CloudEvents schema, `topic` in the other.
        subject: `/blobServices/default/containers/C/blobs/NAME`, where the name is as it is.
        data: with `api`, `contentLength`, `eTag`, `sequencer`; of a rename `destinationUrl` and `sourceUrl`.

    Raises:
        MalformedError: it names no blob.
    """
    kind = event_type.removeprefix(PREFIX)
    value = mapping(data if data is not None else {}, "data")
    api = optional_text(value.get("api"))
    if kind not in {"BlobCreated", "BlobDeleted", "BlobRenamed", "DirectoryRenamed", "DirectoryDeleted"}:
        return ()
    if api == _EMPTY_AT_FIRST:
        return ()
    found = _SUBJECT.fullmatch(text(subject, "subject"))
    if found is None:
        raise MalformedError(f"subject {subject!r:.200} names no blob")
    account = _ACCOUNT.search(topic)
    bucket = azure_bucket(found[1], account[1].lower() if account else "")
    order = optional_text(value.get("sequencer"))
    place = Place("az", bucket, found[2])
    tree = kind.startswith("Directory")
    if kind.endswith("Deleted"):
        return (ObjectRemoved(place, order, tree),)
    size = optional_size(value.get("contentLength"))
    if kind.endswith("Renamed"):
        # The subject is the new name.
        gone = _renamed_from(optional_text(value.get("sourceUrl")), bucket)
        there = ObjectCreated(place, None, "", order, tree=True)
        return (there,) if gone is None else (ObjectRemoved(gone, order, tree=True), there)
    return (ObjectCreated(place, size, optional_text(value.get("eTag")), order),)


def _renamed_from(url: str, bucket: str) -> Place | None:
    # https://ACCOUNT.dfs.core.windows.net/CONTAINER/NAME
    container, slash, name = url.partition("://")[2].partition("/")[2].partition("/")
    if not slash or not name or container != bucket.partition("@")[0]:
        return None
    return Place("az", bucket, unquote(name))


def grid_events(entries: list[Any]) -> tuple[ObjectEvent, ...]:
    """The events of a delivery in Event Grid's own schema, which is a list.

    Raises:
        MalformedError: an entry is no event.
    """
    found: list[ObjectEvent] = []
    for entry in entries:
        event = mapping(entry, "an event")
        event_type = text(event.get("eventType"), "eventType")
        if event_type.startswith(PREFIX):
            topic, subject = optional_text(event.get("topic")), optional_text(event.get("subject"))
            found += storage_event(event_type, topic, subject, event.get("data"))
    return tuple(found)


def validation_code(entries: Any) -> str | None:
    """The code that a delivery of the type SubscriptionValidationEvent wants back; None for any other.

    Raises:
        MalformedError: there is a code, but not such a one: what a stranger sends is not echoed.
    """
    first = entries[0] if isinstance(entries, list) and entries else entries
    if not isinstance(first, dict) or VALIDATION not in (first.get("eventType"), first.get("type")):
        return None
    code = text(mapping(first.get("data"), "data").get("validationCode"), "validationCode")
    if not _CODE.fullmatch(code):
        raise MalformedError("validationCode has other characters than letters, digits and hyphens")
    return code


def allowed_origin(headers: Mapping[str, str]) -> str:
    """The origin that an OPTIONS request of a webhook's sender asks to be allowed.

    Raises:
        MalformedError: it names none, or an odd one.
    """
    origin = headers.get("webhook-request-origin", "")
    if not _ORIGIN.fullmatch(origin):
        raise MalformedError("the header WebHook-Request-Origin is missing, or names no host")
    return origin
