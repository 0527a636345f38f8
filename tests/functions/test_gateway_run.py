"""A real Envoy in front of real servers: who is let in, how much, and where to."""

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

import loader.protos as _protos
from functions.commands.gateway_run import envoy_program, running, write_keys
from functions.proto import open_inference_pb2 as oip
from functions.proto import open_inference_pb2_grpc as oip_grpc
from knative.error import DeployError
from knative.gateway import envoy
from knative.gateway.settings import Gateway, Jwt, parse_limit
from tests.functions.gateways import ALICE, BOB, BODY, PREDICT, Entry, entry
from tests.functions.limit_service import limit_service
from tests.functions.recording import recorder
from tests.functions.served import server

assert _protos
assert server
from tensorflow_serving.apis import (  # noqa: E402
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

MIB = 1 << 20
ANSWER = {"predictions": [2.5, 3.0, 4.5]}
APP = "https://app.example"


@pytest.fixture(scope="module")
def wanted(server: str) -> Gateway:
    return Gateway(
        backends={"half-plus-two": server, "golden": server, "mlp": server},
        cors_origins=(APP, "https://*.apps.example"),
        max_body_bytes=MIB,
    )


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, wanted: Gateway) -> Iterator[Entry]:
    with entry(tmp_path_factory.mktemp("gateway"), wanted) as found:
        yield found


def eventually(holds: object, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Where to


def test_a_model_is_reached_by_every_rest_path_without_being_registered(here: Entry):
    assert here.predict().json == ANSWER
    assert here.ask("POST", "/v1/models/half_plus_two/versions/1:predict", BODY).json == ANSWER
    assert here.ask("GET", "/v1/models/half_plus_two").json["model_version_status"][0]["state"] == "AVAILABLE"
    assert "metadata" in here.ask("GET", "/v1/models/half_plus_two/metadata").json
    assert here.ask("GET", "/v2/models/half_plus_two").json["name"] == "half_plus_two"
    asked = {"inputs": [{"name": "x", "shape": [3], "datatype": "FP32", "data": [1.0, 2.0, 5.0]}]}
    assert here.ask("POST", "/v2/models/half_plus_two/infer", json.dumps(asked)).json["outputs"][0]["data"] == [
        2.5,
        3,
        4.5,
    ]


def test_a_model_is_reached_by_its_own_name_in_the_cluster(tmp_path: Path):
    with entry(tmp_path, Gateway(namespace="m2")) as here:
        answer = here.predict(model="some_model")
    assert answer.status == 404
    assert "not in DNS" in answer.json["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/evil.example.com:predict",
        "/v1/models/169.254.169.254/latest",
        "/v1/models/a@evil.example:predict",
        "/v1/models/a%2Fb:predict",
        "/v1/models/a%00:predict",
        "/v1/models/%2e%2e/x",
        "/v1/models/-a:predict",
        "/v1/models/a-:predict",
        "/v1/models/half_plus_two.:predict",
        "/v1/models/half_plus_two%20:predict",
        "/v1/models/half_plus_two#x:predict",
        "/v1/models/zeroserve-gateway:predict",
        "/v1/models/Zeroserve_Deploy:predict",
        f"/v1/models/{'a' * 64}:predict",
        "/v1/models/[::1]:predict",
        "/v1/models//:predict",
        "/v1/models/../../metrics",
        "/v1/models",
        "/v2/repository/index",
        "/v1/config/reload",
        "/metrics",
        "/",
        "//v1/models/half_plus_two:predict",
        "http://evil.example/v1/models/x.y:predict",
    ],
)
def test_a_hostile_path_goes_nowhere(here: Entry, path: str):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", here.port, timeout=60)) as connection:
        connection._validate_path = lambda _: None  # type: ignore[attr-defined]
        connection.request("POST", path, BODY, {"x-api-key": ALICE})
        answer = connection.getresponse()
        body = answer.read()
    assert answer.status in {400, 404}, body
    assert b"predictions" not in body
    assert json.loads(body)["error"] is not None


