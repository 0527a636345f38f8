"""JSON read and shown as RapidJSON does."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.rest.json_text import MAX_DEPTH, SHOWN_BYTES, parse_json, show
from loader.status import Code, ServingError


def refused(body: bytes) -> str:
    with pytest.raises(ServingError) as caught:
        parse_json(body)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The document is empty"),
        (b"  \n", "The document is empty. at offset: 3"),
        (b'{"instances": [1.0, 2.0', "Missing a comma or ']' after an array element. at offset: 23"),
        (b"{instances: [1.0]}", "Missing a name for object member. at offset: 1"),
        (b'{"instances":[1.0,]}', "Invalid value. at offset: 18"),
        (b'{"a":"\\ud83d"}', "The surrogate pair in string is invalid. at offset: 6"),
        (b'{"a":"\\udc00"}', "The surrogate pair in string is invalid. at offset: 6"),
        (b"\xff\xfe{\x00", "Invalid value. at offset: 0"),
        (b'\xef\xbb\xbf{"a":}', "Invalid value. at offset: 8"),
        (b'{"a":1e400}', "Number too big to be stored in double. at offset: 5"),
        (b'{"a":' + b"9" * 5000 + b"}", "Number too big to be stored in double. at offset: 5"),
        (b'{"a":"abc', "Missing a closing quotation mark in string. at offset: 9"),
        (b'{"a":1\x00}', "Missing a comma or '}' after an object member. at offset: 6"),
    ],
)
def test_a_body_that_is_not_json_is_refused_in_rapidjsons_words(body: bytes, message: str) -> None:
    assert refused(body) == f"JSON Parse error: {message}"


def test_a_body_that_is_not_utf8_is_refused_with_the_byte_and_its_place() -> None:
    assert "offset: 6: byte 0xff is not UTF-8" in refused(b'{"a":"\xff"}')


@pytest.mark.parametrize("bracket", [b"[", b'{"a":'])
@pytest.mark.parametrize("count", [MAX_DEPTH + 1, 1_000_000])
def test_a_nesting_bomb_is_refused_by_name(bracket: bytes, count: int) -> None:
    assert f"deeper than {MAX_DEPTH} levels" in refused(bracket * count)


def test_closing_brackets_in_a_string_hide_no_nesting_bomb() -> None:
    assert "deeper than" in refused(b'{"x":"' + b"]" * 200_000 + b'","a":' + b"[" * 200_000)


def test_brackets_in_a_string_do_not_count_as_nesting() -> None:
    assert parse_json(b'{"a":"' + b"[" * 5000 + b'"}') == {"a": "[" * 5000}
    assert "quotation mark" in refused(b'{"a":"' + b"[" * 5000)


@pytest.mark.parametrize("end", [b"", b"\\", b'"', b'"}'])
def test_a_megabyte_of_escaped_quotes_is_looked_at_once(end: bytes) -> None:
    body = b'{"a":"' + b"[" * 1000 + b'\\"' * 500_000 + end
    with contextlib.suppress(ServingError):
        assert parse_json(body)["a"].endswith('"')


def test_the_first_of_equal_keys_counts_and_text_after_the_end_does_not() -> None:
    assert parse_json(b'{"a":1,"a":2} trailing') == {"a": 1}
    assert parse_json(b'\xef\xbb\xbf{"a":1}}}') == {"a": 1}
    assert parse_json('{"é":"€"} ü'.encode()) == {"é": "€"}


@given(
    st.binary(max_size=60) | st.text(alphabet='{}[]",:\\0189.eE-+truefalsnINy \n\ud7ff', max_size=40).map(str.encode)
)
def test_any_bytes_are_read_or_refused_and_nothing_else(body: bytes) -> None:
    with contextlib.suppress(ServingError):
        parse_json(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_what_json_writes_is_read_as_it_was(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value


@given(json_values)
def test_what_is_shown_is_json_unless_it_was_cut(value: object) -> None:
    text = show(value)
    if len(text.encode()) < SHOWN_BYTES and not isinstance(value, float):
        assert json.loads(text) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (1e-05, "1e-05"),
        (
            [1e-05, 1e-07, 1e21, 1e22, 1.5e30, 100.0, 12345678.9],
            "[0.00001, 1e-7, 1e21, 1e22, 1.5e30, 100.0, 12345678.9]",
        ),
        ([1e20, 123e18, -0.0], "[100000000000000000000.0, 123000000000000000000.0, -0.0]"),
        ({"a": [1, {"b": None}], "c": {}}, '{\n    "a": [1, {\n            "b": null\n        }],\n    "c": {}\n}'),
        (True, "true"),
    ],
)
def test_values_are_shown_in_rapidjsons_layout(value: object, text: str) -> None:
    assert show(value) == text


def test_a_long_value_is_cut_after_the_token_that_is_too_much() -> None:
    shown = show({"x": [1.0] * 200})
    assert SHOWN_BYTES <= len(shown) < SHOWN_BYTES + 5
    assert shown.endswith("1.0")
