"""JSON requests become a warm-up file that a server replays and the replay gate reads."""

import io
import json
import shutil

import pytest

from events.replay_record import read_record
from functions.cli import main
from loader.tfrecord import records
from tests.functions.command import Command
from tests.functions.served import GOLDEN_MODELS


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
