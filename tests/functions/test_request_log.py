"""The canonical line of each request, and JSON logs, as a real server writes them."""

import json
import logging
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

import loader.protos as _protos
from functions.observing.access import new_access
from functions.observing.current_access import current
from functions.observing.log_format import JsonFormatter, TextFormatter
from functions.observing.request_log import RequestLog
from loader.status import Code
from tests.functions.command import SECONDS, Command
from tests.functions.revisions import Revisions, running_revisions
from tests.functions.served import GOLDEN_MODELS, model_config

assert _protos
from tensorflow_serving.apis import predict_pb2  # noqa: E402
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub  # noqa: E402

from loader.tensor_proto import from_array  # noqa: E402

PREDICT = "/v1/models/half_plus_two:predict"
BODY = '{"instances": [1.0, 2.0, 5.0]}'
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
EVIL = "\x1b]0;owned\x07\x1b[2J\r\n2026-01-01 ERROR forged: line\u2028\u202e\x9b31m"


def start(folder: Path, *flags: str, **environ: str) -> Command:
    config = folder / "models.config"
    config.write_text(model_config())
    return Command(folder, f"--model_config_file={config}", *flags, environ=environ)


def lines(command: Command) -> list[dict[str, Any]]:
    """The JSON lines; what TensorFlow's own library writes is none of ours."""
    return [json.loads(line) for line in command.log.read_text().splitlines() if line.startswith("{")]


def line_of(command: Command, request_id: str) -> dict[str, Any]:
    """The canonical line of one request."""

    def found() -> list[dict[str, Any]]:
        return [
            one for one in lines(command) if one["logger"] == "zeroserve.request" and one["request_id"] == request_id
        ]

    (one,) = command.until(found)
    return dict(one)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    flags = (
        "--request_log=all",
        "--log_format=json",
        "--enable_batching",
        "--max_batch_size=64",
        "--allowed_batch_sizes=4,64",
    )
    with start(tmp_path_factory.mktemp("logged"), *flags, K_REVISION="m-v1-abc") as command:
        command.until_ready()
        ask = partial(requests.post, command.url(PREDICT), BODY, timeout=SECONDS)
        command.until(lambda: "server-timing" not in ask().headers)  # the start is long over
        yield command


def test_a_good_request_has_one_line_with_all_that_is_known_of_it(logged: Command) -> None:
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "x-request-id": "good"}
    answer = requests.post(logged.url(PREDICT), BODY, headers=headers, timeout=SECONDS)
    assert answer.headers["x-request-id"] == "good"
    line = line_of(logged, "good")
    times = {name: line.pop(name) for name in ("total_ms", "queue_ms", "run_ms")}
    line.pop("batch_ms", None)
    line.pop("batch_rows", None)
    assert times["total_ms"] >= times["run_ms"] > 0
    assert times["queue_ms"] >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("time"))
    assert line == {
        "severity": "INFO",
        "logger": "zeroserve.request",
        "message": "request",
        "request_id": "good",
        "trace_id": TRACE,
        "protocol": "REST",
        "api": "predict",
        "model": "half_plus_two",
        "version": 1,
        "signature": "serving_default",
        "status": 200,
        "code": "OK",
        "rows": 3,
        "request_bytes": len(BODY),
        "response_bytes": len(answer.content),
        "revision": "m-v1-abc",
    }


def test_a_batched_request_says_how_long_it_waited_and_with_how_many_rows_it_ran(logged: Command) -> None:
    # The first runs of a model are not known to be short, so they go through the queue.
    metadata = logged.get("/v1/models/mlp/metadata").json()["metadata"]["signature_def"]["signature_def"]
    size = int(metadata["serving_default"]["inputs"].popitem()[1]["tensor_shape"]["dim"][1]["size"])
    answer = requests.post(
        logged.url("/v1/models/mlp:predict"), json={"instances": [[0.5] * size] * 3}, timeout=SECONDS
    )
    line = line_of(logged, answer.headers["x-request-id"])
    assert line["rows"] == line["batch_rows"] == 3
    assert line["total_ms"] >= line["batch_ms"] >= line["run_ms"] > 0
    assert line["queue_ms"] > 0


