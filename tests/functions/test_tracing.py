"""Traces as a collector gets them: real servers, the real exporter, a real socket."""

import concurrent.futures
import contextlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import requests

import loader.protos as _protos
from tests.functions.command import SECONDS, Command
from tests.functions.revisions import Revisions, running_revisions
from tests.functions.served import GOLDEN_MODELS, ROOT, model_config
from tests.servers.collector import Collector, Received, collector

assert _protos
from tensorflow_serving.apis import predict_pb2  # noqa: E402
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub  # noqa: E402

from loader.tensor_proto import from_array  # noqa: E402

PREDICT = "/v1/models/half_plus_two:predict"
BODY = '{"instances": [1.0, 2.0, 5.0]}'
ROUTE = "POST /v1/models/{model}:predict"
METHOD = "tensorflow.serving.PredictionService/Predict"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
AT_ONCE = 12


def environ(target: Collector, **more: str) -> dict[str, str]:
    """Spans come at once, so that no test waits five seconds for them."""
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": target.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50", **more}


@contextlib.contextmanager
def traced(folder: Path, *flags: str, **more: str) -> Iterator[tuple[Command, Collector]]:
    """A server with the recorded models, and the collector that it sends its traces to."""
    config = folder / "models.config"
    config.write_text(model_config())
    with collector() as target:
        arguments = ("--traces", f"--model_config_file={config}", *flags)
        with Command(folder, *arguments, environ=environ(target, **more)) as command:
            command.until_ready()
            command.until(lambda: "server-timing" not in post(command).headers)  # the start is long over
            yield command, target


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Command, Collector]]:
    with traced(tmp_path_factory.mktemp("plain"), OTEL_SERVICE_NAME="ours") as both:
        yield both


@pytest.fixture(scope="module")
def batching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Command, Collector]]:
    """Every request goes through the queue: a batch waits for company, or for what the slow model leaves."""
    flags = ("--enable_batching", "--num_batch_threads=1", "--allowed_batch_sizes=1,4,64", "--max_batch_size=64")
    with traced(tmp_path_factory.mktemp("batching"), *flags) as both:
        yield both


def post(command: Command, path: str = PREDICT, body: str = BODY, **headers: str) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.post(command.url(path), body, headers=named, timeout=SECONDS)


def request_of(answer: requests.Response, target: Collector) -> Received:
    return target.request(answer.headers["x-request-id"])


def below(target: Collector, span: Received) -> dict[str, Received]:
    """The children of a span by name."""
    return {one.name: one for one in target.trace(span.trace) if one.parent == span.id}


def test_a_request_is_a_span_of_its_callers_trace_with_its_run_below(plain: tuple[Command, Collector]) -> None:
    command, target = plain
    answer = post(command, traceparent=f"00-{TRACE}-{SPAN}-01", tracestate="vendor=1", user_agent="tester/1")
    assert answer.json() == {"predictions": [2.5, 3.0, 4.5]}
    span = request_of(answer, target)
    assert (span.name, span.trace, span.parent, span.kind, span.error) == (ROUTE, TRACE, SPAN, 2, "")
    assert span.resource["service.name"] == "ours"
    assert span.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/models/{model}:predict",
        "http.response.status_code": 200,
        "http.request.body.size": len(BODY),
        "http.response.body.size": len(answer.content),
        "url.path": PREDICT,
        "url.scheme": "http",
        "server.address": "127.0.0.1",
        "server.port": command.port,
        "user_agent.original": "tester/1",
        "zeroserve.request_id": answer.headers["x-request-id"],
        "zeroserve.code": "OK",
        "zeroserve.model": "half_plus_two",
        "zeroserve.version": 1,
        "zeroserve.signature": "serving_default",
        "zeroserve.rows": 3,
    }
    run = below(target, span)["run"]
    assert span.start <= run.start < run.end <= span.end
    assert abs(span.end / 1e9 - time.time()) < 60


