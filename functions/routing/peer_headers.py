"""Which headers travel between revisions. Pure.

Source: RFC 9110 section 7.6.1 (hop-by-hop fields); Knative's own request headers in knative/networking pkg/http/header.
"""

from collections.abc import Iterable, Iterator, Mapping

FORWARDED = "x-zeroserve-forwarded"
"""On a request that a revision has sent to another: it is not sent on."""

COPY = "x-zeroserve-copy"
"""On a request that repeats another one, for a shadow or a gate: it is not recorded, not logged, has no feedback."""

REVISION = "x-zeroserve-revision"
"""On an answer: the tag of the revision that gave it, `v7`."""

TAG_HEADER = b"knative-serving-tag"
"""Chooses a revision where the cluster routes by tag header."""

TIMEOUT = "x-request-timeout-ms"

MAX_ANSWER_HEADERS = 100
"""Headers of an answer that are handed back."""

_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    }
)
_NOT_SENT = _HOP | {
    "host",
    "content-length",
    "expect",
    TAG_HEADER.decode(),
    "knative-serving-default-route",
    "k-network-probe",
    "k-network-hash",
    FORWARDED,
    TIMEOUT,
}
_NOT_GIVEN = _HOP | {"content-length", "date", "server", "alt-svc"}
# Of gRPC: what the client library says itself.
_NOT_METADATA = _NOT_SENT | {"content-type", "user-agent", "accept-encoding", "content-encoding"}


def request_headers(headers: Mapping[bytes, bytes], *, inflated: bool) -> Iterator[tuple[str, str]]:
    """The headers of a request that go on with it.

    Args:
        headers: by name in small letters, as the server read them.
        inflated: whether the body's `content-encoding` has been undone.
    """
    nominated = _nominated(headers.get(b"connection", b""))
    for raw_name, raw_value in headers.items():
        name = raw_name.decode("latin-1")
        if name in _NOT_SENT or name in nominated or (inflated and name == "content-encoding"):
            continue
        try:
            value = raw_value.decode()
        except UnicodeDecodeError:
            continue  # what is no text cannot be sent as it came
        if _is_field(value):
            yield name, value


def answer_headers(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """The headers of an answer that are handed back."""
    found = [(name.lower(), value) for name, value in headers]
    nominated = _nominated(next((value for name, value in found if name == b"connection"), b""))
    count = 0
    for name, value in found:
        text = name.decode("latin-1")
        if text in _NOT_GIVEN or text in nominated or text.startswith("x-envoy-"):
            continue
        count += 1
        if count <= MAX_ANSWER_HEADERS:
            yield name, value


def request_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> list[tuple[str, str | bytes]]:
    """The metadata of a call that goes on with it."""
    return [(key, value) for key, value in metadata if _is_metadata(key, value) and not key.startswith("grpc-")]


def answer_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> list[tuple[str, str | bytes]]:
    """The metadata of an answer that is handed back, `grpc-status-details-bin` and the like among it."""
    kept = [
        (key, value)
        for key, value in metadata
        if _is_metadata(key, value) and key not in _NOT_GIVEN and not key.startswith("x-envoy-")
    ]
    return kept[:MAX_ANSWER_HEADERS]


def _is_metadata(key: str, value: str | bytes) -> bool:
    if key in _NOT_METADATA or not key.replace("-", "").replace("_", "").replace(".", "").isalnum():
        return False
    return key.endswith("-bin") if isinstance(value, bytes) else value.isascii() and value.isprintable()


def _nominated(connection: bytes) -> frozenset[str]:
    return frozenset(one.strip().lower() for one in connection.decode("latin-1").split(","))


def _is_field(value: str) -> bool:
    return not any(control in value for control in "\r\n\0")