def test_a_caller_cannot_say_who_it_is_nor_which_host_is_meant(tmp_path: Path):
    with recorder() as (address, seen), entry(tmp_path, Gateway(backends={"m": address})) as here:
        answer = here.predict(
            model="m",
            x_zeroserve_gateway_client="root",
            x_zeroserve_gateway_model="other",
            x_zeroserve_forwarded="1",
            x_zeroserve_copy="1",
            knative_serving_tag="v9",
            host="other.example",
        )
    assert answer.status == 200
    assert seen[0]["x-zeroserve-gateway-client"] == "alice"
    assert seen[0]["x-zeroserve-gateway-model"] == "m"
    assert seen[0]["host"] == address
    assert seen[0]["x-forwarded-host"] == "other.example"
    assert not {"x-zeroserve-forwarded", "x-zeroserve-copy", "knative-serving-tag", "x-api-key"} & set(seen[0])


def test_a_script_that_fails_sends_a_request_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(envoy, "script", lambda _: "function envoy_on_request(handle) error('broken') end")
    with recorder() as (address, seen), entry(tmp_path, Gateway(backends={"m": address})) as here:
        assert here.predict(model="m", host=address).status == 503
        assert not seen


def test_only_the_models_that_are_named_can_be_called(tmp_path: Path, wanted: Gateway):
    with entry(tmp_path, replace(wanted, models=("golden",))) as here:
        assert here.predict().status == 404
        assert here.ask("GET", "/v1/models/golden").status == 200


# gRPC


@contextlib.contextmanager
def channel(here: Entry) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{here.port}") as found:
        yield found


def request(rows: int = 3) -> predict_pb2.PredictRequest:
    made = predict_pb2.PredictRequest()
    made.model_spec.name = "half_plus_two"
    made.inputs["x"].dtype = 1
    made.inputs["x"].tensor_shape.dim.add(size=rows)
    made.inputs["x"].float_val.extend([1.0] * rows)
    return made


KEY = (("x-api-key", ALICE),)


def test_grpc_reaches_the_model_that_the_message_names(here: Entry):
    with channel(here) as open_channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(open_channel)
        assert list(stub.Predict(request(), metadata=KEY, timeout=60).outputs["y"].float_val) == [2.5] * 3
        assert len(stub.Predict(request(100_000), metadata=KEY, timeout=60).outputs["y"].float_val) == 100_000
        asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        asked.model_spec.name = "golden"
        assert stub.GetModelMetadata(asked, metadata=KEY, timeout=60).model_spec.name == "golden"
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "mlp"
        models = model_service_pb2_grpc.ModelServiceStub(open_channel)
        assert models.GetModelStatus(status, metadata=KEY, timeout=60).model_version_status
        infer = oip.ModelInferRequest(model_name="half_plus_two")
        tensor = infer.inputs.add(name="x", datatype="FP32", shape=[1])
        tensor.contents.fp32_contents.append(1.0)
        other = oip_grpc.GRPCInferenceServiceStub(open_channel)
        assert other.ModelInfer(infer, metadata=KEY, timeout=60).model_name == "half_plus_two"
        several = inference_pb2.MultiInferenceRequest()
        several.tasks.add().model_spec.name = "golden"
        with pytest.raises(grpc.RpcError) as refused:  # the server's own answer: it has been reached
            stub.MultiInference(several, metadata=KEY, timeout=60)
        assert "signature method_name" in refused.value.details()


def test_grpc_that_names_no_model_or_may_not_be_called_is_refused_in_its_own_way(here: Entry):
    def code(call: object) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as refused:
            call()  # type: ignore[operator]
        return refused.value.code(), refused.value.details()

    with channel(here) as open_channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(open_channel)
        found = code(lambda: stub.Predict(request(), timeout=60))
        assert found[0] is grpc.StatusCode.UNAUTHENTICATED
        assert "{" not in found[1]
        found = code(lambda: stub.Predict(predict_pb2.PredictRequest(), metadata=KEY, timeout=60))
        assert found == (grpc.StatusCode.INVALID_ARGUMENT, "the message names no model")
        nobody = request()
        nobody.model_spec.name = "evil.example.com"
        assert code(lambda: stub.Predict(nobody, metadata=KEY, timeout=60))[0] is grpc.StatusCode.NOT_FOUND
        nobody.model_spec.name = "a" * 100
        assert code(lambda: stub.Predict(nobody, metadata=KEY, timeout=60))[0] is grpc.StatusCode.INVALID_ARGUMENT
        reload = model_service_pb2_grpc.ModelServiceStub(open_channel).HandleReloadConfigRequest
        found = code(lambda: reload(model_management_pb2.ReloadConfigRequest(), metadata=KEY, timeout=60))
        assert found[0] is grpc.StatusCode.UNIMPLEMENTED
        large = code(lambda: stub.Predict(request(MIB), metadata=KEY, timeout=60))
        assert large[0] in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNKNOWN}


