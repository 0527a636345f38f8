"""The function under the real `functions-framework` command, in production mode (gunicorn)."""

import concurrent.futures
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.functions.served import GOLDEN_MODELS, ROOT
from tests.servers.process import free_port

SECONDS = 60


@contextlib.contextmanager
def framework(folder: Path, *flags: str, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The command with half_plus_two, and the URL that it will answer at."""
    port = free_port()
    command = [Path(sys.executable).with_name("functions-framework"), "--source", "functions/main.py"]
    command += ["--target", "predict", "--host", "127.0.0.1", "--port", str(port), *flags]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SERVING_", "FUNCTION_"))}
    variables = kept | {"MODEL_NAME": "half_plus_two", "MODEL_BASE_PATH": str(GOLDEN_MODELS)} | environment
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.02)
        yield process, f"http://127.0.0.1:{port}"
    finally:
        for child in workers(process) if process.poll() is None else []:
            os.kill(child, signal.SIGKILL)
        process.kill()
        process.wait()


def workers(process: subprocess.Popen[bytes]) -> list[int]:
    """The process ids of gunicorn's workers."""
    return [int(one) for one in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def predict(url: str) -> requests.Response:
    """One prediction; a runtime that hangs after the fork would run into the timeout."""
    return requests.post(f"{url}/v1/models/half_plus_two:predict", data='{"instances": [1.0, 2.0]}', timeout=20)


@pytest.mark.parametrize(
    ("flags", "environment"),
    [
        ((), {}),
        ((), {"WORKERS": "3"}),
        (("--asgi",), {}),
        ((), {"FUNCTION_USE_ASGI": "true", "WORKERS": "2"}),
        (("--debug",), {}),
    ],
)
def test_the_command_predicts_with_one_and_several_workers_and_ends_with_zero(
    tmp_path: Path, flags: tuple[str, ...], environment: dict[str, str]
) -> None:
    with framework(tmp_path, *flags, **environment) as (process, url):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: predict(url), range(40)))
        assert {(answer.status_code, answer.text) for answer in answers} == {
            (200, '{\n    "predictions": [2.5, 3.0\n    ]\n}')
        }
        if "--debug" not in flags:
            assert len(workers(process)) == int(environment.get("WORKERS", "1"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0 if "--debug" not in flags else process.wait(SECONDS) is not None


def test_the_whole_api_is_behind_the_function(tmp_path: Path) -> None:
    with framework(tmp_path) as (_, url):
        assert predict(url).status_code == 200
        assert requests.get(f"{url}/readyz", timeout=20).json()["ready"]
        assert requests.get(f"{url}/v1/models", timeout=20).json()["models"][0]["name"] == "half_plus_two"
        assert requests.delete(f"{url}/v1/models/x", timeout=20).status_code == 400
        event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
        reply = requests.post(url, data='{"instances": [1.0]}', headers=event, timeout=20)
        assert (reply.status_code, reply.headers["ce-type"]) == (200, "dev.zeroserve.prediction.v1")


def test_a_request_in_flight_is_finished_after_sigterm(tmp_path: Path) -> None:
    with framework(tmp_path) as (process, url):
        assert predict(url).status_code == 200
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as client:
            body = b'{"instances": [1.0]}'
            client.sendall(
                b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
            )
            client.sendall(body[:5])
            predict(url)
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(requests.ConnectionError):
                while True:  # until the worker has stopped to take new ones
                    predict(url)
            client.sendall(body[5:])
            client.settimeout(SECONDS)
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
        assert process.wait(SECONDS) == 0


@pytest.mark.parametrize("workers_wanted", ["1", "2"])
def test_the_models_are_unloaded_before_a_worker_ends(tmp_path: Path, workers_wanted: str) -> None:
    (tmp_path / "sitecustomize.py").write_text("import logging\nlogging.basicConfig(level=logging.INFO)\n")
    with framework(tmp_path, WORKERS=workers_wanted, PYTHONPATH=str(tmp_path)) as (process, url):
        log = tmp_path / "log"
        deadline = time.monotonic() + SECONDS
        seen: set[str] = set()
        while len(seen) < int(workers_wanted):  # each connection goes to whichever worker takes it
            assert time.monotonic() < deadline
            text = requests.get(f"{url}/monitoring/prometheus/metrics", timeout=20).text
            seen |= set(re.findall(r"\nzeroserve_start_to_ready_seconds (.+)", text))  # once it is ready
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
        text = log.read_text()
        assert text.count("draining: requests in flight") == int(workers_wanted)
        assert text.count("unloaded servable version {name: half_plus_two version: 1}") == int(workers_wanted)


def test_settings_that_make_no_sense_end_the_command_with_one_line(tmp_path: Path) -> None:
    with framework(tmp_path, SERVING_PROT="1") as (process, _):
        assert process.wait(SECONDS) != 0
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines == ["zeroserve: unknown environment variable SERVING_PROT; the nearest known one is SERVING_PORT"]


def test_lines_are_json_and_requests_have_theirs_under_the_framework_too(tmp_path: Path) -> None:
    settings = {"SERVING_LOG_FORMAT": "json", "SERVING_REQUEST_LOG": "all"}
    with framework(tmp_path, **settings) as (process, url):
        request_id = predict(url).headers["x-request-id"]
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)
    text = (tmp_path / "log").read_text()
    found = {one["logger"]: one for line in text.splitlines() if line.startswith("{") for one in [json.loads(line)]}
    assert found["zeroserve.request"]["request_id"] == request_id
    assert found["zeroserve.manager"]["severity"] == "INFO"


def test_nothing_heavy_is_imported_before_the_fork() -> None:
    script = (
        "import functions_framework.aio, sys; before = set(sys.modules); sys.path.insert(0, '.');"
        "import functions.main; print(sorted(n for n in set(sys.modules) - before if n.split('.')[0] in "
        "{'tensorflow', 'numpy', 'fsspec', 'google', 'grpc', 'obstore', 'loader'} and n.count('.') < 2))"
    )
    variables = {**os.environ, "MODEL_NAME": "m"}
    out = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=variables, check=True, capture_output=True)
    assert out.stdout.strip() == b"[]"
