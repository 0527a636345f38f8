"""A real Envoy in a real cluster: two models behind one entry, and what is refused wakes neither."""

import contextlib
import http.client
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import pytest

from functions.proto import open_inference_pb2 as oip
from functions.proto import open_inference_pb2_grpc as oip_grpc
from tests.e2e.ingress import ANSWER, BODY, Answer, Service, eventually
from tests.e2e.place import Place, needs_cluster

IMAGE = os.environ.get("ZEROSERVE_E2E_ENVOY_IMAGE", "")
pytestmark = [
    needs_cluster,
    pytest.mark.skipif(not IMAGE, reason="no image with Envoy: ZEROSERVE_E2E_ENVOY_IMAGE not set"),
]

APP = "https://app.example"
RELOAD_SECONDS = 150.0
"""What the kubelet may take to put a changed Secret into a pod."""

ZERO_SECONDS = 120.0


@dataclass(frozen=True)
class Entry:
    """The gateway of a namespace, as its callers see it."""

    place: Place
    host: str

    def words(self, command: str, *words: str) -> dict[str, object]:
        said = self.place.zeroserve("gateway", command, *words, "--json")
        found: dict[str, object] = json.loads(said.out)
        return found

    def new_key(self, client: str) -> str:
        return str(self.words("keys", "add", client)["key"]) if client else ""

    def ask(self, method: str, path: str, body: bytes | None = None, key: str = "", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()} | ({"x-api-key": key} if key else {})
        with contextlib.closing(http.client.HTTPConnection(self.host, timeout=120)) as connection:
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def predict(self, model: str, key: str, **headers: str) -> Answer:
        return self.ask("POST", f"/v1/models/{model}:predict", BODY, key, **headers)

    def asleep(self) -> bool:
        return not self.place.pods("one") and not self.place.pods("two")


@pytest.fixture
def entry(here: Place) -> Iterator[Entry]:
    for model in ("one", "two"):
        here.deploy(model, here.upload(model, 1), "--cluster-local")
    here.zeroserve(
        "gateway",
        "install",
        f"--image={IMAGE}",
        "--cpu=50m",
        "--memory=256",
        "--max-body=100000",
        "--client-limit=limited=1/h",
        "--model-limit=1000/s",
        f"--cors={APP}",
    )
    address = here.get("service", "zeroserve-gateway")["spec"]["clusterIP"]
    yield Entry(here, f"{address}:80")
    here.zeroserve("gateway", "uninstall")
    assert not here.get("deployments", "-l", "app.kubernetes.io/managed-by=zeroserve-gateway")["items"]


def test_two_models_answer_behind_one_entry_and_what_is_refused_wakes_neither(entry: Entry):
    key, limited = entry.new_key("alice"), entry.new_key("limited")
    assert entry.words("status")["clients"] == ["alice", "first", "limited"]
    # The pods take new keys without a restart.
    pods = entry.place.get("pods", "-l", "app.kubernetes.io/name=zeroserve-gateway")["items"]
    eventually(lambda: entry.ask("GET", "/nothing", key=limited).status == 404, RELOAD_SECONDS)
    after = entry.place.get("pods", "-l", "app.kubernetes.io/name=zeroserve-gateway")["items"]
    assert [one["metadata"]["uid"] for one in after] == [one["metadata"]["uid"] for one in pods]
    assert after[0]["status"]["containerStatuses"][0]["restartCount"] == 0

    eventually(entry.asleep, ZERO_SECONDS)
    host = entry.host
    for model in ("one", "two"):
        assert entry.predict(model, "").status == 401
        assert entry.predict(model, "no-key-that-anybody-has").status == 401
        assert entry.predict(model, limited).status == 429
        assert entry.ask("POST", f"/v1/models/{model}:predict", b"x" * 100_001, key).status == 413
        chunks = iter([b"x" * 60_000, b"x" * 60_000])
        assert entry.ask("POST", f"/v1/models/{model}:predict", chunks, key).status == 413  # type: ignore[arg-type]
        preflight = entry.ask(
            "OPTIONS", f"/v1/models/{model}:predict", origin=APP, access_control_request_method="POST"
        )
        assert preflight.headers["access-control-allow-origin"] == APP
        assert entry.ask("POST", f"/v1/models/{model}.evil.example:predict", BODY, key).status == 404
        with pytest.raises(grpc.RpcError) as refused:
            Service(host, host, model).grpc_predict()
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert entry.predict("nobody", key).status == 404
    assert entry.predict("zeroserve-gateway", key).status == 404
    assert entry.asleep()
    deployments = entry.place.get("deployments", "-l", "serving.knative.dev/service")["items"]
    assert [one["spec"]["replicas"] for one in deployments] == [0, 0]

    # Now each is woken by a call of its own, over REST and over gRPC.
    assert entry.predict("one", key, origin=APP).json == {"predictions": ANSWER}
    assert not entry.place.pods("two")
    with grpc.insecure_channel(host) as channel:
        request = oip.ModelInferRequest(model_name="two")
        tensor = request.inputs.add(name="x", datatype="FP32", shape=[3])
        tensor.contents.fp32_contents.extend([1.0, 2.0, 5.0])
        stub = oip_grpc.GRPCInferenceServiceStub(channel)
        assert stub.ModelInfer(request, timeout=120, metadata=(("x-api-key", key),)).model_name == "two"
    assert entry.predict("two", key).json == {"predictions": ANSWER}
    assert entry.ask("POST", "/v1/models/two/versions/1:predict", BODY, key).json == {"predictions": ANSWER}

    # A key that is taken away is refused, again without a restart.
    entry.words("keys", "remove", "alice")
    eventually(lambda: entry.predict("one", key).status == 401, RELOAD_SECONDS)
