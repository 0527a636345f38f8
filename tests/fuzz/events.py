"""Targets: events of storage, as strangers send them."""

import json

from events.decode import of_cloud_event, of_request
from events.envelope import envelopes
from events.error import MalformedError
from events.object_event import ObjectEvent, look_at
from events.place import place_of
from loader import object_name
from tests.events.deliveries import bodies
from tests.fuzz.target import DefectError, Target

BASES = tuple(
    map(place_of, ("s3://bucket1/models/m/model", "gs://bucket3/models/new", "az://c/models", "hdfs://n/models/m"))
)


def storage_event(data: bytes) -> None:
    """As a webhook's body, with its kind in a header."""
    headers = {"eventtype": "OBJECT_DELETE"} if data[:1] == b"\t" else {}
    checked(of_request(headers, data))


def cloud_event(data: bytes) -> None:
    """The first line says how it is sent: a content type, or the type and subject of one in binary mode."""
    first, _, body = data.partition(b"\n")
    kind, _, subject = first.decode("latin-1").partition(" ")
    headers = {"content-type": kind}
    if not kind.startswith("application/cloudevents"):
        headers = {
            "ce-specversion": "1.0",
            "ce-id": "1",
            "ce-source": kind[:20],
            "ce-type": kind,
            "ce-subject": subject,
        }
    for event in envelopes(headers, body):
        checked(of_cloud_event(event))


def checked(events: tuple[ObjectEvent, ...]) -> None:
    for event in events:
        for base in BASES:
            name = event.place.below(base)
            if look_at(event, base) is not None and name and object_name.fault(name.removesuffix("/")) is not None:
                raise DefectError(f"a look because of {name!r}")


def cloud_event_corpus() -> list[bytes]:
    one = {"specversion": "1.0", "id": "1", "source": "s", "type": "com.zeroserve.storage.object.created.v1"}
    whole = one | {"data": {"url": "s3://bucket1/models/m/model/1/x"}}
    types = [
        b"google.cloud.storage.object.v1.finalized",
        b"google.cloud.pubsub.topic.v1.messagePublished",
        b"com.amazonaws.s3.ObjectCreated:Put",
        b"dev.knative.eventing.aws-sqs",
        b"Microsoft.Storage.BlobCreated /blobServices/default/containers/c/blobs/models/1/x",
    ]
    binary = [kind + b"\n" + body for kind in types for body in bodies()]
    structured = b"application/cloudevents+json\n" + json.dumps(whole).encode()
    return [*binary, structured, b"application/cloudevents-batch+json\n" + json.dumps([whole, one]).encode()]


_WORDS = (
    *b'../ %2F %2e%2e + \\u0000 \\ud800 s3: null [] {} -1 1e400 "Records" "body" "Sns" "Message"'.split(b" "),
    b"[" * 2000,
    b'{"Records":' * 200,
)

TARGETS = (
    Target("storage_event", storage_event, bodies, errors=(MalformedError,), words=_WORDS),
    Target("landing_cloud_event", cloud_event, cloud_event_corpus, errors=(MalformedError,), words=_WORDS),
)
