"""`POST /v1/feedback`: what became of an answer.

    {"request_id": "<the answer's x-feedback-id>", "outcome": 1}

A number (true is 1) is counted for the version that answered, which `zeroserve compare` reads; whatever it is, it goes
to the sink as `com.zeroserve.feedback.v1`, whose subject is the request's id, as that of `com.zeroserve.request.v1` is.

One outcome for each answer: the same again is answered well and counted once, another one is refused (409), for as long
as this process remembers; the event's id is made from the request's alone, so whoever reads events can tell for ever.
"""

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from functions.tap.counts import FEEDBACK
from functions.tap.event_sink import Event, EventSink, Letter
from functions.tap.feedback_id import Answer, FeedbackIds
from functions.tap.outcomes import MAX_OUTCOME, Outcomes
from functions.web.message import JSON_HEADERS, Handler, Header, Request, Response, error_response, json_error
from loader.status import Code, ServingError

TYPE = "com.zeroserve.feedback.v1"
PATH = "/v1/feedback"

MAX_BODY_BYTES = 16 << 10
"""Of one outcome."""

MAX_REMEMBERED = 16_384
"""Answers whose outcomes a process remembers."""

_KEYS = {"request_id", "outcome"}


class Feedback:
    """Takes outcomes. One event loop owns it.

    Args:
        ids: reads ids.
        outcomes: where numbers are counted.
        sink: where events go; None for nowhere.
        source: of the events of a model and a version; of a bare request id with empty ones.
        headers: added to each answer: CORS.
    """

    def __init__(
        self,
        ids: FeedbackIds,
        outcomes: Outcomes,
        sink: EventSink | None,
        *,
        source: Callable[[Answer], str],
        headers: tuple[Header, ...] = (),
    ) -> None:
        self._ids = ids
        self._outcomes = outcomes
        self._sink = sink
        self._source = source
        self._headers = headers
        self._known: OrderedDict[bytes, bytes] = OrderedDict()

    def before(self, handler: Handler) -> Handler:
        """Answers `/v1/feedback`, and leaves all else to `handler`."""

        async def handle(request: Request) -> Response:
            if request.path != PATH or request.method == "OPTIONS":
                return await handler(request)
            response = self.handle(request)
            return Response(response.status, (*response.headers, *self._headers), response.body)

        return handle

    def handle(self, request: Request) -> Response:
        """The answer to one request: 202 with `{"accepted": true}`."""
        if request.method != "POST":
            return json_error(405, f"{request.method} {PATH}: wanted POST")
        try:
            result = self._take(request.body)
        except ServingError as error:
            self._outcomes.results.add(("busy" if error.code is Code.UNAVAILABLE else "refused",))
            return error_response(error)
        self._outcomes.results.add((result,))
        return Response(202, JSON_HEADERS, json.dumps({"accepted": True, "repeated": result == "repeated"}).encode())

    def _take(self, body: bytes) -> str:
        text, outcome = _read(body)
        answer = self._ids.read(text, time.time())
        number = _number(outcome)
        if self._sink is None and (number is None or not answer.model):
            raise _invalid("nothing takes this: wanted an x-feedback-id and a number, or --prediction_log_sink")
        try:
            content = json.dumps(outcome, sort_keys=True, allow_nan=False).encode()
        except ValueError:
            raise _invalid("outcome: holds a number that is too large") from None
        key = _digest(f"{answer.request_id}!{answer.model}!{answer.version}!{answer.unix_seconds}".encode())
        known = self._known.get(key)
        if known is not None:
            if known != _digest(content):
                raise ServingError(Code.ALREADY_EXISTS, "another outcome of this answer was taken already")
            return "repeated"
        if self._sink is not None:
            event = self._event(answer, outcome, key)
            if not self._sink.offer(Letter(FEEDBACK, "", lambda: event), len(event.data) + 1024):
                raise ServingError(
                    Code.UNAVAILABLE, "too many outcomes wait for the sink; send it again", retry_after=5.0
                )
        if number is not None and answer.model:
            self._outcomes.add(answer.model, answer.version, number)
        self._known[key] = _digest(content)
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
        return "accepted"

    def _event(self, answer: Answer, outcome: Any, key: bytes) -> Event:
        now = time.time()
        data: dict[str, Any] = {"request_id": answer.request_id, "outcome": outcome}
        if answer.model:
            data |= {"model": answer.model, "version": answer.version, "seconds": round(now - answer.unix_seconds, 1)}
        attributes = {
            "id": key.hex(),
            "type": TYPE,
            "source": self._source(answer),
            "subject": answer.request_id,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        }
        return Event(attributes, "application/json", json.dumps(data, allow_nan=False).encode())


def _read(body: bytes) -> tuple[str, Any]:
    """The id and the outcome of a body."""
    if len(body) > MAX_BODY_BYTES:
        raise _invalid(f"the body has {len(body)} bytes, an outcome may have {MAX_BODY_BYTES}")
    try:
        content = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"not JSON: {error}") from None
    if not isinstance(content, dict) or content.keys() != _KEYS or not isinstance(content["request_id"], str):
        raise _invalid('wanted {"request_id": "<x-feedback-id of the answer>", "outcome": ...}, and nothing else')
    return content["request_id"], content["outcome"]


def _number(outcome: Any) -> float | None:
    """The outcome as a number; None for one that is none."""
    if not isinstance(outcome, int | float):
        return None
    if not abs(outcome) <= MAX_OUTCOME:  # an infinity too: 1e999 is one
        raise _invalid(f"outcome: wanted a number of {MAX_OUTCOME:g} at the most by amount")
    return float(outcome)


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _invalid(text: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, text)
