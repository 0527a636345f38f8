"""`zeroserve` as a command: real processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
import requests

from functions.cli import main
from tests.functions.command import SECONDS, Command
from tests.functions.served import GOLDEN_MODELS, ROOT
from tests.servers.process import free_port

HALF = f"--model_base_path={GOLDEN_MODELS / 'half_plus_two'}"


@pytest.mark.parametrize(
    ("words", "status", "line"),
    [
        (["serve", "--model_nam=x"], 2, "unknown flag --model_nam; the nearest known one is --model_name"),
        (["sevre"], 2, "unknown command 'sevre'"),
        (["settings", "--x"], 2, "found '--x', wanted --markdown or nothing"),
        (["serve", "--model_base_path=/x", "--host=203.0.113.1", "--port=1"], 1, "cannot listen: 203.0.113.1:1: "),
    ],
)
def test_a_start_that_cannot_be_ends_with_one_line(
    words: list[str], status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("zeroserve: ")
    assert line in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["--help"], ["--version"], ["serve", "--help"], ["settings"]])
def test_help_and_version_are_printed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert "zeroserve" in capsys.readouterr().out


def test_a_request_before_the_model_is_there_waits_and_is_answered(tmp_path: Path) -> None:
    with Command(tmp_path, "--model_name=m", HALF) as command:
        answer = command.predict()
        assert (answer.status_code, answer.json()) == (200, {"predictions": [2.5]})
        assert requests.get(command.url("/readyz"), timeout=SECONDS).status_code == 200
        command.process.terminate()
        assert command.process.wait(SECONDS) == 0


def test_the_only_model_that_cannot_be_loaded_ends_the_start_in_the_stock_servers_words(tmp_path: Path) -> None:
    # complete by its bytes, and yet no session can be made of it: nothing has these tags
    with Command(tmp_path, "--model_name=m", HALF, "--saved_model_tags=none", "--max_num_load_retries=0") as command:
        assert command.process.wait(SECONDS) == 1
        last = command.log.read_text().splitlines()[-1]
        assert last.startswith("zeroserve: Failed to start server. Error: UNKNOWN: 1 model(s) did not become available")


def test_a_config_file_that_does_not_parse_ends_the_start(tmp_path: Path) -> None:
    config = tmp_path / "models.config"
    config.write_text("model_config_list { config { nam: 'x' } }")
    with Command(tmp_path, f"--model_config_file={config}") as command:
        assert command.process.wait(SECONDS) == 1
        last = command.log.read_text().splitlines()[-1]
        assert last.startswith("zeroserve: Failed to start server. Error: INVALID_ARGUMENT: Invalid protobuf file")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_in_flight_is_finished_after_the_signal_and_the_exit_is_zero(
    tmp_path: Path, number: signal.Signals
) -> None:
    with Command(tmp_path, "--model_name=m", HALF) as command:
        assert command.predict().status_code == 200
        with socket.create_connection(("127.0.0.1", command.port)) as client:
            body = b'{"instances": [1.0]}'
            client.sendall(b"POST /v1/models/m:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
            client.sendall(body[:5])
            command.predict()  # by its answer the server has read what was sent before
            command.process.send_signal(number)
            command.until_line("draining")
            client.sendall(body[5:])
            client.settimeout(SECONDS)
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
        assert command.process.wait(SECONDS) == 0


def test_a_second_port_and_a_socket_answer_rest_and_grpc_too(tmp_path: Path) -> None:
    port, path = free_port(), tmp_path / "s"
    flags = ("--model_name=m", HALF, f"--rest_api_port={port}", f"--grpc_socket_path={path}")
    with Command(tmp_path, *flags) as command:
        assert command.predict().status_code == 200
        for address in (f"127.0.0.1:{command.port}", f"127.0.0.1:{port}", f"unix:{path}"):
            with grpc.insecure_channel(address) as channel:
                check = channel.unary_unary("/grpc.health.v1.Health/Check")
                assert check(b"", timeout=SECONDS) == b"\x08\x01", address  # status: SERVING
        url = f"http://127.0.0.1:{port}/v1/models/m:predict"
        answer = requests.post(url, data='{"instances": [1.0]}', timeout=SECONDS)
        assert answer.json() == {"predictions": [2.5]}


def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    with Command(tmp_path, "--model_name=m", HALF) as command:
        assert command.predict().status_code == 200
        with socket.create_connection(("127.0.0.1", command.port)) as client:
            client.sendall(b"POST /v1/models/m:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            command.predict()
            command.process.terminate()
            command.until_line("draining")
            command.process.terminate()
            assert command.process.wait(SECONDS) == 128 + signal.SIGTERM


def test_tensorflows_python_runtime_never_runs_in_a_server_that_predicts(tmp_path: Path) -> None:
    probe = (
        "import functions.cli, functions.server, loader.protos, sys;"
        "close = functions.server.Server.close;"
        "functions.server.Server.close = lambda self: (print(loader.protos.runtime_executed(),"
        " any(n.startswith('tensorflow.python') for n in sys.modules),"
        " any(n.startswith(('cryptography', 'loader.signed')) for n in sys.modules), flush=True), close(self))[1];"
        "sys.exit(functions.cli.main(sys.argv[1:]))"
    )
    flags = ["serve", "--host=127.0.0.1", "--port=0", f"--port_file={tmp_path / 'port'}", "--model_name=m", HALF]
    with subprocess.Popen([sys.executable, "-c", probe, *flags], cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + SECONDS
            while not (tmp_path / "port").exists():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            base = f"http://127.0.0.1:{int((tmp_path / 'port').read_text())}/v1/models/m"
            assert requests.post(f"{base}:predict", data='{"instances": [1.0]}', timeout=SECONDS).status_code == 200
            assert requests.get(f"{base}/metadata", timeout=SECONDS).status_code == 200
            process.terminate()
            out, _ = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert out.split() == [b"False", b"False", b"False"]  # the third: of signed models, for those who trust keys


def test_settings_come_from_the_environment_too(tmp_path: Path) -> None:
    environment = {**os.environ, "MODEL_NAME": "half_plus_two", "MODEL_BASE_PATH": str(GOLDEN_MODELS)}
    script = "import functions.config, json; s = functions.config.load_settings(); print(json.dumps(s.model_base_path))"
    out = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, check=True, capture_output=True)
    assert json.loads(out.stdout) == str(GOLDEN_MODELS / "half_plus_two")