def test_a_grpc_call_is_a_span_by_the_conventions_for_rpc(plain: tuple[Command, Collector]) -> None:
    command, target = plain
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half_plus_two"
    request.inputs["x"].CopyFrom(from_array(np.array([1, 2], np.float32)))
    with grpc.insecure_channel(f"127.0.0.1:{command.port}") as channel:
        stub = PredictionServiceStub(channel)
        metadata = (("traceparent", f"00-{TRACE}-{SPAN}-01"), ("x-request-id", "call-1"))
        _, call = stub.Predict.with_call(request, timeout=SECONDS, metadata=metadata)
        assert ("x-request-id", "call-1") in [tuple(one) for one in call.initial_metadata()]
        request.model_spec.name = "nobody"
        with pytest.raises(grpc.RpcError):
            stub.Predict(request, timeout=SECONDS, metadata=(("x-request-id", "call-2"),))
    span = target.request("call-1")
    assert (span.name, span.trace, span.parent, span.kind) == (METHOD, TRACE, SPAN, 2)
    wanted = {"rpc.system": "grpc", "rpc.service": METHOD.rpartition("/")[0], "rpc.method": "Predict"}
    assert wanted.items() <= span.attributes.items()
    assert span.attributes["rpc.grpc.status_code"] == 0
    assert span.attributes["zeroserve.rows"] == 2
    assert "run" in below(target, span)
    failed = target.request("call-2")
    assert (failed.attributes["rpc.grpc.status_code"], failed.error) == (
        5,
        "",
    )  # the caller's fault is no server's error
    assert failed.trace != TRACE


def test_a_request_of_a_caller_that_keeps_no_trace_leaves_no_span(plain: tuple[Command, Collector]) -> None:
    command, target = plain
    unsampled = post(command, traceparent=f"00-{'1' * 32}-{SPAN}-00")
    assert unsampled.status_code == 200
    request_of(post(command), target)  # a later one is there
    assert target.trace("1" * 32) == []


@pytest.mark.parametrize(
    "given",
    [
        "",
        "garbage",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01" + "x" * 60_000,
        "00-" + "é" * 32 + f"-{SPAN}-01",
    ],
)
def test_a_malformed_traceparent_begins_a_new_trace(plain: tuple[Command, Collector], given: str) -> None:
    command, target = plain
    answer = requests.post(
        command.url(PREDICT),
        BODY,
        headers={"traceparent": given.encode("utf-8"), "tracestate": "a=1,,=,", "baggage": ";;==%zz\t" * 100 + "."},
        timeout=SECONDS,
    )
    assert answer.status_code == 200
    span = request_of(answer, target)
    assert span.trace != TRACE
    assert span.parent == ""


def test_hostile_ids_are_replaced_and_sane_ones_kept(plain: tuple[Command, Collector]) -> None:
    command, _ = plain
    for given in ("x" * 60_000, "x" * 129, "a b", 'a"b', "\x1b[2J", "-a", "é", "a\x00b"[:1] + "\x7f", ""):
        answer = requests.post(
            command.url(PREDICT), BODY, headers={"x-request-id": given.encode("utf-8")}, timeout=SECONDS
        )
        if answer.status_code == 200:  # a control character is not even read
            assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])
        else:
            assert answer.status_code == 400
    assert post(command, x_request_id="Ab.1_~:/+=@-9").headers["x-request-id"] == "Ab.1_~:/+=@-9"


def test_what_callers_make_up_does_not_name_spans(plain: tuple[Command, Collector]) -> None:
    command, target = plain
    strange = request_of(post(command, "/v1/models/%1b%5b2J%0aevil:predict"), target)
    assert strange.name == ROUTE
    assert strange.attributes["zeroserve.model"] == "\x1b[2J\nevil"
    assert strange.attributes["zeroserve.code"] == "NOT_FOUND"
    nowhere = request_of(requests.get(command.url("/nowhere/1234"), timeout=SECONDS), target)
    assert (nowhere.name, nowhere.attributes["http.response.status_code"]) == ("GET", 404)
    long = request_of(post(command, f"/v1/models/{'m' * 20_000}:predict"), target)
    assert len(long.attributes["url.path"]) == 256


