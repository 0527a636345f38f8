from hypothesis import given
from hypothesis import strategies as st

from functions.observing.trace_context import (
    MAX_TRACESTATE,
    format_traceparent,
    new_span_id,
    new_trace_id,
    parse_traceparent,
    parse_tracestate,
)

HEX = "0123456789abcdef"
TRACE = st.text(HEX, min_size=32, max_size=32).filter(lambda text: text.strip("0"))
SPAN = st.text(HEX, min_size=16, max_size=16).filter(lambda text: text.strip("0"))


@given(TRACE, SPAN, st.booleans())
def test_what_is_written_is_read(trace: str, span: str, sampled: bool) -> None:
    parent = parse_traceparent(format_traceparent(trace, span, sampled=sampled).encode())
    assert parent is not None
    assert (parent.trace_id, parent.span_id, parent.sampled) == (trace, span, sampled)


@given(TRACE, SPAN, st.integers(1, 254), st.integers(0, 255), st.text(HEX + "-", max_size=20))
def test_a_later_version_is_read_as_far_as_it_is_known(
    trace: str, span: str, version: int, flags: int, more: str
) -> None:
    head = f"{version:02x}-{trace}-{span}-{flags:02x}"
    for value in (head, f"{head}-{more}"):
        parent = parse_traceparent(value.encode())
        assert parent is not None
        assert parent.sampled == bool(flags & 1)
    assert parse_traceparent(f"{head}{more or 'x'}".encode()) is None or more.startswith("-")


@given(st.binary(max_size=300))
def test_no_bytes_are_too_strange_for_either_header(value: bytes) -> None:
    parent = parse_traceparent(value)
    assert parent is None or len(parent.trace_id) == 32
    state = parse_tracestate(value)
    assert len(state) <= MAX_TRACESTATE
    assert state.isascii()
    assert state.isprintable()
    assert parse_tracestate(state.encode()) == state


def test_a_tracestate_is_passed_on_whole_or_not_at_all() -> None:
    assert parse_tracestate(b"a=1, tenant@vendor=x y ,,b=2") == "a=1,tenant@vendor=x y,b=2"
    assert parse_tracestate(None) == ""
    for bad in (b"a", b"A=1", b"a=1\x7f", b"a=1\r\nx: y", b"a==", b"a=\xe9", b"=1"):
        assert parse_tracestate(b"good=1," + bad) == ""
    assert parse_tracestate(b",".join(b"k%d=v" % one for one in range(33))) == ""
    assert parse_tracestate(b"a=" + b"x" * 600) == ""


def test_new_ids_are_ids() -> None:
    assert len(new_trace_id()) == 32
    assert len(new_span_id()) == 16
    assert new_trace_id() != new_trace_id()
