"""Spans as OpenTelemetry's SDK has them, and its exporter. Imported by the exporting thread, after the start."""

import functools
import logging
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from functions.tracing.spans import INTERNAL, SERVER, Span

QUIET_SECONDS = 60.0
"""Between two lines of the log about a collector that does not answer."""

_KINDS = {INTERNAL: SpanKind.INTERNAL, SERVER: SpanKind.SERVER}
_UNSET = Status()
_LOGGER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


class SdkExporter:
    """Sends spans. Used on one thread, `stop` aside.

    Args:
        resource: what the variables do not say of this process: `service.name` and the like.
    """

    def __init__(self, resource: Mapping[str, str]) -> None:
        found = Resource.create()
        own = {
            name: value
            for name, value in resource.items()
            if str(found.attributes.get(name, "unknown_service")).startswith("unknown_service")
        }
        self._resource = found.merge(Resource(own))
        self._scope = InstrumentationScope("zeroserve", version("zeroserve"))
        logging.getLogger(_LOGGER).addFilter(_Seldom())
        self._exporter = OTLPSpanExporter()
        # Both clocks at one moment: spans have the one that never jumps, collectors want the other.
        self._offset = time.time_ns() - time.monotonic_ns()

    def export(self, spans: Sequence[Span]) -> bool:
        """Whether the collector has taken them. Blocks, with several tries, as long as OTEL_EXPORTER_OTLP_TIMEOUT."""
        return self._exporter.export([self._readable(span) for span in spans]) is SpanExportResult.SUCCESS

    def stop(self) -> None:
        """Ends the tries. From any thread."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the package's

    def _readable(self, span: Span) -> ReadableSpan:
        return ReadableSpan(
            span.name,
            _context(span.trace_id, span.span_id),
            _context(span.trace_id, span.parent_id) if span.parent_id else None,
            self._resource,
            span.attributes,
            links=[Link(_context(*link)) for link in span.links],
            kind=_KINDS.get(span.kind, SpanKind.CLIENT),
            status=Status(StatusCode.ERROR, span.error) if span.error else _UNSET,
            start_time=self._nanoseconds(span.began),
            end_time=self._nanoseconds(span.ended),
            instrumentation_scope=self._scope,
        )

    def _nanoseconds(self, seconds: float) -> int:
        return int(seconds * 1e9) + self._offset


@functools.lru_cache(256)  # a span is its own, its children's parent, and what others link
def _context(trace_id: str, span_id: str) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=TraceFlags(1))


class _Seldom(logging.Filter):
    """Lets one line through now and then: a collector that is away fails every few seconds, for hours."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + QUIET_SECONDS
        return True