def test_probes_and_metrics_have_no_spans(plain: tuple[Command, Collector]) -> None:
    command, target = plain
    for path in ("/healthz", "/readyz", "/monitoring/prometheus/metrics"):
        assert "x-request-id" not in command.get(path).headers
    request_of(post(command), target)
    assert not [span for span in target.spans if span.attributes.get("url.path") in ("/healthz", "/readyz")]


def test_the_start_is_a_trace_with_its_phases_and_requests_that_waited_link_it(tmp_path: Path) -> None:
    with collector() as target:
        flags = ("--traces", "--model_name=half_plus_two", f"--model_base_path={GOLDEN_MODELS / 'half_plus_two'}")
        with Command(tmp_path, *flags, environ=environ(target)) as command:
            # As soon as the port is open: the model is still on its way.
            early = post(command)
            assert early.status_code == 200
            (whole,) = target.named("cold start")
            phases = below(target, whole)
            assert {"cold start: import", "cold start: library", "cold start: load"} <= phases.keys()
            assert all(whole.start <= one.start <= one.end <= whole.end for one in phases.values())
            span = request_of(early, target)
            assert span.attributes["zeroserve.cold"] is True
            assert span.links == [(whole.trace, whole.id)]
            command.until(lambda: request_of(post(command), target).links == [])


def test_a_batch_links_the_spans_of_all_its_requests_and_they_find_it(batching: tuple[Command, Collector]) -> None:
    command, target = batching
    row = np.zeros(784, np.float32).tolist()
    body = {"instances": [row]}
    metadata = command.get("/v1/models/mlp/metadata").json()["metadata"]["signature_def"]["signature_def"]
    size = int(metadata["serving_default"]["inputs"].popitem()[1]["tensor_shape"]["dim"][1]["size"])
    body = {"instances": [[0.5] * size] * 3}

    def ask(session: requests.Session) -> str:
        answer = session.post(command.url("/v1/models/mlp:predict"), json=body, timeout=SECONDS)
        assert answer.status_code == 200
        return answer.headers["x-request-id"]

    def shared() -> list[list[Received]]:
        """The batch spans of each batch with several requests, the one with all links first."""
        found = [one for one in list(target.spans) if one.name == "batch" and len(one.links) > 1]
        return [[one, *(other for other in target.spans if other.links == [(one.trace, one.id)])] for one in found]

    ids = []
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        sessions = [requests.Session() for _ in range(AT_ONCE)]
        end = time.monotonic() + SECONDS
        while not shared() and time.monotonic() < end:
            ids += pool.map(ask, sessions)
            target.request(ids[-1])
        for session in sessions:
            session.close()
    spans = {one: target.request(one) for one in ids}
    by_id = {(one.trace, one.id): one for one in spans.values()}
    for batch, *others in shared():
        assert batch.attributes["zeroserve.batch.requests"] == len(batch.links) == 1 + len(others)
        assert batch.attributes["zeroserve.batch.rows"] == 3 * len(batch.links)
        # Those it links are the requests whose own `batch` spans link it, and its own.
        parents = [by_id[one.trace, one.parent] for one in (batch, *others)]
        assert sorted(batch.links) == sorted((one.trace, one.id) for one in parents)
        assert len({one.trace for one in parents}) == len(parents)
        for one, parent in zip((batch, *others), parents, strict=True):
            assert (one.start, one.end) == pytest.approx((batch.start, batch.end), abs=2000)
            queue, run = below(target, parent)["queue"], below(target, one)["run"]
            assert parent.start <= queue.start <= queue.end <= one.start + 2000
            assert one.start - 2000 <= run.start < run.end <= one.end + 2000
            assert one.end <= parent.end


