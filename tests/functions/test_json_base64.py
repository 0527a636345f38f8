"""Base64 as absl reads it."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.rest.json_base64 import decode_base64, is_base64


@given(st.binary(max_size=64))
def test_what_was_encoded_decodes_with_and_without_its_padding(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    assert decode_base64(text) == data
    assert decode_base64(text.rstrip("=")) == data
    assert decode_base64(text.replace("=", ".")) == data
    assert decode_base64("\n".join(text)) == data


@pytest.mark.parametrize("text", ["!!!", "__79", "A", "QQ=", "QQ===", "Q=Q=", "QUJD=", "é", "QQ==QQ==", "="])
def test_what_is_not_base64_is_refused(text: str) -> None:
    assert decode_base64(text) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [({"b64": "QQ=="}, True), ({"b64": 1}, False), ({"b64": "QQ==", "x": 1}, False), ({}, False), ("QQ==", False)],
)
def test_a_base64_object_has_that_one_key_and_a_string(value: object, expected: bool) -> None:
    assert is_base64(value) is expected
