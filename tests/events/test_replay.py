"""Recorded requests: read without TensorFlow, asked of real servers, answers compared."""

import contextlib
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import loader.protos
from events.gate import GateUnsureError, Subject
from events.gate_http import Peer
from events.gate_settings import GateSettings, ReplaySettings
from events.replay_compare import difference
from events.replay_gate import GOLDEN_FILE, ReplayGate
from events.replay_record import read_record
from events.replay_tensor import NotJsonError, tensor_json
from loader import dtypes
from loader.record_files import read_records, record_files
from loader.tensor_proto import from_array
from loader.tfrecord import encode
from loader.wire import WireError
from tests.functions.command import Command
from tests.functions.served import GOLDEN_MODELS

assert loader.protos
from tensorflow.core.example.example_pb2 import Example  # noqa: E402
from tensorflow.core.framework.tensor_pb2 import TensorProto  # noqa: E402
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog  # noqa: E402

NUMBERS = ["float", "double", "int32", "uint8", "int16", "int8", "int64", "bool", "uint16", "half", "uint32", "uint64"]


@given(st.sampled_from([*NUMBERS, "bfloat16"]), st.lists(st.integers(0, 3), max_size=3), st.booleans(), st.data())
def test_a_tensor_reads_as_numpy_has_it(name, shape, content, data):
    dtype = dtypes.of_name(name)
    count = math.prod(shape)
    values = data.draw(st.lists(st.integers(0, 1 if name == "bool" else 100), min_size=count, max_size=count))
    array = np.array(values).reshape(shape).astype(dtype.numpy)
    proto = from_array(array, content=content)
    assert tensor_json(memoryview(proto.SerializeToString())) == array.tolist()


def test_negative_numbers_and_strings_survive():
    proto = TensorProto(dtype=9, int64_val=[-1, -(2**63)])
    proto.tensor_shape.dim.add(size=2)
    assert tensor_json(memoryview(proto.SerializeToString())) == [-1, -(2**63)]
    proto = TensorProto(dtype=7, string_val=[b"\xff", b""])
    proto.tensor_shape.dim.add(size=2)
    assert tensor_json(memoryview(proto.SerializeToString())) == [{"b64": "/w=="}, {"b64": ""}]


def test_a_short_field_is_continued_and_an_empty_one_is_zeros():
    proto = TensorProto(dtype=1, float_val=[2.5])
    proto.tensor_shape.dim.add(size=3)
    assert tensor_json(memoryview(proto.SerializeToString())) == [2.5, 2.5, 2.5]
    proto.ClearField("float_val")
    assert tensor_json(memoryview(proto.SerializeToString())) == [0, 0, 0]


def test_what_json_cannot_say_and_what_is_too_large_is_refused():
    with pytest.raises(NotJsonError, match="dtype 8"):
        tensor_json(memoryview(TensorProto(dtype=8).SerializeToString()))
    proto = TensorProto(dtype=1)
    proto.tensor_shape.dim.add(size=1 << 40)
    with pytest.raises(NotJsonError, match="shape"):
        tensor_json(memoryview(proto.SerializeToString()))


@given(st.binary(max_size=64))
def test_any_bytes_are_a_record_or_refused(log):
    with contextlib.suppress(WireError, NotJsonError):
        read_record(log)


SETTINGS = ReplaySettings()


