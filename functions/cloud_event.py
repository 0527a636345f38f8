"""A CloudEvent in, a CloudEvent out: the door for brokers, triggers and queues.

The event's data is the body of a predict request, a picture, or `{"uri": "s3://bucket/key"}`: an object in storage
that holds one of those. The model is the one that the path names (`/v1/models/m:predict`), else the one of the event's
`model` attribute, else the only model there is. The answer is an event with the predictions in binary mode; 204
where no reply type is configured, and for an event of the reply type itself, so that a trigger without a filter does
not feed answers back for ever. An error is an HTTP error, which tells the broker whether to deliver again.

Source: CloudEvents 1.0, its HTTP protocol binding; Knative's delivery rules (a reply that is no event is an error).
"""

import asyncio
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from functions.rest.path import parse_prediction
from functions.web.message import Handler, Request, Response
from loader.status import Code, ServingError

PICTURES = {
    "jpg": b"image/jpeg",
    "jpeg": b"image/jpeg",
    "png": b"image/png",
    "webp": b"image/webp",
    "gif": b"image/gif",
    "bmp": b"image/bmp",
}
"""Endings of objects that are sent to the model as pictures."""

MAX_URI = 2048
"""Characters that a reference may have."""


@dataclass(frozen=True, slots=True)
class EventRules:
    """How events are answered.

    Attributes:
        reply_type: type of the answer; "" answers 204.
        source: of the answer; "" means the model's path.
        prefixes: storage URLs that a reference may point into; empty allows none.
        max_reference_bytes: longest object that is read.
    """

    reply_type: str
    source: str
    prefixes: tuple[str, ...]
    max_reference_bytes: int


@dataclass(frozen=True, slots=True)
class CloudEvents:
    """Answers POST requests that carry an event. Safe to share.

    Attributes:
        predict: the REST API.
        models: the names of the models that there are now.
        read: an object in storage by its URL, at most so many bytes; blocks.
    """

    rules: EventRules
    predict: Handler
    models: Callable[[], list[str]]
    read: Callable[[str, int], bytes]

    async def handle(self, request: Request) -> Response:
        """The answer to one event. Raises ServingError for what is no event, or names no model."""
        event = _parse(request)
        attributes = event.get_attributes()
        if self.rules.reply_type and attributes["type"] == self.rules.reply_type:
            return Response(204, (), b"")
        path = self._path(request.path, attributes)
        body, content_type = await self._data(event)
        headers = {b"content-type": content_type}
        timeout = request.headers.get(b"x-request-timeout-ms")
        if timeout is not None:
            headers[b"x-request-timeout-ms"] = timeout
        answer = await self.predict(Request("POST", path, request.query, headers, body))
        if answer.status != 200:
            return answer
        return self._reply(attributes, path, answer) if self.rules.reply_type else Response(204, (), b"")

    def _path(self, path: str, attributes: Any) -> str:
        if path.lower().startswith("/v1/"):
            if parse_prediction(path) is None:
                raise ServingError(Code.INVALID_ARGUMENT, f"Malformed request: POST {path}")
            return path
        name = attributes.get("model")
        if not name:
            names = self.models()
            if len(names) != 1:
                found = f"{len(names)} models: {', '.join(sorted(names)) or 'none'}"
                raise ServingError(
                    Code.INVALID_ARGUMENT,
                    f"the event names no model and this server has {found}; post it to /v1/models/<name>:predict, or "
                    "give it the attribute model",
                )
            name = names[0]
        return f"/v1/models/{quote(str(name), safe='')}:predict"

    async def _data(self, event: Any) -> tuple[bytes, bytes]:
        content_type = str(event.get_attributes().get("datacontenttype") or "application/json").encode(
            "latin-1", "replace"
        )
        data = event.get_data()
        # In structured mode the package gives JSON data back as its text, and base64 data as bytes.
        body = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else bytes(data or b"")
        reference = _reference(body) if len(body) <= 2 * MAX_URI and b'"uri"' in body else None
        if reference is None:
            return body, content_type
        url = self._allowed(reference)
        try:
            content = await asyncio.to_thread(self.read, url, self.rules.max_reference_bytes)
        except FileNotFoundError:
            raise ServingError(Code.NOT_FOUND, f"the event points at {url}, where there is nothing") from None
        ending = url.rpartition(".")[2].lower()
        return content, PICTURES.get(ending, b"application/json")

    def _allowed(self, reference: Any) -> str:
        """`reference`, which must lie in one of the prefixes: otherwise an event could read whatever we may read."""
        if not isinstance(reference, str) or not 0 < len(reference) <= MAX_URI:
            raise ServingError(Code.INVALID_ARGUMENT, f"uri: wanted a text of 1 to {MAX_URI} characters")
        inside = any(reference.startswith(prefix.rstrip("/") + "/") for prefix in self.rules.prefixes)
        strange = {"", ".", ".."} & set(reference.partition("://")[2].split("/"))
        if not inside or strange or not reference.isprintable() or set("?#%\\:") & set(reference.partition("://")[2]):
            raise ServingError(
                Code.PERMISSION_DENIED,
                f"uri: {reference!r} is not in one of the places that events may point into "
                "(--cloud_event_reference_prefixes)",
            )
        return reference

    def _reply(self, attributes: Any, path: str, answer: Response) -> Response:
        from cloudevents.conversion import to_binary  # noqa: PLC0415  only events pay for it
        from cloudevents.http import CloudEvent  # noqa: PLC0415

        replied = {
            "type": self.rules.reply_type,
            "source": self.rules.source or path.rpartition(":")[0],
            # The same event delivered twice is answered with the same id, so that the receiver may tell.
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{attributes['source']} {attributes['id']} {path}")),
            "datacontenttype": "application/json",
            "causationid": attributes["id"],
        }
        if attributes.get("subject"):
            replied["subject"] = attributes["subject"]
        headers, body = to_binary(CloudEvent(replied, answer.body))
        encoded = tuple((key.lower().encode("latin-1"), _header_value(value)) for key, value in headers.items())
        return Response(200, encoded, body)


def _parse(request: Request) -> Any:
    from cloudevents.exceptions import GenericException  # noqa: PLC0415  only events pay for it
    from cloudevents.http import from_http  # noqa: PLC0415

    headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in request.headers.items()}
    try:
        # Data in binary mode stays bytes: the model's own decoder reads it.
        return from_http(headers, request.body, data_unmarshaller=lambda data: data)
    except (GenericException, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ServingError(Code.INVALID_ARGUMENT, f"not a CloudEvent: {error}") from None


def _reference(body: bytes) -> Any:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return data["uri"] if isinstance(data, dict) and data.keys() == {"uri"} else None


def _header_value(value: Any) -> bytes:
    # Source: CloudEvents HTTP binding 3.1.3.2: what is not printable ASCII is percent-encoded.
    return quote(str(value), safe=" !#$&'()*+,-./:;<=>?@[]^_`{|}~").encode("ascii")
