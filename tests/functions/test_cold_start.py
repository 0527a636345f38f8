"""Where a cold start's time goes, and which answers say so."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

import loader.protos as _protos  # before the messages: see there
from functions.cold_start import OFFSET_SECONDS, SECONDS, TELLING_SECONDS, ColdStart
from tests.functions.command import Command
from tests.functions.served import GOLDEN_MODELS
from tests.servers.s3 import S3Server, s3_server

assert _protos
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc  # noqa: E402

WHOLE = ["import", "library", "list", "download", "load", "total"]
ROW = re.compile(r'(\w+);dur=(\d+\.\d);desc="start=(\d+\.\d)"')


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        server.put_tree(GOLDEN_MODELS / "half_plus_two", "m")
        yield server


def phases(header: str) -> dict[str, tuple[float, float]]:
    """Beginning and length in milliseconds, by phase."""
    rows = header.split(", ")
    assert all(ROW.fullmatch(row) for row in rows), header
    return {name: (float(start), float(length)) for name, length, start in ROW.findall(header)}


def rest(command: Command) -> str:
    answer = command.predict()
    assert answer.json() == {"predictions": [2.5]}
    return answer.headers.get("server-timing", "")


def oip(command: Command) -> str:
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}]}
    answer = requests.post(command.url("/v2/models/m/infer"), json=body, timeout=60)
    assert answer.json()["outputs"][0]["data"] == [2.5]
    return answer.headers.get("server-timing", "")


def over_grpc(command: Command) -> str:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=1)
    request.inputs["x"].float_val.append(1.0)
    with grpc.insecure_channel(f"127.0.0.1:{command.port}") as channel:
        answer, call = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict.with_call(request, timeout=60)
    assert list(answer.outputs["y"].float_val) == [2.5]
    return str(dict(call.initial_metadata()).get("server-timing", ""))


def test_requests_that_come_first_are_held_and_told_where_the_time_went(s3: S3Server, tmp_path: Path) -> None:
    flags = ("--model_base_path=s3://models/m", "--model_name=m", f"--cache_directory={tmp_path / 'cache'}")
    with Command(tmp_path, *flags, environ=s3.environ) as command:
        assert command.port  # it listens, and has loaded nothing yet
        with ThreadPoolExecutor() as pool:
            headers = [done.result() for done in [pool.submit(ask, command) for ask in (rest, oip, over_grpc)]]
        for header in headers:
            assert [name for name in phases(header) if name != "total"] == WHOLE[:-1]
        command.until_ready()
        found = phases(rest(command))  # it may have waited in front of us
        assert list(found) == WHOLE
        end = found["total"][1]
        assert all(start + length <= end + 0.2 for start, length in found.values())
        assert sum(found["list"]) <= found["download"][0] + 0.2, "later looks are not counted"
        assert found["list"][0] < found["import"][1], "storage is listed while modules are imported"
        time.sleep(TELLING_SECONDS + 0.1)  # the clock is what this is about
        assert [ask(command) for ask in (rest, oip, over_grpc)] == ["", "", ""]
        text = command.get("/monitoring/prometheus/metrics").text
        families = {family.name: family for family in text_string_to_metric_families(text)}
        for name, column in ((OFFSET_SECONDS, 0), (SECONDS, 1)):
            shown = {sample.labels["phase"]: sample.value * 1000 for sample in families[name].samples}
            assert shown == {phase: pytest.approx(row[column], abs=0.06) for phase, row in found.items()}


def test_the_first_prediction_is_told_however_late_it_comes(tmp_path: Path) -> None:
    with Command(tmp_path, f"--model_base_path={GOLDEN_MODELS / 'half_plus_two'}", "--model_name=m") as command:
        command.until_ready()
        time.sleep(TELLING_SECONDS + 0.1)
        assert "server-timing" not in command.get("/v1/models/m").headers
        assert list(phases(rest(command))) == WHOLE
        assert rest(command) == ""


def test_a_phase_lasts_from_its_first_beginning_to_its_last_end_and_nothing_is_added_after_the_start() -> None:
    start = ColdStart()
    start.note("load", start.born + 2, start.born + 3)
    start.note("download", start.born + 1, start.born + 2)
    start.note("load", start.born + 1, start.born + 2.5)
    start.end()
    start.note("download", start.born + 1, start.born + 50)
    rows = start.rows()
    assert list(rows) == ["download", "load", "total"]
    assert rows["load"] == pytest.approx((1, 2))
    assert rows["download"] == pytest.approx((1, 1))
