"""Tensors of the Open Inference Protocol: laws of the round trip, and what a hostile caller gets."""

import json
import struct

import numpy as np
import pytest
import simdjson
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from functions.oip.contents import from_contents, to_contents
from functions.oip.tensors import DATATYPES, checked_shape, from_json, from_raw, strings, to_raw, wire_datatype
from functions.proto import open_inference_pb2 as pb
from loader.dtypes import Array
from loader.status import Code, ServingError

NUMERIC = sorted(set(DATATYPES) - {"BYTES", "BF16"})
shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@st.composite
def numeric(draw: st.DrawFn) -> tuple[str, Array]:
    datatype = draw(st.sampled_from(NUMERIC))
    return datatype, draw(hnp.arrays(DATATYPES[datatype].numpy, shapes))


@st.composite
def texts(draw: st.DrawFn) -> Array:
    shape = draw(shapes)
    elements = draw(st.lists(st.binary(max_size=9), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    out = np.empty(len(elements), object)
    out[:] = elements
    return out.reshape(shape)


def refused(call: object, *args: object, **kwargs: object) -> str:
    with pytest.raises(ServingError) as caught:
        call(*args, **kwargs)  # type: ignore[operator]
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


@given(numeric())
def test_raw_bytes_read_back_as_the_array_that_was_written(sample: tuple[str, Array]) -> None:
    datatype, array = sample
    back = from_raw("x", datatype, array.shape, to_raw(array))
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()
    assert back.shape == array.shape
    assert wire_datatype(array, "x") == datatype


@given(texts())
def test_raw_texts_read_back_as_they_were_written(array: Array) -> None:
    back = from_raw("x", "BYTES", array.shape, to_raw(array))
    assert back.shape == array.shape
    assert list(strings(back)) == list(strings(array))


@given(numeric())
def test_typed_contents_read_back_as_the_array_that_was_written(sample: tuple[str, Array]) -> None:
    datatype, array = sample
    contents = pb.InferTensorContents()
    if datatype == "FP16":
        assert "raw_input_contents" in refused(from_contents, "x", datatype, array.shape, contents)
        return
    to_contents(array, contents)
    received = pb.InferTensorContents.FromString(contents.SerializeToString())
    back = from_contents("x", datatype, array.shape, received)
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


@given(numeric(), st.booleans())
def test_json_data_reads_back_flat_or_nested(sample: tuple[str, Array], nested: bool) -> None:
    datatype, array = sample
    if array.dtype.kind == "f":
        array = np.nan_to_num(array)
    data = array.tolist() if nested and array.ndim else array.ravel().tolist()
    parsed = simdjson.Parser().parse(json.dumps({"data": data}).encode())
    back = from_json("x", datatype, array.shape, parsed["data"])
    assert np.array_equal(back, array)
    assert back.dtype == array.dtype
    assert np.array_equal(from_json("x", datatype, array.shape, data), array)


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(DATATYPES)),
    st.lists(st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-1, 4), max_size=4),
    st.binary(max_size=64),
)
def test_any_raw_bytes_are_read_or_refused_with_invalid_argument(datatype: str, shape: list[int], data: bytes) -> None:
    try:
        array = from_raw("x", datatype, shape, data)
        code, found = Code.OK, list(array.shape)
    except ServingError as error:
        code, found = error.code, shape
    assert code in (Code.OK, Code.INVALID_ARGUMENT)
    assert found == shape


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(DATATYPES)),
    st.lists(st.integers(-1, 4), max_size=3),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=8,
    ).map(lambda value: value if isinstance(value, list) else [value]),
)
def test_any_json_data_is_read_or_refused_with_invalid_argument(
    datatype: str, shape: list[int], data: list[object]
) -> None:
    try:
        array = from_json("x", datatype, shape, data)
        code, found = Code.OK, list(array.shape)
    except ServingError as error:
        code, found = error.code, shape
    assert code in (Code.OK, Code.INVALID_ARGUMENT)
    assert found == shape


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ([1 << 40, 1 << 40], "more than the allowed"),
        ([1 << 62, 4], "more than the allowed"),
        ([0, 1 << 40], "more than the allowed"),
        ([3, -1], "negative"),
        ([1] * 65, "65 dimensions"),
    ],
)
def test_a_shape_that_no_tensor_can_have_is_refused_before_anything_is_allocated(shape: list[int], text: str) -> None:
    assert text in refused(checked_shape, "x", shape)


def test_two_gigabytes_claimed_by_ten_bytes_are_refused() -> None:
    assert "takes 2147483644" in refused(from_raw, "x", "FP32", [(1 << 29) - 1], b"0123456789")
    assert "or more" in refused(from_raw, "x", "BYTES", [1 << 30], b"0123456789")


@pytest.mark.parametrize("data", [b"\x01\0\0", b"\x02\0\0\0a", struct.pack("<I", 0xFFFFFFFF) + b"a"])
def test_a_bytes_tensor_that_is_cut_short_is_refused(data: bytes) -> None:
    refused(from_raw, "x", "BYTES", [1], data)


def test_bytes_after_the_last_element_are_refused() -> None:
    assert "3 bytes are left" in refused(from_raw, "x", "BYTES", [1], b"\x01\0\0\0aXYZ")


def test_a_bool_byte_is_true_whenever_it_is_not_zero() -> None:
    assert from_raw("x", "BOOL", [3], b"\0\x01\x07").view(np.uint8).tolist() == [0, 1, 1]


def test_raw_numbers_at_an_odd_address_become_an_aligned_array() -> None:
    data = memoryview(b"x" + np.array([1.5, 2.5], np.float32).tobytes())[1:]
    array = from_raw("x", "FP32", [2], data)
    assert array.flags.aligned
    assert array.tolist() == [1.5, 2.5]


@pytest.mark.parametrize(("datatype", "value"), [("INT8", 300), ("UINT8", -1), ("INT32", 1 << 31), ("UINT64", -1)])
def test_an_integer_out_of_range_is_refused_and_never_wraps(datatype: str, value: int) -> None:
    parsed = simdjson.Parser().parse(json.dumps([value]).encode())
    refused(from_json, "x", datatype, [1], parsed)
    refused(from_json, "x", datatype, [1], [value])


def test_typed_contents_in_a_wrong_field_are_refused() -> None:
    contents = pb.InferTensorContents(fp32_contents=[1.0])
    assert "fp32_contents" in refused(from_contents, "x", "INT32", [1], contents)
    assert "does not fit" in refused(from_contents, "x", "INT8", [1], pb.InferTensorContents(int_contents=[300]))


def test_unknown_fields_beside_typed_contents_do_not_shift_them() -> None:
    contents = pb.InferTensorContents(fp32_contents=[1.5, 2.5])
    contents.MergeFromString(b"\xfa\x01\x03abc")
    assert from_contents("x", "FP32", [2], contents).tolist() == [1.5, 2.5]


def test_base64_data_is_decoded_where_it_is_announced_and_refused_where_it_is_none() -> None:
    assert from_json("x", "BYTES", [1], ["/w=="], is_base64=True).tolist() == [b"\xff"]
    assert "base64" in refused(from_json, "x", "BYTES", [1], ["%"], is_base64=True)


def test_deeply_nested_data_does_not_exhaust_the_stack() -> None:
    data: list[object] = [1.0]
    for _ in range(100_000):
        data = [data]
    assert from_json("x", "FP32", [1], data).tolist() == [1.0]
    while isinstance(data[0], list):  # or its destruction would
        data = data[0]