def test_every_request_of_a_batched_server_has_the_whole_tree(batching: tuple[Command, Collector]) -> None:
    command, target = batching
    span = request_of(post(command), target)
    children = below(target, span)
    assert children.keys() <= {"queue", "batch", "run"}
    assert "run" in children or "run" in below(target, children["batch"])


def test_a_mix_is_one_trace_over_all_its_steps(tmp_path: Path) -> None:
    example = ROOT / "examples" / "mixing"
    flags = ("--allow_version_labels_for_unavailable_models=true", f"--model_config_file={example / 'models.conf'}")
    with collector() as target, Command(tmp_path, "--traces", *flags, environ=environ(target)) as command:
        command.until_ready()
        from tests.functions.test_mixing import images  # noqa: PLC0415  a second of imports

        body = {"inputs": {"image": images(200).tolist()}}
        answer = requests.post(command.url("/v1/models/digits_mix:predict"), json=body, timeout=SECONDS)
        assert answer.status_code == 200
        span = request_of(answer, target)
        steps = below(target, span)
        small, large = steps["step small"], steps["step large"]
        assert small.attributes == {"zeroserve.step": "small", "zeroserve.rows": 200}
        assert 0 < large.attributes["zeroserve.rows"] < 200
        for step in (small, large):
            run = below(target, step)["run"]
            assert step.start <= run.start < run.end <= step.end
        assert small.end <= large.start
        assert "run" not in steps


def test_a_mix_that_asks_another_service_is_one_trace_over_both(tmp_path: Path) -> None:
    from tests.functions.test_mixing import DIGITS, images, remote, start, write  # noqa: PLC0415

    with collector() as target, contextlib.ExitStack() as stack:
        variables = environ(target, SERVING_TRACES="true")
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            every = "model_version_policy { all {} }"
            far = stack.enter_context(start(tmp_path / "far", {"digits": (DIGITS, every)}))
            far.until_ready()
            models = {
                "digits": (DIGITS, every + ' version_labels { key: "stable" value: 1 }'),
                "rest": (write(tmp_path / "rest", remote(f"http://127.0.0.1:{far.port}", version=2)), ""),
                "call": (
                    write(tmp_path / "call", remote(f"http://127.0.0.1:{far.port}", version=2, protocol="grpc")),
                    "",
                ),
            }
            near = stack.enter_context(start(tmp_path / "near", models))
            near.until_ready()
        for model, protocol in (("rest", "POST"), ("call", "tensorflow")):
            body = {"inputs": {"image": images(200).tolist()}}
            answer = requests.post(near.url(f"/v1/models/{model}:predict"), json=body, timeout=SECONDS)
            assert answer.status_code == 200, answer.text
            request_id = answer.headers["x-request-id"]
            both = target.until(
                lambda spans, wanted=request_id: (
                    len(found := [one for one in spans if one.attributes.get("zeroserve.request_id") == wanted]) > 1
                    and found
                )
            )
            first, second = sorted(both, key=lambda one: one.start)
            step = below(target, first)["step large"]
            call = below(target, step)["predict digits"]
            assert (call.kind, second.parent, second.trace) == (3, call.id, first.trace)
            assert second.name.startswith(protocol)
            assert "run" in below(target, second)


@pytest.fixture(scope="module")
def revisions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Revisions, Collector]]:
    """Versions 1 and 2, which forward to each other."""
    with collector() as target, contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:  # for as long as they start
            for name, value in environ(target, SERVING_TRACES="true").items():
                patch.setenv(name, value)
            service = stack.enter_context(running_revisions(tmp_path_factory.mktemp("revisions"), 1, 2))
        yield service, target


