"""What callers of the serving version would lose with a new one."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.gate import GateUnsureError, Subject
from events.gate_http import Peer
from events.gate_settings import GateSettings
from events.signature_gate import Promise, SignatureGate, Tensor, breaks, promises
from tests.functions.command import Command
from tests.functions.served import GOLDEN_MODELS

PREDICT = "tensorflow/serving/predict"
X = Tensor("DT_FLOAT", (-1, 4))
Y = Tensor("DT_FLOAT", (-1, 10))
BEFORE = {"serving_default": Promise(PREDICT, {"x": X}, {"y": Y})}


def after(inputs=None, outputs=None, method=PREDICT):
    return {"serving_default": Promise(method, {"x": X} if inputs is None else inputs, outputs or {"y": Y})}


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ({}, "signature 'serving_default' is gone; there are: none"),
        ({"other": BEFORE["serving_default"]}, "is gone; there are: other"),
        (after({}), "input 'x' is gone"),
        (after({"x": Tensor("DT_INT32", (-1, 4))}), "input 'x' was DT_FLOAT, is DT_INT32"),
        (after({"x": Tensor("DT_FLOAT", (1, 4))}), "input 'x' took [?, 4], takes only [1, 4]"),
        (after({"x": Tensor("DT_FLOAT", (-1, 5))}), "input 'x' took [?, 4], takes only [?, 5]"),
        (after({"x": Tensor("DT_FLOAT", (-1,))}), "input 'x' took [?, 4], takes only [?]"),
        (after({"x": X, "mask": X}), "input 'mask' is new and has no default"),
        (after(outputs={"z": Y}), "output 'y' is gone"),
        (after(outputs={"y": Tensor("DT_INT64", (-1, 10))}), "output 'y' was DT_FLOAT, is DT_INT64"),
        (after(outputs={"y": Tensor("DT_FLOAT", (-1, 11))}), "output 'y' was [?, 10], is [?, 11]"),
        (after(outputs={"y": Y, "z": Y}), "output 'z' beside the only one makes REST answer objects"),
    ],
)
def test_a_break_is_found_and_said_in_words(new, words):
    assert any(words in line for line in breaks(BEFORE, new))


@pytest.mark.parametrize(
    "new",
    [
        BEFORE,
        {**BEFORE, "more": BEFORE["serving_default"]},
        after({"x": Tensor("DT_FLOAT", (-1, -1))}),
        after({"x": Tensor("DT_FLOAT", None)}),
        after({"x": X, "mask": Tensor("DT_BOOL", (-1,), defaulted=True)}),
        after(outputs={"y": Tensor("DT_FLOAT", (-1, -1))}),
        after(outputs={"y": Tensor("DT_FLOAT", None)}),
    ],
)
def test_what_takes_and_gives_at_least_as_much_is_compatible(new):
    assert breaks(BEFORE, new) == []


def test_a_default_that_goes_and_a_classifier_that_becomes_something_else_are_breaks():
    old = {"s": Promise("tensorflow/serving/classify", {"x": Tensor("DT_STRING", (-1,), defaulted=True)}, {"y": Y})}
    new = {"s": Promise(PREDICT, {"x": Tensor("DT_STRING", (-1,))}, {"y": Y})}
    assert breaks(old, new) == [
        "signature 's': method tensorflow/serving/classify is now tensorflow/serving/predict",
        "signature 's': input 'x' has no default any more",
    ]


shapes = st.none() | st.lists(st.integers(-1, 3), max_size=3).map(tuple)
tensors = st.builds(Tensor, st.sampled_from(["DT_FLOAT", "DT_INT32"]), shapes, st.booleans())
sides = st.dictionaries(st.sampled_from("abc"), tensors, max_size=3)
models = st.dictionaries(st.sampled_from(["s", "t"]), st.builds(Promise, st.just(PREDICT), sides, sides), max_size=2)


@given(models)
def test_every_model_is_compatible_with_itself(model):
    assert breaks(model, model) == []


@given(models, models, models)
def test_inputs_that_two_steps_keep_the_way_over_both_keeps(one, two, three):
    def inputs_only(model):
        return {name: Promise(PREDICT, promise.inputs, {}) for name, promise in model.items()}

    one, two, three = map(inputs_only, (one, two, three))
    if not breaks(one, two) and not breaks(two, three):
        # A default that an input had in between may be gone again: that is a break of its own.
        assert [line for line in breaks(one, three) if "has no default" not in line] == []


def test_metadata_that_is_none_is_no_verdict():
    with pytest.raises(GateUnsureError, match="cannot be read"):
        promises({"metadata": []})


@pytest.fixture(scope="module")
def peers(tmp_path_factory):
    """Two real servers: of tensors, and of another model under the same name."""
    with contextlib.ExitStack() as stack:
        found = []
        for name in ("golden", "golden_ex"):
            folder = tmp_path_factory.mktemp(name)
            command = stack.enter_context(
                Command(folder, "--model_name=m", f"--model_base_path={GOLDEN_MODELS / name}")
            )
            found.append(command)
        for command in found:
            command.until_ready()
        yield [Peer(f"http://127.0.0.1:{command.port}") for command in found]


def subject(new, old, version=2, **settings):
    """Of servers, each with the highest version of its model: 2 of the one that serves."""
    return Subject("m", version, "/models/m", GateSettings(**settings), new, old, 2)


def test_a_real_server_keeps_its_own_promises_and_another_model_does_not(peers):
    golden, other = peers
    gate = SignatureGate()
    same = gate.judge(subject(golden, golden))
    assert same.passed, same.words
    assert "signatures keep what they promised" in same.words
    broken = gate.judge(subject(other, golden, 1))
    assert not broken.passed
    assert "signature 'bytes_in' is gone; there are: classify" in broken.words
    assert gate.judge(subject(other, golden, 1, signatures="ignore")).passed
    assert gate.judge(subject(other, None, 1)).passed
