"""All that exports metrics, real and under traffic: servers, revisions, a gateway, a deploy function's counts."""

import contextlib
import http.server
import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import requests

import loader.protos as _protos
from events.outcome import Outcome, State
from events.rollout_event import KINDS
from functions.observing.landing_metrics import LandingMetrics
from functions.proto import open_inference_pb2 as oip
from functions.proto import open_inference_pb2_grpc as oip_grpc
from knative.gateway.settings import Gateway, parse_limit
from loader.tfrecord import encode
from tests.functions.command import SECONDS, Command
from tests.functions.gateways import ALICE, BOB, PREDICT, Entry, entry
from tests.functions.limit_service import limit_service
from tests.functions.revisions import Revisions, running_revisions
from tests.functions.served import GOLDEN_MODELS
from tests.functions.test_mixing import DIGITS, images, remote, write
from tests.servers.sink import sink_server
from tests.servers.web import web_server

assert _protos
import grpc  # noqa: E402
from tensorflow_serving.apis.predict_pb2 import PredictRequest  # noqa: E402
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog, PredictLog  # noqa: E402

HALF = GOLDEN_MODELS / "half_plus_two" / "1"
ALL = "model_version_policy { all {} }"
TAGS = [{"tag": "v1", "percent": 50}, {"tag": "v2", "percent": 50}]


@dataclass(frozen=True)
class Source:
    """One place that is asked.

    Attributes:
        name: what its pod would be called.
        kind: `models`, `deploy` or `gateway`.
        address: of its metrics.
        path: of its metrics.
    """

    name: str
    kind: str
    address: str
    path: str = "/monitoring/prometheus/metrics"

    def text(self) -> str:
        return requests.get(f"http://{self.address}{self.path}", timeout=SECONDS).text


@dataclass(frozen=True)
class Monitored:
    """All of them.

    Attributes:
        sources: to be scraped.
        traffic: makes requests of every kind, good and bad; once more with each call.
    """

    sources: tuple[Source, ...]
    traffic: Callable[[], None]


@contextlib.contextmanager
def monitored(folder: Path) -> Iterator[Monitored]:
    """Starts everything; about 15 s."""
    with contextlib.ExitStack() as stack:
        (folder / "revisions").mkdir()
        revisions = stack.enter_context(running_revisions(folder / "revisions", 1, 2))
        server = stack.enter_context(_server(folder))
        limits, _ = stack.enter_context(limit_service(9, 2))
        counts = _counts()
        deploy = stack.enter_context(_deploy(counts))
        address = f"127.0.0.1:{server.port}"
        wanted = Gateway(
            backends={"half-plus-two": address, "gone": "127.0.0.1:1", "m": f"127.0.0.1:{revisions[1].port}"},
            client_limits=(parse_limit("bob=1/h"),),
            model_limits=(parse_limit("gone=2/h"),),
            rate_limit_service=limits,
            max_body_bytes=10_000,
        )
        (folder / "entry").mkdir()
        here = stack.enter_context(entry(folder / "entry", wanted))
        sources = (
            Source("half-00001-deployment-a", "models", address),
            *(
                Source(f"m-v{version}-deployment-a", "models", f"127.0.0.1:{revisions[version].port}")
                for version in (1, 2)
            ),
            Source("zeroserve-deploy-00001-deployment-a", "deploy", deploy),
            Source("zeroserve-gateway-a", "gateway", f"127.0.0.1:{here.metrics_port}", "/metrics"),
        )

        def traffic() -> None:
            _predictions(server)
            _routed(revisions)
            _through(here)

        yield Monitored(sources, traffic)


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[Command]:
    """Versions of every fate, a mix whose second model is away, batches, two workers."""
    home, half = folder / "server", folder / "server" / "half"
    home.mkdir()
    shutil.copytree(HALF, half / "1")
    request = PredictRequest()
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=1)
    request.inputs["x"].float_val.append(1.0)
    record = PredictionLog(predict_log=PredictLog(request=request)).SerializeToString()
    (half / "1" / "assets.extra").mkdir()
    (half / "1" / "assets.extra" / "tf_serving_warmup_requests").write_bytes(encode(record))
    shutil.copytree(HALF, half / "2")
    data = next((half / "2" / "variables").glob("variables.data*"))
    data.write_bytes(bytes(len(data.read_bytes())))
    shutil.copytree(HALF, half / "3")
    (half / "3" / "saved_model.pb").unlink()
    shutil.copytree(HALF, folder / "web" / "half" / "1")
    models = {"half_plus_two": str(half), "digits": str(DIGITS)}
    models["mix"] = str(write(folder / "mix", remote("http://127.0.0.1:1")))
    with (
        web_server(folder / "web") as url,
        sink_server((400, {})) as sink,
        sink_server() as collector,
        _serving(home, models | {"web": f"{url}/half"}, sink.url, collector.url) as command,
    ):
        command.until(lambda: command.versions("half_plus_two").get(2, ("", ""))[0] == "END")
        yield command


