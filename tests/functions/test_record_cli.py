"""JSON requests become a warm-up file that a server replays and the replay gate reads."""

import io
import json
import shutil

import numpy as np
import pytest
import requests

import loader.protos
from events.replay_record import read_record
from functions.cli import main
from loader.tensor_proto import from_array
from loader.tfrecord import encode, records
from tests.functions.command import Command
from tests.functions.served import GOLDEN_MODELS
from tests.servers.s3 import BUCKET, s3_server

assert loader.protos
from tensorflow_serving.apis import predict_pb2  # noqa: E402
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog, PredictLog  # noqa: E402


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with Command(folder, "--model_name=m", f"--model_base_path={GOLDEN_MODELS / 'half_plus_two'}") as command:
        command.until_ready()
        yield command


def record(server, folder, *lines, protocol="http://", words=()):
    requests = folder / "requests.jsonl"
    requests.write_text("\n".join(lines))
    target = f"{protocol}127.0.0.1:{server.port}"
    return main(["record", target, "--model=m", f"--requests={requests}", f"--to={folder / 'golden' / 'r'}", *words])


@pytest.mark.parametrize("protocol", ["http://", ""])
def test_requests_are_recorded_with_their_answers(server, tmp_path, capsys, protocol):
    assert record(server, tmp_path, '{"instances": [1.0, 2.0]}', "", '{"inputs": [5.0]}', protocol=protocol) == 0
    assert "2 records written" in capsys.readouterr().out
    logs = list(records(io.BytesIO((tmp_path / "golden" / "r").read_bytes())))
    found = [read_record(log) for log in logs]
    assert [each.body for each in found] == [{"inputs": {"x": [1.0, 2.0]}}, {"inputs": {"x": [5.0]}}]
    assert [each.answer for each in found] == [{"outputs": [2.5, 3.0]}, {"outputs": [4.5]}]
    assert [each.name for each in (tmp_path / "golden").iterdir()] == ["r"]


def test_the_file_warms_a_version_up(server, tmp_path):
    assert record(server, tmp_path, '{"instances": [1.0]}', '{"instances": [2.0]}') == 0
    version = tmp_path / "m" / "1"
    shutil.copytree(GOLDEN_MODELS / "half_plus_two" / "1", version)
    (version / "assets.extra").mkdir()
    shutil.copy(tmp_path / "golden" / "r", version / "assets.extra" / "tf_serving_warmup_requests")
    home = tmp_path / "server"
    home.mkdir()
    with Command(home, "--model_name=m", f"--model_base_path={tmp_path / 'm'}") as command:
        command.until_ready()
        command.until_line("warmed up with 2 records")


def test_a_request_that_is_wrong_is_named_and_nothing_is_written(server, tmp_path, capsys):
    assert record(server, tmp_path, '{"instances": [1.0]}', '{"instances": ["x"]}') == 1
    assert "line 2:" in capsys.readouterr().err
    assert list((tmp_path / "golden").iterdir()) == []
    assert record(server, tmp_path, "[1]") == 1
    assert "wanted a body such as" in capsys.readouterr().err
    assert record(server, tmp_path, "") == 1
    assert "holds no request" in capsys.readouterr().err