@given(st.recursive(st.floats() | st.booleans() | st.text() | st.integers(), st.lists, max_leaves=8))
def test_every_answer_agrees_with_itself(answer):
    assert difference(answer, answer, SETTINGS) == ""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ({"outputs": [1.0]}, {"outputs": [1.0005]}, ""),
        ({"outputs": [1.0]}, {"outputs": [1.5]}, "outputs[0]: 1.5 instead of 1.0"),
        ({"outputs": [1.0]}, {"outputs": [1.0, 2.0]}, "outputs: 2 values instead of 1"),
        ({"outputs": {"y": 1}}, {"outputs": {"z": 1}}, "outputs: no 'y'"),
        ({"outputs": {"y": 1}}, {"outputs": {"y": 1, "z": 1}}, ""),
        ([math.nan], [math.nan], ""),
        ([math.nan], [1.0], "instead of nan"),
        ([1.0], [math.inf], "inf instead of 1.0"),
        (["a"], [{"b64": "YQ=="}], ""),
        (["a"], ["b"], "'b' instead of 'a'"),
        ([True], [1], "1 instead of True"),
    ],
)
def test_a_difference_is_said_in_words(old, new, words):
    found = difference(old, new, SETTINGS)
    assert (words in found) if words else not found


def test_the_highest_places_may_be_all_that_counts():
    settings = ReplaySettings(top_k=2)
    assert difference([[0.1, 0.5, 0.4]], [[0.0, 0.3, 0.9]], settings) == ""
    assert difference([[0.1, 0.5, 0.4]], [[0.5, 0.3, 0.1]], settings) == "[0]: highest places [0, 1] instead of [1, 2]"


def predict_log(value, signature="", answer=None):
    log = PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = "m"
    request.model_spec.signature_name = signature
    request.inputs["x"].CopyFrom(from_array(np.array(value, np.float32)))
    if answer is not None:
        log.predict_log.response.outputs["y"].CopyFrom(from_array(np.array(answer, np.float32)))
    return log.SerializeToString()


def regress_log(**features):
    log = PredictionLog()
    log.regress_log.request.model_spec.name = "m"
    example = log.regress_log.request.input.example_list.examples.add()
    for name, values in features.items():
        example.features.feature[name].float_list.value.extend(values)
    return log.SerializeToString()


def test_an_example_is_read_with_all_its_kinds():
    log = PredictionLog()
    given_input = log.classify_log.request.input
    example = Example()
    example.features.feature["i"].int64_list.value.extend([-3, 4])
    example.features.feature["f"].float_list.value.extend([0.5])
    example.features.feature["b"].bytes_list.value.extend([b"x"])
    given_input.example_list_with_context.examples.append(example)
    given_input.example_list_with_context.context.features.feature["c"].float_list.value.extend([1.0])
    record = read_record(log.SerializeToString())
    assert record.method == "classify"
    assert record.body == {
        "examples": [{"i": [-3, 4], "f": [0.5], "b": [{"b64": "eA=="}]}],
        "context": {"c": [1.0]},
    }


@pytest.fixture(scope="module")
def peers(tmp_path_factory):
    """Real servers: half_plus_two, and a model of examples."""
    with contextlib.ExitStack() as stack:
        found = {}
        for name in ("half_plus_two", "golden", "golden_ex"):
            folder = tmp_path_factory.mktemp(name)
            base = GOLDEN_MODELS / name
            found[name] = stack.enter_context(Command(folder, "--model_name=m", f"--model_base_path={base}"))
        for command in found.values():
            command.until_ready()
        yield {name: Peer(f"http://127.0.0.1:{command.port}") for name, command in found.items()}


def judge(folder, logs, new, old, **settings):
    (folder / "golden").mkdir()
    (folder / GOLDEN_FILE).write_bytes(b"".join(map(encode, logs)))
    gate = ReplayGate(read_records)
    return gate.judge(Subject("m", 2, str(folder), GateSettings(replay=ReplaySettings(**settings)), new, old, 1))


def test_a_version_that_answers_as_the_serving_one_passes(peers, tmp_path):
    half = peers["half_plus_two"]
    verdict = judge(tmp_path, [predict_log([1.0]), predict_log([2.0])], half, half)
    assert verdict.passed
    assert verdict.words == "2 of 2 answers agree"


