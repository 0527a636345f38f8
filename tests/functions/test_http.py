"""Requests, responses, and errors as JSON."""

import json

from hypothesis import given
from hypothesis import strategies as st

from functions.web.message import HTTP_STATUS, error_response, json_string, not_found
from loader.status import Code, ServingError


def test_every_canonical_code_has_an_http_status() -> None:
    assert HTTP_STATUS.keys() == set(Code)


def test_an_error_is_one_key_with_four_spaces_of_indent() -> None:
    response = error_response(ServingError(Code.NOT_FOUND, 'a "b"\n'))
    assert response.status == 404
    assert response.body == b'{\n    "error": "a \\"b\\"\\n"\n}'


def test_an_unknown_path_gets_the_stock_servers_page() -> None:
    assert not_found().status == 404
    assert not_found().body.startswith(b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>")


@given(st.text())
def test_what_was_escaped_reads_back_the_same(text: str) -> None:
    assert json.loads(json_string(text)) == text


def test_bytes_that_are_not_utf_8_stay_as_they_are() -> None:
    assert json_string(b"\xff\xfe".decode("utf-8", "surrogateescape")) == b'"\xff\xfe"'


def test_a_lone_surrogate_of_a_json_escape_does_not_break_the_answer() -> None:
    assert json_string("\ud800") == b'"?"'
