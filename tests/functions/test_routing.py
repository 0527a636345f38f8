"""Versions and labels on the one URL: real servers, each with one version, that forward to each other."""

import concurrent.futures
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import requests

import loader.protos as _protos  # before the messages
from functions.proto import open_inference_pb2 as oip
from functions.proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.functions.command import SECONDS
from tests.functions.revisions import Revisions, running_revisions

assert _protos
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest  # noqa: E402
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest  # noqa: E402
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest  # noqa: E402
from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest  # noqa: E402
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub  # noqa: E402
from tensorflow_serving.apis.predict_pb2 import PredictRequest  # noqa: E402
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub  # noqa: E402
from tensorflow_serving.apis.regression_pb2 import RegressionRequest  # noqa: E402

BODY = '{"instances": [1.0, 2.0], "signature_name": "id_float32"}'
OWN = "x-zeroserve-revision"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Revisions]:
    """Versions 1, 2 and 3 of model m; the label canary is version 2's tag, and Big_Label version 3's."""
    with running_revisions(tmp_path_factory.mktemp("service"), 1, 2, 3) as revisions:
        revisions.tag("canary", 2)
        revisions.tag("big-label", 3)
        revisions.tag("mine", 1)
        revisions.routes(labels={"mine": "v1", "canary": "v2"})
        yield revisions


@pytest.fixture(autouse=True)
def _no_faults(service: Revisions) -> Iterator[None]:
    yield
    service.gateway.faults.clear()


def post(service: Revisions, version: int, path: str, body: str = BODY, **headers: str) -> requests.Response:
    return requests.post(service[version].url(path), body, headers=headers, timeout=SECONDS)


def same(one: requests.Response, other: requests.Response) -> bool:
    """Whether two answers are the same but for their date, and what a server that has just started says of itself."""
    kept = [{**answer.headers, "date": "", "server-timing": ""} for answer in (one, other)]
    return (one.status_code, one.content, kept[0]) == (other.status_code, other.content, kept[1])


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/m/versions/2:predict",
        "/v1/models/m/labels/canary:predict",
        "/v2/models/m/versions/2/infer",
        "/v2/models/m/versions/canary/infer",
        "/v1/models/m/versions/2:predict?x=%20y",
        "/v1/models/%6d/versions/02:predict",
    ],
)
def test_a_version_that_another_revision_serves_is_answered_byte_for_byte_as_that_one_does(
    service: Revisions, path: str
) -> None:
    tensor = '{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}'
    body = BODY if "/v1/" in path else f'{{"inputs": [{tensor}], "parameters": {{"signature_name": "id_float32"}}}}'
    direct = post(service, 2, path, body)
    for version in (1, 3):
        answer = post(service, version, path, body)
        assert (answer.status_code, answer.headers[OWN]) == (200, "v2")
        assert "canary" in path or same(answer, direct)


def test_what_is_known_of_another_version_is_told_too(service: Revisions) -> None:
    for path in (
        "/v1/models/m/versions/2",
        "/v1/models/m/versions/2/metadata",
        "/v1/models/m/labels/canary",
        "/v2/models/m/versions/2",
        "/v2/models/m/versions/2/ready",
    ):
        answer = service[1].get(path)
        assert (answer.status_code, answer.headers[OWN]) == (200, "v2"), path
    status = service[1].get("/v1/models/m/versions/2").json()["model_version_status"]
    assert [(one["version"], one["state"]) for one in status] == [("2", "AVAILABLE")]


def test_an_error_of_another_version_is_handed_on_as_it_is(service: Revisions) -> None:
    for body in (
        "{",
        '{"instances": ["a"], "signature_name": "id_float32"}',
        '{"instances": [1], "signature_name": "no"}',
    ):
        path = "/v1/models/m/versions/2:predict"
        assert same(post(service, 1, path, body), post(service, 2, path, body))


