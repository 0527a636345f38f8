"""Recording: files in stores that work, fail and hang; samples of what runs; nothing lost without being counted."""

import io
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import loader.protos as _protos
from functions.observing.access import REST, new_access
from functions.tap import recorder as recorder_module
from functions.tap.counts import RECORD, TapCounts
from functions.tap.recorder import Recorder, RecordRules, folder_of
from functions.tap.redaction import redacted
from functions.tap.sample import MULTI, PREDICT, Answered, Omitted, Sample, take
from functions.tap.sample_json import sample_json
from functions.tap.sample_log import omitted, prediction_log, request_digest
from loader.inference import multi_inference_call, predict_call
from loader.saved_model import load
from loader.servable import Servable, ServableId
from loader.session import SessionOptions
from loader.storage import open_storage
from loader.tfrecord import records
from loader.warmup import replay
from tests.functions.served import GOLDEN_MODELS

assert _protos
from tensorflow.core.example.example_pb2 import Example  # noqa: E402
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog  # noqa: E402


def sample(number: float, model: str = "m", size: int = 1) -> Sample:
    values = {"x": np.full(size, number, np.float32)}
    return Sample(
        PREDICT,
        model,
        1,
        "id",
        REST,
        "predict",
        "",
        0,
        0.1,
        values,
        (Answered(PREDICT, "s", values),),
        100 + 8 * size,
        0.5,
    )


def recorder(folder: Path, counts: TapCounts, limit: int = 1000, seconds: float = 60.0) -> Recorder:
    return Recorder(open_storage(str(folder)), RecordRules(1.0, limit, seconds), counts, draw=lambda: 0.0)


def kept(folder: Path) -> list[PredictionLog]:
    return [
        PredictionLog.FromString(log)
        for file in sorted(folder.rglob("*.tfrecord"))
        for log in records(io.BytesIO(file.read_bytes()))
    ]


def dropped(counts: TapCounts) -> dict[str, float]:
    return {reason: row[0] for (_, reason), row in counts.dropped.samples().rows.items()}


def test_the_end_writes_what_waits_and_a_request_is_recorded_once(tmp_path: Path) -> None:
    counts = TapCounts()
    tap = recorder(tmp_path, counts)
    for number in (1.0, 2.0, 1.0):
        tap.offer(sample(number))
    tap.close(30)
    assert [log.predict_log.request.inputs["x"].tensor_content for log in kept(tmp_path)] == [
        np.float32(number).tobytes() for number in (1.0, 2.0)
    ]
    assert dropped(counts) == {"duplicate": 1}
    assert counts.sampled.value((RECORD,)) == counts.passed.value((RECORD,)) + 1


def test_a_process_records_its_limit_of_each_model_and_draws_no_more(tmp_path: Path) -> None:
    counts = TapCounts()
    tap = recorder(tmp_path, counts, limit=2)
    for number in range(5):
        tap.offer(sample(number))
    tap.offer(sample(1.0, "other"))
    tap.close(30)
    assert len(kept(tmp_path / "m")) == 2
    assert len(kept(tmp_path / "other")) == 1
    assert (tap.wants("m", 1.0), tap.wants("other", 1.0)) == (False, True)
    assert dropped(counts) == {"limit": 3}


def test_huge_tensors_are_not_recorded_and_fill_no_memory(tmp_path: Path) -> None:
    counts = TapCounts()
    tap = recorder(tmp_path, counts)
    tap.offer(sample(1.0, size=recorder_module.MAX_RECORD_BYTES))
    tap.close(30)
    assert dropped(counts) == {"too_large": 1}


def test_a_full_file_begins_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "MAX_PART_BYTES", 4000)
    tap = recorder(tmp_path, TapCounts())
    for number in range(10):
        tap.offer(sample(number, size=200))
    tap.close(30)
    files = list(tmp_path.rglob("*.tfrecord"))
    assert len(kept(tmp_path)) == 10
    assert len(files) > 1
    assert all(file.stat().st_size <= 4000 for file in files)


def test_a_store_that_hangs_holds_no_caller_and_the_end_is_bounded() -> None:
    counts = TapCounts()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        environ = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_REGION": "us-east-1",
        }
        storage = open_storage("s3://models/kept", environ=environ)
        tap = Recorder(storage, RecordRules(1.0, 10_000, 0.001), counts, draw=lambda: 0.0)
        tap.offer(sample(-1.0))
        while tap._parts or len(tap._outbox) or not tap._written:  # it is on its way to the store
            time.sleep(0.001)
        began = time.monotonic()
        for number in range(3000):
            tap.offer(sample(number))
        assert time.monotonic() - began < 5
        assert dropped(counts)["queue_full"] == 3000 - recorder_module.MAX_WAITING
        began = time.monotonic()
        tap.close(0.2)
        assert time.monotonic() - began < 5


