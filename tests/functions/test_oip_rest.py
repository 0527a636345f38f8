"""The Open Inference Protocol over REST, on a real server: with real clients, and with hostile bodies."""

import json
import struct
from typing import Any

import numpy as np
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.oip.json_body import decode_infer
from loader.status import Code, ServingError
from tests.clients.isolated import KSERVE, TRITON, run_isolated
from tests.functions.served import server

__all__ = ["server"]
HEADER = "Inference-Header-Content-Length"
X = {"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}


def infer(server: str, body: object, path: str = "half_plus_two", **headers: str) -> requests.Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return requests.post(f"http://{server}/v2/models/{path}/infer", data=data, headers=headers, timeout=30)


def with_raw(head: dict[str, Any], *blobs: bytes) -> tuple[bytes, str]:
    text = json.dumps(head).encode()
    return b"".join((text, *blobs)), str(len(text))


def test_nvidias_client_works_unmodified(server: str) -> None:
    assert run_isolated(TRITON, "triton_client.py", "http", server) == "ok\n"


def test_kserves_client_works_unmodified(server: str) -> None:
    assert run_isolated(KSERVE, "kserve_client.py", "rest", server).endswith("ok\n")


def test_the_health_metadata_and_list_paths_answer(server: str) -> None:
    url = f"http://{server}/v2"
    assert requests.get(url, timeout=10).json()["extensions"] == ["binary_tensor_data", "model_repository"]
    assert requests.get(f"{url}/health/live", timeout=10).json() == {"live": True}
    assert requests.get(f"{url}/health/ready", timeout=10).json()["ready"] is True
    assert "golden" in requests.get(f"{url}/models", timeout=10).json()["models"]
    golden = requests.get(f"{url}/models/golden/versions/canary", timeout=10).json()
    assert golden["versions"] == ["1", "2"]
    assert golden["platform"] == "tensorflow_savedmodel"
    two = requests.get(f"{url}/models/golden?signature_name=two_one", timeout=10).json()
    assert [each["name"] for each in two["inputs"]] == ["a", "b"]
    assert requests.get(f"{url}/models/golden/versions/1/ready", timeout=10).json() == {"name": "golden", "ready": True}


def test_an_answer_names_the_version_that_gave_it_and_echoes_the_id(server: str) -> None:
    for version, number in (("1", "1"), ("2", "2"), ("stable", "1"), ("canary", "2")):
        answer = infer(server, {"id": 'a"b', "inputs": [X]}, f"golden/versions/{version}").json()
        assert (answer["model_version"], answer["id"]) == (number, 'a"b')


def test_raw_and_json_tensors_may_be_mixed_both_ways(server: str) -> None:
    raw = {"name": "a", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}
    body, length = with_raw(
        {
            "parameters": {"signature_name": "two_one", "binary_data_output": True},
            "inputs": [raw, {**X, "name": "b"}],
        },
        np.array([5, 6], np.float32).tobytes(),
    )
    answer = infer(server, body, "golden", **{HEADER: length})
    head = json.loads(answer.content[: int(answer.headers[HEADER])])
    assert answer.headers["content-type"] == "application/octet-stream"
    assert head["outputs"][0]["parameters"]["binary_data_size"] == 8
    assert len(answer.content) == int(answer.headers[HEADER]) + 8


def test_an_outputs_own_wish_wins_over_the_requests(server: str) -> None:
    wish = {
        "parameters": {"binary_data_output": True},
        "inputs": [X],
        "outputs": [{"name": "y", "parameters": {"binary_data": False}}],
    }
    assert infer(server, wish).json()["outputs"][0]["data"] == [2.5, 3.0]


def test_texts_that_are_not_utf8_are_answered_as_base64_and_marked(server: str) -> None:
    tensor = {
        "name": "s",
        "datatype": "BYTES",
        "shape": [1],
        "data": ["/w=="],
        "parameters": {"content_type": "base64"},
    }
    answer = infer(server, {"parameters": {"signature_name": "strs"}, "inputs": [tensor]}, "golden").json()
    assert answer["outputs"][0]["data"] == ["/yE="]
    assert answer["outputs"][0]["parameters"] == {"content_type": "base64"}


def test_nan_and_infinity_are_taken_and_given(server: str) -> None:
    answer = infer(server, b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"data":[NaN,-Infinity]}]}')
    assert answer.content.endswith(b'"data":[NaN,-Infinity]}]}')


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"[" * 100_000 + b"NaN", "not JSON"),
        (b'{"inputs": 1}', "must be a list"),
        (b'{"inputs": [1]}', "not an object"),
        ({"inputs": [{**X, "shape": [3]}]}, "found 2 elements"),
        ({"inputs": [{**X, "shape": [-2]}]}, "negative"),
        ({"inputs": [{**X, "shape": [1 << 40, 1 << 40]}]}, "more than the allowed"),
        ({"inputs": [{**X, "shape": [1.5]}]}, "whole numbers"),
        ({"inputs": [{**X, "shape": [True]}]}, "whole numbers"),
        ({"inputs": [{**X, "datatype": "COMPLEX"}]}, "unknown datatype"),
        ({"inputs": [{**X, "data": "12"}]}, "wanted a list"),
        ({"inputs": [{**X, "data": [1, None]}]}, "not numbers"),
        ({"inputs": [X, X]}, "given twice"),
        ({"inputs": [{**X, "name": ""}]}, "needs a name"),
        ({"inputs": [{**X, "parameters": {"binary_data_size": 8}}]}, "0 bytes are left"),
        ({"inputs": [{**X, "parameters": []}]}, "must be an object"),
        ({"inputs": [X], "outputs": [{"name": "y"}, {"name": "y"}]}, "asked for twice"),
        ({"inputs": [X], "outputs": [{"name": "zz"}]}, "not found in signature"),
        ({"inputs": [X], "parameters": {"signature_name": "no"}}, "no signature 'no'"),
        ({"inputs": [X], "parameters": {"timeout": -1}}, "microseconds"),
    ],
)
def test_a_wrong_body_is_answered_400_with_what_is_wrong(server: str, body: object, text: str) -> None:
    answer = infer(server, body)
    assert answer.status_code == 400
    assert text in answer.json()["error"]
    assert infer(server, {"inputs": [X]}).status_code == 200


