"""Results as JSON text: the stock server's layout, and nothing lost."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from functions.rest.json_encode import encode_classifications, encode_predictions, encode_regressions
from functions.rest.json_number import flush
from loader.inference import Classifications, Regressions
from loader.signature import Signature
from loader.status import Code, ServingError

SIGNATURE = Signature("s", "", {}, {})


def strings(*values: bytes) -> Any:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def refused(outputs: Any, *, row: bool = True) -> str:
    with pytest.raises(ServingError) as caught:
        encode_predictions(outputs, row=row)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


def spread(value: Any, level: int) -> str:
    """The columnar layout, written down plainly."""
    if not isinstance(value, list):
        return json.dumps(value)
    if not value:
        return "[]"
    inner = ",\n".join("    " * (level + 1) + spread(item, level + 1) for item in value)
    return f"[\n{inner}\n{'    ' * level}]"


arrays = hnp.arrays(
    st.sampled_from([np.int32, np.int64, np.uint8, np.bool_]),
    hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4),
)


@given(arrays)
def test_one_output_by_rows_stands_on_one_line_but_for_the_end(array: Any) -> None:
    line = json.dumps(array.tolist())
    assert encode_predictions({"y": array}, row=True).decode() == f'{{\n    "predictions": {line[:-1]}\n    ]\n}}'


@given(arrays, st.integers(0, 2))
def test_one_output_by_columns_has_one_element_to_a_line(array: Any, cut: int) -> None:
    array = array[..., : array.shape[-1] - cut] if cut else array
    expected = f'{{\n    "outputs": {spread(array.tolist(), 1)}\n}}'
    assert encode_predictions({"y": array}, row=False).decode() == expected


@given(
    st.integers(1, 80).flatmap(
        lambda rows: st.lists(
            hnp.arrays(
                st.sampled_from([np.float32, np.float64, np.int64]),
                st.tuples(st.just(rows)) | st.tuples(st.just(rows), st.integers(0, 3)),
                fill=st.nothing(),
            ),
            min_size=1,
            max_size=3,
        )
    ),
    st.booleans(),
)
def test_what_is_written_reads_back_as_the_same_arrays(columns: list[Any], row: bool) -> None:
    outputs = {f"y{index}": array for index, array in enumerate(columns)}
    found = json.loads(encode_predictions(outputs, row=row))
    for alias, array in outputs.items():
        if row:
            back = found["predictions"] if len(outputs) == 1 else [item[alias] for item in found["predictions"]]
        else:
            back = found["outputs"] if len(outputs) == 1 else found["outputs"][alias]
        expected = flush(array) if array.dtype.kind == "f" else array
        np.testing.assert_array_equal(
            np.array(back, np.float64 if array.dtype.kind == "f" else array.dtype)
            .astype(array.dtype)
            .reshape(array.shape),
            expected,
        )


@given(st.lists(st.text(max_size=10), min_size=1, max_size=5), st.booleans())
def test_texts_read_back_as_they_were(texts: list[str], row: bool) -> None:
    try:
        array = strings(*(text.encode() for text in texts))
    except UnicodeEncodeError:
        return  # no bytes of a model are a lone surrogate
    found = json.loads(encode_predictions({"y": array}, row=row))
    assert found["predictions" if row else "outputs"] == texts


def test_several_outputs_by_rows_are_objects() -> None:
    outputs = {
        "n": np.array([5, 3], np.int32),
        "out_bytes": strings(b"hello", b"\xff\x00\xfe"),
        "y": np.array([[2.5], [0.1]], np.float32),
    }
    assert encode_predictions(outputs, row=True).decode() == (
        '{\n    "predictions": [\n        {\n            "n": 5,\n            "out_bytes": {\n                "b64":'
        ' "aGVsbG8="\n            },\n            "y": [2.5]\n        },\n        {\n            "n": 3,\n           '
        ' "out_bytes": {\n                "b64": "/wD+"\n            },\n            "y": [0.1]\n        }\n    ]\n}'
    )


def test_bytes_in_a_list_of_a_row_are_indented_by_their_depth() -> None:
    array = strings(b"a", b"b").reshape(1, 2)
    object_text = '{{\n                "b64": "{}"\n            }}'
    rows = f"[{object_text.format('YQ==')}, {object_text.format('Yg==')}]"
    assert encode_predictions({"y_bytes": array}, row=True).decode() == f'{{\n    "predictions": [{rows}\n    ]\n}}'


def test_a_string_that_is_not_utf8_becomes_base64_and_the_others_stay() -> None:
    found = json.loads(encode_predictions({"y": strings(b"text", b"\xff\xfe")}, row=True))
    assert found == {"predictions": ["text", {"b64": base64.b64encode(b"\xff\xfe").decode()}]}


def test_scalars_stand_alone_in_columns_and_are_refused_in_rows() -> None:
    assert encode_predictions({"y": np.array(2.5, np.float32)}, row=False) == b'{\n    "outputs": 2.5\n}'
    assert refused({"mean": np.array(1.5)}) == "Tensor name: mean has no shape information "


def test_rows_must_be_there_and_be_as_many_in_all_outputs() -> None:
    assert refused({"y": np.zeros((0, 2))}) == "Tensor name: y has invalid batch size: 0"
    two_and_three = {"x": np.zeros(2), "y": np.zeros(3)}
    assert refused(two_and_three) == "Tensor name: y has inconsistent batch size: 3 expecting: 2"
    assert json.loads(encode_predictions(two_and_three, row=False))["outputs"]["y"] == [0, 0, 0]


def test_no_outputs_and_types_without_json_are_refused() -> None:
    assert refused({}) == "Cannot convert empty tensor map to JSON"
    assert refused({"y": np.zeros(1, np.complex64)}) == "Failed to write JSON value for tensor type: complex64"


@pytest.mark.parametrize("row", [True, False])
def test_a_large_result_is_written_like_many_small_ones(row: bool) -> None:
    array = np.random.default_rng(3).random((50, 7, 3)).astype(np.float32)
    found = json.loads(encode_predictions({"y": array}, row=row))["predictions" if row else "outputs"]
    np.testing.assert_array_equal(np.array(found).astype(np.float32), array)


def test_an_alias_with_special_characters_is_escaped() -> None:
    outputs = {'a"\n%s': np.array([1.5]), "b%": np.arange(1)}
    assert json.loads(encode_predictions(outputs, row=True))["predictions"] == [{'a"\n%s': 1.5, "b%": 0}]
    large = {'a"\n%s': np.linspace(0, 1, 100), "b%": np.linspace(0, 1, 100)}
    assert json.loads(encode_predictions(large, row=False))["outputs"].keys() == large.keys()


@pytest.mark.parametrize("count", [2, 60])
def test_classifications_are_pairs(count: int) -> None:
    classes = strings(*[b'a"', b"b"] * count).reshape(count, 2)
    scores = np.tile(np.array([2.5, 1 / 3], np.float32), (count, 1))
    text = encode_classifications(Classifications(SIGNATURE, classes, scores)).decode()
    item = '[["a\\"", 2.5], ["b", 0.333333343]]'
    assert text == f'{{\n    "results": [{", ".join([item] * count)}\n    ]\n}}'


def test_classes_without_scores_have_zero_and_scores_without_classes_no_name() -> None:
    only_classes = Classifications(SIGNATURE, strings(b"a").reshape(1, 1), None)
    only_scores = Classifications(SIGNATURE, None, np.array([[1.5]], np.float32))
    assert json.loads(encode_classifications(only_classes)) == {"results": [[["a", 0.0]]]}
    assert json.loads(encode_classifications(only_scores)) == {"results": [[["", 1.5]]]}


@pytest.mark.parametrize("count", [2, 100])
def test_regressions_stand_on_one_line(count: int) -> None:
    text = encode_regressions(Regressions(SIGNATURE, np.full(count, 2.5, np.float32))).decode()
    assert text == f'{{\n    "results": [{", ".join(["2.5"] * count)}]\n}}'