def test_a_store_that_fails_for_a_while_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "PAUSE_SECONDS", 0.01)
    (tmp_path / "kept").write_text("in the way")
    counts = TapCounts()
    tap = recorder(tmp_path / "kept", counts, seconds=0.001)
    first = threading.Event()
    put = tap._put

    def clearing(path: str, part: Any) -> None:
        if first.is_set():
            (tmp_path / "kept").unlink(missing_ok=True)
        first.set()
        put(path, part)

    monkeypatch.setattr(tap, "_put", clearing)
    tap.offer(sample(1.0))
    tap.close(30)
    assert len(kept(tmp_path / "kept")) == 1
    assert counts.passed.value((RECORD,)) == 1


def test_a_store_that_is_gone_is_given_up_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "PAUSE_SECONDS", 0.01)
    (tmp_path / "kept").write_text("in the way")
    counts = TapCounts()
    tap = recorder(tmp_path / "kept", counts)
    tap.offer(sample(1.0))
    tap.offer(sample(2.0))
    tap.close(30)
    assert dropped(counts) == {"failed": 2}


@given(st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable()))
def test_a_models_folder_is_one_step_down(name: str) -> None:
    folder = folder_of(name)
    assert "/" not in folder
    assert folder not in {"", ".", ".."}


@pytest.fixture(scope="module")
def examples() -> Any:
    return load(GOLDEN_MODELS / "golden_ex" / "1", SessionOptions())


def example(**features: float) -> bytes:
    found = Example()
    for name, number in features.items():
        found.features.feature[name].float_list.value.append(number)
    return found.SerializeToString()


def taken(model: Any, call: Any, limit: int = 1 << 20) -> Sample:
    result = call.finish(model.session.run(call.feeds, call.fetches))
    access = new_access(REST, "POST", "/", {})
    return take(access, Servable(ServableId("m", 1), model, None), call.feeds, result, max_value_bytes=limit, share=0.5)  # type: ignore[arg-type]


def test_a_multi_inference_is_a_log_of_its_own_and_warms_up(examples: Any, tmp_path: Path) -> None:
    rows = np.array([example(x=2.0)], object)
    tasks = [("classify", "tensorflow/serving/classify"), ("serving_default", "tensorflow/serving/regress")]
    found = taken(examples, multi_inference_call(examples, tasks, rows))
    assert found.kind == MULTI
    log = prediction_log(found)
    first, second = log.multi_inference_log.response.results
    assert first.classification_result.classifications[0].classes[0].label == "a"
    assert second.regression_result.regressions[0].value == 3.0
    tap = recorder(tmp_path, TapCounts())
    tap.offer(found)
    tap.close(30)
    (file,) = tmp_path.rglob("*.tfrecord")
    warm = tmp_path / "1" / "assets.extra"
    warm.mkdir(parents=True)
    file.rename(warm / "tf_serving_warmup_requests")
    assert replay(tmp_path / "1", examples) == 1


def test_redaction_leaves_names_types_and_shapes(examples: Any) -> None:
    rows = np.array([example(x=2.0, age=7.0)], object)
    call = predict_call(examples, "predict", {"examples": rows}, ["y"])
    found = redacted(taken(examples, call), frozenset({"*"}))
    assert omitted(found) == ["examples", "y"]
    assert found.answers[0].outputs["y"] == Omitted(1, (1, 1), "redacted")
    assert b"2.0" not in sample_json(found)
    tasks = [("classify", "tensorflow/serving/classify")]
    found = redacted(taken(examples, multi_inference_call(examples, tasks, rows)), frozenset({"age", "scores"}))
    content = prediction_log(found).SerializeToString()
    assert b"age" not in content
    assert omitted(found) == ["scores"]


def test_a_small_part_of_something_large_is_copied_out_of_it() -> None:
    from functions.tap.sample import _Keeper  # noqa: PLC0415

    large = np.zeros((1000, 1000), np.float32)
    small = _Keeper(1 << 20).keep(large[3])
    assert isinstance(small, np.ndarray)
    assert small.base is None
    assert _Keeper(1 << 30).keep(large) is large


@settings(max_examples=50)
@given(st.lists(st.floats(width=32), max_size=5), st.lists(st.floats(width=32), max_size=5))
def test_a_digest_tells_requests_apart_and_not_versions(one: list[float], other: list[float]) -> None:
    def digest(values: list[float], version: int) -> bytes:
        inputs = {"x": np.array(values, np.float32), "k": np.array([b"t"], object)}
        made = Sample(
            PREDICT, "m", version, "id", REST, "predict", "", 0, 0.1, inputs, (Answered(PREDICT, "s", {}),), 1, 0.5
        )
        return request_digest(prediction_log(made))

    same = np.array(one, np.float32).tobytes() == np.array(other, np.float32).tobytes()
    assert (digest(one, 1) == digest(other, 2)) == same