@contextlib.contextmanager
def _serving(home: Path, models: Mapping[str, str], sink: str, collector: str) -> Iterator[Command]:
    labels = {"digits": 'version_labels { key: "stable" value: 1 }'}
    listed = (
        f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" {ALL} {labels.get(name, "")} }}'
        for name, path in models.items()
    )
    config = home / "models.conf"
    config.write_text(f"model_config_list {{ {' '.join(listed)} }}")
    flags = (
        f"--model_config_file={config}",
        "--allow_version_labels_for_unavailable_models=true",
        "--ready_despite_failed_models",
        "--max_num_load_retries=0",
        "--enable_batching",
        "--max_batch_size=64",
        "--allowed_batch_sizes=64",
        "--workers=2",
        f"--cache_directory={home / 'cache'}",
        "--request_log=all",
        "--traces",
        "--feedback",
        f"--prediction_log_sink={sink}",
        "--prediction_log_share=1",
        f"--record_to={home / 'records'}",
        "--record_share=1",
        "--record_limit=1",
        "--record_seconds=0.2",
    )
    traces = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with Command(home, *flags, environ=traces) as command:
        command.until_ready()
        yield command


def _predictions(server: Command) -> None:
    url = server.url("/v1/models/half_plus_two/versions/1:predict")
    late = {"x-request-timeout-ms": "0.001"}
    for headers, status in (({}, {200}), (late, {429, 504})):
        for _ in range(8):
            answer = requests.post(url, '{"instances": [1.0, 2.0, 3.0]}', headers=headers, timeout=SECONDS)
            assert answer.status_code in status, answer.text
            if answer.ok:
                told = {"request_id": answer.headers["x-feedback-id"], "outcome": 0.5}
                assert requests.post(server.url("/v1/feedback"), json=told, timeout=SECONDS).status_code == 202
    assert requests.post(url, "{", timeout=SECONDS).status_code == 400
    tensor = {"name": "x", "shape": [1], "datatype": "FP32", "data": [2.0]}
    infer = server.url("/v2/models/half_plus_two/versions/1/infer")
    assert requests.post(infer, json={"inputs": [tensor]}, timeout=SECONDS).status_code == 200
    body = json.dumps({"inputs": {"image": images(60).tolist()}})
    assert requests.post(server.url("/v1/models/mix:predict"), body, timeout=SECONDS).status_code == 200
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        asked = oip.ModelInferRequest(model_name="half_plus_two", model_version="1")
        asked.inputs.add(name="x", datatype="FP32", shape=[1]).contents.fp32_contents.append(1.0)
        oip_grpc.GRPCInferenceServiceStub(channel).ModelInfer(asked, timeout=SECONDS)


def _routed(revisions: Revisions) -> None:
    url = revisions[1].url("/v1/models/m:predict")
    shadow = {"tag": "v2", "percent": 100, "rtol": 0, "atol": 0}
    revisions.routes(sticky={"header": "x-user-id"}, arms=TAGS, shadow=shadow)
    forwarded = revisions.metric(1, "zeroserve_forwarded_total")
    revisions[1].until(lambda: _users(url) or revisions.metric(1, "zeroserve_forwarded_total") > forwarded)
    _users(url)
    matrix = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}
    asked = {"inputs": [matrix], "parameters": {"signature_name": "matrix"}}
    answer = requests.post(revisions[1].url("/v2/models/m/infer"), json=asked, timeout=SECONDS)
    assert answer.status_code == 200, answer.text
    revisions.gateway.faults[revisions.host("v9")] = "cut"
    requests.post(revisions[1].url("/v1/models/m/versions/9:predict"), '{"instances": [1.0]}', timeout=SECONDS)
    broken = revisions.metric(1, "zeroserve_routes_broken_total")
    (revisions.folder / "routes.json").write_text("{")
    revisions[1].until(lambda: _users(url) or revisions.metric(1, "zeroserve_routes_broken_total") > broken)


def _users(url: str) -> None:
    for user in range(8):
        assert requests.post(url, '{"instances": [1.0]}', headers={"x-user-id": str(user)}, timeout=SECONDS).ok


def _through(here: Entry) -> None:
    for _ in range(4):
        here.predict()
    here.predict("wrong")
    for key, model in ((BOB, "half_plus_two"), (BOB, "half_plus_two"), *[(ALICE, "gone")] * 3, (ALICE, "m")):
        here.predict(key, model=model)
    assert here.ask("POST", PREDICT, b"x" * 10_001).status == 413
    good = (here.keys / "keys.json").read_text()
    for text in ("{", good):
        (here.keys / "new").write_text(text)
        (here.keys / "new").replace(here.keys / "keys.json")


def _counts() -> LandingMetrics:
    """A deploy function's, of models in every state; a real one needs a cluster."""
    counts = LandingMetrics()
    tell = counts.telling(lambda kind, service, data: None)
    for state in State:
        counts.looked(state.name.lower(), Outcome(state))
    counts.looked("lost", None)
    for kind in KINDS:
        tell(kind, "m", {})
    for status in (204, 503):
        counts.answered(status)
    return counts


@contextlib.contextmanager
def _deploy(counts: LandingMetrics) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = counts.text()
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text)
            counts.answered(204)

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()
            thread.join()