def test_a_compressed_call_names_the_model_in_its_metadata(here: Entry):
    with channel(here) as open_channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(open_channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Predict(request(500), metadata=KEY, timeout=60, compression=grpc.Compression.Gzip)
        assert "x-zeroserve-model" in refused.value.details()
        named = (*KEY, ("x-zeroserve-model", "half_plus_two"))
        answer = stub.Predict(request(500), metadata=named, timeout=60, compression=grpc.Compression.Gzip)
        assert len(answer.outputs["y"].float_val) == 500


def test_bytes_that_are_no_message_are_refused_and_leave_the_entry_alive(here: Entry):
    hostile = [
        b"",
        b"\x0a",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0a\x05\x0a\x7fab",
        b"\xff" * 40,
        b"\x08" + b"\xff" * 30,
        b"\x0b\x0b\x0b",
        b"\x12\x00" * 400_000,
        b"\x0a\x02\x0a\x00",
        b"\x0a\x06\x0a\x04a\x00b\n",
    ]
    with channel(here) as open_channel:
        call = open_channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        for message in hostile:
            with pytest.raises(grpc.RpcError) as refused:
                call(message, metadata=KEY, timeout=60)
            assert refused.value.code() in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}, message[:40]
        late = classification_pb2.ClassificationRequest()
        late.model_spec.name = "half_plus_two"
        unknown_first = b"\x78\x01" + b"\x79" + bytes(8) + b"\x7d" + bytes(4) + request().SerializeToString()
        assert predict_pb2.PredictResponse.FromString(call(unknown_first, metadata=KEY, timeout=60)).outputs
    assert here.predict().status == 200


# Who


def test_nobody_without_a_key_is_let_in_and_the_key_is_not_passed_on(tmp_path: Path):
    with recorder() as (address, seen), entry(tmp_path, Gateway(backends={"m": address})) as here:
        for key in ("", "wrong", ALICE + "x", ALICE[:-1], ALICE.upper()):
            assert here.predict(key, model="m").status == 401
        assert not seen
        assert here.predict(model="m").status == 200
        assert here.predict("", model="m", authorization=f"Bearer {BOB}").status == 200
        assert [one["x-zeroserve-gateway-client"] for one in seen] == ["alice", "bob"]
        assert not any(ALICE in value or BOB in value for one in seen for value in one.values())


def test_keys_change_without_a_restart_and_a_broken_file_changes_nothing(tmp_path: Path, wanted: Gateway):
    with entry(tmp_path, wanted) as here:
        new = "a-key-that-is-new-0000"
        assert here.predict(new).status == 401
        write_keys(here.keys, {new: "carol", BOB: "bob"})
        eventually(lambda: here.predict(new).status == 200)
        assert here.predict(ALICE).status == 401
        broken = here.keys / "broken"
        broken.write_text("{")
        broken.replace(here.keys / "keys.json")
        assert here.predict(new).status == 200
        write_keys(here.keys, {})
        eventually(lambda: here.predict(new).status == 401)


def test_without_a_file_of_keys_there_is_no_entry(tmp_path: Path, wanted: Gateway):
    started = running(wanted, envoy_program(), address="127.0.0.1", port=0, keys_folder=tmp_path)
    with pytest.raises(DeployError, match="Envoy ended"), started:
        pass


ISSUER = "https://issuer.example"


def token(key: ECKey, **claims: object) -> str:
    given = {"iss": ISSUER, "aud": "models", "sub": "dora", "exp": int(time.time()) + 600}
    given = {name: value for name, value in (given | claims).items() if value is not None}
    return jwt.encode({"alg": "ES256", "kid": key.kid}, given, key)


