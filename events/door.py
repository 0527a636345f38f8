"""The door of the deploy function: a request in, an answer out; what it is about goes to `Follower`.

| request | answer |
|---|---|
| an event about nothing that is declared | 204 |
| an event about a complete version: all is done / a rollout is under way | 204 / 202 |
| about a version that is not complete yet | 503, Retry-After |
| the cluster or storage does not answer, or too much at a time | 503, Retry-After |
| the cluster refuses what a declaration says | 500 |
| no event | 400 |
| nobody says who sends it / who sends it may not | 401 / 403 |
| too long | 413 |

One event loop owns it; looks run on threads of their own.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import Future
from typing import TypeVar

from events import azure, config_event, decode, own_event, sns
from events.answer import DONE, STARTED, Answer, again, refused
from events.declared import Declared
from events.envelope import Envelope, envelopes, is_cloud_event
from events.error import MalformedError
from events.follower import Follower
from events.json_value import parse
from events.looks import BusyError, Looks
from events.model_configs import ModelConfigs
from events.object_event import ObjectEvent, look_at
from events.oidc import IssuerError
from events.outcome import Outcome, State
from events.sender import SenderError, Senders
from knative.client import ApiError
from knative.error import DeployError
from loader.status import ServingError

SWEEPS = frozenset({own_event.SWEEP, "dev.knative.sources.ping"})
"""Types that wake us; a PingSource can send its own type only."""

MAX_EVENT_BYTES = 4 << 20
"""Of one request. Queues carry 256 KiB, brokers a few MiB; an event refers to objects, it does not hold them."""

MAX_REQUESTS = 2000
"""In flight at a time."""

ANSWER_SECONDS = 25.0
"""Longest that an answer takes: brokers wait 30 s."""

SWEEP_SECONDS = 20.0
"""Longest that a sweep is waited for; it goes on after that."""

INCOMPLETE_SECONDS = 5.0
"""After which an event for a version that is not complete is worth sending again."""

BUSY_SECONDS = 2.0

_PASSES = frozenset({401, 403, 409, 429})
"""What the API server says for a while: of an old token, of rights not given yet, of a race, of too much at a time."""

T = TypeVar("T")

_log = logging.getLogger("zeroserve.door")


class Door:
    """Answers requests.

    Args:
        follower: takes the steps.
        declared: looks that give the declarations; the key says nothing.
        configs: makes declarations of a TensorFlow Serving config.
        senders: who may.
        sns_topics: ARNs of the topics whose subscriptions are confirmed.
        open_url: opens the address that confirms a subscription; blocks.
    """

    def __init__(
        self,
        follower: Follower,
        declared: Looks[tuple[Declared, ...]],
        *,
        configs: ModelConfigs,
        senders: Senders,
        sns_topics: Collection[str],
        open_url: Callable[[str], object],
    ) -> None:
        self._follower = follower
        self._declared = declared
        self._configs = configs
        self._senders = senders
        self._topics = frozenset(sns_topics)
        self._open_url = open_url
        self._requests = 0

    async def handle(self, method: str, headers: Mapping[str, str], read: Callable[[int], Awaitable[bytes]]) -> Answer:
        """The answer to one request.

        Args:
            method: of HTTP.
            headers: names in small letters.
            read: the body, if it has no more bytes than its argument; raises BodyTooLongError otherwise. Not called
                for senders that may not.
        """
        if method == "OPTIONS":
            return _handshake(headers)
        if method != "POST":
            return Answer(405, "events are sent with POST", (("allow", "POST, OPTIONS"),))
        if self._requests >= MAX_REQUESTS:
            return again(f"{MAX_REQUESTS} requests are in flight", BUSY_SECONDS)
        self._requests += 1
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await asyncio.to_thread(self._senders.check, headers)
                answer = await self._answer(headers, await read(MAX_EVENT_BYTES))
        except Exception as error:  # noqa: BLE001  one table says what becomes of each
            answer = _of_error(error)
        finally:
            self._requests -= 1
        _log.debug("%s: answered %d %s", headers.get("ce-type", "a webhook"), answer.status, answer.text)
        return answer

    async def _answer(self, headers: Mapping[str, str], body: bytes) -> Answer:
        if is_cloud_event(headers):
            return await self._cloud_events(envelopes(headers, body))
        value = parse(body, "the body")
        code = azure.validation_code(value)
        if code is not None:
            return Answer(200, json.dumps({"validationResponse": code}), content_type="application/json")
        if isinstance(value, dict) and value.get("Type") == sns.CONFIRMATION:
            await asyncio.to_thread(self._open_url, sns.confirmation_url(value, self._topics))
            return DONE
        return await self._look(decode.of_request(headers, body))

    async def _cloud_events(self, found: tuple[Envelope, ...]) -> Answer:
        storage: list[ObjectEvent] = []
        answer, code = DONE, None
        for event in found:
            if event.type in SWEEPS:
                answer = _worse(answer, await self._sweep())
            elif event.type == config_event.TYPE:
                answer = _worse(answer, await self._configure(event))
            elif event.type == azure.VALIDATION:
                code = azure.validation_code({"type": event.type, "data": event.data})
            else:
                storage += decode.of_cloud_event(event)
        answer = _worse(answer, await self._look(tuple(storage)))
        if code is None or answer.status >= 400:
            return answer
        return Answer(200, json.dumps({"validationResponse": code}), content_type="application/json")

    async def _configure(self, event: Envelope) -> Answer:
        wishes = config_event.model_wishes(event.data)
        services = await asyncio.to_thread(self._configs.declare, wishes, event.attributes.get("service", ""))
        return await self._asked({service: set() for service in services})

    async def _look(self, events: tuple[ObjectEvent, ...]) -> Answer:
        if not events:
            return DONE
        declared = await _result(self._declared.ask(""))
        asked: dict[str, set[int]] = {}
        for event in events:
            for one in declared:
                look = look_at(event, one.base) if one.base else None
                if look is not None:
                    asked.setdefault(one.service, set()).update(() if look.version is None else (look.version,))
        return await self._asked(asked)

    async def _asked(self, asked: Mapping[str, set[int]]) -> Answer:
        """One look for each service; the answer is the worst that one of them gives."""
        looks = {service: self._follower.looks.ask(service) for service in asked}
        outcomes = await asyncio.gather(*map(_result, looks.values()), return_exceptions=True)
        answer, problem = DONE, None
        for service, outcome in zip(looks, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                _log.warning("%s: %s", service, outcome)
                problem = outcome
                continue
            answer = _worse(answer, _of_outcome(service, outcome, asked[service]))
        if problem is not None:
            raise problem
        return answer

    async def _sweep(self) -> Answer:
        """A look at everything. Nobody sends a sweep again: the next one comes anyway."""
        declared = await _result(self._declared.ask(""))
        looks = [
            asyncio.wrap_future(self._follower.looks.ask(service)) for service in {one.service for one in declared}
        ]
        if not looks:
            return DONE
        done, pending = await asyncio.wait(map(asyncio.shield, looks), timeout=SWEEP_SECONDS)
        for one in done:
            if (error := one.exception()) is not None:
                _log.warning("sweep: %s", error)
        return STARTED if pending else DONE


class BodyTooLongError(Exception):
    """The body has more bytes than are taken."""


def _of_error(error: Exception) -> Answer:
    match error:
        case SenderError():
            challenge = (("www-authenticate", 'Bearer, Basic realm="events"'),) if error.status == 401 else ()
            return Answer(error.status, str(error), challenge)
        case BodyTooLongError():
            return refused(413, f"the event has more than {MAX_EVENT_BYTES} bytes")
        case MalformedError():
            return refused(400, str(error))
        case TimeoutError():
            return again(f"no answer in {ANSWER_SECONDS:.0f} s; what was begun goes on", BUSY_SECONDS)
        case ServingError():
            return again(error.message, BUSY_SECONDS)
        case ApiError(status=status) if 400 <= status < 500 and status not in _PASSES:
            _log.error("%s", error)
            return refused(500, str(error))
        case BusyError() | DeployError() | IssuerError():
            return again(str(error), BUSY_SECONDS)
    _log.error("an event failed", exc_info=error)
    return refused(500, "internal error; the log of the deploy function says more")


def _of_outcome(service: str, outcome: Outcome, versions: set[int]) -> Answer:
    for version in sorted(versions):
        if version in outcome.lacking:
            text = f"{service}: version {version} is not complete: {outcome.lacking[version]}"
            return again(text, INCOMPLETE_SECONDS)
    return STARTED if outcome.state is State.WORKING else DONE


def _worse(one: Answer, other: Answer) -> Answer:
    return one if one.status >= other.status and one is not DONE else other


def _handshake(headers: Mapping[str, str]) -> Answer:
    # Source: cloudevents/spec http-webhook.md 4.2. It allows to send; each event is checked all the same.
    try:
        origin = azure.allowed_origin(headers)
    except MalformedError as error:
        return refused(400, str(error))
    return Answer(200, "", (("webhook-allowed-origin", origin), ("webhook-allowed-rate", "*"), ("allow", "POST")))


async def _result(future: Future[T]) -> T:
    """The result of a look; a request that goes away does not take the look with it, others wait for it too."""
    return await asyncio.shield(asyncio.wrap_future(future))
