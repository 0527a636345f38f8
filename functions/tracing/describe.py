"""The span of a request: its name and attributes by OpenTelemetry's semantic conventions, and what is ours. Pure.

Source: OpenTelemetry Semantic Conventions 1.37, "HTTP spans" and "gRPC" (names, statuses, which codes are errors).
"""

import re
from typing import Any

from functions.observing.access import GRPC, Access
from functions.tracing.spans import SERVER, Link, Span
from loader.status import Code

MAX_TEXT = 256
"""Characters of an attribute that callers have made."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
_GRPC_METHOD = re.compile(r"/([A-Za-z0-9_.]{1,128})/([A-Za-z0-9_]{1,128})")
_GRPC_ERRORS = frozenset(
    {Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.UNIMPLEMENTED, Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS}
)
_ROUTES = {
    "predict": "/v1/models/{model}:predict",
    "classify": "/v1/models/{model}:classify",
    "regress": "/v1/models/{model}:regress",
    "status": "/v1/models/{model}",
    "metadata": "/v1/models/{model}/metadata",
    "models": "/v1/models",
    "infer": "/v2/models/{model}/infer",
}


def request_span(access: Access, cold_start: Link | None) -> Span:
    """The span of a request that is over.

    Args:
        access: the request.
        cold_start: the span of the server's start; a request that has waited for it links it.
    """
    span = Span(
        "",
        SERVER,
        access.trace_id,
        access.span_id,
        access.parent_id,
        access.began,
        access.ended,
        links=[cold_start] if access.cold and cold_start is not None else [],
    )
    (_grpc if access.protocol == GRPC else _http)(access, span)
    given: dict[str, Any] = {
        "zeroserve.request_id": access.request_id,
        "zeroserve.code": access.code.name,
        "zeroserve.model": access.model[:MAX_TEXT],
        "zeroserve.label": access.label[:MAX_TEXT],
        "zeroserve.version": access.wanted_version if access.version is None else access.version,
        "zeroserve.signature": access.signature[:MAX_TEXT],
        "zeroserve.rows": access.rows or None,
        "zeroserve.peer": access.peer,
        "zeroserve.cold": access.cold or None,
        **_server(_text(access.headers.get(b"host", b""))),
        "user_agent.original": _text(access.headers.get(b"user-agent", b"")),
    }
    span.attributes |= {name: value for name, value in given.items() if value not in (None, "")}
    return span


def _http(access: Access, span: Span) -> None:
    known = access.method in _METHODS
    route = _ROUTES.get(access.api)
    method = access.method if known else "HTTP"
    span.name = f"{method} {route}" if route else method
    span.attributes = {
        "http.request.method": access.method if known else "_OTHER",
        "url.path": access.path[:MAX_TEXT],
        "url.scheme": "http",
        "http.request.body.size": access.request_bytes,
        "http.response.body.size": access.response_bytes,
    }
    if route:
        span.attributes["http.route"] = route
    if not known:
        span.attributes["http.request.method_original"] = access.method[:MAX_TEXT]
    if access.status:
        span.attributes["http.response.status_code"] = access.status
    if access.status >= 500 or not access.status:
        span.error = str(access.status or access.code.name)
        span.attributes["error.type"] = span.error


def _grpc(access: Access, span: Span) -> None:
    method = _GRPC_METHOD.fullmatch(access.path)
    span.attributes = {"rpc.system": "grpc", "rpc.grpc.status_code": access.code.value}
    if method is not None and access.code is not Code.UNIMPLEMENTED:
        span.name = f"{method[1]}/{method[2]}"
        span.attributes |= {"rpc.service": method[1], "rpc.method": method[2]}
    else:
        span.name = "grpc"  # whoever calls can make up any number of methods
    if access.code in _GRPC_ERRORS:
        span.error = access.code.name
        span.attributes["error.type"] = span.error


def _server(host: str) -> dict[str, Any]:
    """What the Host header says."""
    name, _, port = host.rpartition(":")
    if name and port.isascii() and port.isdigit() and len(port) < 6:
        return {"server.address": name.strip("[]"), "server.port": int(port)}
    return {"server.address": host.strip("[]")}


def _text(value: bytes) -> str:
    return value[:MAX_TEXT].decode("utf-8", "replace")
