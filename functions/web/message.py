"""What an HTTP door is given and what it gives back, whatever server carries it.

A handler is a coroutine from `Request` to `Response`. Servers (an ASGI server, functions-framework, a CloudEvent)
build the one and send the other; no handler sees a socket, a framework or a session.
"""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from loader.status import Code, ServingError

Header = tuple[bytes, bytes]
"""One header: the name in small letters, the value, both as on the wire (ISO-8859-1)."""

HTTP_STATUS: dict[Code, int] = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
"""The HTTP status of each canonical code. Source: tensorflow_serving/model_servers/http_server.cc."""

JSON_HEADERS: tuple[Header, ...] = ((b"content-type", b"application/json"),)
TEXT_HEADERS: tuple[Header, ...] = ((b"content-type", b"text/plain"),)
HTML_HEADERS: tuple[Header, ...] = ((b"content-type", b"text/html"),)

NOT_FOUND_PAGE = b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"
"""The page of the stock server (libevent's) for a path that it does not know."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, its body complete and not compressed.

    Attributes:
        method: as sent, `POST`.
        path: as sent, still percent-encoded, without the query: `/v1/models/m:predict`.
        query: what stands after the `?`, still percent-encoded; empty where there is none.
        headers: by name in small letters; of a name that was sent twice, the last.
        body: the content after `Content-Encoding` was undone.
    """

    method: str
    path: str
    query: bytes
    headers: Mapping[bytes, bytes]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """One answer.

    Attributes:
        status: the HTTP status, 100-599.
        headers: without `content-length`, which the server adds.
        body: the content.
    """

    status: int
    headers: Sequence[Header]
    body: bytes


Handler = Callable[[Request], Awaitable[Response]]


def error_response(error: ServingError) -> Response:
    """The JSON answer for `error`, laid out as the stock server does: one key, four spaces of indent.

    It says when to come back where the error does (RFC 9110 section 10.2.3: whole seconds).
    """
    response = json_error(HTTP_STATUS[error.code], error.message)
    if error.retry_after is None:
        return response
    retry = (b"retry-after", b"%d" % max(1, math.ceil(error.retry_after)))
    return Response(response.status, (*response.headers, retry), response.body)


def json_error(status: int, message: str) -> Response:
    """A JSON error with an explicit HTTP status, for the few that no canonical code has (413)."""
    return Response(status, JSON_HEADERS, b'{\n    "error": ' + json_string(message) + b"\n}")


def not_found() -> Response:
    """404 for a path that belongs to no door."""
    return Response(404, HTML_HEADERS, NOT_FOUND_PAGE)


_ESCAPES = {i: f"\\u{i:04X}" for i in range(0x20)} | {
    ord('"'): '\\"',
    ord("\\"): "\\\\",
    0x08: "\\b",
    0x0C: "\\f",
    0x0A: "\\n",
    0x0D: "\\r",
    0x09: "\\t",
}


def json_string(text: str) -> bytes:
    """`text` as a JSON string with the quotes; only what JSON demands is escaped, the rest stays UTF-8.

    A lone surrogate (a byte that was not UTF-8, kept by `surrogateescape`) becomes that byte again.
    Source: rapidjson's `Writer::WriteString`, which the stock server uses.
    """
    escaped = text.translate(_ESCAPES)
    try:
        return b'"' + escaped.encode("utf-8", "surrogateescape") + b'"'
    except UnicodeEncodeError:  # a surrogate that stands for no byte: the text came from a JSON escape
        return b'"' + escaped.encode("utf-8", "replace") + b'"'