def test_a_compressed_body_and_binary_tensors_arrive(service: Revisions) -> None:
    import gzip  # noqa: PLC0415
    import json  # noqa: PLC0415

    packed = gzip.compress(BODY.encode())
    answer = requests.post(
        service[1].url("/v1/models/m/versions/2:predict"), packed, headers={"content-encoding": "gzip"}, timeout=SECONDS
    )
    assert (answer.status_code, answer.json()) == (200, {"predictions": [1.0, 2.0]})
    head = json.dumps(
        {
            "parameters": {"signature_name": "id_float32", "binary_data_output": True},
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}],
        }
    ).encode()
    answer = requests.post(
        service[1].url("/v2/models/m/versions/2/infer"),
        head + b"\0\0\x80\x3f",
        headers={"inference-header-content-length": str(len(head))},
        timeout=SECONDS,
    )
    assert (answer.status_code, answer.content[-4:], answer.headers[OWN]) == (200, b"\0\0\x80\x3f", "v2")


def test_a_version_or_label_that_nobody_has_is_refused_in_the_stock_servers_words(service: Revisions) -> None:
    answer = post(service, 1, "/v1/models/m/versions/7:predict")
    wanted = {"error": "Servable not found for request: Specific(m, 7)"}
    assert (answer.status_code, answer.json()) == (404, wanted)
    assert service[1].get("/v1/models/m/versions/7").json() == {"error": "Could not find version 7 of model m"}
    answer = post(service, 1, "/v1/models/m/labels/nobody:predict")
    assert (answer.status_code, answer.json()) == (400, {"error": "Unrecognized servable version label: nobody"})
    assert service.metric(1, "zeroserve_forwarded_total", result="absent", tag="") >= 3


def test_a_request_that_was_forwarded_once_is_not_forwarded_again(service: Revisions) -> None:
    before = len(service.gateway.seen)
    answer = post(service, 1, "/v1/models/m/versions/2:predict", **{"x-zeroserve-forwarded": "1"})
    assert (answer.status_code, answer.json()["error"]) == (404, "Servable not found for request: Specific(m, 2)")
    answer = post(service, 1, "/v1/models/m/labels/canary:predict", **{"x-zeroserve-forwarded": "1"})
    assert answer.status_code == 400
    assert len(service.gateway.seen) == before


def test_a_label_of_this_very_version_is_answered_here(service: Revisions) -> None:
    before = len(service.gateway.seen)
    assert post(service, 1, "/v1/models/m/labels/mine:predict").headers[OWN] == "v1"
    assert service[1].get("/v1/models/m/labels/mine").json()["model_version_status"][0]["version"] == "1"
    assert len(service.gateway.seen) == before


def test_another_models_name_is_not_forwarded(service: Revisions) -> None:
    before = len(service.gateway.seen)
    assert post(service, 1, "/v1/models/other/versions/2:predict").status_code == 404
    assert len(service.gateway.seen) == before


@pytest.mark.parametrize(
    "label",
    [
        "evil.example.com",
        "a.b",
        "x%2fy",
        "x%2e%2e",
        "%00",
        "a%0d%0aHost:x",
        "-a",
        "a-",
        "a_",
        "_a",
        "v2",
        "V2",
        "ü",
        "%c3%bc",
        "a@b",
        "a%3a80",
        "a%23",
        "a" * 62,
        "a" * 5000,
        "1",
        "%20",
        "localhost%09",
    ],
)
def test_a_label_that_would_make_another_host_name_makes_none(service: Revisions, label: str) -> None:
    before = len(service.gateway.seen)
    assert post(service, 1, f"/v1/models/m/labels/{label}:predict").status_code in (400, 404)
    assert post(service, 1, f"/v2/models/m/versions/{label or '1'}x./infer").status_code in (400, 404)
    assert len(service.gateway.seen) == before


def test_headers_of_the_connection_stay_and_those_of_the_request_go_on(service: Revisions) -> None:
    sent = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "a=1",
        "x-request-id": "7",
        "Connection": "keep-alive, X-Private",
        "X-Private": "secret",
        "Keep-Alive": "timeout=5",
        "TE": "trailers",
        "Knative-Serving-Tag": "v3",
        "Proxy-Authorization": "x",
    }
    assert post(service, 1, "/v1/models/m/versions/2:predict", **sent).status_code == 200
    host, _, headers = service.gateway.seen[-1]
    assert host == "v2-m.test.svc.cluster.local"
    for name in ("traceparent", "tracestate", "x-request-id"):
        assert headers[name.encode()].decode() == sent[name]
    kept = {"x-private", "keep-alive", "te", "knative-serving-tag", "proxy-authorization", "transfer-encoding"}
    assert not kept & {name.decode() for name in headers}
    assert headers[b"x-zeroserve-forwarded"] == b"1"


