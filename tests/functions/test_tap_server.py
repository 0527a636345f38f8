"""Answered predictions leave a real server, whatever protocol asked: to files, to a sink, and outcomes join them."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import requests

import loader.protos as _protos
from events.replay_record import read_record
from functions.proto import open_inference_pb2 as oip
from functions.proto import open_inference_pb2_grpc as oip_grpc
from loader.tensor_proto import to_array, write
from loader.tfrecord import records
from tests.functions.exported import scrape, value
from tests.functions.served import GOLDEN_MODELS, running_server
from tests.servers.s3 import BUCKET, s3_server
from tests.servers.sink import Received, SinkServer, sink_server

assert _protos
from tensorflow.core.example.example_pb2 import Example  # noqa: E402
from tensorflow_serving.apis import (  # noqa: E402
    classification_pb2,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

SECRET = "0123456789abcdef"
ALL = ("--prediction_log_share=1", "--feedback", f"--feedback_secret={SECRET}")


@pytest.fixture(scope="module")
def sink() -> Iterator[SinkServer]:
    with sink_server() as server:
        yield server


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, sink: SinkServer) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("tap")
    flags = (f"--prediction_log_sink={sink.url}", "--prediction_log_redact=secret,matrix_y", *ALL)
    with running_server(folder, *flags, "--prediction_log_max_value_bytes=4000") as address:
        yield address


def post(address: str, path: str, body: Any, **headers: str) -> requests.Response:
    answer = requests.post(f"http://{address}{path}", json=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer


def predict(address: str, *values: float, **headers: str) -> requests.Response:
    return post(address, "/v1/models/half_plus_two:predict", {"instances": list(values)}, **headers)


def event(sink: SinkServer, type_: str = "com.zeroserve.request.v1") -> Received:
    found = sink.next()
    assert found.headers["ce-type"] == type_
    assert found.headers["ce-specversion"] == "1.0"
    return found


def test_a_rest_prediction_is_an_event_with_its_request_id(address: str, sink: SinkServer) -> None:
    predict(address, 1.0, 2.0, **{"x-request-id": "abc-1"})
    found = event(sink)
    assert found.headers["ce-subject"] == "abc-1"
    assert found.headers["ce-source"] == "//zeroserve//models/half_plus_two/versions/1"
    assert found.data["inputs"] == {"x": {"dtype": "DT_FLOAT", "shape": [2], "values": [1.0, 2.0]}}
    answer = {"dtype": "DT_FLOAT", "shape": [2], "values": [2.5, 3.0]}
    assert found.data["answers"] == [{"signature": "serving_default", "outputs": {"y": answer}}]
    assert (found.data["protocol"], found.data["kind"], found.data["version"]) == ("REST", "predict", 1)
    assert found.data["milliseconds"] > 0


def test_every_protocol_passes_the_same_place(address: str, sink: SinkServer) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}
    post(address, "/v2/models/half_plus_two/infer", {"inputs": [tensor]})
    assert event(sink).data["answers"][0]["outputs"]["y"]["values"] == [2.5]
    event_headers = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-type": "t",
        "ce-source": "s",
        "ce-model": "half_plus_two",
    }
    post(address, "/", {"instances": [1.0]}, **event_headers)
    assert event(sink).data["inputs"]["x"]["values"] == [1.0]
    with grpc.insecure_channel(address) as channel:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "half_plus_two"
        write(np.array([1.0], np.float32), request.inputs["x"])
        _, call = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict.with_call(
            request, timeout=60, metadata=[("x-request-id", "grpc-7")]
        )
        metadata = {**dict(call.initial_metadata()), **dict(call.trailing_metadata())}
        assert metadata["x-request-id"] == "grpc-7"
        assert metadata["x-feedback-id"].startswith("grpc-7!half_plus_two!1!")
        found = event(sink)
        assert (found.headers["ce-subject"], found.data["protocol"]) == ("grpc-7", "GRPC")
        infer = oip.ModelInferRequest(model_name="half_plus_two")
        infer.inputs.add(name="x", datatype="FP32", shape=[1]).contents.fp32_contents.append(1.0)
        oip_grpc.GRPCInferenceServiceStub(channel).ModelInfer(infer, timeout=60)
        found = event(sink)
        assert (found.data["api"], found.data["protocol"]) == ("infer", "GRPC")


def test_examples_are_shown_by_feature_and_redacted_by_feature(address: str, sink: SinkServer) -> None:
    body = {"signature_name": "classify", "examples": [{"x": [2.0], "k": ["tail"], "secret": ["me"]}]}
    post(address, "/v1/models/golden_ex:classify", body)
    found = event(sink).data
    assert found["kind"] == "classify"
    assert found["inputs"]["inputs"]["values"] == [{"k": ["tail"], "x": [2.0]}]
    assert found["answers"][0]["outputs"].keys() == {"classes", "scores"}


def test_a_large_value_leaves_with_its_shape_alone(address: str, sink: SinkServer) -> None:
    predict(address, *range(1001))
    found = event(sink).data
    assert found["inputs"] == {"x": {"dtype": "DT_FLOAT", "shape": [1001], "omitted": "size"}}
    texts = {"signature_name": "bytes_in", "instances": [{"b64": "eHh4" * 2000}]}
    post(address, "/v1/models/golden:predict", texts)
    assert event(sink).data["inputs"]["image_bytes"]["omitted"] == "size"


def test_what_json_has_no_number_for_is_text(address: str, sink: SinkServer) -> None:
    answer = requests.post(
        f"http://{address}/v1/models/half_plus_two:predict", data='{"instances": [NaN, Infinity]}', timeout=60
    )
    assert answer.status_code == 200
    assert event(sink).data["answers"][0]["outputs"]["y"]["values"] == ["NaN", "Infinity"]


@pytest.mark.parametrize("name", ["bfloat16", "float16", "bool", "int64", "uint8", "complex64"])
def test_every_dtype_has_a_form(address: str, sink: SinkServer, name: str) -> None:
    if name == "complex64":
        with grpc.insecure_channel(address) as channel:
            request = predict_pb2.PredictRequest()
            request.model_spec.name, request.model_spec.signature_name = "golden", "id_complex64"
            write(np.array([1 + 2j], np.complex64), request.inputs["x"])
            prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
        assert event(sink).data["inputs"]["x"]["values"] == [[1.0, 2.0]]
        return
    value_: Any = True if name == "bool" else 1
    post(address, "/v1/models/golden:predict", {"signature_name": f"id_{name}", "instances": [value_]})
    assert event(sink).data["inputs"]["x"]["values"] == [value_]


def test_copies_of_requests_and_failures_are_no_ones_predictions(address: str, sink: SinkServer) -> None:
    predict(address, 1.0, **{"x-zeroserve-copy": "1"})
    assert requests.post(f"http://{address}/v1/models/none:predict", json={}, timeout=60).status_code == 404
    predict(address, 7.0)
    assert event(sink).data["inputs"]["x"]["values"] == [7.0]


def test_an_outcome_is_counted_for_its_version_and_sent_with_the_request_id(address: str, sink: SinkServer) -> None:
    answer = predict(address, 1.0, **{"x-request-id": "joined"})
    event(sink)
    body = {"request_id": answer.headers["x-feedback-id"], "outcome": 0.5}
    before = value(scrape(address), "zeroserve_outcomes", model_name="half_plus_two", version="1")
    for repeated in (False, True):
        told = requests.post(f"http://{address}/v1/feedback", json=body, timeout=60)
        assert (told.status_code, told.json()) == (202, {"accepted": True, "repeated": repeated})
    found = event(sink, "com.zeroserve.feedback.v1")
    assert found.headers["ce-subject"] == "joined"
    assert found.data.items() >= {"model": "half_plus_two", "version": 1, "outcome": 0.5}.items()
    counted = scrape(address)
    assert value(counted, "zeroserve_outcomes", model_name="half_plus_two", version="1") == before + 1
    assert value(counted, "zeroserve_feedback_total", result="repeated") >= 1
    other = requests.post(f"http://{address}/v1/feedback", json={**body, "outcome": 0.25}, timeout=60)
    assert other.status_code == 409


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[1]", 400),
        (b"[" * 10_000, 400),
        (b'{"request_id": "x", "outcome": 1}', 403),
        (b'{"request_id": "x!half_plus_two!1!0!AAAA", "outcome": 1}', 403),
        (b'{"request_id": 1, "outcome": 1}', 400),
        (b'{"request_id": "x", "outcome": 1, "more": 1}', 400),
        (b'{"request_id": "x", "outcome": NaN}', 400),
        (b'{"request_id": "ID", "outcome": 1e999}', 400),
        (b'{"request_id": "ID", "outcome": {"a": 1e999}}', 400),
        (b'{"request_id": "ID", "outcome": 1000001}', 400),
        (b'{"request_id": "ID", "outcome": "' + b"x" * 17_000 + b'"}', 400),
        (b'{"request_id": "' + b"x" * 2_000 + b'", "outcome": 1}', 400),
        ('{"request_id": "é", "outcome": 1}'.encode(), 400),
    ],
)
def test_hostile_feedback_is_refused_and_counts_for_nobody(
    address: str, sink: SinkServer, body: bytes, status: int
) -> None:
    feedback_id = predict(address, 1.0).headers["x-feedback-id"]
    event(sink)
    before = value(scrape(address), "zeroserve_outcomes")
    answer = requests.post(f"http://{address}/v1/feedback", body.replace(b"ID", feedback_id.encode()), timeout=60)
    assert answer.status_code == status, answer.text
    assert "error" in answer.json()
    assert value(scrape(address), "zeroserve_outcomes") == before
    assert sink.received.empty()


def test_feedback_is_posted(address: str) -> None:
    assert requests.get(f"http://{address}/v1/feedback", timeout=60).status_code == 405


def test_nothing_is_lost_without_being_counted(address: str, sink: SinkServer) -> None:
    for _ in range(20):
        predict(address, 1.0)
        event(sink)
    found = scrape(address)
    for one in ("prediction_log", "feedback"):
        left = value(found, "zeroserve_tap_passed_total", exit=one) + value(
            found, "zeroserve_tap_dropped_total", exit=one
        )
        assert 0 <= value(found, "zeroserve_tap_sampled_total", exit=one) - left <= 1  # one may be on its way
    assert value(found, ":tensorflow:serving:request_log_count", status_code="OK") >= 20


def test_the_stock_log_is_an_option_and_k_sink_a_sink(
    tmp_path: Path, sink: SinkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K_SINK", sink.url)
    monkeypatch.setenv("K_CE_OVERRIDES", json.dumps({"extensions": {"team": "a", "type": "lie"}}))
    flags = ("--prediction_log_share=1", "--prediction_log_format=prediction_log", "--prediction_log_redact=y")
    with running_server(tmp_path, *flags) as address:
        predict(address, 1.0, traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
        found = event(sink)
        assert (found.headers["content-type"], found.headers["ce-team"]) == ("application/protobuf", "a")
        assert found.headers["ce-omitted"] == "y"
        assert found.headers["ce-traceparent"].startswith("00-" + "a" * 32)
        log = prediction_log_pb2.PredictionLog.FromString(found.body)
        assert log.log_metadata.sampling_config.sampling_rate == 1
        assert log.log_metadata.model_spec.version.value == 1
        assert to_array(log.predict_log.request.inputs["x"]).tolist() == [1.0]
        assert log.predict_log.response.outputs["y"].tensor_shape.dim[0].size == 1
        assert not log.predict_log.response.outputs["y"].tensor_content


def logs(folder: Path) -> list[bytes]:
    return [log for file in sorted(folder.rglob("*.tfrecord")) for log in records(io.BytesIO(file.read_bytes()))]


def test_requests_of_all_kinds_are_recorded_once_each_when_the_process_ends(tmp_path: Path) -> None:
    with running_server(tmp_path, f"--record_to={tmp_path / 'kept'}", "--record_share=1") as address:
        for number in (1.0, 2.0, 1.0):
            predict(address, number)
        examples = [{"x": [2.0], "k": ["tail"]}]
        post(address, "/v1/models/golden_ex:classify", {"signature_name": "classify", "examples": examples})
        post(address, "/v1/models/golden_ex:regress", {"examples": examples})
        with grpc.insecure_channel(address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            request = classification_pb2.ClassificationRequest()
            request.model_spec.name, request.model_spec.signature_name = "golden_ex", "classify_scores_only"
            example = Example()
            example.features.feature["x"].float_list.value.append(3.0)
            request.input.example_list.examples.append(example)
            stub.Classify(request, timeout=60)
        request_pb = predict_pb2.PredictRequest()
        request_pb.model_spec.name, request_pb.model_spec.signature_name = "golden", "mixed_out"
        write(np.array([1.0], np.float32), request_pb.inputs["x"])
        request_pb.output_filter.append("mean")
        with grpc.insecure_channel(address) as channel:
            prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request_pb, timeout=60)
    kept = tmp_path / "kept"
    found = [read_record(log) for log in logs(kept / "half_plus_two" / "1")]
    assert [one.body["inputs"] for one in found] == [{"x": [1.0]}, {"x": [2.0]}]
    assert [one.answer for one in found] == [{"outputs": [2.5]}, {"outputs": [3.0]}]
    assert sorted(read_record(log).method for log in logs(kept / "golden_ex")) == ["classify", "classify", "regress"]
    (filtered,) = (prediction_log_pb2.PredictionLog.FromString(log) for log in logs(kept / "golden"))
    assert list(filtered.predict_log.request.output_filter) == ["mean"]
    assert list(filtered.predict_log.response.outputs) == ["mean"]


def test_records_go_to_s3_while_the_process_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "server").mkdir()
    with s3_server(tmp_path) as s3:
        for name, text in s3.environ.items():
            monkeypatch.setenv(name, text)
        flags = (f"--record_to=s3://{BUCKET}/kept", "--record_share=1", "--record_seconds=0.1", "--record_limit=2")
        with running_server(tmp_path / "server", *flags) as address:
            for number in range(4):
                predict(address, number)
            objects: list[Any] = []
            while (
                sum(
                    len(list(records(io.BytesIO(s3.client.get_object(Bucket=BUCKET, Key=one["Key"])["Body"].read()))))
                    for one in objects
                )
                < 2
            ):
                objects = s3.client.list_objects_v2(Bucket=BUCKET, Prefix="kept/").get("Contents", [])
            assert all(one["Key"].startswith("kept/half_plus_two/1/") for one in objects)
            found = scrape(address)
            assert value(found, "zeroserve_tap_passed_total", exit="record") == 2


def test_a_models_own_sampling_rate_counts_and_its_collector_is_said_to_be_none(tmp_path: Path) -> None:
    models = " ".join(
        f'config {{ name: "{name}" base_path: "{GOLDEN_MODELS / "half_plus_two"}" model_platform: "tensorflow" '
        f"logging_config {{ sampling_config {{ sampling_rate: {rate} }} {more} }} }}"
        for name, rate, more in (("all", 1, 'log_collector_config { type: "x" }'), ("none", 0, ""))
    )
    flags = (f"--record_to={tmp_path / 'kept'}", "--record_share=0.5")
    with running_server(tmp_path, *flags, models=f"model_config_list {{ {models} }}") as address:
        for number in range(30):
            for name in ("all", "none"):
                post(address, f"/v1/models/{name}:predict", {"instances": [number]})
    assert len(logs(tmp_path / "kept" / "all")) == 30
    assert not (tmp_path / "kept" / "none").exists()
    assert "model all: log_collector_config is not used" in (tmp_path / "server.log").read_text()


def test_a_store_that_is_away_fails_no_prediction_and_its_records_are_counted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with running_server(
        tmp_path, f"--record_to={tmp_path / 'file' / 'kept'}", "--record_share=1", "--record_seconds=0.1"
    ) as address:
        predict(address, 1.0)
        while not value(scrape(address), "zeroserve_tap_dropped_total", exit="record", reason="failed"):
            predict(address, 1.0)