def test_grpc_and_the_open_inference_protocol_have_the_same_line(logged: Command) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half_plus_two"
    request.inputs["x"].CopyFrom(from_array(np.array([1, 2], np.float32)))
    with grpc.insecure_channel(f"127.0.0.1:{logged.port}") as channel:
        PredictionServiceStub(channel).Predict(request, timeout=SECONDS, metadata=(("x-request-id", "g1"),))
        request.model_spec.version.value = 99
        with pytest.raises(grpc.RpcError):
            PredictionServiceStub(channel).Predict(request, timeout=SECONDS, metadata=(("x-request-id", "g2"),))
    good, bad = line_of(logged, "g1"), line_of(logged, "g2")
    assert (good["protocol"], good["api"], good["version"], good["rows"], good["code"]) == (
        "GRPC",
        "predict",
        1,
        2,
        "OK",
    )
    assert (bad["code"], bad["version"], bad["severity"]) == ("NOT_FOUND", 99, "WARNING")
    assert "half_plus_two" in bad["error"]
    tensor = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}
    url, headers = logged.url("/v2/models/half_plus_two/infer"), {"x-request-id": "o1"}
    assert requests.post(url, json={"inputs": [tensor]}, headers=headers, timeout=SECONDS).status_code == 200
    line = line_of(logged, "o1")
    assert (line["api"], line["model"], line["rows"], line["signature"]) == (
        "infer",
        "half_plus_two",
        2,
        "serving_default",
    )
    url, headers = logged.url("/v2/models/nobody/infer"), {"x-request-id": "o2"}
    assert requests.post(url, json={"inputs": [tensor]}, headers=headers, timeout=SECONDS).status_code == 404
    assert (line_of(logged, "o2")["code"], line_of(logged, "o2")["model"]) == ("NOT_FOUND", "nobody")


@pytest.mark.parametrize(
    ("body", "path", "status", "code"),
    [
        ("{", PREDICT, 400, "INVALID_ARGUMENT"),
        (BODY, "/v1/models/half_plus_two/labels/x:predict", 400, "INVALID_ARGUMENT"),
        (BODY, "/v1/nonsense", 400, "INVALID_ARGUMENT"),
        (BODY, "/nowhere", 404, "NOT_FOUND"),
    ],
)
def test_a_request_that_fails_has_a_line_that_says_why(
    logged: Command, body: str, path: str, status: int, code: str
) -> None:
    answer = requests.post(logged.url(path), body, timeout=SECONDS)
    line = line_of(logged, answer.headers["x-request-id"])
    assert answer.status_code == line["status"] == status
    assert (line["code"], line["severity"]) == (code, "WARNING")
    if answer.headers["content-type"] == "application/json":
        assert line["error"] == answer.json()["error"][:512]


def test_probes_and_metrics_have_no_line(logged: Command) -> None:
    for path in ("/healthz", "/readyz", "/monitoring/prometheus/metrics"):
        logged.get(path)
    line_of(logged, requests.post(logged.url(PREDICT), BODY, timeout=SECONDS).headers["x-request-id"])
    found = [one for one in lines(logged) if one.get("path") in ("/healthz", "/readyz")]
    assert found == []
    text = logged.get("/monitoring/prometheus/metrics").text
    assert re.search(r'zeroserve_request_log_lines_total\{result="written"\} [1-9]', text)


def test_every_line_of_the_log_is_json_that_of_a_failed_start_too(logged: Command, tmp_path: Path) -> None:
    ours = [one for one in logged.log.read_text().splitlines() if not re.match(r"[IWEF]\d{4} |WARNING: All log", one)]
    assert ours
    for line in ours:
        assert {"time", "severity", "logger", "message"} <= json.loads(line).keys()
    with Command(tmp_path, "--log_format=json", f"--port={logged.port}", "--model_base_path=/nowhere/at/all") as second:
        assert second.process.wait(SECONDS) == 1
    (line,) = second.log.read_text().splitlines()
    assert json.loads(line)["severity"] == "CRITICAL"
    assert "Address already in use" in json.loads(line)["message"]