def test_the_deadline_of_a_request_is_kept_and_passed_on(service: Revisions) -> None:
    assert post(service, 1, "/v1/models/m/versions/2:predict", **{"X-Request-Timeout-Ms": "4000"}).status_code == 200
    assert 3000 < int(service.gateway.seen[-1][2][b"x-request-timeout-ms"]) <= 4000
    service.gateway.faults[service.host("v2")] = "hang"
    started = time.monotonic()
    answer = post(service, 1, "/v1/models/m/versions/2:predict", **{"X-Request-Timeout-Ms": "300"})
    assert (answer.status_code, time.monotonic() - started < 3) == (504, True)
    assert service.metric(1, "zeroserve_forwarded_total", result="late") == 1


def test_a_revision_that_cannot_be_reached_is_unavailable(service: Revisions) -> None:
    service.gateway.faults[service.host("v2")] = "busy"
    answer = post(service, 1, "/v1/models/m/versions/2:predict")
    assert (answer.status_code, answer.json()["error"]) == (
        503,
        "the revision of v2 does not answer: its ingress answers 503",
    )
    assert answer.headers["retry-after"] == "1"


# gRPC.


@pytest.fixture(scope="module")
def channel(service: Revisions) -> Iterator[grpc.Channel]:
    """To version 1."""
    with grpc.insecure_channel(f"127.0.0.1:{service[1].port}") as opened:
        yield opened


def predict_request(**choice: int | str) -> PredictRequest:
    request = PredictRequest()
    request.model_spec.name = "m"
    request.model_spec.signature_name = "id_float32"
    if "version" in choice:
        request.model_spec.version.value = choice["version"]
    elif choice:
        request.model_spec.version_label = choice["label"]
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=2)
    request.inputs["x"].float_val.extend([1.0, 2.0])
    return request


@pytest.mark.parametrize(
    ("choice", "version"), [({"version": 2}, 2), ({"label": "canary"}, 2), ({"label": "mine"}, 1), ({}, 1)]
)
def test_predict_over_grpc_reaches_the_version_that_it_names(
    channel: grpc.Channel, choice: dict[str, int | str], version: int
) -> None:
    answer, call = PredictionServiceStub(channel).Predict.with_call(predict_request(**choice), timeout=SECONDS)
    assert (answer.model_spec.version.value, list(answer.outputs["y"].float_val)) == (version, [1.0, 2.0])
    assert dict(call.initial_metadata())[OWN] == f"v{version}"


def test_classify_regress_and_multi_inference_reach_it_too(channel: grpc.Channel) -> None:
    stub = PredictionServiceStub(channel)
    classify = ClassificationRequest()
    classify.model_spec.name, classify.model_spec.signature_name = "m", "classify"
    regress = RegressionRequest()
    regress.model_spec.name = "m"
    for method, request in ((stub.Classify, classify), (stub.Regress, regress)):
        request.model_spec.version_label = "Big_Label"
        request.input.example_list.examples.add()
        answer, call = method.with_call(request, timeout=SECONDS)
        assert (answer.model_spec.version.value, dict(call.initial_metadata())[OWN]) == (3, "v3")
    both = MultiInferenceRequest(input=regress.input)
    task = both.tasks.add(method_name="tensorflow/serving/regress")
    task.model_spec.name = "m"
    task.model_spec.version.value = 3
    results = stub.MultiInference(both, timeout=SECONDS).results
    assert [one.model_spec.version.value for one in results] == [3]


def test_metadata_and_status_of_another_version_over_grpc(channel: grpc.Channel) -> None:
    metadata = GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = "m"
    metadata.model_spec.version.value = 3
    assert PredictionServiceStub(channel).GetModelMetadata(metadata, timeout=SECONDS).model_spec.version.value == 3
    status = GetModelStatusRequest()
    status.model_spec.name = "m"
    status.model_spec.version_label = "canary"
    found = ModelServiceStub(channel).GetModelStatus(status, timeout=SECONDS).model_version_status
    assert [one.version for one in found] == [2]


