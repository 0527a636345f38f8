"""What is known of one request, kept while it is answered, for those who want to know: log, traces, tap.

A record belongs to one request and to the event loop's thread; of its runs alone it is told by other threads (`ran`).
It is found by `functions.observing.current_access`.
"""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from functions.observing.trace_context import TRACEPARENT, TRACESTATE, TraceParent, parse_traceparent, parse_tracestate
from loader.run_log import Ran
from loader.servable import ModelSpec, Servable
from loader.status import Code

if TYPE_CHECKING:
    from functions.cold_start import ColdStart
    from functions.observing.metrics import Metrics
    from functions.tracing.spans import Span
    from loader.dtypes import Array

REQUEST_ID = b"x-request-id"
"""The header that a caller may give its request's id in, and that every answer has it in."""

MAX_REQUEST_ID = 128
"""Characters of an id that is taken from a caller; instead of a longer or a stranger one there is a new one."""

MAX_RUNS = 256
"""Runs of one request that are remembered: a stream may go on for days."""

REST, GRPC = "REST", "GRPC"

_SANE_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._~:/+=@-]{0,%d}" % (MAX_REQUEST_ID - 1))


class Trace(Protocol):
    """What traces keep of one request; `functions.tracing.spans` has it."""

    def ran(self, run: Ran, parent_id: str = "") -> None:
        """A run is over, below the span `parent_id`; without one below the request's. From any thread."""

    def begin(self, name: str, kind: int, attributes: dict[str, Any]) -> "Span":
        """A span begins."""


class Tap(Protocol):
    """Takes what was asked and answered; `functions.tap` has it."""

    def answered(self, access: "Access", servable: Servable, feeds: "Mapping[str, Array]", result: Any) -> None:
        """A version has run: what it was fed, by tensor, and what came of it. Does not block and raises nothing."""


@dataclass(slots=True, eq=False)
class Access:
    """One request. Times in seconds are those of `time.monotonic()`, and lengths.

    Attributes:
        request_id: the caller's (`x-request-id`), or a new one; at most `MAX_REQUEST_ID` safe characters.
        protocol: `REST` or `GRPC`.
        method: of HTTP, `POST`.
        path: as sent, still percent-encoded.
        headers: by name in small letters; of a name that was sent twice, the last.
        began: when its head had been read.
        began_ns: the same by the clock on the wall, in nanoseconds since 1970.
        ended: when its answer was complete; 0 until then.
        trace_id: 32 hexadecimal digits; the caller's, else a new one where traces are on; else empty.
        parent: the caller's span, where it says one.
        tracestate: what the caller's tracing systems want passed on; empty for nothing.
        span_id: 16 hexadecimal digits: this request's own span; empty without traces.
        sampled: whether its spans are kept.
        trace: where they are kept, until they are passed on; else None.
        tap: who takes what was asked and answered; None where nobody wants it of this request.
        answer_headers: more headers of its answer.
        api: `predict`, `classify`, `infer`, `status`...; for gRPC the method's name; empty for what is no door.
        model, label: as the request names them; empty for none.
        wanted_version: as the request names it.
        version: the version that answered, or None.
        signature: that was run; empty for none.
        rows: of the inputs; 0 where nothing was run.
        request_bytes, response_bytes: of the bodies, as on the wire.
        status: of HTTP; 0 where there was no answer.
        code: how it ended.
        error: the text of what went wrong, as the caller got it; it may hold whatever callers send.
        cold: whether it came before the server was ready, or so soon after that a proxy may have held it until then.
        peer: the tag of the revision that it was forwarded to; empty for none.
        runs: session runs and batches that it took part in, the first `MAX_RUNS`; empty again once it is over and told.
    """

    request_id: str
    protocol: str
    method: str
    path: str
    headers: Mapping[bytes, bytes]
    began: float
    began_ns: int
    ended: float = 0.0
    trace_id: str = ""
    parent: TraceParent | None = None
    tracestate: str = ""
    span_id: str = ""
    sampled: bool = False
    trace: Trace | None = None
    tap: Tap | None = None
    answer_headers: tuple[tuple[bytes, bytes], ...] = ()
    api: str = ""
    model: str = ""
    label: str = ""
    wanted_version: int | None = None
    version: int | None = None
    signature: str = ""
    rows: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    status: int = 0
    code: Code = Code.OK
    error: str = ""
    cold: bool = False
    peer: str = ""
    runs: list[Ran] = field(default_factory=list)

    def ran(self, run: Ran) -> None:
        """See `loader.run_log.RunObserver`. Safe from any thread."""
        if len(self.runs) < MAX_RUNS:
            self.runs.append(run)
        if self.trace is not None:
            self.trace.ran(run)

    def asks(self, api: str, spec: ModelSpec) -> None:
        """What the request wants, and of whom."""
        self.api, self.model, self.label, self.wanted_version = api, spec.name, spec.label or "", spec.version

    def answered_by(self, version: int, signature: str, rows: int) -> None:
        """A version has run `rows` rows through a signature."""
        self.version, self.signature, self.rows = version, signature, rows

    def end(self) -> None:
        """The answer is complete, or nobody waits for it any more."""
        self.ended = time.monotonic()

    def failed(self, code: Code, text: str) -> None:
        """The request ends with an error."""
        self.code, self.error = code, text

    @property
    def parent_id(self) -> str:
        """The id of the caller's span; empty for none."""
        return "" if self.parent is None else self.parent.span_id

    def times(self) -> "Times":
        """How long its runs took; zeros where nothing was run."""
        queue = batch = run = 0.0
        rows = 0
        for one in self.runs:
            queue = max(queue, one.started - one.since)
            if one.batch is None:
                run += one.ended - one.started
            else:
                batch = max(batch, one.ended - one.started)
                rows = max(rows, one.batch.rows)
                run += sum(seconds for _, seconds in one.batch.runs)
        return Times(queue, batch, run, rows)


