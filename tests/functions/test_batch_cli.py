"""`zeroserve batch` as a process: killed, interrupted, short of memory, asked by events, waiting for a server."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from functions.cli import main
from tests.functions.batch_files import results, tree, write
from tests.functions.command import Command
from tests.functions.served import GOLDEN_MODELS, ROOT
from tests.servers.process import free_port
from tests.servers.sink import sink_server

HALF = str(GOLDEN_MODELS / "half_plus_two")
COMMAND = [sys.executable, "-m", "functions.cli", "batch"]
SECONDS = 120


def started(*words: object, environ: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    environment = {name: value for name, value in os.environ.items() if name != "K_SINK"} | dict(environ or {})
    return subprocess.Popen(
        [*COMMAND, *map(str, words)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ran(*words: object, environ: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    with started(*words, environ=environ) as process:
        out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out, err


def until_parts(folder: Path, count: int, process: "subprocess.Popen[str]") -> None:
    """Waits until so many parts are noted."""
    end = time.monotonic() + SECONDS
    while len(list(folder.glob("_progress/*.json"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


def job(tmp_path: Path, ending: str = "csv", rows: int = 6000) -> list[object]:
    """A job of many small parts, with bad rows here and there."""
    values = [str(at) if at % 500 else "bad" for at in range(1, rows)]
    file = write(tmp_path / f"x.{ending}", {"id": [f"r{at}" for at in range(1, rows)], "x": values})
    return [file, "--model", HALF, "--keep", "id", "--batch-rows", 16, "--part-rows", 16, "--max-errors", 100]


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_a_job_that_is_killed_again_and_again_ends_with_the_same_bytes(ending: str, tmp_path: Path) -> None:
    words = job(tmp_path, ending)
    assert ran(*words, "--output", tmp_path / "whole", "--json")[0] == 0
    killed = tmp_path / "killed"
    for parts in (1, 40, 41, 150):
        with started(*words, "--output", killed) as process:
            until_parts(killed, parts, process)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert not (killed / "_SUCCESS").exists()
    status, out, _ = ran(*words, "--output", killed, "--json")
    found = json.loads(out)
    assert (status, found["rows"], found["errors"]) == (0, 5999, 11)
    assert found["resumed_rows"] >= 150 * 16
    assert tree(killed) == tree(tmp_path / "whole")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_job_ends_in_one_line_and_goes_on_later(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    words, out = job(tmp_path), tmp_path / "out"
    with started(*words, "--output", out, "--quiet") as process:
        until_parts(out, 5, process)
        process.send_signal(number)
        printed = process.communicate(timeout=SECONDS)
    assert process.returncode == status
    assert printed[0] == ""
    assert printed[1].splitlines()[-1] == "zeroserve batch: interrupted; the same command goes on from here"
    assert "Traceback" not in printed[1]
    done, text, _ = ran(*words, "--output", out, "--json")
    assert (done, json.loads(text)["rows"]) == (0, 5999)


def peak(tmp_path: Path, *words: object) -> int:
    """The most memory (MiB) that a job's process ever had."""
    code = (
        "import resource, sys; from functions.cli import main; status = main(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024); sys.exit(status)"
    )
    command = [sys.executable, "-c", code, "batch", *map(str, words), "--quiet"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert found.returncode in (0, 1), found.stderr
    return int(found.stdout.split()[-1])


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    small = write(tmp_path / "small.jsonl", {"x": [1.0]})
    large = tmp_path / "large.jsonl"
    pad = json.dumps({"x": 1.0, "pad": "p" * 20_000}).encode() + b"\n"
    with large.open("wb") as file:
        for _ in range(200):
            file.write(pad * 100)  # 400 MB
    array = tmp_path / "large.npy"
    np.lib.format.open_memmap(array, "w+", np.float32, (100_000_000,))[::1000] = 1  # 400 MB
    words = ["--model", HALF, "--batch-rows", 512]
    least = peak(tmp_path, small, *words)
    assert peak(tmp_path, large, *words) < least + 150
    assert (
        peak(tmp_path, array, *words, "--batch-rows", 65536, "--limit", 20_000_000, "--part-rows", 1 << 22)
        < least + 150
    )
    assert large.stat().st_size > 2 * 150 << 20


def test_a_bomb_costs_a_bad_row_and_no_memory(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.jsonl.gz"
    # 2 GB of zeros without a line end, in 2 MB.
    command = f"head -c 2000000000 /dev/zero | gzip -1 > {bomb}; printf '\\n1\\n' | gzip >> {bomb}"
    subprocess.run(["sh", "-c", command], check=True)
    least = peak(tmp_path, write(tmp_path / "small.jsonl", {"x": [1.0]}), "--model", HALF)
    words = ["--model", HALF, "--max-errors", 1, "--max-row-bytes", 1 << 20, "--output", tmp_path / "out"]
    assert peak(tmp_path, bomb, *words) < least + 100
    assert [row["y"] for row in results(tmp_path / "out")] == [2.5]


def test_a_server_that_is_away_is_waited_for(tmp_path: Path) -> None:
    port = free_port()
    file = write(tmp_path / "x.jsonl", {"x": [float(at) for at in range(100)]})
    words = [file, "--url", f"http://127.0.0.1:{port}/v1/models/m", "--batch-rows", 8, "--timeout", SECONDS, "--json"]
    with started(*words) as process:
        (tmp_path / "server").mkdir()
        model = f"--model_base_path={HALF}"
        with Command(tmp_path / "server", "--model_name=m", model, f"--rest_api_port={port}"):
            out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    assert json.loads(out)["predicted"] == 100


def test_a_server_that_goes_away_in_the_middle_costs_nothing(tmp_path: Path) -> None:
    port = free_port()
    words = job(tmp_path)[:1] + job(tmp_path)[3:]
    out = tmp_path / "out"
    flags = ["--model_name=m", f"--model_base_path={HALF}", f"--rest_api_port={port}"]
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    with started(*words, "--url", f"http://127.0.0.1:{port}", "--name", "m", "--output", out, "--json") as process:
        with Command(tmp_path / "first", *flags):
            until_parts(out, 20, process)
        with Command(tmp_path / "second", *flags):
            text, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    assert (json.loads(text)["rows"], json.loads(text)["errors"]) == (5999, 11)
    assert ran(*job(tmp_path)[:1], *job(tmp_path)[1:], "--output", tmp_path / "here")[0] == 0
    assert results(out) == results(tmp_path / "here")


def test_progress_is_lines_where_there_is_no_terminal_and_a_bar_where_there_is(tmp_path: Path) -> None:
    code = (
        "import io, sys; from functions.batch_jobs import progress as p;"
        "out = io.StringIO(); out.isatty = lambda: sys.argv[1] == 'tty';"
        "p.BAR_SECONDS = p.LINE_SECONDS = 0.0; one = p.Progress(out, [100, 300]);"
        "one.add(0, 1.0, 50, 1); one.add(1, 1/3, 50, 0); one.say('hello'); one.end(); print(repr(out.getvalue()))"
    )
    for kind, wanted in (
        (
            "tty",
            r"'\\r\\x1b\[K\[#{6}\.{18}\]  25%  50 rows, 1 bad  \d+ rows/s  0:00 left.*\[#{12}\.{12}\].*\\nhello\\n'",
        ),
        ("pipe", r"'zeroserve batch:  ?25%  50 rows, 1 bad  \d+ rows/s  0:00 left\\nzeroserve batch: .*50%.*hello\\n'"),
    ):
        out = subprocess.run([sys.executable, "-c", code, kind], cwd=ROOT, capture_output=True, text=True, check=True)
        assert re.fullmatch(wanted, out.stdout.strip()), out.stdout


def event(tmp_path: Path, data: Mapping[str, Any], **attributes: str) -> Path:
    """An event as a JobSink hands it over."""
    file = tmp_path / "event"
    known = {"specversion": "1.0", "id": "1", "source": "/orders", "type": "com.zeroserve.batch.requested.v1"}
    file.write_text(json.dumps({**known, **attributes, "datacontenttype": "application/json", "data": data}))
    return file


def test_an_event_asks_for_a_job_and_its_sink_is_told_once_and_again(tmp_path: Path) -> None:
    write(tmp_path / "x.csv", {"id": [1, 2], "x": [1, 2]})
    url = f"file://{tmp_path}"
    file = event(tmp_path, {"inputs": [f"{url}/x.csv"], "keep": ["id"], "output": f"{url}/out", "restart": True})
    words = ["--event", file, "--model", HALF, "--allow", f"{url}/"]
    with sink_server() as sink:
        status, out, err = ran(*words, environ={"K_SINK": sink.url, "K_CE_OVERRIDES": '{"extensions": {"team": "a"}}'})
        assert (status, json.loads(out)["predicted"]) == (0, 2), err
        first = sink.next()
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
        # The same event is delivered again: nothing is done again, whatever it says of restarting.
        assert ran(*words, "--sink", sink.url)[0] == 0
        second = sink.next()
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
        # Another event does say so.
        assert ran("--event", event(tmp_path, json.loads(file.read_text())["data"], id="2"), *words[2:])[0] == 0
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} != before
    assert first.headers["ce-type"] == "com.zeroserve.batch.completed.v1"
    assert (first.headers["ce-causationid"], first.headers["ce-team"]) == ("1", "a")
    assert first.headers["ce-id"] == second.headers["ce-id"]
    assert (first.data["output"], first.data["rows"]) == (f"{url}/out", 2)
    assert first.data["requested"] == {"id": "1", "source": "/orders"}
    assert [row["y"] for row in results(tmp_path / "out")] == [2.5, 3.0]


@pytest.mark.parametrize(
    ("data", "status", "code", "reason"),
    [
        ({}, 3, "INVALID_ARGUMENT", "no input"),
        ({"inputs": ["file:///etc/passwd"]}, 3, "PERMISSION_DENIED", "--allow"),
        ({"inputs": ["{url}/../../etc/x.csv"]}, 3, "INVALID_ARGUMENT", "leaves its folder"),
        ({"inputs": ["{url}/*.csv"]}, 3, "PERMISSION_DENIED", ".predictions' is not in"),  # beside the allowed folder
        ({"inputs": ["{url}/*.csv"], "output": ""}, 3, "PERMISSION_DENIED", ".predictions' is not in"),
        ({"inputs": ["{url}/x.csv"], "output": "file:///tmp/elsewhere"}, 3, "PERMISSION_DENIED", "--allow"),
        ({"inputs": ["{url}/x.csv"], "model": "file:///models/other"}, 3, "PERMISSION_DENIED", "--allow"),
        ({"inputs": ["{url}/x.csv"], "url": "http://169.254.169.254/"}, 3, "PERMISSION_DENIED", "--allow"),
        ({"inputs": "x.csv"}, 3, "PERMISSION_DENIED", "--allow"),
        ({"inputs": ["{url}/x.csv"], "batch_rows": "8"}, 3, "INVALID_ARGUMENT", "whole number"),
        ({"inputs": ["{url}/x.csv"], "command": "rm"}, 3, "INVALID_ARGUMENT", "known are"),
        ({"inputs": ["{url}/none.csv"]}, 3, "NOT_FOUND", "no file"),
        ({"inputs": ["{url}/x.csv"]}, 3, "FAILED_PRECONDITION", "bad row"),
    ],
)
def test_an_event_that_cannot_be_done_is_told_and_ends_with_a_status_that_says_so(
    data: Mapping[str, Any], status: int, code: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "x.csv", {"x": ["bad"]})
    url = f"file://{tmp_path}"
    file = event(tmp_path, json.loads(json.dumps(data).replace("{url}", url)))
    monkeypatch.delenv("K_SINK", raising=False)
    with sink_server() as sink:
        words: Sequence[str] = ["--event", str(file), "--model", HALF, "--allow", url, "--sink", sink.url, "--quiet"]
        assert main(["batch", *words]) == status
        told = sink.next()
    assert told.headers["ce-type"] == "com.zeroserve.batch.failed.v1"
    assert (told.data["code"], told.data["final"]) == (code, True)
    assert reason in told.data["error"]


def test_what_is_no_event_of_ours_is_final(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "event").write_text("no event")
    assert main(["batch", "--event", str(tmp_path / "event"), "--model", HALF]) == 3
    assert main(["batch", "--event", str(event(tmp_path, {}, type="other")), "--model", HALF]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "wanted com.zeroserve.batch.requested.v1" in lines[1]


def test_a_failure_that_may_pass_is_not_final_and_a_sink_that_is_away_fails_the_job(tmp_path: Path) -> None:
    write(tmp_path / "x.csv", {"x": [1]})
    url = f"file://{tmp_path}"
    file = event(tmp_path, {"inputs": [f"{url}/x.csv"]})
    away = f"127.0.0.1:{free_port()}"
    with sink_server() as sink:
        words = ["--event", file, "--allow", url, "--sink", sink.url, "--timeout", 1]
        assert ran(*words, "--url", away, "--name", "m")[0] == 1
        assert sink.next().data["final"] is False
    status, _, err = ran("--event", file, "--allow", url, "--model", HALF, "--sink", f"http://{away}/")
    assert (status, "was not delivered" in err) == (1, True)


@pytest.mark.parametrize("module", ["numpy", "pyarrow", "grpc", "loader.tensorflow_c", "functions.commands.batch_job"])
def test_a_server_and_the_commands_of_a_cluster_load_none_of_it(module: str) -> None:
    code = (
        "import sys, functions.cli, functions.commands.batch, functions.commands.batch_install;"
        f"sys.exit({module!r} in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_job_through_a_server_loads_neither_tensorflow_nor_pyarrow(tmp_path: Path) -> None:
    code = (
        "import sys; from functions.cli import main; status = main(sys.argv[1:]);"
        "print([name for name in ('loader.tensorflow_c', 'pyarrow', 'grpc') if name in sys.modules])"
    )
    file = write(tmp_path / "x.jsonl", {"x": [1.0]})
    with Command(tmp_path, "--model_name=m", f"--model_base_path={HALF}") as server:
        words = ["batch", str(file), "--url", server.url("/v1/models/m"), "--quiet"]
        command = [sys.executable, "-c", code, *words]
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=True)
    assert found.stdout.splitlines()[-1] == "[]"
