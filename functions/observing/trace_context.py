"""W3C trace context: what `traceparent` and `tracestate` say, and what they are to say. Pure.

Whoever calls writes these headers, so whatever is not exactly as specified counts as absent.

Source: https://www.w3.org/TR/trace-context/ sections 3.2 (traceparent) and 3.3 (tracestate).
"""

import random
import re
from dataclasses import dataclass

TRACEPARENT = b"traceparent"
TRACESTATE = b"tracestate"

MAX_TRACEPARENT = 256
"""Bytes; a later version of the header may have more than the 55 of this one."""

MAX_TRACESTATE = 512
"""Bytes that are passed on, as the specification demands at least; a longer list is dropped whole."""

MAX_MEMBERS = 32
"""Members of a `tracestate`."""

_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MEMBER = re.compile(
    rb"[a-z0-9][a-z0-9_*/-]{0,255}(@[a-z][a-z0-9_*/-]{0,13})?=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class TraceParent:
    """The caller's span.

    Attributes:
        trace_id: 32 hexadecimal digits in small letters.
        span_id: 16 of them.
        sampled: whether the caller keeps its part of the trace.
    """

    trace_id: str
    span_id: str
    sampled: bool


def parse_traceparent(value: bytes | None) -> TraceParent | None:
    """What the header says; None where it says nothing, or nothing that the specification knows."""
    if value is None or len(value) > MAX_TRACEPARENT:
        return None
    match = _PARENT.fullmatch(value)
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == b"ff" or (version == b"00" and more) or trace_id == b"0" * 32 or span_id == b"0" * 16:
        return None
    return TraceParent(trace_id.decode(), span_id.decode(), bool(int(flags, 16) & _SAMPLED))


def parse_tracestate(value: bytes | None) -> str:
    """The list as it is passed on; empty where there is none, or none as specified."""
    if value is None or len(value) > MAX_TRACESTATE:
        return ""
    members = [one for member in value.split(b",") if (one := member.strip(b" \t"))]
    if len(members) > MAX_MEMBERS or not all(_MEMBER.fullmatch(one) for one in members):
        return ""
    return b",".join(members).decode("ascii")


def format_traceparent(trace_id: str, span_id: str, *, sampled: bool) -> str:
    """The header's value."""
    return f"00-{trace_id}-{span_id}-{_SAMPLED if sampled else 0:02x}"


def new_trace_id() -> str:
    """32 hexadecimal digits, not all of them zero."""
    return f"{random.getrandbits(128) or 1:032x}"


def new_span_id() -> str:
    """16 hexadecimal digits, not all of them zero."""
    return f"{random.getrandbits(64) or 1:016x}"
