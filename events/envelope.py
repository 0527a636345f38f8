"""CloudEvents as they come over HTTP: binary, structured and batched, read into one value each. Pure.

The `cloudevents` package reads neither batches nor, in structured mode, bytes as they are; and a door that strangers
knock at is better off with few lines and a limit for everything.

Source: CloudEvents 1.0 (attributes), its HTTP protocol binding 3.1 to 3.3, its JSON event format and batch format.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from events.error import MalformedError
from events.json_value import inner, items, mapping, parse, text

MAX_BATCH = 1000
"""Events of one batch."""

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"

_REQUIRED = ("specversion", "id", "source", "type")
_NAME = re.compile(r"[a-z0-9]{1,64}")


@dataclass(frozen=True, slots=True)
class Envelope:
    """One CloudEvent.

    Attributes:
        attributes: by name; `specversion`, `id`, `source` and `type` are there, `subject` and others may be.
        data: the value of JSON data, bytes of any other, None for no data.
    """

    attributes: Mapping[str, str]
    data: Any

    @property
    def type(self) -> str:
        """What happened."""
        return self.attributes["type"]

    @property
    def source(self) -> str:
        """Where."""
        return self.attributes["source"]

    @property
    def subject(self) -> str:
        """To what; empty where the event does not say."""
        return self.attributes.get("subject", "")


def is_cloud_event(headers: Mapping[str, str]) -> bool:
    """Whether a request carries CloudEvents. Names of headers are in small letters."""
    return "ce-specversion" in headers or _media_type(headers) in {STRUCTURED, BATCH}


def envelopes(headers: Mapping[str, str], body: bytes) -> tuple[Envelope, ...]:
    """The CloudEvents of a request.

    Raises:
        MalformedError: they are none, or too many.
    """
    kind = _media_type(headers)
    if kind == BATCH:
        return tuple(_structured(entry) for entry in items(parse(body, "the batch"), "the batch", MAX_BATCH))
    if kind == STRUCTURED:
        return (_structured(parse(body, "the event")),)
    attributes = {
        name.removeprefix("ce-"): _decoded(value) for name, value in headers.items() if name.startswith("ce-")
    }
    _check(attributes)
    return (Envelope(attributes, _data(body, kind)),)


def _structured(entry: Any) -> Envelope:
    value = mapping(entry, "the event")
    attributes = {
        name: one if isinstance(one, str) else str(one)
        for name, one in value.items()
        if name not in {"data", "data_base64"} and isinstance(one, str | int | bool)
    }
    _check(attributes)
    if "data_base64" not in value:
        return Envelope(attributes, value.get("data"))
    try:
        data = base64.b64decode(str(value["data_base64"]), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError(f"data_base64 is not base64: {error}") from None
    return Envelope(attributes, _data(data, attributes.get("datacontenttype", "")))


def _check(attributes: Mapping[str, str]) -> None:
    for name in _REQUIRED:
        text(attributes.get(name), f"attribute {name}")
    if attributes["specversion"] != "1.0":
        raise MalformedError(f"specversion {attributes['specversion']!r:.20}, wanted 1.0")
    for name, value in attributes.items():
        if not _NAME.fullmatch(name):
            raise MalformedError(f"attribute {name!r:.80}: wanted small letters and digits")
        if value:
            text(value, f"attribute {name}")


def _data(body: bytes, media_type: str) -> Any:
    kind = media_type.partition(";")[0].strip().lower()
    if not body:
        return None
    if kind in {"", "application/json", "text/json"} or kind.endswith("+json"):
        return parse(body, "data")
    try:
        # Queues carry JSON as text/plain and application/octet-stream.
        return inner(body, "data")
    except MalformedError:
        return body


def _decoded(value: str) -> str:
    # Source: HTTP binding 3.1.3.2: quotes and percent-encoding, once.
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise MalformedError("an attribute is not UTF-8") from None


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()
