"""The Open Inference Protocol over REST: which answer belongs to which request below `/v2`.

Source: kserve/open-inference-protocol, specification/protocol/inference_rest.md; Triton's binary data and model
repository extensions; rows E1-E10 of the project's reference.
"""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any
from urllib.parse import parse_qs, unquote

from functions.observing.current_access import note_failed
from functions.observing.metrics import OIP_REST, Metrics
from functions.oip.calls import EXTENSIONS, SERVER_NAME, OipModels
from functions.oip.json_body import decode_infer, encode_infer
from functions.web.message import JSON_HEADERS, Request, Response, error_response, json_error
from loader.status import Code, ServingError

HEADER_LENGTH = b"inference-header-content-length"

THREAD_BYTES = 256 << 10
"""A body of this size or more is decoded in a thread, so that probes and small requests are answered meanwhile."""

_MODEL = re.compile(r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?(?:/(?P<verb>ready|infer))?/?")
_REPOSITORY = re.compile(r"/v2/repository/models/(?P<name>[^/]+)/(?P<verb>load|unload)/?")

_Answer = Callable[[Request], Awaitable[Response]]


class OipRest:
    """Answers `/v2` and everything below it. One event loop owns it.

    Args:
        models: what the calls mean.
        metrics: where infer calls are counted.
        timeout: seconds that an infer call may take; the request parameter `timeout` may only shorten it.
    """

    def __init__(self, models: OipModels, metrics: Metrics, *, timeout: float) -> None:
        self._models = models
        self._metrics = metrics
        self._count = metrics.request_count.by(OIP_REST)
        self._timeout = timeout
        self._fixed: dict[str, tuple[str, _Answer]] = {
            "/v2": ("GET", self._server),
            "/v2/health/live": ("GET", self._live),
            "/v2/health/ready": ("GET", self._ready),
            "/v2/models": ("GET", self._names),
            "/v2/repository/index": ("POST", self._index),
        }

    async def handle(self, request: Request) -> Response:
        """The answer to one request; a `ServingError` becomes an answer here."""
        try:
            return await self._route(request)
        except ServingError as error:
            note_failed(error.code, error.message)
            return error_response(error)

    async def _route(self, request: Request) -> Response:
        fixed = self._fixed.get(request.path.rstrip("/"))
        if fixed is not None:
            method, answer = fixed
            return await answer(request) if request.method == method else _wrong_method(request, method)
        match = _MODEL.fullmatch(request.path)
        if match is not None:
            method = "POST" if match["verb"] == "infer" else "GET"
            if request.method != method:
                return _wrong_method(request, method)
            name, version = unquote(match["name"]), unquote(match["version"] or "")
            if match["verb"] == "infer":
                return await self._infer(request, name, version)
            return self._model_ready(name, version) if match["verb"] else self._metadata(request, name, version)
        match = _REPOSITORY.fullmatch(request.path)
        if match is not None:
            if request.method != "POST":
                return _wrong_method(request, "POST")
            change = self._models.load if match["verb"] == "load" else self._models.unload
            await change(unquote(match["name"]))
            return Response(200, JSON_HEADERS, b"")
        return json_error(404, f"no such path: {request.path}")

    async def _infer(self, request: Request, name: str, version: str) -> Response:
        started = time.perf_counter()
        code = Code.INTERNAL
        try:
            length = request.headers.get(HEADER_LENGTH)
            if len(request.body) < THREAD_BYTES:
                call = decode_infer(request.body, length)
            else:
                call = await asyncio.to_thread(decode_infer, request.body, length)
            timeout = self._timeout if call.timeout is None else min(self._timeout, call.timeout)
            inference = await self._models.infer(
                name,
                version,
                signature_name=call.signature_name,
                inputs=call.inputs,
                outputs=list(call.outputs),
                deadline=time.monotonic() + timeout,
            )
            body, header_length = encode_infer(inference, call)
            code = Code.OK
        except ServingError as error:
            code = error.code
            raise
        finally:
            known = code is Code.OK or self._models.known(name)
            self._count.add((name if known else "", code.name))
        self._metrics.request_latency.observe((name, "infer", "REST"), (time.perf_counter() - started) * 1e6)
        if header_length is None:
            return Response(200, JSON_HEADERS, body)
        headers = ((b"content-type", b"application/octet-stream"), (HEADER_LENGTH, b"%d" % header_length))
        return Response(200, headers, body)

    async def _server(self, _: Request) -> Response:
        return _json({"name": SERVER_NAME, "version": self._models.server_version, "extensions": EXTENSIONS})

    async def _live(self, _: Request) -> Response:
        return _json({"live": True})

    async def _ready(self, _: Request) -> Response:
        ready = self._models.ready
        # KServe's clients read `ready`; the published specification shows `live` here too.
        return _json({"ready": ready, "live": ready}, 200 if ready else 503)

    async def _names(self, _: Request) -> Response:
        return _json({"models": sorted({line.name for line in self._models.index()})})

    def _model_ready(self, name: str, version: str) -> Response:
        ready = self._models.model_ready(name, version)
        return _json({"name": name, "ready": ready}, 200 if ready else 503)

    def _metadata(self, request: Request, name: str, version: str) -> Response:
        query = parse_qs(request.query.decode("latin-1"), max_num_fields=16)
        found = self._models.metadata(name, version, query.get("signature_name", [""])[0])
        return _json(
            {
                "name": found.name,
                "versions": found.versions,
                "platform": found.platform,
                "inputs": [asdict(each) for each in found.inputs],
                "outputs": [asdict(each) for each in found.outputs],
                "properties": {"signature_name": found.signature_name, "signatures": ",".join(found.signatures)},
            }
        )

    async def _index(self, request: Request) -> Response:
        only_ready: Any = False
        if request.body.strip():
            try:
                wish = json.loads(request.body)
                only_ready = wish.get("ready", False)
            except (ValueError, AttributeError, RecursionError) as error:
                raise ServingError(
                    Code.INVALID_ARGUMENT, f'the body must be a JSON object, {{"ready": true}}: {error}'
                ) from error
        return _json([asdict(line) for line in self._models.index(only_ready=only_ready is True)])


def _json(value: object, status: int = 200) -> Response:
    return Response(status, JSON_HEADERS, json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def _wrong_method(request: Request, wanted: str) -> Response:
    response = json_error(405, f"{request.method} {request.path}: wanted {wanted}")
    return Response(405, (*response.headers, (b"allow", wanted.encode())), response.body)
