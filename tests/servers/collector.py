"""A real OTLP collector over HTTP: decodes what real exporters send, and answers well, badly, late, or not at all."""

import contextlib
import gzip
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

WAIT_SECONDS = 30


@dataclass(frozen=True)
class Received:
    """One span: ids as hexadecimal digits, times in nanoseconds."""

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    start: int
    end: int
    error: str
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    resource: dict[str, Any]


@dataclass
class Collector:
    """What came so far.

    Attributes:
        endpoint: for OTEL_EXPORTER_OTLP_ENDPOINT.
        status: of the next answers.
        hang: holds answers back until it is cleared.
        requests: how many messages came, answered well or not.
    """

    endpoint: str
    status: int = 200
    hang: bool = False
    requests: int = 0
    headers: list[dict[str, str]] = field(default_factory=list)
    spans: list[Received] = field(default_factory=list)
    lock: threading.Condition = field(default_factory=threading.Condition)

    def until(self, holds: Callable[[list[Received]], Any]) -> Any:
        """The first true answer of `holds`, which is asked whenever spans have come."""
        end = time.monotonic() + WAIT_SECONDS
        with self.lock:
            while not (found := holds(self.spans)):
                left = end - time.monotonic()
                assert left > 0, [(span.name, span.attributes) for span in self.spans]
                self.lock.wait(left)
            return found

    def named(self, name: str, count: int = 1) -> list[Received]:
        """The spans of this name, once there are so many."""
        return list(
            self.until(lambda spans: len(found := [one for one in spans if one.name == name]) >= count and found)
        )

    def trace(self, trace: str) -> list[Received]:
        """The spans of one trace that have come."""
        with self.lock:
            return [span for span in self.spans if span.trace == trace]

    def request(self, request_id: str) -> Received:
        """The request span of a request, by its id."""
        found: list[Received] = self.until(
            lambda spans: [one for one in spans if one.attributes.get("zeroserve.request_id") == request_id]
        )
        return found[0]

    def take(self, body: bytes) -> None:
        message = ExportTraceServiceRequest.FromString(body)
        with self.lock:
            for group in message.resource_spans:
                resource = _attributes(group.resource.attributes)
                for scope in group.scope_spans:
                    self.spans.extend(_received(span, resource) for span in scope.spans)
            self.lock.notify_all()


@contextlib.contextmanager
def collector() -> Iterator[Collector]:
    """A collector on any free port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            while self.headers.get("transfer-encoding") == "chunked":
                chunk = self.rfile.read(int(self.rfile.readline(), 16))
                self.rfile.readline()
                if not chunk:
                    break
                body += chunk
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            found.requests += 1
            found.headers.append({name.lower(): value for name, value in self.headers.items()})
            assert self.headers["content-type"] == "application/x-protobuf"
            while found.hang:
                time.sleep(0.01)
            answer = ExportTraceServiceResponse().SerializeToString()
            if found.status == 200 and self.path == "/v1/traces":
                found.take(body)
            with contextlib.suppress(OSError):  # who asked may have given up
                self.send_response(found.status if self.path == "/v1/traces" else 404)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Collector(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        found.hang = False
        server.shutdown()
        thread.join()
        server.server_close()


def _received(span: Any, resource: dict[str, Any]) -> Received:
    return Received(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.kind,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.message if span.status.code == 2 else "",
        _attributes(span.attributes),
        [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        resource,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