def test_errors_alone_or_a_share_of_the_good_ones_can_be_logged(tmp_path: Path) -> None:
    for number, (flags, least, most) in enumerate(
        ((("--request_log=errors",), 0, 0), (("--request_log=all", "--request_log_share=0.5"), 50, 150))
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        with start(folder, "--log_format=json", *flags) as command, requests.Session() as session:
            command.until_ready()
            for _ in range(200):
                session.post(command.url(PREDICT), BODY, timeout=SECONDS)
            for _ in range(10):
                session.post(command.url(PREDICT), "{", timeout=SECONDS)
            last = session.post(command.url(PREDICT), "{", timeout=SECONDS).headers["x-request-id"]
            line_of(command, last)
            found = [one["code"] for one in lines(command) if one["logger"] == "zeroserve.request"]
            assert least <= found.count("OK") <= most
            assert found.count("INVALID_ARGUMENT") == 11


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_name_of_a_caller_makes_a_line_or_moves_a_terminals_cursor(tmp_path: Path, log_format: str) -> None:
    with start(tmp_path, "--request_log=all", f"--log_format={log_format}", "--log_level=debug") as command:
        command.until_ready()
        quoted = requests.utils.quote(EVIL, safe="")
        assert requests.post(command.url(f"/v1/models/{quoted}:predict"), BODY, timeout=SECONDS).status_code == 404
        request = predict_pb2.PredictRequest()
        request.model_spec.name = EVIL
        with grpc.insecure_channel(f"127.0.0.1:{command.port}") as channel:
            metadata = (("x-request-id", "last"), ("user-agent", "x"))
            with pytest.raises(grpc.RpcError):
                PredictionServiceStub(channel).Predict(request, timeout=SECONDS, metadata=metadata)
        command.until_line('request_id(=|":")last')
        written = command.log.read_bytes().decode()
        assert "forged: line" in written
        assert not [line for line in written.split("\n") if line.startswith("2026-01-01")]
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", written)


def test_the_text_form_has_a_pair_for_each_field(tmp_path: Path) -> None:
    with start(tmp_path, "--request_log=all") as command:
        command.until_ready()
        headers = {"x-request-id": "good"}
        requests.post(command.url(PREDICT), BODY, headers=headers, timeout=SECONDS)
        command.until_line(
            r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO zeroserve\.request: request_id=good protocol=REST "
            r"api=predict model=half_plus_two version=1 signature=serving_default status=200 code=OK total_ms=[\d.]+ "
            r"queue_ms=[\d.]+ run_ms=[\d.]+ rows=3 request_bytes=30 response_bytes=\d+( cold=true)?$"
        )


def test_a_cold_start_and_a_forwarding_revision_are_told(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SERVING_REQUEST_LOG", "all")
        patch.setenv("SERVING_LOG_FORMAT", "json")
        with running_revisions(tmp_path, 1, 2) as service:
            _asked_far(service)
    cold = tmp_path / "cold"
    cold.mkdir()
    flags = ("--model_name=half_plus_two", f"--model_base_path={GOLDEN_MODELS / 'half_plus_two'}")
    with Command(cold, "--request_log=all", "--log_format=json", *flags) as command:
        first = requests.post(command.url(PREDICT), BODY, timeout=SECONDS)
        assert line_of(command, first.headers["x-request-id"])["cold"] is True
        command.until_ready()

        def warm() -> bool:
            answer = requests.post(command.url(PREDICT), BODY, timeout=SECONDS)
            return "cold" not in line_of(command, answer.headers["x-request-id"])

        command.until(warm)


def _asked_far(service: Revisions) -> None:
    body = '{"instances": [1.0], "signature_name": "id_float32"}'
    url = service[1].url("/v1/models/m/versions/2:predict")
    request_id = requests.post(url, body, timeout=SECONDS).headers["x-request-id"]
    near, far = line_of(service[1], request_id), line_of(service[2], request_id)
    assert (near["peer"], near["status"], far["version"]) == ("v2", 200, 2)
    assert "peer" not in far


def test_lines_of_workers_do_not_mix(tmp_path: Path) -> None:
    with start(tmp_path, "--request_log=all", "--log_format=json", "--workers=2") as command:
        command.until_ready()
        answers = [requests.post(command.url(PREDICT), BODY, timeout=SECONDS) for _ in range(50)]
        ids = [answer.headers["x-request-id"] for answer in answers]
        for one in ids:
            line_of(command, one)
        assert {one["worker"] for one in lines(command) if "worker" in one} == {0, 1}


@given(st.text(), st.text(), st.sampled_from(Code))
def test_any_request_is_one_line_in_both_forms(path: str, error: str, code: Code) -> None:
    for as_json in (True, False):
        written: list[bytes] = []
        log = RequestLog(written.append, as_json=as_json, share=1.0, revision=path[:5])
        access = new_access("REST", path, path, {b"x-request-id": error.encode("utf-8", "surrogatepass")})
        access.api, access.model, access.label = "" if len(path) % 2 else "predict", path, error
        access.failed(code, error)
        access.end()
        log.ended(access)
        log.close(SECONDS)
        (line,) = written
        assert line.count(b"\n") == 1
        assert len(line) < 20_000
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", line.decode())
        if as_json:
            assert json.loads(line)["code"] == code.name


@given(st.text())
def test_any_message_is_one_line_in_both_forms(text: str) -> None:
    record = logging.LogRecord("zeroserve.x", logging.INFO, __file__, 1, "said %s", (text,), None)
    line = TextFormatter().format(record)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", line)
    assert json.loads(JsonFormatter(3).format(record))["message"] == "said " + text


def test_json_lines_carry_the_ids_of_their_request_and_the_traceback() -> None:
    access = new_access(
        "REST", "POST", "/", {b"x-request-id": b"mine", b"traceparent": f"00-{TRACE}-{SPAN}-01".encode()}
    )
    try:
        raise ValueError("a\nb")
    except ValueError:
        record = logging.LogRecord("zeroserve.x", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
    token = current.set(access)
    try:
        line = json.loads(JsonFormatter().format(record))
    finally:
        current.reset(token)
    assert (line["request_id"], line["trace_id"], line["severity"]) == ("mine", TRACE, "ERROR")
    assert line["exception"].startswith("Traceback")
    assert "\nValueError: a\nb" in line["exception"]