def test_a_forwarded_request_is_one_trace_and_one_id_over_both_revisions(
    revisions: tuple[Revisions, Collector],
) -> None:
    service, target = revisions
    body = '{"instances": [1.0, 2.0], "signature_name": "id_float32"}'
    answer = post(service[1], "/v1/models/m/versions/2:predict", body, traceparent=f"00-{TRACE}-{SPAN}-01")
    assert answer.headers["x-zeroserve-revision"] == "v2"
    request_id = answer.headers["x-request-id"]
    both = target.until(
        lambda spans: (
            len(found := [s for s in spans if s.attributes.get("zeroserve.request_id") == request_id]) > 1 and found
        )
    )
    first = next(one for one in both if one.parent == SPAN)
    second = next(one for one in both if one is not first)
    (call,) = below(target, first).values()
    assert (call.name, call.kind, second.parent) == ("POST", 3, call.id)
    assert (call.attributes["zeroserve.tag"], call.attributes["http.response.status_code"]) == ("v2", 200)
    assert first.attributes["zeroserve.peer"] == "v2"
    assert {one.trace for one in (first, call, second)} == {TRACE}
    assert "run" in below(target, second)


def test_a_forwarded_grpc_call_is_one_trace_over_both_revisions(revisions: tuple[Revisions, Collector]) -> None:
    service, target = revisions
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.model_spec.version.value = 2
    request.model_spec.signature_name = "id_float32"
    request.inputs["x"].CopyFrom(from_array(np.array([1, 2], np.float32)))
    with grpc.insecure_channel(f"127.0.0.1:{service[1].port}") as channel:
        metadata = (("traceparent", f"00-{'2' * 32}-{SPAN}-01"), ("tracestate", "vendor=1"), ("x-request-id", "far"))
        _, call = PredictionServiceStub(channel).Predict.with_call(request, timeout=SECONDS, metadata=metadata)
        ids = [value for key, value in (*call.initial_metadata(), *call.trailing_metadata()) if key == "x-request-id"]
        assert ids == ["far"]
    both = target.until(
        lambda spans: (
            len(found := [s for s in spans if s.attributes.get("zeroserve.request_id") == "far"]) > 1 and found
        )
    )
    first = next(one for one in both if one.parent == SPAN)
    second = next(one for one in both if one is not first)
    (between,) = [one for one in below(target, first).values() if one.kind == 3]
    assert (between.name, second.parent) == (METHOD, between.id)
    assert between.attributes["rpc.grpc.status_code"] == 0
    seen = [headers for _, _, headers in service.gateway.seen if headers.get(b"x-request-id") == b"far"]
    assert seen[0][b"tracestate"] == b"vendor=1"


@pytest.mark.parametrize("fault", ["refused", "500", "hangs"])
def test_a_collector_that_fails_delays_and_fails_no_prediction_and_what_is_lost_is_counted(
    tmp_path: Path, fault: str
) -> None:
    config = tmp_path / "models.config"
    config.write_text(model_config())
    with collector() as target:
        target.status, target.hang = (500, False) if fault == "500" else (200, fault == "hangs")
        variables = environ(target, OTEL_BSP_MAX_QUEUE_SIZE="64", OTEL_EXPORTER_OTLP_TIMEOUT="1")
        if fault == "refused":
            variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
        command = Command(tmp_path, "--traces", f"--model_config_file={config}", environ=variables)
        with command:
            command.until_ready()
            slowest = 0.0
            with requests.Session() as session:
                for _ in range(200):
                    began = time.monotonic()
                    assert session.post(command.url(PREDICT), BODY, timeout=SECONDS).status_code == 200
                    slowest = max(slowest, time.monotonic() - began)
            assert slowest < 0.9  # an export takes a second at least

            def lost() -> float:
                text = command.get("/monitoring/prometheus/metrics").text
                found = re.findall(r'zeroserve_trace_spans_total\{result="(failed|dropped)"\} (\d+)', text)
                return sum(float(count) for _, count in found)

            command.until(lambda: lost() > 64)
            began = time.monotonic()
            command.process.terminate()
            assert command.process.wait(SECONDS) == 0
            assert time.monotonic() - began < 10
        log = command.log.read_text()
        assert "Traceback" not in log
        assert log.count("Failed to export") + log.count("Transient error") <= 1


