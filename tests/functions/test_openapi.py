"""The OpenAPI document: valid, and true to what the server takes and gives."""

import json
from typing import Any

import pytest
import requests
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from functions.rest.openapi import build_document, tensor_schema
from loader import dtypes
from loader.signature import TensorSpec
from tests.functions.served import ROOT, server

__all__ = ["server"]

BEYOND_THE_DOCUMENT = {
    "022_int8_overflow": "the stock server wraps 300 to 44; ours refuses it",
    "049_two_extra_col": "unknown names are ignored; a schema that allowed them would hide typing errors",
    "119_wrong_shape_rank": "the model takes another rank than its signature says",
}
"""Recorded good requests that the document does not describe, and why."""


@pytest.fixture(scope="module")
def document(server: str) -> Any:
    return requests.get(f"http://{server}/openapi.json", timeout=30).json()


def schemas(document: Any, path: str) -> tuple[Draft202012Validator, Draft202012Validator]:
    operation = document["paths"][path]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
    return Draft202012Validator(body), Draft202012Validator(answer)


def test_the_document_is_valid_openapi_31(document: Any) -> None:
    validate(document)
    assert document["openapi"] == "3.1.0"
    assert "/v1/models/golden/versions/2:predict" in document["paths"]
    assert "/v1/models/golden_ex:classify" in document["paths"]


def test_a_server_without_models_has_a_valid_document_too() -> None:
    validate(build_document([], "1"))


@pytest.mark.parametrize(
    ("model", "body"),
    [
        ("half_plus_two", {"instances": [1, 2.5]}),
        ("half_plus_two", {"inputs": [1.0]}),
        ("half_plus_two", {"instances": [{"x": 1.0}]}),
        ("golden", {"signature_name": "two_one", "instances": [{"a": 1.0, "b": 2.0}]}),
        ("golden", {"signature_name": "strs", "instances": ["a", {"b64": "aGk="}]}),
        ("golden", {"signature_name": "id_uint8", "inputs": {"x": [255]}}),
    ],
)
def test_what_the_schema_allows_the_server_answers_as_the_schema_says(
    server: str, document: Any, model: str, body: dict[str, Any]
) -> None:
    allowed, promised = schemas(document, f"/v1/models/{model}:predict")
    allowed.validate(body)
    answer = requests.post(f"http://{server}/v1/models/{model}:predict", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    promised.validate(answer.json())


@pytest.mark.parametrize(
    "body",
    [
        {"instances": ["text"]},
        {"instances": []},
        {"instances": [{"zz": 1.0}]},
        {"instances": [1.0], "inputs": [1.0]},
        {"signature_name": "no", "instances": [1.0]},
    ],
)
def test_what_the_schema_forbids_the_server_refuses(server: str, document: Any, body: dict[str, Any]) -> None:
    allowed, _ = schemas(document, "/v1/models/half_plus_two:predict")
    assert not allowed.is_valid(body)
    answer = requests.post(f"http://{server}/v1/models/half_plus_two:predict", json=body, timeout=30)
    assert answer.status_code == 400


def test_every_recorded_good_prediction_fits_the_document(document: Any) -> None:
    checked, wrong = 0, []
    for case in json.loads((ROOT / "tests/golden/rest.json").read_text()):
        request, response = case["request"], case["response"]
        path = request["path"]
        if case["case"] in BEYOND_THE_DOCUMENT:
            continue
        if response["status"] != 200 or request["method"] != "POST" or path not in document["paths"]:
            continue
        try:
            body, answer = json.loads(request["body"]), json.loads(response["body"])
        except ValueError:
            continue  # the stock server takes some text that is no JSON
        text = json.dumps([body, answer])
        if "NaN" in text or "Infinity" in text:
            continue
        allowed, promised = schemas(document, path)
        if list(allowed.iter_errors(body)) or list(promised.iter_errors(answer)):
            wrong.append(case["case"])
        checked += 1
    assert not wrong
    assert checked > 50


def test_fixed_sizes_bound_the_lists_and_the_batch_is_left_out_of_a_row() -> None:
    spec = TensorSpec("x", "x:0", dtypes.FLOAT.number, (-1, 2, -1))
    row = Draft202012Validator(tensor_schema(spec, row=True))
    assert row.is_valid([[1.0], [2.0, 3.0]])
    assert not row.is_valid([[1.0]])
    assert Draft202012Validator(tensor_schema(spec, row=False)).is_valid([[[1.0], [2.0]]])


def test_a_wrong_method_is_answered_405(server: str) -> None:
    assert requests.post(f"http://{server}/openapi.json", timeout=10).status_code == 405
