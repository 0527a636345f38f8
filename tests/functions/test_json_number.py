"""Numbers as the stock server writes them: the vectorised choice of format against the rule, number by number."""

import math
import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.rest.json_number import FEW, FEWEST, flush, pieces
from loader.status import Code, ServingError


def texts(array: Any) -> list[str]:
    parts, numbers = pieces(array)
    return parts if numbers is None else ("\n".join(parts) % numbers).split("\n")


def by_the_rule(value: float, dtype: Any) -> str:
    """`WriteDecimal`, step by step."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if abs(value) < np.finfo(dtype).tiny:
        value = math.copysign(0.0, value)
    text = f"{value:.6g}"
    if dtype(float(text)) != value:
        text = f"{value:.9g}" if dtype is np.float32 else f"{value:.17g}"
    return text if "." in text or "e" in text else text + ".0"


singles = st.integers(0, 2**32 - 1).map(lambda bits: struct.unpack("f", struct.pack("I", bits))[0])
# Six digits and a power of ten: where one more or less of anything shows.
decimals = st.builds(
    lambda digits, power: float(f"{digits}e{power}"), st.integers(-(10**7), 10**7), st.integers(-30, 30)
)


@pytest.mark.parametrize("count", [1, FEWEST, FEWEST + 1, FEW, FEW + 1, 500])
@given(values=st.lists(singles | decimals | st.floats(width=32), min_size=1, max_size=8))
def test_every_way_writes_a_float_by_the_rule(count: int, values: list[float]) -> None:
    with np.errstate(over="ignore"):
        array = np.resize(np.array(values).astype(np.float32), count)
    assert texts(array) == [by_the_rule(value, np.float32) for value in array.tolist()]


@pytest.mark.parametrize("count", [1, FEWEST + 1, FEW + 1])
@given(values=st.lists(st.floats() | decimals, min_size=1, max_size=8))
def test_every_way_writes_a_double_by_the_rule(count: int, values: list[float]) -> None:
    array = np.resize(np.array(values, np.float64), count)
    assert texts(array) == [by_the_rule(value, np.float64) for value in array.tolist()]


def test_a_hundred_thousand_floats_of_any_bits_are_written_by_the_rule() -> None:
    array = np.random.default_rng(7).integers(0, 2**32 - 1, 100_000, dtype=np.uint32).view(np.float32)
    assert texts(array) == [by_the_rule(value, np.float32) for value in array.tolist()]


@given(st.lists(singles, min_size=1, max_size=100))
def test_what_is_written_reads_back_as_the_same_float(values: list[float]) -> None:
    array = flush(np.array(values, np.float32))
    back = np.array([float(text) for text in texts(array)]).astype(np.float32)
    np.testing.assert_array_equal(back, array)
    assert (np.signbit(back) == np.signbit(array))[~np.isnan(array)].all()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (1 / 3, "0.333333343"),
        (9e6, "9e+06"),
        (1234567, "1234567.0"),
        (16777216, "16777216.0"),
        (2, "2.0"),
        (-0.0, "-0.0"),
        (1e-38, "0.0"),
        (-1e-45, "-0.0"),
        (3.4028235e38, "3.40282347e+38"),
    ],
)
def test_the_recorded_floats_have_the_recorded_text(value: float, text: str) -> None:
    assert texts(np.array([value], np.float32)) == [text]
    assert texts(np.full(FEW + 1, value, np.float32)) == [text] * (FEW + 1)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_integers_are_written_plainly_to_their_limits(dtype: Any) -> None:
    limits = np.iinfo(dtype)
    assert texts(np.array([limits.min, 0, limits.max], dtype)) == [str(limits.min), "0", str(limits.max)]


def test_bools_are_words() -> None:
    assert texts(np.array([[True], [False]])) == ["true", "false"]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_sixteen_bit_floats_read_back_as_themselves(dtype: Any) -> None:
    array = np.arange(0x7C00 if dtype is np.float16 else 0x7F80, dtype=np.uint16).view(dtype)
    back = np.array([float(text) for text in texts(array)]).astype(dtype)
    # bfloat16 has float32's exponents: what is too small for a normal float32 is zero, as everywhere.
    expected = array if dtype is np.float16 else flush(array.astype(np.float32)).astype(dtype)
    assert (back == expected).all()


def test_complex_numbers_have_no_json() -> None:
    with pytest.raises(ServingError) as caught:
        pieces(np.array([1j], np.complex64))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message == "Failed to write JSON value for tensor type: complex64"