@pytest.mark.parametrize(
    ("size", "blob", "length", "text"),
    [
        (8, b"1234567", None, "7 bytes are left"),
        (8, b"123456789", None, "add up to 8"),
        (-1, b"", None, "binary_data_size is -1"),
        (1 << 62, b"12345678", None, "binary_data_size is 4611686018427387904"),
        (4, b"1234", None, "takes 8"),
        (8, b"12345678", "9" * 30, "wanted the length of the JSON"),
        (8, b"12345678", "-1", "wanted the length of the JSON"),
        (8, b"12345678", "100000", "wanted the length of the JSON"),
        (8, b"12345678", "10", "not JSON"),
    ],
)
def test_raw_tensors_that_do_not_fill_the_body_exactly_are_answered_400(
    server: str, size: int, blob: bytes, length: str | None, text: str
) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": size}}
    body, right = with_raw({"inputs": [tensor]}, blob)
    answer = infer(server, body, **{HEADER: length or right})
    assert answer.status_code == 400
    assert text in answer.json()["error"]


def test_a_cut_bytes_tensor_is_answered_400(server: str) -> None:
    blob = struct.pack("<I", 5) + b"abc"
    tensor = {"name": "s", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(blob)}}
    body, length = with_raw({"parameters": {"signature_name": "strs"}, "inputs": [tensor]}, blob)
    answer = infer(server, body, "golden", **{HEADER: length})
    assert answer.status_code == 400
    assert "ends after" in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "models/nobody", 404),
        ("GET", "models/nobody/ready", 404),
        ("GET", "models/golden/versions/99/ready", 404),
        ("GET", "models/golden/versions/no_label/ready", 404),
        ("GET", f"models/golden/versions/{'9' * 40}", 400),
        ("POST", "models/nobody/infer", 400),
        ("GET", "models/golden/infer", 405),
        ("POST", "models/golden", 405),
        ("GET", "repository/index", 405),
        ("GET", "nowhere", 404),
        ("POST", "repository/models/nobody/load", 404),
        ("POST", "repository/models/nobody/unload", 404),
    ],
)
def test_what_is_not_there_is_answered_with_its_own_status(server: str, method: str, path: str, status: int) -> None:
    answer = requests.request(method, f"http://{server}/v2/{path}", timeout=30)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_an_unloaded_model_is_gone_until_it_is_loaded_again(server: str) -> None:
    url = f"http://{server}/v2"
    assert requests.post(f"{url}/repository/models/mlp/unload", timeout=30).content == b""
    assert requests.get(f"{url}/models/mlp/ready", timeout=30).status_code == 404
    assert requests.post(f"{url}/repository/models/mlp/load", timeout=60).status_code == 200
    assert requests.get(f"{url}/models/mlp/ready", timeout=30).json() == {"name": "mlp", "ready": True}
    lines = requests.post(f"{url}/repository/index", json={"ready": True}, timeout=30).json()
    assert {"name": "mlp", "version": "1", "state": "READY", "reason": ""} in lines


def test_labels_survive_an_unload(server: str) -> None:
    url = f"http://{server}/v2"
    requests.post(f"{url}/repository/models/golden/unload", timeout=30)
    assert requests.post(f"{url}/repository/models/golden/load", timeout=60).status_code == 200
    assert requests.get(f"{url}/models/golden/versions/canary/ready", timeout=30).status_code == 200


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 64), 1 << 64) | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "shape", "datatype", "data", "parameters", "binary_data_size", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(("id", "inputs", "outputs", "parameters"), values))
    | st.builds(
        lambda tensor, name, shape: {"inputs": [{**tensor, "name": name, "datatype": "FP32", "shape": shape}]},
        st.dictionaries(st.sampled_from(["data", "parameters"]), values, max_size=2),
        st.text(max_size=2),
        st.lists(st.integers(-1, 3), max_size=2),
    ),
    st.binary(max_size=8),
    st.none() | st.binary(max_size=3),
)
def test_any_body_is_read_or_refused_with_a_callers_error(
    document: dict[str, Any], raw: bytes, length: bytes | None
) -> None:
    text = json.dumps(document).encode()
    try:
        decode_infer(text + raw, b"%d" % len(text) if length is None else length)
    except ServingError as error:
        code = error.code
    else:
        code = Code.OK
    assert code in (Code.OK, Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused_with_a_callers_error(body: bytes) -> None:
    with pytest.raises(ServingError) as caught:
        decode_infer(body, None)
    assert caught.value.code is Code.INVALID_ARGUMENT
