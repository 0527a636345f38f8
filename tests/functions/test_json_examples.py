"""Classify and regress bodies become tf.Examples."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import loader.protos
from functions.rest.json_examples import decode_examples
from loader.status import Code, ServingError

assert loader.protos
from tensorflow.core.example.example_pb2 import Example  # noqa: E402  # after the stand-in

NO_EXAMPLES = "When method is classify, key 'examples' is expected and was not found"
NOT_A_NAME = "not formatted correctly. 'signature_name' key must be a string value."


def features(serialized: bytes) -> dict[str, list[Any]]:
    found = {}
    for name, feature in Example.FromString(serialized).features.feature.items():
        kind = feature.WhichOneof("kind")
        found[name] = [kind, *getattr(feature, kind).value] if kind else []
    return found


def decode(body: Any) -> list[dict[str, list[Any]]]:
    return [features(each) for each in decode_examples(json.dumps(body).encode()).examples]


def refused(body: Any) -> str:
    with pytest.raises(ServingError) as caught:
        decode_examples(json.dumps(body).encode())
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


def test_scalars_and_lists_become_features_of_their_kind() -> None:
    example = {"f": 1.5, "i": [1, True], "s": ["é", {"b64": "/w=="}], "e": []}
    assert decode({"examples": [example]}) == [
        {"f": ["float_list", 1.5], "i": ["int64_list", 1, 1], "s": ["bytes_list", "é".encode(), b"\xff"], "e": []}
    ]


def test_the_context_is_in_every_example_and_the_examples_own_features_win() -> None:
    body = {"context": {"a": 1, "b": 2.5}, "examples": [{"c": 1}, {"a": 7}], "signature_name": "s"}
    assert decode_examples(json.dumps(body).encode()).signature_name == "s"
    assert decode(body) == [
        {"a": ["int64_list", 1], "b": ["float_list", 2.5], "c": ["int64_list", 1]},
        {"a": ["int64_list", 7], "b": ["float_list", 2.5]},
    ]


def test_numbers_at_the_limits_are_what_they_are_to_rapidjson() -> None:
    found = decode({"examples": [{"i": [2**63 - 1, -(2**63)], "f": [1e39, -1e39], "g": 2**64}]})
    assert found[0]["i"] == ["int64_list", 2**63 - 1, -(2**63)]
    assert found[0]["f"] == ["float_list", float("inf"), float("-inf")]
    assert found[0]["g"] == ["float_list", 2.0**64]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            {"instances": [1.0]},
            f'JSON Value: {{\n    "instances": [1.0]\n}} {NO_EXAMPLES}',
        ),
        ({"examples": 1}, "JSON Value: {\n    \"examples\": 1\n} Expecting 'examples' value to be an list/array"),
        ({"examples": []}, "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array"),
        ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
        ({"examples": [{}], "context": None}, "Example must be JSON object but got JSON Null"),
        ({"examples": [{"x": None}]}, "Feature: x has element with unexpected JSON type: Null"),
        ({"examples": [{"x": [[1]]}]}, "Feature: x has element with unexpected JSON type: Array"),
        ({"examples": [{"x": {"y": 1}}]}, "Feature: x has element with unexpected JSON type: Object"),
        ({"examples": [{"x": [1.0, "a"]}]}, "Unexpected element type in feature: x expecting type: float"),
        ({"examples": [{"x": [1, 1.0]}]}, "Unexpected element type in feature: x expecting type: int64"),
        ({"examples": [{"x": ["a", 1]}]}, "Unexpected element type in feature: x expecting type: bytes"),
        ({"examples": [{"x": 2**63}]}, "Feature: x has uint64_t element. Only int64_t is supported."),
        ({"examples": [{"x": {"b64": "!"}}]}, "Unable to base64 decode"),
        ([], "JSON Value: [] Is not object"),
        (
            {"signature_name": 1},
            f'JSON Value: {{\n    "signature_name": 1\n}} {NOT_A_NAME}',
        ),
    ],
)
def test_what_is_wrong_is_said_in_the_stock_servers_words(body: Any, message: str) -> None:
    assert refused(body) == message


@given(
    st.dictionaries(st.text(max_size=5), st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5), max_size=4)
)
def test_integers_come_through(example: dict[str, list[int]]) -> None:
    assert decode({"examples": [example]}) == [{name: ["int64_list", *values] for name, values in example.items()}]
