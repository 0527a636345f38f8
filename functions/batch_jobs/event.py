"""Jobs that events ask for, and the events that tell what became of them.

    ce-type: com.zeroserve.batch.requested.v1
    {"inputs": ["s3://bucket/in/*.csv"], "output": "s3://bucket/out", "keep": ["id"]}

`inputs` must be there; `model` or `url` too, where the command line of the one who answers names none. An event may
name only what lies below the places that this one allows: it is his credentials that read and write.

Source: CloudEvents 1.0 and its JSON event format, in which a JobSink hands an event to its job.
"""

import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from events.envelope import STRUCTURED, Envelope, envelopes
from events.error import MalformedError
from events.watch_sink import Sink
from functions.batch_jobs.inputs import checked_url, output_beside
from functions.batch_jobs.request import BatchRequest
from loader.status import Code, ServingError

REQUESTED = "com.zeroserve.batch.requested.v1"
COMPLETED = "com.zeroserve.batch.completed.v1"
FAILED = "com.zeroserve.batch.failed.v1"

MAX_EVENT_BYTES = 1 << 20
SEND_TRIES = 5
FIRST_PAUSE = 0.5
"""Seconds before the second try to tell; doubled for each further one."""

_TEXTS = ("output", "model", "url", "name", "label", "signature", "format", "output_format", "delimiter")
_NUMBERS = ("version", "batch_rows", "part_rows", "limit", "max_row_bytes")
_SAFE = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"%')


def read_event(content: bytes) -> Envelope:
    """The event that a job was started with.

    Raises:
        ServingError: INVALID_ARGUMENT: it is none, or asks for something else.
    """
    try:
        event = envelopes({"content-type": STRUCTURED}, content)[0]
    except MalformedError as error:
        raise _invalid(f"not a CloudEvent: {error}") from None
    if event.type != REQUESTED:
        raise _invalid(f"an event of type {event.type!r:.100}: wanted {REQUESTED}")
    return event


def request_of(event: Envelope, defaults: Mapping[str, Any], allowed: Sequence[str]) -> tuple[BatchRequest, int, bool]:
    """The job that an event asks for, the bad rows that it may have, and whether it is to be done anew.

    Args:
        event: as `read_event` gives it.
        defaults: fields of `BatchRequest` for what the event does not say, and `max_errors`.
        allowed: prefixes of URLs that the event may name.

    Raises:
        ServingError: INVALID_ARGUMENT for what makes no sense, PERMISSION_DENIED for a place that is not allowed.
    """
    data = event.data
    if not isinstance(data, Mapping):
        raise _invalid("the event's data is no JSON object: wanted {'inputs': [URL, ...], ...}")
    known = {one.name for one in fields(BatchRequest)} - {"event"} | {"max_errors", "restart"}
    unknown = sorted(set(data) - known)
    if unknown:
        raise _invalid(f"the event's data has {unknown[0]!r:.80}: known are {', '.join(sorted(known))}")
    for url in (*_list(data, "inputs"), *(_text(data, name) for name in ("output", "model", "url") if data.get(name))):
        _check_allowed(url, allowed)
    values: dict[str, Any] = {name: _text(data, name) for name in _TEXTS if data.get(name) is not None}
    values |= {name: _number(data, name) for name in _NUMBERS if data.get(name) is not None}
    values |= {name: tuple(_list(data, name)) for name in ("inputs", "keep", "names") if data.get(name) is not None}
    if "model" in values or "url" in values:
        defaults = {name: value for name, value in defaults.items() if name not in _WHO}
    if data.get("columns") is not None:
        values["columns"] = {name: tuple(_list(data["columns"], name)) for name in _object(data, "columns")}
    if data.get("select") is not None:
        values["select"] = {name: _text(data["select"], name) for name in _object(data, "select")}
    for flag in ("compress", "restart"):
        if not isinstance(data.get(flag, False), bool):
            raise _invalid(f"the event's {flag!r}: wanted true or false")
    values["compress"] = data.get("compress", defaults.get("compress", False))
    errors = _number(data, "max_errors") if data.get("max_errors") is not None else int(defaults.get("max_errors", 0))
    rest = {name: value for name, value in defaults.items() if name != "max_errors"}
    named = values["output"] if "output" in values else defaults.get("output", "")
    if not named and values.get("inputs"):
        # Beside the inputs may be beside the place that is allowed.
        values["output"] = output_beside(values["inputs"])
        _check_allowed(values["output"], allowed)
    request = BatchRequest(**{"inputs": (), **rest, **values, "event": f"{event.source} {event.attributes['id']}"})
    return request, errors, bool(data.get("restart", False))


_WHO = ("model", "url", "name", "version", "label")


def told(event: Envelope, kind: str, subject: str, data: Mapping[str, Any]) -> tuple[dict[str, str], bytes]:
    """The event that tells what became of a job, in binary mode. The same request gives it the same id."""
    attributes = {
        "specversion": "1.0",
        "type": kind,
        "source": "/zeroserve/batch",
        "subject": subject,
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{event.source} {event.attributes['id']} {kind}")),
        "time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "causationid": event.attributes["id"],
    }
    headers = {f"ce-{name}": quote(value, safe=_SAFE) for name, value in attributes.items()}
    requested = {"id": event.attributes["id"], "source": event.source}
    return headers | {"content-type": "application/json"}, json.dumps({**data, "requested": requested}).encode()


def tell(sink: Sink, headers: dict[str, str], body: bytes, pause: Callable[[float], object] = time.sleep) -> str:
    """Delivers an event, with some tries; gives why not, empty where the sink has it."""
    text = ""
    for attempt in range(SEND_TRIES):
        if attempt:
            pause(FIRST_PAUSE * 2 ** (attempt - 1))
        answer = sink.post(headers, body)
        if answer.delivered:
            return ""
        text = answer.text
        if not answer.again:
            break
    return text


def _check_allowed(url: str, allowed: Sequence[str]) -> None:
    checked_url(url)
    rest = url.partition("://")[2]
    strange = set("?#%\\") & set(rest) or {".", ".."} & set(rest.split("/"))
    if strange or "://" not in url or not any(url.startswith(prefix.rstrip("/") + "/") for prefix in allowed):
        raise ServingError(
            Code.PERMISSION_DENIED, f"{url!r} is not in one of the places that events may name (--allow=PREFIX)"
        )


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str):
        raise _invalid(f"the event's {name!r}: wanted a text")
    return value


def _number(data: Mapping[str, Any], name: str) -> int:
    value = data.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _invalid(f"the event's {name!r}: wanted a whole number")
    return value


def _list(data: Mapping[str, Any], name: str) -> list[str]:
    value = data.get(name, [])
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _invalid(f"the event's {name!r}: wanted a list of texts")
    return value


def _object(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = data[name]
    if not isinstance(value, Mapping):
        raise _invalid(f"the event's {name!r}: wanted an object")
    return value


def _invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)