def test_a_dry_run_asks_and_writes_nothing(server, tmp_path, capsys):
    assert record(server, tmp_path, '{"instances": [1.0]}', words=["--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "records": 1,
        "file": str(tmp_path / "golden" / "r"),
        "written": False,
    }
    assert not (tmp_path / "golden").exists()


def test_no_more_than_the_limit_is_recorded(server, tmp_path, capsys):
    assert record(server, tmp_path, *['{"instances": [1.0]}'] * 3, words=["--limit=2"]) == 0
    said = capsys.readouterr()
    assert "2 records written" in said.out
    assert "2 records are enough" in said.err


def test_what_servers_recorded_becomes_one_warm_up_file_in_storage(tmp_path, capsys):
    kept = tmp_path / "kept"
    for number in (1.0, 2.0):  # two processes, each of which saw the request 3.0 too
        home = tmp_path / f"server{number:g}"
        home.mkdir()
        flags = (f"--record_to={kept}", "--record_share=1", "--record_seconds=0.1")
        with Command(home, "--model_name=m", f"--model_base_path={GOLDEN_MODELS / 'half_plus_two'}", *flags) as command:
            command.until_ready()
            for asked in (number, 3.0):
                answer = requests.post(command.url("/v1/models/m:predict"), json={"instances": [asked]}, timeout=60)
                assert answer.status_code == 200
            passed = 'zeroserve_tap_passed_total{exit="record"} 2'
            command.until(lambda: passed in command.get("/monitoring/prometheus/metrics").text)  # noqa: B023
    version = tmp_path / "m" / "1"
    shutil.copytree(GOLDEN_MODELS / "half_plus_two" / "1", version)
    target = version / "assets.extra" / "tf_serving_warmup_requests"
    assert main(["record", f"--from={kept}", f"--to={target}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["records"] == 3
    found = [read_record(log) for log in records(io.BytesIO(target.read_bytes()))]
    assert sorted(one.body["inputs"]["x"][0] for one in found) == [1.0, 2.0, 3.0]
    home = tmp_path / "warm"
    home.mkdir()
    with Command(home, "--model_name=m", f"--model_base_path={tmp_path / 'm'}") as command:
        command.until_ready()
        command.until_line("warmed up with 3 records")
    assert main(["record", f"--from={kept}/m/", f"--to={tmp_path / 'bare'}", "--without-answers", "--limit=2"]) == 0
    bare = [read_record(log) for log in records(io.BytesIO((tmp_path / "bare").read_bytes()))]
    assert [one.answer for one in bare] == [None, None]


def test_a_damaged_recording_is_named_and_one_source_is_wanted(tmp_path, capsys):
    (tmp_path / "x.tfrecord").write_bytes(b"no record")
    assert main(["record", f"--from={tmp_path}", f"--to={tmp_path / 'out'}"]) == 1
    assert "x.tfrecord: truncated record" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["record", f"--from={tmp_path / 'none'}", f"--to={tmp_path / 'out'}"]) == 1
    assert main(["record", "http://h", f"--from={tmp_path}", f"--to={tmp_path / 'out'}"]) == 1
    assert "wanted either TARGET" in capsys.readouterr().err
    assert main(["record", "http://h", f"--to={tmp_path / 'out'}"]) == 1


def test_recordings_in_s3_become_a_warm_up_file_in_s3(tmp_path, monkeypatch, capsys):
    logs = [encode(PredictionLog(predict_log=asked(number)).SerializeToString()) for number in (1.0, 2.0, 1.0)]
    with s3_server(tmp_path) as s3:
        for name, text in s3.environ.items():
            monkeypatch.setenv(name, text)
        s3.put("kept/m/1/20260101T000000Z-a-1.tfrecord", logs[0])
        s3.put("kept/m/1/20260102T000000Z-b-1.tfrecord", logs[1] + logs[2])
        s3.put("kept/m/1/notes.txt", b"no records")
        target = f"s3://{BUCKET}/m/8/assets.extra/tf_serving_warmup_requests"
        assert main(["record", f"--from=s3://{BUCKET}/kept", f"--to={target}", "--dry-run"]) == 0
        assert "2 records would be written" in capsys.readouterr().out
        assert main(["record", f"--from=s3://{BUCKET}/kept", f"--to={target}"]) == 0
        body = s3.client.get_object(Bucket=BUCKET, Key="m/8/assets.extra/tf_serving_warmup_requests")["Body"].read()
    assert body == logs[1] + logs[2]  # the newest first


def asked(number):
    request = predict_pb2.PredictRequest()
    request.inputs["x"].CopyFrom(from_array(np.float32([number])))
    return PredictLog(request=request)
