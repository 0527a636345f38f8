"""The spans of one request, kept until it is answered; they become OpenTelemetry's in another thread.

    request            POST /v1/models/{model}:predict, or the gRPC method
      queue            waiting for a thread, or for company
      batch            put together, run, taken apart; of one request of the batch it links the spans of all
        run            the session's call
      step NAME        of a mix; below it queue, batch and run of its model, or the call of another service
      GET, POST...     a call of another revision

A batch has many requests and a span has one parent: each sampled request has a `batch` of its own, with the same
times. The one that is passed on first links the spans of all requests in the batch, the others' link that `batch`.
"""

import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from functions.observing.access import MAX_RUNS, Access, Trace
from functions.observing.trace_context import new_span_id
from loader.run_log import Batch, Ran, RunObserver

INTERNAL, SERVER, CLIENT = 0, 1, 2
"""Kinds of spans; the numbers are the SDK's `SpanKind`."""

MAX_LINKS = 128
"""Of one span. Source: OTEL_SPAN_LINK_COUNT_LIMIT's default."""

MAX_SPANS = 256
"""Of one request, runs aside: a mix may have many steps."""

Link = tuple[str, str]
"""A trace's id, a span's."""

parent_span: ContextVar[str] = ContextVar("parent_span", default="")
"""The id of the span that new ones stand below; empty for the request's."""


@dataclass(slots=True, eq=False)
class Span:
    """One span. Times are those of `time.monotonic()`.

    Attributes:
        kind: `INTERNAL`, `SERVER` or `CLIENT`.
        parent_id: empty for a root.
        ended: 0 until it is.
        links: spans of other requests.
        error: what went wrong, in a word or two; empty while nothing did.
    """

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    began: float
    ended: float = 0.0
    attributes: dict[str, Any] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    error: str = ""

    def end(self) -> None:
        """It is over."""
        self.ended = time.monotonic()


class RequestTrace:
    """The spans of one sampled request. Of runs any thread may tell; all else is the event loop's, and later, when the
    request is over, the exporting thread's.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._spans: list[Span] = []
        self._runs: list[tuple[Ran, str]] = []

    @property
    def access(self) -> Access:
        """The request."""
        return self._access

    def begin(self, name: str, kind: int = INTERNAL, attributes: dict[str, Any] | None = None) -> Span:
        """A span begins, below the one that stands for where we are."""
        access = self._access
        span = Span(
            name,
            kind,
            access.trace_id,
            new_span_id(),
            parent_span.get() or access.span_id,
            time.monotonic(),
            attributes=attributes or {},
        )
        if len(self._spans) < MAX_SPANS:
            self._spans.append(span)
        return span

    def ran(self, run: Ran, parent_id: str = "") -> None:
        """A run is over, below the span `parent_id`; without one below the request's. Safe from any thread."""
        if len(self._runs) < MAX_RUNS:
            self._runs.append((run, parent_id))

    def size(self) -> int:
        """How many spans there are, the request's own among them."""
        return 1 + len(self._spans) + sum(_size(run) for run, _ in self._runs)

    def release(self) -> None:
        """Nothing is asked of it any more: what it knows, and what knows it, goes."""
        self._access.trace = None
        self._access.runs = []
        self._runs, self._spans = [], []

    def below(self) -> list[Span]:
        """All but the request's own. To be called once, from one thread for all requests of a process."""
        access = self._access
        for span in self._spans:
            span.ended = span.ended or access.ended  # what is still on its way is not waited for
        spans = list(self._spans)
        for run, parent_id in list(self._runs):
            spans += self._of_run(run, parent_id or access.span_id)
        return spans

    def _of_run(self, run: Ran, parent_id: str) -> list[Span]:
        spans = []
        if run.started > run.since:
            spans.append(self._span("queue", parent_id, run.since, run.started))
        if run.batch is None:
            return [*spans, self._span("run", parent_id, run.started, run.ended)]
        shared = run.batch
        batch = self._span("batch", parent_id, run.started, run.ended)
        batch.attributes = {
            "zeroserve.batch.requests": shared.tasks,
            "zeroserve.batch.rows": shared.rows,
            "zeroserve.batch.padded_rows": shared.padded,
        }
        if shared.mark is None:
            shared.mark = (batch.trace_id, batch.span_id)
            batch.links = _sampled(shared)
        else:
            batch.links = [shared.mark]  # type: ignore[list-item]  # a Link: nobody else marks batches
        runs = [self._span("run", batch.span_id, began, began + seconds) for began, seconds in shared.runs]
        return [*spans, batch, *runs]

    def _span(self, name: str, parent_id: str, began: float, ended: float) -> Span:
        return Span(name, INTERNAL, self._access.trace_id, new_span_id(), parent_id, began, ended)


class StepObserver:
    """Is told of the runs below one span of a request; a `loader.run_log.RunObserver`."""

    __slots__ = ("_access", "_span", "_trace")

    def __init__(self, access: Access, trace: Trace, span: Span) -> None:
        self._access = access
        self._trace = trace
        self._span = span

    @property
    def link(self) -> Link:
        """The span."""
        return self._span.trace_id, self._span.span_id

    def ran(self, run: Ran) -> None:
        """A run is over."""
        if len(self._access.runs) < MAX_RUNS:
            self._access.runs.append(run)
        self._trace.ran(run, self._span.span_id)


def _size(run: Ran) -> int:
    return (run.started > run.since) + (1 if run.batch is None else 1 + len(run.batch.runs))


def _sampled(batch: Batch) -> list[Link]:
    """The spans of the requests of a batch, of each once: a large request is in it with several slices."""
    links = dict.fromkeys(link for observer in batch.observers if (link := _link(observer)) is not None)
    return list(links)[:MAX_LINKS]


def _link(observer: RunObserver) -> Link | None:
    if isinstance(observer, StepObserver):
        return observer.link
    if isinstance(observer, Access) and observer.sampled:
        return observer.trace_id, observer.span_id
    return None
