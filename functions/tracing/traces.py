"""Traces of one server: decides which requests are traced, and keeps their spans until they are sent."""

import time
from typing import TYPE_CHECKING

from functions.observing.access import Access, Observer
from functions.observing.metrics import Counter, Metrics
from functions.observing.trace_context import new_span_id, new_trace_id
from functions.tracing.exporter import Sender, SpanExporter
from functions.tracing.spans import INTERNAL, RequestTrace, Span
from functions.tracing.trace_settings import TraceSettings

if TYPE_CHECKING:
    from functions.cold_start import ColdStart


class Traces(Observer):
    """The traces; a `functions.observing.observers.Observer`.

    Args:
        settings: what the OTEL_* variables say.
        service: the name of the service where they say none.
        revision: of this process on a cluster; empty for none.
    """

    def __init__(self, settings: TraceSettings, service: str, revision: str = "") -> None:
        self._sampler = settings.sampler
        self._service = service
        self._revision = revision
        self._cold_start = (new_trace_id(), new_span_id())
        self._spans = Counter("zeroserve_trace_spans_total", ("result",))
        self._exporter = SpanExporter(
            settings, self._sender, lambda result, count: self._spans.add((result,), count), self._cold_start
        )

    def begun(self, access: Access) -> None:
        """Gives the request its ids, and a place for its spans where it is traced."""
        if not access.trace_id:
            access.trace_id = new_trace_id()
        access.span_id = new_span_id()
        if self._sampler.samples(access.parent, access.trace_id):
            access.sampled, access.trace = True, RequestTrace(access)

    def ended(self, access: Access) -> None:
        """Passes its spans on."""
        trace = access.trace
        if isinstance(trace, RequestTrace):
            self._exporter.offer(trace)

    def add_to(self, metrics: Metrics) -> None:
        """Shows what became of spans."""
        metrics.add_family(self._spans)

    def started(self, cold_start: "ColdStart") -> None:
        """The server's start is over: it is a trace of its own, and spans are sent from now on."""
        if self._sampler.share > 0:
            for span in self._cold_start_spans(cold_start):
                self._exporter.offer(span)
        self._exporter.begin()

    def close(self, timeout: float) -> None:
        """Sends what there is."""
        self._exporter.close(timeout)

    def _cold_start_spans(self, cold_start: "ColdStart") -> list[Span]:
        trace_id, span_id = self._cold_start
        # The phases' clock is `perf_counter`, which need not begin where `monotonic` does.
        born = cold_start.born + time.monotonic() - time.perf_counter()
        spans = []
        for phase, (start, seconds) in cold_start.rows().items():
            whole = phase == "total"
            name = "cold start" if whole else f"cold start: {phase}"
            began = born + start
            own, parent = (span_id, "") if whole else (new_span_id(), span_id)
            spans.append(Span(name, INTERNAL, trace_id, own, parent, began, began + seconds))
        return spans

    def _sender(self) -> Sender:
        from functions.tracing.sdk import SdkExporter  # noqa: PLC0415  some 150 ms, in the exporting thread

        resource = {"service.name": self._service}
        if self._revision:
            resource["faas.version"] = self._revision
        return SdkExporter(resource)
