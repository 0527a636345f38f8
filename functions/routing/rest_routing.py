"""Routing before the REST doors (`/v1` and `/v2`): a request is answered here, or by the revision it belongs to."""

import time
from dataclasses import replace

from functions.observing.current_access import note_peer
from functions.routing.counts import RoutingCounts
from functions.routing.peer_headers import COPY, FORWARDED, REVISION, TAG_HEADER, TIMEOUT
from functions.routing.peer_rest import RestPeers
from functions.routing.router import Asked, Router, Why
from functions.routing.shadow import Copy, Shadow
from functions.routing.table import UserKey
from functions.routing.target import Target, Targets
from functions.routing.user_key import find_key
from functions.web.message import Handler, Request, Response, error_response
from loader.status import Code, ServingError

_COPY = COPY.encode()
_FORWARDED = FORWARDED.encode()
_REVISION = REVISION.encode()
_TIMEOUT = TIMEOUT.encode()
_HEADER_LENGTH = b"inference-header-content-length"


class RestRouting:
    """Puts itself before handlers. One event loop owns it.

    Args:
        router: decides.
        peers: the other revisions.
        shadow: takes copies.
        counts: where forwarded requests are counted.
        timeout: seconds that a request may take.
    """

    def __init__(
        self, router: Router, peers: RestPeers, shadow: Shadow, counts: RoutingCounts, *, timeout: float
    ) -> None:
        self._router = router
        self._peers = peers
        self._shadow = shadow
        self._counts = counts
        self._timeout = timeout
        self._targets = Targets()
        self._mark = (_REVISION, router.tag.encode())

    def before(self, handler: Handler) -> Handler:
        """A handler that answers as `handler` does where the request is for this revision."""

        async def handle(request: Request) -> Response:
            return await self._handle(request, handler)

        return handle

    async def _handle(self, request: Request, handler: Handler) -> Response:
        target = self._targets.of(request.path) if request.method in ("GET", "POST") else None
        if target is None:
            return self._marked(await handler(request))
        decision = self._router.decide(_asked(request, target))
        self._counts.note(decision)
        answer = None
        if not decision.here:
            answer = await self._forward(decision.tag, request)
            note_peer(decision.tag if answer is not None else "")
        if answer is None:
            # Here, or there is no such revision: what is said then is what this server says of a version it has not.
            if decision.version is not None:
                request = replace(request, path=target.path_of(decision.version))
            answer = self._marked(await handler(request))
        if decision.why is not Why.FIXED and target.predicts and answer.status == 200:
            self._copy(request, answer)
        return answer

    def _marked(self, answer: Response) -> Response:
        return Response(answer.status, (*answer.headers, self._mark), answer.body)

    async def _forward(self, tag: str, request: Request) -> Response | None:
        started = time.monotonic()
        result = "failed"
        try:
            answer = await self._peers.ask(tag, request, started + self._seconds(request))
            result = "absent" if answer is None else "answered"
        except ServingError as error:
            result = "late" if error.code is Code.DEADLINE_EXCEEDED else "failed"
            return error_response(error)
        finally:
            # Tags that nobody has come from whoever asks for them.
            self._counts.forwarded.add((tag if result == "answered" else "", "REST", result))
        if answer is not None:
            self._counts.forward_seconds.observe((tag, "REST"), time.monotonic() - started)
        return answer

    def _seconds(self, request: Request) -> float:
        wanted = request.headers.get(_TIMEOUT)
        if wanted is None:
            return self._timeout
        try:
            seconds = float(wanted) / 1000
        except ValueError:
            return self._timeout
        return min(self._timeout, seconds) if seconds > 0 else self._timeout

    def _copy(self, request: Request, answer: Response) -> None:
        rule = self._shadow.wants()
        if rule is None:
            return
        arm = next((value.decode("latin-1") for name, value in answer.headers if name == _REVISION), self._router.tag)
        if arm == rule.tag:
            return
        peers, seconds, kept = self._peers, self._timeout, dict(request.headers)
        kept.pop(_TIMEOUT, None)
        kept[_COPY] = b"1"
        copied = replace(request, headers=kept)

        async def send() -> tuple[bytes, dict[bytes, bytes]] | None:
            found = await peers.ask(rule.tag, copied, time.monotonic() + seconds)
            return (found.body, dict(found.headers)) if found is not None and found.status == 200 else None

        from functions.routing.rest_answer import read_rest_answer  # noqa: PLC0415  only where there is a shadow

        mine = (answer.body, dict(answer.headers))
        self._shadow.offer(Copy(arm, rule, len(request.body) + len(answer.body), mine, send, read_rest_answer))


def _asked(request: Request, target: Target) -> Asked:
    headers = request.headers

    def key(wanted: UserKey) -> bytes | None:
        body = request.body
        length = headers.get(_HEADER_LENGTH)
        if length is not None and length.isdigit() and len(length) < 20:
            body = body[: int(length)]
        return find_key(wanted, headers, body)

    return Asked(
        target.name,
        target.version,
        target.label,
        forwarded=_FORWARDED in headers,
        host=headers.get(b"host", b"").decode("latin-1"),
        by_tag_header=TAG_HEADER in headers,
        predicts=target.predicts and request.method == "POST",
        key=key,
    )
