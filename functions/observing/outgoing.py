"""Calls that are made of other services for a request: they carry its id and its trace on, and have a span.

    with outgoing("POST", {"server.address": host}) as call:
        send(headers | call.headers)

Where nobody wants to know of requests, and for what is no request's, `headers` is empty and all else does nothing.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from functions.observing.current_access import current

if TYPE_CHECKING:
    from functions.tracing.spans import Span

_CLIENT = 2  # the SDK's SpanKind.CLIENT, see functions.tracing.spans


class Outgoing:
    """One call.

    Args:
        headers: that go with it, in place of those of the same names; names in small letters.
        without: names of headers that must not go with it.
        span: of the call; None where it has none.
    """

    def __init__(
        self, headers: Mapping[str, str], without: frozenset[str] = frozenset(), span: "Span | None" = None
    ) -> None:
        self.headers = headers
        self.without = without
        self._span = span

    def answered(self, name: str, code: int, error: str = "") -> None:
        """The answer's status, as the attribute `name`; `error` says what was wrong with it."""
        if self._span is not None:
            self._span.attributes[name] = code
            self._span.error = error

    def put_into(self, headers: dict[str, str]) -> None:
        """Makes `headers` those of the call."""
        for name in self.without:
            headers.pop(name, None)
        headers.update(self.headers)


_NONE = Outgoing({})


@contextmanager
def outgoing(name: str, attributes: Mapping[str, Any]) -> Iterator[Outgoing]:
    """A call that is made for the request of this context. An exception is the call's failure."""
    access = current.get()
    if access is None:
        yield _NONE
        return
    headers = {"x-request-id": access.request_id}
    if not access.span_id:  # no traces here: what the caller says of its trace goes on as it came
        yield Outgoing(headers)
        return
    from functions.observing.trace_context import format_traceparent  # noqa: PLC0415  traces are on, so both are there
    from functions.tracing.spans import parent_span  # noqa: PLC0415

    span = None if access.trace is None else access.trace.begin(name, _CLIENT, dict(attributes))
    place = (parent_span.get() or access.span_id) if span is None else span.span_id
    headers["traceparent"] = format_traceparent(access.trace_id, place, sampled=span is not None)
    if access.tracestate:
        headers["tracestate"] = access.tracestate
    without = frozenset() if access.tracestate else frozenset({"tracestate"})
    try:
        yield Outgoing(headers, without, span)
    except BaseException as error:
        if span is not None:
            span.error = getattr(getattr(error, "code", None), "name", "") or type(error).__name__
        raise
    finally:
        if span is not None:
            span.end()