@pytest.mark.parametrize("keys", [True, False])
def test_a_token_of_the_issuer_is_as_good_as_a_key_and_no_other_one_is(tmp_path: Path, keys: bool):
    key, other = (ECKey.generate_key("P-256", {"kid": "1"}) for _ in range(2))
    trusted = Jwt(ISSUER, ("models",), keys=json.dumps({"keys": [key.as_dict(private=False)]}))
    with (
        recorder() as (address, seen),
        entry(tmp_path, Gateway(backends={"m": address}, keys=keys, jwt=trusted)) as here,
    ):

        def says(words: str) -> int:
            return here.predict("", model="m", authorization=f"Bearer {words}").status

        assert says(token(key)) == 200
        assert seen[0]["x-zeroserve-gateway-client"] == "dora"
        assert "authorization" not in seen[0]
        unsigned = token(key).rsplit(".", 1)[0] + "."
        for bad in (
            token(other),
            unsigned,
            token(key, iss="https://else.example"),
            token(key, exp=int(time.time()) - 600),
            token(key, exp=None),
            "x",
            ALICE,
        ):
            assert says(bad) == 401
        assert says(token(key, aud="others")) == 403
        assert here.predict("", model="m").status == 401
        assert here.predict("wrong", model="m").status == 401
        assert here.predict(ALICE, model="m").status == (200 if keys else 401)
        if keys:
            assert here.predict("wrong", model="m", authorization=f"Bearer {token(key)}").status == 401
        assert len(seen) == (2 if keys else 1)


# How much


def test_each_client_has_its_limit_and_is_told_when_to_come_again(tmp_path: Path):
    limits = tuple(map(parse_limit, ("alice=2/h", "4/h", "100/d")))
    with (
        recorder() as (address, seen),
        entry(tmp_path, Gateway(backends={"m": address}, client_limits=limits)) as here,
    ):
        assert [here.predict(model="m").status for _ in range(3)] == [200, 200, 429]
        refused = here.predict(model="m")
        assert 0 < int(refused.headers["retry-after"]) <= 3600
        assert "too many requests" in refused.json["error"]
        assert [here.predict(BOB, model="m").status for _ in range(5)] == [200] * 4 + [429]
        assert len(seen) == 6
        with channel(here) as open_channel:
            call = open_channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            with pytest.raises(grpc.RpcError) as exhausted:
                call(request().SerializeToString(), metadata=KEY, timeout=60)
        assert exhausted.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_each_model_has_its_limit_whoever_calls(tmp_path: Path):
    limits = tuple(map(parse_limit, ("one=1/h", "2/h")))
    with (
        recorder() as (address, seen),
        entry(tmp_path, Gateway(backends={"one": address, "two": address}, model_limits=limits)) as here,
    ):
        assert [here.predict(model="one").status, here.predict(BOB, model="ONE").status] == [200, 429]
        assert [here.predict(model="two").status for _ in range(3)] == [200, 200, 429]
        assert len(seen) == 3


def test_a_limit_over_all_replicas_is_the_rate_limit_services(tmp_path: Path):
    with recorder() as (address, seen), limit_service(2) as (limits, asked):
        wanted = Gateway(backends={"m": address}, rate_limit_service=limits, rate_limit_required=True)
        with entry(tmp_path, wanted) as here:
            eventually(lambda: here.predict(model="m").status == 200)
            assert here.predict("wrong", model="m").status == 401
            eventually(lambda: here.predict(model="m").status == 429)
            assert b"zeroserve" in asked[0]
            for word in (b"client", b"alice", b"model"):
                assert word in asked[0]
            assert len(seen) == 2


@pytest.mark.parametrize("required", [True, False])
def test_without_the_rate_limit_service_requests_pass_unless_it_is_required(tmp_path: Path, required: bool):
    wanted = Gateway(rate_limit_service="127.0.0.1:1", rate_limit_required=required)
    with recorder() as (address, seen), entry(tmp_path, replace(wanted, backends={"m": address})) as here:
        assert here.predict(model="m").status == (503 if required else 200)
        assert len(seen) == (0 if required else 1)


