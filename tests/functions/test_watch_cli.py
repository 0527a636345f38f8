"""`zeroserve watch` as a process, with real storage and a real sink."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.functions.served import ROOT
from tests.servers.hdfs import hdfs_server
from tests.servers.process import free_port
from tests.servers.s3 import s3_server
from tests.servers.sink import sink_server
from tests.servers.web import web_server

SECONDS = 60
COMMAND = [sys.executable, "-m", "functions.cli", "watch"]


@contextlib.contextmanager
def watching(*words: str, environ: Mapping[str, str] | None = None) -> Iterator["subprocess.Popen[str]"]:
    """A watch that runs on; what it prints as JSON is read from its standard output."""
    environment = {name: value for name, value in os.environ.items() if name != "K_SINK"} | dict(environ or {})
    with subprocess.Popen(
        [*COMMAND, *words, "--json"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def once(*words: str, environ: Mapping[str, str] | None = None) -> tuple[int, list[dict[str, Any]], str]:
    """Exit status, lines of JSON, and what came on standard error."""
    environment = {name: value for name, value in os.environ.items() if name != "K_SINK"} | dict(environ or {})
    done = subprocess.run(
        [*COMMAND, *words, "--json"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def until(process: "subprocess.Popen[str]", event: str) -> dict[str, Any]:
    """The next line about `event`."""
    assert process.stdout is not None
    for line in process.stdout:
        found: dict[str, Any] = json.loads(line)
        if found["event"] == event:
            return found
    raise AssertionError(f"the watch ended without {event!r}")


def test_a_version_that_lands_in_a_local_folder_is_told_of_at_once(tmp_path: Path, golden: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    with sink_server() as sink, watching(str(models), "--sink", sink.url, "--interval=3600") as process:
        shutil.copytree(golden / "half_plus_two" / "1", models / "1")
        assert sink.next().data["url"] == str(models / "1")
        until(process, "delivered")
        # The folder is watched by now: the interval has nothing to do with it.
        shutil.copytree(golden / "mlp" / "1", tmp_path / "aside")
        began = time.monotonic()
        (tmp_path / "aside").rename(models / "2")
        assert sink.next().data["url"] == str(models / "2")
        assert time.monotonic() - began < 10


def test_a_file_that_grows_slowly_is_told_of_once_when_it_is_whole(tmp_path: Path, golden: Path) -> None:
    source, target = golden / "mlp" / "1", tmp_path / "models" / "1"
    with sink_server() as sink, watching(str(tmp_path / "models"), "--sink", sink.url) as process:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.data-*"))
        (data,) = source.rglob("*.data-*")
        whole, place = data.read_bytes(), target / data.relative_to(source)
        with place.open("wb") as file:
            for start in range(0, len(whole), len(whole) // 5 + 1):
                file.write(whole[start : start + len(whole) // 5 + 1])
                file.flush()
                if start == 0:
                    assert place.name in until(process, "incomplete")["reason"]
                assert sink.received.empty() or start + len(whole) // 5 + 1 >= len(whole)
        assert sink.next().data["size"] == sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
        until(process, "delivered")
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
        assert sink.received.empty()


def test_a_sink_that_fails_is_asked_again_until_it_takes_the_event(tmp_path: Path, golden: Path) -> None:
    answers = [(503, {"retry-after": "0"}), (429, {"retry-after": "0"}), (500, {"retry-after": "0"})]
    with sink_server(*answers) as sink, watching(str(golden / "mlp"), "--sink", sink.url) as process:
        assert [until(process, "failed")["reason"][:3] for _ in range(3)] == ["503", "429", "500"]
        delivered = until(process, "delivered")
        ids = {sink.next().headers["ce-id"] for _ in range(4)}
        assert ids == {delivered["fingerprint"]}


def test_a_watch_with_a_state_goes_on_where_it_ended(tmp_path: Path, golden: Path) -> None:
    models, state = tmp_path / "models", tmp_path / "state"
    shutil.copytree(golden / "half_plus_two" / "1", models / "1")
    with sink_server() as sink:
        words = (str(models), "--once", f"--sink={sink.url}", f"--state={state}")
        assert once(*words)[0] == 0
        assert sink.next_urls(1) == [str(models / "1")]
        shutil.copytree(golden / "half_plus_two" / "1", models / "2")
        status, lines, _ = once(*words)
        assert (status, [line["url"] for line in lines]) == (0, [str(models / "2")])
        assert once(*words)[:2] == (0, [])


def test_without_a_state_a_new_start_tells_of_all_there_is(golden: Path) -> None:
    versions = sorted(str(path) for path in (golden / "half_plus_two").iterdir())
    with sink_server() as sink:
        for _ in range(2):
            assert once(str(golden / "half_plus_two"), "--once", f"--sink={sink.url}")[0] == 0
            assert sink.next_urls(len(versions)) == versions


def test_once_fails_where_the_sink_or_the_storage_does(golden: Path, tmp_path: Path) -> None:
    with sink_server((400, {})) as sink:
        status, lines, _ = once(str(golden / "mlp"), "--once", f"--sink={sink.url}")
        assert (status, [line["event"] for line in lines]) == (1, ["failed", "refused"])
        status, lines, _ = once(str(tmp_path / "none"), "--once", f"--sink={sink.url}")
        assert (status, [line["event"] for line in lines]) == (1, ["blind"])


def test_a_dry_run_sends_nothing_and_says_what_it_would() -> None:
    models = ROOT / "tests" / "golden" / "models"
    status, lines, _ = once(str(models), "--dry-run")
    assert status == 0
    assert {line["url"] for line in lines if line["event"] == "delivered"} >= {f"{models}/mlp/1"}


def test_what_knative_injects_is_used(golden: Path) -> None:
    with sink_server() as sink:
        environ = {"K_SINK": sink.url, "K_CE_OVERRIDES": '{"extensions":{"team":"a"}}'}
        assert once(str(golden / "mlp"), "--once", environ=environ)[0] == 0
        assert sink.next().headers["ce-team"] == "a"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["/models"], "--sink=URL"),
        (["/models", "--sink=ftp://x"], "wanted http"),
        (["/models", "--sink=http://x", "--interval=0"], "wanted 0.1 seconds or more"),
        (["nonsense://x/y", "--sink=http://x"], "install the fsspec driver"),
        (["/models", "--sink=http://x", "--listen=here"], "wanted PORT or HOST:PORT"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_one_line(words: list[str], wanted: str) -> None:
    status, _, error = once(*words)
    assert status == 2
    assert wanted in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_without_a_traceback(golden: Path, number: signal.Signals, status: int) -> None:
    with sink_server() as sink, watching(str(golden / "mlp"), f"--sink={sink.url}") as process:
        until(process, "delivered")
        process.send_signal(number)
        assert process.wait(SECONDS) == status


def test_hdfs_is_listed_and_a_push_makes_it_look_at_once(tmp_path: Path, golden: Path) -> None:
    with hdfs_server(tmp_path) as hdfs, sink_server() as sink:
        hdfs.make_folder("/models")
        url, secret = f"{hdfs.url}/models", tmp_path / "secret"
        secret.write_text("a word that nobody guesses")
        port = free_port()
        words = (url, f"--sink={sink.url}", "--interval=3600", f"--listen=127.0.0.1:{port}", f"--secret-file={secret}")
        with watching(*words) as process:
            until(process, "listening")
            hdfs.put_tree(golden / "half_plus_two" / "1", "/upload/7")
            hdfs.make_folder("/models/m")
            hdfs.rename("/upload/7", "/models/m/7")
            headers = {"authorization": "Bearer a word that nobody guesses"}
            push = {"txid": 523, "eventType": "RENAME", "srcPath": "/upload/7", "dstPath": "/models/m/7"}
            assert requests.post(f"http://127.0.0.1:{port}/", json=push, headers=headers, timeout=10).status_code == 204
            assert sink.next().data["url"] == f"{url}/m/7"
            assert requests.post(f"http://127.0.0.1:{port}/", json=push, timeout=10).status_code == 401


def test_a_bucket_is_listed_anew_each_time(tmp_path: Path, golden: Path) -> None:
    with s3_server(tmp_path) as s3, sink_server() as sink:
        s3.put_tree(golden / "half_plus_two" / "1", "m/1")
        words = ("s3://models/m", f"--sink={sink.url}", "--interval=0.2")
        with watching(*words, environ=s3.environ) as process:
            assert sink.next().data["url"] == "s3://models/m/1"
            s3.put_tree(golden / "mlp" / "1", "m/2")
            assert sink.next().data["url"] == "s3://models/m/2"
            assert until(process, "delivered")["files"] == 4


def test_a_web_server_is_listed(tmp_path: Path, golden: Path) -> None:
    shutil.copytree(golden / "half_plus_two" / "1", tmp_path / "m" / "3")
    with web_server(tmp_path) as web, sink_server() as sink:
        status, lines, _ = once(f"{web}/m/", "--once", f"--sink={sink.url}")
        assert (status, lines[0]["url"]) == (0, f"{web}/m/3")
