"""TensorFlow Serving's REST API: which answer belongs to which request.

Source: tensorflow_serving/model_servers/http_rest_api_handler.cc and http_server.cc; rows A1.* and A3.* of the
project's reference. Deliberate differences: the query of a URL is ignored, `GET /v1/models` lists all models, and a
status asked for by label is that of the label's version.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from functions.first_load import FirstLoad
from functions.observing.current_access import note_asked, note_failed
from functions.observing.metrics import REST, Metrics
from functions.rest.metadata_json import encode_metadata
from functions.rest.path import Paths, Target, parse_inspection
from functions.rest.status_json import encode_models, encode_status
from functions.web.message import JSON_HEADERS, Header, Request, Response, error_response, not_found
from loader.manager import ServableManager
from loader.servable import ModelSpec, Servable, VersionStatus
from loader.status import Code, ServingError

CORS_HEADERS: tuple[Header, ...] = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"Content-Type"),
)
_OPTIONS_HEADERS: tuple[Header, ...] = ((b"content-type", b"text/html; charset=ISO-8859-1"),)

Verb = Callable[[Servable, Request, float], Awaitable[bytes]]
"""Answers one prediction: the version (held), the request, the deadline in `time.monotonic()` seconds -> JSON."""

_log = logging.getLogger("zeroserve.rest")


class RestApi:
    """Answers `/v1/...`. One event loop owns it.

    Args:
        manager: the models.
        first_load: what a request for a model that is not there yet waits for.
        verbs: `predict`, `classify` and `regress`.
        metrics: where requests are counted.
        timeout: seconds that a request may take.
        cors: whether answers carry CORS headers.
    """

    def __init__(
        self,
        manager: ServableManager,
        first_load: FirstLoad,
        verbs: Mapping[str, Verb],
        metrics: Metrics,
        *,
        timeout: float,
        cors: bool,
    ) -> None:
        self._manager = manager
        self._first_load = first_load
        self._verbs = verbs
        self._metrics = metrics
        self._count = metrics.request_count.by(REST)
        self._timeout = timeout
        self._json_headers = JSON_HEADERS + CORS_HEADERS if cors else JSON_HEADERS
        self._cors = CORS_HEADERS if cors else ()
        self._paths = Paths()

    async def handle(self, request: Request) -> Response:
        """The answer to any request whose path starts with `/v1`. Errors become answers here; it raises none."""
        name, started = "", time.perf_counter()
        try:
            if request.method == "POST":
                target = self._paths.prediction(request.path)
                if target is not None:
                    name = target.spec.name
                    note_asked(target.verb, target.spec)
                    body = await self._predict(target, request)
                    self._metrics.request_latency.observe(
                        (name, target.verb, "REST"), (time.perf_counter() - started) * 1e6
                    )
                    self._count.add((name, "OK"))
                    return Response(200, self._json_headers, body)
            elif request.method == "GET":
                target = parse_inspection(request.path)
                if target is not None:
                    name = target.spec.name
                    note_asked(target.verb, target.spec)
                    return Response(200, self._json_headers, await self._inspect(target))
            elif request.method == "OPTIONS" and request.path[:4].lower() == "/v1/":
                origin = request.headers.get(b"origin", b"")
                status = 200 if origin.startswith((b"http://", b"https://")) else 400
                return Response(status, (*_OPTIONS_HEADERS, *self._cors), b"")
            if request.path[:4].lower() != "/v1/":
                return not_found()
            raise ServingError(Code.INVALID_ARGUMENT, f"Malformed request: {request.method} {request.path}")
        except ServingError as error:
            failure = error
        except asyncio.CancelledError:
            self._count.add((name, Code.CANCELLED.name))
            raise
        except Exception:  # noqa: BLE001  whatever fails, the client gets an answer and the log the reason
            _log.exception("a request failed: %s %s", request.method, request.path)
            failure = ServingError(Code.INTERNAL, "internal error; the server's log says more")
        note_failed(failure.code, failure.message)
        self._count.add((name, failure.code.name))
        response = error_response(failure)
        return Response(response.status, (*response.headers, *self._cors), response.body)

    def deadline(self, request: Request) -> float:
        """When `request` must be answered, in `time.monotonic()` seconds: `X-Request-Timeout-Ms` may only shorten."""
        timeout = self._timeout
        wanted = request.headers.get(b"x-request-timeout-ms")
        if wanted is not None:
            try:
                seconds = float(wanted) / 1000
            except ValueError:
                seconds = -1.0
            if not 0 < seconds < float("inf"):
                raise ServingError(
                    Code.INVALID_ARGUMENT,
                    f"header X-Request-Timeout-Ms: found {wanted.decode('latin-1')!r}, wanted milliseconds above 0",
                )
            timeout = min(timeout, seconds)
        return time.monotonic() + timeout

    async def _predict(self, target: Target, request: Request) -> bytes:
        deadline = self.deadline(request)
        verb = self._verbs[target.verb]
        if not self._first_load.done.done():
            await self._first_load.wait_for(target.spec, deadline)
        with self._manager.handle(target.spec) as handle:
            return await verb(handle.servable, request, deadline)

    async def _inspect(self, target: Target) -> bytes:
        if target.verb == "models":
            return encode_models({name: self._known_statuses(name) for name in self._manager.names()})
        if target.verb == "metadata":
            await self._first_load.wait_for(target.spec, time.monotonic() + self._timeout)
            with self._manager.handle(target.spec) as handle:
                servable = handle.servable
                signatures = {name: one.proto for name, one in servable.model.signatures.items()}
                return encode_metadata(servable.id.name, servable.id.version, signatures)
        return encode_status(self._statuses(target.spec))

    def _known_statuses(self, name: str) -> list[VersionStatus]:
        try:
            return self._manager.statuses(name)
        except ServingError:  # none has been heard of yet: the model is listed without versions
            return []

    def _statuses(self, spec: ModelSpec) -> list[VersionStatus]:
        statuses = self._manager.statuses(spec.name)
        version = spec.version
        if spec.label is not None:
            version = self._manager.label_version(spec.name, spec.label)
        if version is None:
            return statuses
        found = [status for status in statuses if status.version == version]
        if not found:
            raise ServingError(Code.NOT_FOUND, f"Could not find version {version} of model {spec.name}")
        return found