def test_where_nobody_needs_a_key_an_address_has_the_limit(tmp_path: Path):
    wanted = Gateway(keys=False, client_limits=(parse_limit("2/h"),), trusted_hops=1)
    with recorder() as (address, _), entry(tmp_path, replace(wanted, backends={"m": address})) as here:
        assert [here.predict("", model="m", x_forwarded_for="10.0.0.1").status for _ in range(3)] == [200, 200, 429]
        assert here.predict("", model="m", x_forwarded_for="10.0.0.2").status == 200


def test_a_body_that_is_too_large_never_reaches_a_model_whether_its_size_is_said_or_not(tmp_path: Path):
    with (
        recorder() as (address, seen),
        entry(tmp_path, Gateway(backends={"m": address}, max_body_bytes=10_000)) as here,
    ):
        path = "/v1/models/m:predict"
        assert here.ask("POST", path, b"x" * 10_001).status == 413
        assert here.ask("POST", path, iter([b"x" * 5000] * 3)).status == 413
        assert not seen
        assert here.ask("POST", path, b"x" * 9_000).status == 200
        assert here.ask("POST", path, iter([b"x" * 3000] * 3)).status == 200
        assert [one["size"] for one in seen] == ["9000", "9000"]


def test_a_body_that_is_never_finished_never_reaches_a_model(tmp_path: Path):
    with recorder() as (address, seen), entry(tmp_path, Gateway(backends={"m": address})) as here:
        with socket.create_connection(("127.0.0.1", here.port)) as half:
            head = (
                f"POST /v1/models/m:predict HTTP/1.1\r\nhost: x\r\nx-api-key: {ALICE}\r\ncontent-length: 100\r\n\r\n{{"
            )
            half.sendall(head.encode())
            assert here.predict(model="m").status == 200
        assert len(seen) == 1


# Browsers


def test_browsers_of_the_origins_that_are_named_may_call(here: Entry):
    def preflight(origin: str) -> dict[str, str]:
        return dict(here.ask("OPTIONS", PREDICT, key="", origin=origin, access_control_request_method="POST").headers)

    for origin in (APP, "https://one.apps.example"):
        assert preflight(origin)["access-control-allow-origin"] == origin
        assert "x-api-key" in preflight(origin)["access-control-allow-headers"]
        assert here.predict(origin=origin).headers["access-control-allow-origin"] == origin
        assert here.predict("", origin=origin).headers["access-control-allow-origin"] == origin
    for origin in ("https://evil.example", "https://appXexample", f"{APP}.evil.example", "null", "http://app.example"):
        assert "access-control-allow-origin" not in preflight(origin)
        assert "access-control-allow-origin" not in here.predict(origin=origin).headers


# Models that fail


def test_a_model_that_takes_no_connection_is_tried_again_and_then_said_to_be_away(tmp_path: Path):
    with entry(tmp_path, Gateway(backends={"m": "127.0.0.1:1"}, ejection_seconds=0)) as here:
        assert here.predict(model="m").status == 503
        assert 'envoy_cluster_upstream_rq_retry{envoy_cluster_name="models"} 2' in here.metrics()


def test_a_model_that_keeps_failing_is_left_alone_for_a_while_and_no_other_one_is(tmp_path: Path):
    with recorder(503) as (bad, failed), recorder() as (good, _):
        wanted = Gateway(backends={"bad": bad, "good": good}, ejection_seconds=30)
        with entry(tmp_path, wanted) as here:
            for _ in range(20):
                assert here.predict(model="bad").status == 503
            assert len(failed) == 5
            assert here.predict(model="good").status == 200


# What is told


def test_requests_are_counted_by_model_client_and_code_and_made_up_names_are_not(here: Entry):
    here.predict(BOB)
    here.predict(model="made-up")
    eventually(lambda: "zeroserve_requests{" in here.metrics() and 'client="bob"' in here.metrics())
    text = here.metrics()
    assert "made-up" not in text
    assert 'model="half-plus-two"' in text
    assert ALICE not in text


def test_a_configuration_that_envoy_refuses_says_why(tmp_path: Path):
    trusted = Jwt(ISSUER, keys="no keys")
    with (
        pytest.raises(DeployError, match="Envoy ended"),
        running(Gateway(keys=False, jwt=trusted), envoy_program(), address="127.0.0.1", port=0, keys_folder=tmp_path),
    ):
        pass