class Times(NamedTuple):
    """Lengths in seconds.

    Attributes:
        queue: the longest wait before a run.
        batch: of the longest batch: putting together, running, taking apart; 0 without one.
        run: of session calls, those of batches included; steps of a mix that ran side by side add up.
        batch_rows: rows of the largest batch, other requests' included; 0 without one.
    """

    queue: float
    batch: float
    run: float
    batch_rows: int


class Sink(Protocol):
    """Wants records. Used on the event loop's thread."""

    def begun(self, access: Access) -> None:
        """A request's head has been read: `Access` has what the head says."""

    def ended(self, access: Access) -> None:
        """Its answer is complete, or its client gone. It must not block and raises nothing."""


class Observer(Sink, Protocol):
    """A sink with a life of its own."""

    def add_to(self, metrics: "Metrics") -> None:
        """Shows its counts."""

    def started(self, cold_start: "ColdStart") -> None:
        """The server's start is over."""

    def close(self, timeout: float) -> None:
        """Passes on what it still has; gives up after so many seconds. No request comes any more."""


def new_access(protocol: str, method: str, path: str, headers: Mapping[bytes, bytes]) -> Access:
    """The record of a request whose head has just been read."""
    access = Access(
        request_id(headers.get(REQUEST_ID)), protocol, method, path, headers, time.monotonic(), time.time_ns()
    )
    given = headers.get(TRACEPARENT)
    if given is not None:
        access.parent = parse_traceparent(given)
        if access.parent is not None:
            access.trace_id = access.parent.trace_id
            access.tracestate = parse_tracestate(headers.get(TRACESTATE))
    return access


def request_id(given: bytes | None) -> str:
    """The id that a caller gives, if it is one; else a new one that cannot be guessed."""
    if given is not None and len(given) <= MAX_REQUEST_ID and _SANE_ID.fullmatch(given):
        return given.decode("ascii")
    return os.urandom(16).hex()