def test_what_was_not_sent_yet_is_sent_when_the_server_ends(tmp_path: Path) -> None:
    with traced(tmp_path, OTEL_BSP_SCHEDULE_DELAY="600000") as (command, target):
        request_id = post(command).headers["x-request-id"]
        assert target.spans == []
        command.process.terminate()
        assert command.process.wait(SECONDS) == 0
        assert target.request(request_id).name == ROUTE


def test_the_standard_variables_hold(tmp_path: Path) -> None:
    variables = {
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test,service.name=by-attribute",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.5",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20me",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    }
    with traced(tmp_path, **variables) as (command, target):
        kept = request_of(post(command, traceparent=f"00-{TRACE}-{SPAN}-01"), target)
        assert kept.resource["service.name"] == "by-attribute"
        assert kept.resource["deployment.environment.name"] == "test"
        assert target.headers[0]["authorization"] == "Bearer me"
        assert target.headers[0]["content-encoding"] == "gzip"
        with requests.Session() as session:
            for _ in range(200):
                session.post(command.url(PREDICT), BODY, timeout=SECONDS)
        post(command, traceparent=f"00-{'3' * 32}-{SPAN}-01")
        target.until(lambda spans: [one for one in spans if one.trace == "3" * 32])
        sampled = [one for one in target.spans if one.name == ROUTE and not one.parent]
        assert 50 < len(sampled) < 150


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("OTEL_TRACES_SAMPLER", "sometimes", "OTEL_TRACES_SAMPLER=sometimes: wanted one of"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "wanted http/protobuf, which collectors take at port 4318"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "OTEL_TRACES_EXPORTER=zipkin: wanted otlp or none"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1", "OTEL_BSP_MAX_QUEUE_SIZE=-1: wanted a whole number"),
    ],
)
def test_variables_that_make_no_sense_end_the_start_with_one_line(
    tmp_path: Path, variable: str, value: str, said: str
) -> None:
    with Command(tmp_path, "--traces", environ={variable: value}) as command:
        assert command.process.wait(SECONDS) == 2
        assert command.log.read_text().count("\n") == 1
        assert said in command.log.read_text()


def test_a_server_that_nobody_watches_imports_nothing_for_it() -> None:
    code = (
        "import sys; from functions.config import load_settings; from functions.server import Server;"
        f"base = '{GOLDEN_MODELS / 'half_plus_two'}';"
        "server = Server(load_settings(['--model_name=m', f'--model_base_path={base}', *sys.argv[1:]]), print);"
        "server.start(); server.wait_loaded(); server.close();"
        "ours = ('trace_context', 'access', 'request_log', 'line_writer');"
        "late = ('opentelemetry', 'requests', 'functions.tracing', 'loader.run_log',"
        " *('functions.observing.' + name for name in ours));"
        "print(sorted(name for name in sys.modules if name.startswith(late)))"
    )
    run = [sys.executable, "-c", code]
    for flags in ([], ["--enable_batching"]):
        without = subprocess.run([*run, *flags], cwd=ROOT, check=True, capture_output=True, text=True)
        assert without.stdout.strip() == "[]"
    with collector() as target:
        variables = {"PATH": "/usr/bin:/bin", **environ(target)}
        both = subprocess.run([*run, "--traces"], cwd=ROOT, check=True, capture_output=True, text=True, env=variables)
        assert "opentelemetry.sdk.trace" in both.stdout
        assert target.named("cold start")


def test_clients_that_leave_are_cancelled_requests(batching: tuple[Command, Collector]) -> None:
    import socket  # noqa: PLC0415

    command, target = batching
    head = f"POST {PREDICT} HTTP/1.1\r\nhost: x\r\nx-request-id: gone\r\ncontent-length: 100\r\n\r\n"
    with socket.create_connection(("127.0.0.1", command.port)) as one:
        one.sendall(head.encode() + b"{")
        threading.Event().wait(0.05)  # the head is read, the rest never comes
    span = target.request("gone")
    assert (span.attributes["zeroserve.code"], span.error) == ("CANCELLED", "CANCELLED")
