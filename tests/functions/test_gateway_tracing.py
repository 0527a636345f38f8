"""One trace through a real Envoy, the queue, the batch and the run of a real server; and a collector that is away."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest

import loader.protos as _protos
from knative.error import DeployError
from knative.gateway.settings import Gateway, collector_url
from tests.functions.command import SECONDS, Command
from tests.functions.gateways import ALICE, PREDICT, Entry, entry
from tests.functions.served import model_config
from tests.servers.collector import Collector, Received, collector

assert _protos
from tensorflow_serving.apis import predict_pb2  # noqa: E402
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub  # noqa: E402

from loader.tensor_proto import from_array  # noqa: E402

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
Place = tuple[Entry, Command, Collector]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A gateway before a server that batches, both with the same collector."""
    folder = tmp_path_factory.mktemp("place")
    config = folder / "models.config"
    config.write_text(model_config())
    flags = ("--traces", "--enable_batching", "--max_batch_size=64", "--allowed_batch_sizes=4,64")
    with collector() as target:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": target.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        with Command(folder, f"--model_config_file={config}", *flags, environ=environ) as command:
            command.until_ready()
            backends = dict.fromkeys(("half-plus-two", "mlp"), f"127.0.0.1:{command.port}")
            with entry(folder, Gateway(backends=backends, traces=target.endpoint)) as gateway:
                yield gateway, command, target


def chain(target: Collector, request_id: str) -> list[Received]:
    """From the caller's request to the server's, each below the one before it."""
    server = target.request(request_id)
    found = [server]
    while parent := found[0].parent:
        if parent == SPAN:
            break
        found.insert(
            0, target.until(lambda spans, wanted=parent: next((one for one in spans if one.id == wanted), None))
        )
    return found


def test_one_trace_leads_through_gateway_queue_batch_and_run(place: Place) -> None:
    gateway, command, target = place
    metadata = command.get("/v1/models/mlp/metadata").json()["metadata"]["signature_def"]["signature_def"]
    size = int(metadata["serving_default"]["inputs"].popitem()[1]["tensor_shape"]["dim"][1]["size"])
    body = json.dumps({"instances": [[0.5] * size] * 3})
    answer = gateway.ask("POST", "/v1/models/mlp:predict", body, traceparent=f"00-{TRACE}-{SPAN}-01")
    assert answer.status == 200
    inbound, outbound, server = chain(target, answer.headers["x-request-id"])
    assert {one.trace for one in (inbound, outbound, server)} == {TRACE}
    assert (inbound.parent, inbound.kind, outbound.kind, server.kind) == (SPAN, 2, 3, 2)
    assert inbound.resource["service.name"] == "zeroserve-gateway"
    assert server.resource["service.name"] == "zeroserve"
    assert (inbound.attributes["zeroserve.model"], inbound.attributes["zeroserve.client"]) == ("mlp", "alice")
    below = {one.name: one for one in target.trace(TRACE) if one.parent == server.id}
    queue, batch = below["queue"], below["batch"]
    run = next(one for one in target.trace(TRACE) if one.parent == batch.id)
    assert (queue.name, batch.name, run.name) == ("queue", "batch", "run")
    assert batch.links == [(TRACE, server.id)]
    assert inbound.start <= server.start <= queue.start <= batch.start <= run.start < run.end <= server.end


def test_a_grpc_call_is_one_trace_through_both_too(place: Place) -> None:
    gateway, _, target = place
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half_plus_two"
    request.inputs["x"].CopyFrom(from_array(np.array([1, 2], np.float32)))
    with grpc.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        metadata = (("x-api-key", ALICE), ("traceparent", f"00-{'4' * 32}-{SPAN}-01"))
        _, call = PredictionServiceStub(channel).Predict.with_call(request, timeout=SECONDS, metadata=metadata)
    (request_id,) = [value for key, value in call.initial_metadata() if key == "x-request-id"]
    inbound, outbound, server = chain(target, request_id)
    assert (inbound.parent, outbound.trace, server.trace) == (SPAN, "4" * 32, "4" * 32)
    assert server.name == "tensorflow.serving.PredictionService/Predict"


def test_a_request_that_the_gateway_refuses_is_its_span_alone_and_has_an_id(place: Place) -> None:
    gateway, _, target = place
    answer = gateway.ask("POST", PREDICT, "{}", key="wrong-wrong-wrong-wrong", traceparent=f"00-{'5' * 32}-{SPAN}-01")
    assert answer.status == 401
    assert answer.headers["x-request-id"]
    found = target.until(lambda spans: [one for one in spans if one.trace == "5" * 32])
    assert [one.resource["service.name"] for one in found] == ["zeroserve-gateway"]


def test_no_span_has_a_key_or_a_query(place: Place) -> None:
    gateway, _, target = place
    answer = gateway.ask("POST", f"{PREDICT}?secret=in-the-query", b'{"instances": [1.0]}')
    inbound, _, _ = chain(target, answer.headers["x-request-id"])
    assert inbound.attributes.get("url.path") == PREDICT, inbound.attributes
    written = "".join(str(one.attributes) for one in target.spans)
    assert "in-the-query" not in written
    assert ALICE not in written


def test_a_collector_that_is_away_costs_the_gateways_callers_nothing(place: Place, tmp_path: Path) -> None:
    _, command, _ = place
    wanted = Gateway(backends={"half-plus-two": f"127.0.0.1:{command.port}"}, traces="http://127.0.0.1:9")
    with entry(tmp_path, wanted) as gateway:
        for _ in range(50):
            assert gateway.predict().status == 200
        assert re.search(r"envoy_cluster_upstream_cx_connect_fail\{envoy_cluster_name=\"traces\"\}", gateway.metrics())


def test_a_caller_that_keeps_no_trace_or_a_share_of_none_leaves_no_span(place: Place, tmp_path: Path) -> None:
    gateway, command, target = place
    unsampled = gateway.predict(traceparent=f"00-{'6' * 32}-{SPAN}-00")
    assert unsampled.status == 200
    backends = {"half-plus-two": f"127.0.0.1:{command.port}"}
    with entry(tmp_path, Gateway(backends=backends, traces=target.endpoint, trace_percent=0)) as rare:
        never = rare.predict().headers["x-request-id"]
    chain(target, gateway.predict().headers["x-request-id"])
    assert target.trace("6" * 32) == []
    assert not [one for one in target.spans if one.attributes.get("zeroserve.request_id") == never]


@pytest.mark.parametrize(
    "text", ["", "collector:4318", "ftp://c", "http://", "http://c:99999", "http://c/?q", "http://a b"]
)
def test_what_is_no_collectors_address_is_refused(text: str) -> None:
    with pytest.raises(DeployError, match="wanted http://HOST:4318"):
        collector_url(text)
    with pytest.raises(DeployError, match="wanted 0 to 100"):
        replace(Gateway(), trace_percent=101)
    assert collector_url("https://c/api")[1:] == (443, True, "https://c:443/api")
