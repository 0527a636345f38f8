"""Bodies made to do harm: each is read or refused in bounded words, whichever door it comes through."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from functions.rest.json_decode import decode_predict
from functions.rest.json_examples import decode_examples
from functions.rest.json_text import MAX_DEPTH
from loader.saved_model import read_signatures
from loader.status import Code, ServingError

SIGNATURES = read_signatures(Path(__file__).parents[1] / "golden/models/golden/1")
LONGEST_MESSAGE = 4096
MILLION = 1_000_000


def predict(body: bytes) -> None:
    decode_predict(body, SIGNATURES)


DOORS = pytest.mark.parametrize("door", [predict, decode_examples])


def refused(door: Callable[[bytes], object], body: bytes) -> str:
    with pytest.raises(ServingError) as caught:
        door(body)
    assert caught.value.code is Code.INVALID_ARGUMENT
    # As the answer sends it: a lone surrogate would have no UTF-8.
    assert len(caught.value.message.encode()) < LONGEST_MESSAGE
    return caught.value.message


BODIES = [
    b'{"signature_name":"serving_default","instances":[{"x":1.5e-3},{"x":-Infinity}]}',
    b'{"inputs":[[1.0,2e5],[3,NaN]]}',
    '{"signature_name":"strs","inputs":["a\\u00e9\\n\\ud83d\\ude00é",{"b64":"aGk="}]}'.encode(),
    b'{"context":{"c":[1]},"examples":[{"a":1.5,"b":["x",{"b64":"aGk="}],"d":true}]}',
]


@DOORS
@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_was_cut_off_anywhere_is_refused(door: Callable[[bytes], object], body: bytes) -> None:
    for length in range(len(body)):
        assert refused(door, body[:length]).startswith("JSON Parse error: ")


@DOORS
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("wrong", [b"", b"\x00", b"\xff", b'"', b"\\", b"[", b"}", b"NaN", b"1e400"])
def test_a_body_with_something_wrong_anywhere_is_read_or_refused(
    door: Callable[[bytes], object], body: bytes, wrong: bytes
) -> None:
    for at in range(len(body)):
        with contextlib.suppress(ServingError):
            door(body[:at] + wrong + body[at + 1 :])


@DOORS
@pytest.mark.parametrize("start", [b'{"instances":', b'{"inputs":', b'{"examples":', b'{"signature_name":', b""])
@pytest.mark.parametrize("bracket", [b"[", b'{"x":', b'[{"b64":'])
def test_a_nesting_bomb_is_refused_wherever_it_is(
    door: Callable[[bytes], object], start: bytes, bracket: bytes
) -> None:
    assert f"deeper than {MAX_DEPTH} levels" in refused(door, start + bracket * MILLION)


@pytest.mark.parametrize("number", [b"1e400", b"9" * 100_000, b"-" + b"9" * 100_000, b"1e" + b"9" * 100_000])
@pytest.mark.parametrize("name", ["serving_default", "id_int64", "id_uint64", "id_float64", "strs"])
def test_a_number_that_no_type_holds_is_refused(number: bytes, name: str) -> None:
    body = b'{"signature_name":"' + name.encode() + b'","instances":[' + number + b"]}"
    assert "Number too big to be stored in double." in refused(predict, body)


@pytest.mark.parametrize("feature", [b"%s", b"-%s", b"[%s]", b"[1.5,%s]", b"[1,%s]", b"[true,%s]", b'["a",%s]'])
@pytest.mark.parametrize("body", [b'{"examples":[{"a":%s}]}', b'{"context":{"a":%s},"examples":[{}]}'])
def test_a_number_that_no_feature_holds_is_refused(body: bytes, feature: bytes) -> None:
    for digits in (400, 100_000):
        refused(decode_examples, body % (feature % (b"9" * digits)))


@pytest.mark.parametrize(
    "body",
    [
        '{"instances":["LONG"]}',
        '{"instances":[{"LONG":1}]}',
        '{"instances":[{"x":"LONG"}]}',
        '{"inputs":"LONG"}',
        '{"signature_name":"LONG","instances":[1]}',
        '{"examples":"LONG"}',
        '{"examples":[{"LONG":null}]}',
        '{"examples":[{"LONG":[1,"a"]}]}',
    ],
)
def test_what_is_long_is_not_echoed(body: str) -> None:
    refused(decode_examples if "examples" in body else predict, body.replace("LONG", "é[" * 8 * MILLION).encode())


@DOORS
@pytest.mark.parametrize("text", [b"\\ud800", b"\\udc00x", b"\\ud800\\ud800", b"\xff", b"\xc0\x80", b"\xed\xa0\x80"])
def test_what_is_no_text_is_refused_with_its_place(door: Callable[[bytes], object], text: bytes) -> None:
    assert "at offset: " in refused(door, b'{"examples":[{"a":"' + text + b'"}],"instances":["' + text + b'"]}')
