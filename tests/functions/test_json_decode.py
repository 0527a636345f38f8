"""Predict bodies: the stock server's words for what is wrong, and one meaning for both ways of reading."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.rest import json_decode
from functions.rest.json_decode import PredictBody, decode_predict
from functions.rest.json_exact import MAX_RANK
from functions.rest.json_fast import read_numbers
from loader import dtypes
from loader.dtypes import DType
from loader.signature import Signature, TensorSpec
from loader.status import Code, ServingError
from loader.tensor import ALIGNMENT, ZERO_COPY_BYTES

ELEMENT_1 = "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT:"
ELEMENT_0_ZZ = "Failed to process element: 0 key: zz of 'instances' list. Error: INVALID_ARGUMENT:"
SEVERAL = "as multiple input tensors required as per tensorinfo_map"
NOT_A_NAME = "not formatted correctly. 'signature_name' key must be a string value."


def signature(name: str, **inputs: DType) -> Signature:
    specs = {alias: TensorSpec(alias, f"{alias}:0", dtype.number, None) for alias, dtype in inputs.items()}
    return Signature(name, "tensorflow/serving/predict", specs, {})


SIGNATURES: Mapping[str, Signature] = {
    one.name: one
    for one in (
        signature("serving_default", x=dtypes.FLOAT),
        signature("double", x=dtypes.DOUBLE),
        signature("half", x=dtypes.HALF),
        signature("bfloat16", x=dtypes.BFLOAT16),
        signature("int8", x=dtypes.INT8),
        signature("uint8", x=dtypes.UINT8),
        signature("uint16", x=dtypes.UINT16),
        signature("int32", x=dtypes.INT32),
        signature("int64", x=dtypes.INT64),
        signature("uint64", x=dtypes.UINT64),
        signature("bool", x=dtypes.BOOL),
        signature("string", x=dtypes.STRING),
        signature("complex64", x=dtypes.COMPLEX64),
        signature("two", a=dtypes.FLOAT, b=dtypes.INT64),
        signature("b64", b64=dtypes.STRING),
        signature('odd"[name', x=dtypes.FLOAT),
        signature("none"),
    )
}


def decode(body: Any, signature_name: str = "") -> PredictBody:
    if not isinstance(body, bytes):
        body = json.dumps({"signature_name": signature_name, **body} if signature_name else body).encode()
    return decode_predict(body, SIGNATURES)


def refused(body: Any, signature_name: str = "", code: Code = Code.INVALID_ARGUMENT) -> str:
    with pytest.raises(ServingError) as caught:
        decode(body, signature_name)
    assert caught.value.code is code
    return caught.value.message


def assert_same(left: PredictBody, right: PredictBody) -> None:
    assert (left.signature_name, left.row) == (right.signature_name, right.row)
    assert left.inputs.keys() == right.inputs.keys()
    for alias, array in left.inputs.items():
        other = right.inputs[alias]
        assert (array.dtype, array.shape) == (other.dtype, other.shape)
        if array.dtype == object:
            assert array.tolist() == other.tolist()
        else:
            # Bit by bit: a zero's sign counts.
            assert array.tobytes() == other.tobytes()


def outcome(body: bytes) -> PredictBody | tuple[Code, str]:
    try:
        return decode_predict(body, SIGNATURES)
    except ServingError as error:
        return error.code, error.message


def exact_outcome(body: bytes) -> PredictBody | tuple[Code, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_decode, "read_numbers", lambda *_: None)
        return outcome(body)


def assert_both_ways_agree(body: bytes) -> None:
    fast, exact = outcome(body), exact_outcome(body)
    if isinstance(exact, PredictBody):
        assert isinstance(fast, PredictBody), body
        assert_same(fast, exact)
    else:
        assert fast == exact


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"instances": [1.0, 2, -3]}, np.array([1, 2, -3], np.float32)),
        ({"instances": [[1, 2], [3, 4]]}, np.array([[1, 2], [3, 4]], np.float32)),
        ({"instances": [{"x": [1, 2]}, {"x": [3, 4]}]}, np.array([[1, 2], [3, 4]], np.float32)),
        ({"instances": [{"x": 1}, {"x": 2.5}]}, np.array([1, 2.5], np.float32)),
        ({"inputs": [[1, 2]]}, np.array([[1, 2]], np.float32)),
        ({"inputs": {"x": [[1, 2]]}}, np.array([[1, 2]], np.float32)),
        ({"inputs": 1.5}, np.array(1.5, np.float32)),
        ({"inputs": {"x": 3}}, np.array(3, np.float32)),
        ({"instances": [1.0], "user": "ada", "age": 7, "new": True, "none": None}, np.array([1], np.float32)),
    ],
)
def test_bodies_of_numbers_take_the_fast_way(body: Any, expected: Any) -> None:
    text = json.dumps(body).encode()
    fast = read_numbers(text, SIGNATURES)
    assert fast is not None
    assert fast.row is ("instances" in body)
    np.testing.assert_array_equal(fast.inputs["x"], expected)
    assert fast.inputs["x"].dtype == np.float32
    assert fast.inputs["x"].shape == expected.shape


def test_two_named_inputs_take_the_fast_way_by_rows_and_by_columns() -> None:
    rows = b'{"signature_name":"two","instances":[{"a":1,"b":[1,2]},{"a":2.5,"b":[3,4]}]}'
    columns = b'{"inputs":{"b":[[1,2],[3,4]],"a":[1,2.5]},"signature_name":"two"}'
    for body in (rows, columns):
        found = read_numbers(body, SIGNATURES)
        assert found is not None
        assert found.inputs["a"].tolist() == [1, 2.5]
        assert found.inputs["b"].tolist() == [[1, 2], [3, 4]]
        assert found.inputs["b"].dtype == np.int64


def test_words_for_what_is_not_finite_take_the_fast_way() -> None:
    found = read_numbers(b'{"instances":[NaN, -Inf,Infinity ,\n-Infinity,1e39,-NaN]}', SIGNATURES)
    assert found is None  # one number is too large for a float and could be mistaken
    found = read_numbers(b'{"instances":[NaN, -Inf,Infinity ,\n-Infinity,-NaN]}', SIGNATURES)
    assert found is not None
    np.testing.assert_array_equal(found.inputs["x"], [np.nan, -np.inf, np.inf, -np.inf, np.nan])


@pytest.mark.parametrize(
    ("name", "count"), [("", 16_384), ("", 100_003), ("uint8", 70_000), ("int32", 20_000), ("bfloat16", 40_000)]
)
def test_a_large_input_lies_where_tensorflow_reads_it_without_a_copy(name: str, count: int) -> None:
    numbers = (np.arange(count) % 251).tolist()
    body = {"signature_name": name, "inputs": [numbers]}
    array = decode(body).inputs["x"]
    assert array.nbytes >= ZERO_COPY_BYTES
    assert array.flags.c_contiguous
    assert array.__array_interface__["data"][0] % ALIGNMENT == 0
    assert array.astype(np.int64).tolist() == [numbers]


def test_too_large_is_infinite_and_too_small_is_zero() -> None:
    values = decode({"instances": [1e39, -1e39, 1e-38, -1e-45, 1.2e-38]}).inputs["x"]
    assert values.tolist() == [np.inf, -np.inf, 0.0, 0.0, np.float32(1.2e-38)]
    assert np.signbit(values[3])


# What is regular, what is nearly so, and what is not at all: any of it may be in an instance.
numbers = st.integers(-5, 5) | st.sampled_from([1.5, -0.0, 1e39, 1e-40, 300, 70000, -1, 2**63, 2**64, 10**400])
leaves = numbers | st.none() | st.booleans() | st.sampled_from(["", "a", "[", '"', ",", "]", "{", "NaN", ",NaN,"])
values = st.recursive(
    leaves | numbers,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "a", "b", "b64", "zz"]), inner, max_size=2)
    ),
    max_leaves=12,
)
regular = st.builds(
    lambda shape, start: (np.arange(int(np.prod(shape))).reshape(shape) + start).tolist(),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.sampled_from([0, 0.5, -2, 250]),
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "signature_name": st.sampled_from([*SIGNATURES, "", "nope", ",", 1]),
        "instances": st.lists(values, max_size=4) | regular | values,
        "inputs": values | regular,
        "output_filter": st.sampled_from([[], ["y"], "y", 1]),
        "foo": values,
    },
)


@settings(max_examples=600)
@given(bodies, st.sampled_from([None, 1]))
def test_the_fast_way_never_means_anything_else_than_the_exact_way(body: Any, indent: int | None) -> None:
    assert_both_ways_agree(json.dumps(body, indent=indent).encode())


@settings(max_examples=300)
@given(bodies, st.data())
def test_both_ways_agree_on_damaged_bodies(body: Any, data: st.DataObject) -> None:
    text = bytearray(json.dumps(body).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        text[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b"", b"[", b"]", b",", b'"', b"{", b"}", b"NaN", b"-Inf", b"e9", b"\\", b"\xff", b" "])
        )
    assert_both_ways_agree(bytes(text))


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances":[[1,2],[3]]}',
        b'{"instances":[1,[2]]}',
        b'{"instances":[[1],2]}',
        b'{"instances":[[[1]],[[2,3]]]}',
        b'{"instances":[[1,2],[3,4]],"instances":[5]}',
        b'{"inputs":{"x":[1],"x":[2]}}',
        b'{"signature_name":"odd\\"[name","instances":[1]}',
        b'{"signature_name":"a NaN b","instances":[1e39,NaN]}',
        b'{"instances":[1.79543e308,NaN]}',
        b'{"instances":[1.79547e308,-1.79543e308,--NaN]}',
        b'{"signature_name":"double","instances":[1.79547e308,NaN]}',
        b'{"signature_name":"double","instances":[-Inf,-1.79543e308]}',
        b'{"instances":[1eNaN,0NaN,-Infinityy,1.NaN]}',
        b'{"instances":[NaN1]}',
        b'{"instances":[1]} trailing',
        b'\xef\xbb\xbf{"instances":[1]}',
        b'{"instances":[{"x":1},{"x":[2]}]}',
        b'{"signature_name":"two","instances":[{"a":1,"b":2},{"b":3,"a":4}]}',
        b'{"signature_name":"two","instances":[{"a":1,"b":2},{"a":3,"a":4}]}',
        b'{"signature_name":"uint64","instances":[18446744073709551615]}',
        b'{"signature_name":"uint64","instances":[{"x":18446744073709551615},{"x":0}]}',
        b'{"signature_name":"int64","instances":[{"x":18446744073709551615},{"x":-1}]}',
        b'{"instances":[]}',
        b'{"instances":[[]]}',
        b'{"inputs":[]}',
        b'{"instances":[-0,-0.0,0]}',
        b'{"instances":[1],"user":"a","user":"b"}',
        b'{"instances":[1],"user":"[,]"}',
        b'{"instances":[1],"us{er":1}',
        b'{"instances":[1],"user":NaN}',
        b'{"instances":[1],"user":"NaN"}',
        b'{"instances":[1],"output_filter":"y"}',
        b'{"instances":[1],"inputs":1}',
        b'{"instances":[1],"user":123456789012345678901234567890}',
    ],
)
def test_both_ways_agree_where_it_is_easy_to_err(body: bytes) -> None:
    assert_both_ways_agree(body)


@pytest.mark.parametrize(
    ("body", "name", "message"),
    [
        ({}, "", "Missing 'inputs' or 'instances' key"),
        (b"5", "", "JSON Value: 5 Is not object"),
        (b"[1.0]", "", "JSON Value: [1.0] Is not object"),
        ({"instances": 1.0}, "", "JSON Value: {\n    \"instances\": 1.0\n} Expecting 'instances' to be an list/array"),
        ({"instances": []}, "", "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
        ({"instances": [1]}, "nope", 'Serving signature name: "nope" not found in signature def'),
        ({"instances": [1]}, "none", "Failed to get input map for signature: none"),
        (
            {"signature_name": 5, "instances": [1]},
            "",
            f'JSON Value: {{\n    "signature_name": 5,\n    "instances": [1]\n}} {NOT_A_NAME}',
        ),
        (
            {"instances": [[1.0, 2.0], [1.0, 2.0, 3.0]]},
            "",
            f"{ELEMENT_1} Expecting tensor size: 2 but got: 3",
        ),
        (
            {"instances": [[[1.0, 2.0]], [[1.0], [2.0]]]},
            "",
            f"{ELEMENT_1} Expecting shape [1,2] but got: [2,1]",
        ),
        ({"inputs": [[1, 2], [3]]}, "", "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        (
            {"inputs": [[1, 2], 5]},
            "",
            "JSON Value: 5 found at incorrect level: 1 in the JSON DOM. Expected at level: 2",
        ),
        (
            {"inputs": 5},
            "two",
            f"inputs is a plain value/list, but expecting an object {SEVERAL}",
        ),
        (
            {"instances": [5]},
            "two",
            f"instances is a plain list, but expecting list of objects {SEVERAL}",
        ),
        (
            {"instances": [{"a": 1, "b": 2, "zz": 3}]},
            "two",
            f"{ELEMENT_0_ZZ} JSON object: does not have named input: zz",
        ),
        ({"instances": [{"x": 1}, 2]}, "", "Expecting object but got list at item 1 of input list"),
        ({"instances": [1, {"x": 2}]}, "", "Expecting value/list but got object at item 1 of input list"),
        ({"inputs": {"a": 1}}, "two", "Missing named input: b in 'inputs' object."),
        ({"inputs": True}, "", "JSON Value: true Type: True is not of expected type: float"),
        ({"inputs": 1}, "bool", "JSON Value: 1 Type: Number is not of expected type: bool"),
        ({"inputs": 1.0}, "int32", "JSON Value: 1.0 Type: Number is not of expected type: int32"),
        ({"inputs": 2**31}, "int32", "JSON Value: 2147483648 Type: Number is not of expected type: int32"),
        ({"inputs": 300}, "int8", "JSON Value: 300 Type: Number is not of expected type: int8"),
        ({"inputs": -1}, "uint8", "JSON Value: -1 Type: Number is not of expected type: uint8"),
        ({"inputs": {"b64": "!"}}, "string", "Unable to base64 decode"),
        (
            {"inputs": {"x": {"b64": 1}}},
            "string",
            'JSON Value: {\n    "b64": 1\n} not formatted correctly for base64 data',
        ),
    ],
)
def test_what_is_wrong_is_said_in_the_stock_servers_words(body: Any, name: str, message: str) -> None:
    assert refused(body, name) == message


def test_a_type_that_json_cannot_carry_is_unimplemented_for_a_column() -> None:
    assert refused({"inputs": 1.0}, "complex64", Code.UNIMPLEMENTED) == (
        "Conversion of JSON Value: 1.0 to type: complex64"
    )


def test_a_list_of_more_dimensions_than_arrays_have_is_refused() -> None:
    deep = "[" * (MAX_RANK + 1) + "1" + "]" * (MAX_RANK + 1)
    assert f"wanted at most {MAX_RANK}" in refused(f'{{"inputs":{deep}}}'.encode())
    assert decode(f'{{"inputs":{deep[1:-1]}}}'.encode()).inputs["x"].ndim == MAX_RANK


def test_strings_are_text_or_base64_and_one_base64_object_is_a_value() -> None:
    found = decode({"instances": ["é", {"b64": "/wD+"}, {"b64": "aGk"}]}, "string").inputs["x"]
    assert found.dtype == object
    assert found.tolist() == ["é".encode(), b"\xff\x00\xfe", b"hi"]
    assert decode({"inputs": {"b64": "aGk="}}, "string").inputs["x"].tolist() == b"hi"
    assert decode({"instances": [{"x": {"b64": "aGk="}}]}, "string").inputs["x"].tolist() == [b"hi"]


def test_an_input_that_is_called_b64_is_an_input() -> None:
    assert decode({"instances": [{"b64": "aGk="}]}, "b64").inputs["b64"].tolist() == [b"aGk="]


@pytest.mark.parametrize(("name", "top"), [("half", 2048), ("bfloat16", 256), ("uint16", 65535)])
def test_types_that_the_stock_server_refuses_are_taken(name: str, top: int) -> None:
    array = decode({"instances": [0, 1, top]}, name).inputs["x"]
    assert array.dtype == dtypes.of_name(name).numpy
    assert array.astype(np.float64).tolist() == [0, 1, top]


def test_an_input_that_has_a_default_may_be_left_out() -> None:
    specs = SIGNATURES["two"].inputs
    with_default = Signature("d", "", specs, {}, {"b": np.array(7, np.int64)})
    for body in (b'{"signature_name":"d","instances":[{"a":1}]}', b'{"signature_name":"d","inputs":{"a":[1]}}'):
        assert decode_predict(body, {"d": with_default}).inputs.keys() == {"a"}


def test_columns_ignore_names_that_are_not_inputs() -> None:
    assert decode({"inputs": {"x": [1], "zz": ["?"]}}).inputs["x"].tolist() == [1]


def test_the_output_filter_is_a_list_of_names() -> None:
    assert decode({"instances": [1], "output_filter": ["y"]}).output_filter == ["y"]
    assert "'output_filter' key must be a list" in refused({"instances": [1], "output_filter": "y"})