def status_of(channel: grpc.Channel, request: PredictRequest, **options: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as raised:
        PredictionServiceStub(channel).Predict(request, timeout=SECONDS, **options)
    return raised.value.code(), raised.value.details()


def test_an_error_over_grpc_is_handed_on_with_its_code_and_text(service: Revisions, channel: grpc.Channel) -> None:
    wrong = predict_request(version=2)
    wrong.model_spec.signature_name = "nö"
    with grpc.insecure_channel(f"127.0.0.1:{service[2].port}") as direct:
        assert status_of(channel, wrong) == status_of(direct, wrong)


def test_a_version_that_nobody_has_over_grpc_is_refused_in_the_stock_servers_words(channel: grpc.Channel) -> None:
    wanted = (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(m, 9)")
    assert status_of(channel, predict_request(version=9)) == wanted
    label = "Unrecognized servable version label: a.b"
    assert status_of(channel, predict_request(label="a.b")) == (grpc.StatusCode.INVALID_ARGUMENT, label)
    forwarded = (("x-zeroserve-forwarded", "1"),)
    found = status_of(channel, predict_request(version=2), metadata=forwarded)
    assert found == (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(m, 2)")


def test_a_deadline_over_grpc_is_kept(service: Revisions, channel: grpc.Channel) -> None:
    service.gateway.faults[service.host("v2")] = "hang"
    with pytest.raises(grpc.RpcError) as raised:
        PredictionServiceStub(channel).Predict(predict_request(version=2), timeout=0.5)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert b"grpc-timeout" in service.gateway.seen[-1][2]


def infer_request(version: str) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name="m", model_version=version, id="7")
    request.parameters["signature_name"].string_param = "id_float32"
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1])
    tensor.contents.fp32_contents.append(4.0)
    return request


def test_the_open_inference_protocol_over_grpc_reaches_versions_and_labels(channel: grpc.Channel) -> None:
    stub = GRPCInferenceServiceStub(channel)
    for version, served in (("2", "2"), ("canary", "2"), ("mine", "1"), ("", "1")):
        answer = stub.ModelInfer(infer_request(version), timeout=SECONDS)
        assert (answer.model_version, answer.id) == (served, "7")
    assert stub.ModelReady(oip.ModelReadyRequest(name="m", version="2"), timeout=SECONDS).ready
    assert stub.ModelMetadata(oip.ModelMetadataRequest(name="m", version="canary"), timeout=SECONDS).versions == ["2"]


def test_each_message_of_a_stream_reaches_its_own_version(channel: grpc.Channel) -> None:
    wanted = ["2", "", "canary", "mine", "8"]
    answers = list(
        GRPCInferenceServiceStub(channel).ModelStreamInfer(iter(map(infer_request, wanted)), timeout=SECONDS)
    )
    assert [one.infer_response.model_version for one in answers] == ["2", "1", "2", "1", ""]
    assert answers[-1].error_message == "Servable not found for request: Specific(m, 8)"


def test_hundred_requests_at_once_are_forwarded(service: Revisions) -> None:
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = pool.map(lambda _: post(service, 1, "/v1/models/m/versions/2:predict").json(), range(100))
        assert all(answer == {"predictions": [1.0, 2.0]} for answer in answers)
    assert service.metric(1, "zeroserve_forward_seconds_count", tag="v2", protocol="REST") >= 100


def test_a_start_imports_no_client_and_a_drain_leaves_none_open(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_revisions(tmp_path_factory.mktemp("drained"), 1, 2) as service:
        command = service[1]
        libraries = Path(f"/proc/{command.process.pid}/maps").read_text()
        assert not any(name in libraries for name in ("aiohttp", "cygrpc", "yarl"))
        assert post(service, 1, "/v1/models/m/versions/2:predict").status_code == 200
        command.process.send_signal(signal.SIGTERM)
        assert command.process.wait(SECONDS) == 0
        assert "Unclosed" not in command.log.read_text()