def test_recorded_answers_are_the_measure_where_that_is_declared(peers, tmp_path):
    half = peers["half_plus_two"]
    logs = [predict_log([1.0], answer=[2.5]), predict_log([2.0], answer=[9.0])]
    verdict = judge(tmp_path, logs, half, None, against="recorded", share=0.9)
    assert not verdict.passed
    assert verdict.words == "1 of 2 answers agree, wanted 90.00%: record 1: outputs[0]: 3.0 instead of 9.0"


def test_a_share_of_disagreements_is_let_through(peers, tmp_path):
    half = peers["half_plus_two"]
    logs = [predict_log([1.0], answer=[2.5]), predict_log([2.0], answer=[9.0])]
    assert judge(tmp_path, logs, half, None, against="recorded", share=0.5).passed


def test_what_only_the_new_version_refuses_disagrees_and_what_both_refuse_is_left_out(peers, tmp_path):
    half, other = peers["half_plus_two"], peers["golden_ex"]
    logs = [predict_log([1.0]), predict_log([1.0], signature="nobody has this")]
    verdict = judge(tmp_path, logs, other, half)
    assert not verdict.passed
    assert "0 of 1 answers agree" in verdict.words
    assert "1 left out" in verdict.words
    assert "answered 4" in verdict.words


def test_examples_are_asked_as_regressions(peers, tmp_path):
    model = peers["golden_ex"]
    verdict = judge(tmp_path, [regress_log(x=[1.0])], model, model)
    assert verdict.passed, verdict.words


def test_no_file_damaged_files_and_a_silent_revision_open_nothing(peers, tmp_path):
    half = peers["half_plus_two"]
    gate = ReplayGate(read_records)
    subject = Subject("m", 2, str(tmp_path), GateSettings(replay=ReplaySettings()), half, half, 1)
    verdict = gate.judge(subject)
    assert not verdict.passed
    assert "zeroserve record" in verdict.words
    (tmp_path / "golden").mkdir()
    (tmp_path / GOLDEN_FILE).write_bytes(encode(b"x")[:-1])
    assert "truncated" in gate.judge(subject).words
    (tmp_path / GOLDEN_FILE).write_bytes(b"")
    assert gate.judge(subject).words == "no record could be compared"


def test_all_files_that_servers_have_recorded_below_a_folder_are_asked(peers, tmp_path):
    half = peers["half_plus_two"]
    for place, number in (("v1/20260101T000000Z-a-1.tfrecord", 1.0), ("v2/20260102T000000Z-b-1.tfrecord", 2.0)):
        file = tmp_path / "kept" / place
        file.parent.mkdir(parents=True)
        file.write_bytes(encode(predict_log([number])))
    subject = Subject("m", 2, str(tmp_path), GateSettings(replay=ReplaySettings(records="kept/")), half, half, 1)
    assert ReplayGate(read_records).judge(subject).words == "2 of 2 answers agree"
    elsewhere = replace(
        subject, base="/nowhere", settings=GateSettings(replay=ReplaySettings(records="memory://kept/"))
    )
    assert ReplayGate(lambda url, _: {"memory://kept/": encode(predict_log([1.0]))}[url]).judge(elsewhere).passed
    assert b"".join(content for _, content in record_files(f"{tmp_path}/kept/", 1 << 20)) == b"".join(
        encode(predict_log([number])) for number in (2.0, 1.0)
    )


def test_a_revision_that_does_not_answer_is_no_verdict(peers, tmp_path, monkeypatch):
    monkeypatch.setattr("events.gate_http.WAKE_SECONDS", 0.1)
    (tmp_path / "golden").mkdir()
    (tmp_path / GOLDEN_FILE).write_bytes(encode(predict_log([1.0])))
    gate = ReplayGate(read_records)
    settings = GateSettings(replay=ReplaySettings())
    silent = Peer("http://127.0.0.1:9")
    with pytest.raises(GateUnsureError, match="does not answer"):
        gate.judge(Subject("m", 2, str(tmp_path), settings, silent, peers["half_plus_two"], 1))
