"""The bundled model: `zeroserve serve` with nothing given."""

import json
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from functions.demo.bundle import HERE, demo_model, greeting
from functions.sidecar import read_sidecar
from loader.completeness import missing
from loader.storage import open_storage

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What the real command says before it waits for requests, from the repository's root."""
    port_file = tmp_path_factory.mktemp("demo") / "port"
    command = [str(Path(sys.executable).parent / "zeroserve"), "serve", "--port=0", f"--port_file={port_file}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Your own model"):
                break
        yield "".join(lines)
        process.terminate()
        assert process.wait(20) == 0


def pasted(said: str, part: str) -> dict[str, list[dict[str, object]]]:
    """What the greeting's `curl` line with `part` answers, taken apart instead of run: curl may not be installed."""
    words = shlex.split(next(line for line in said.splitlines() if line.strip().startswith("curl") and part in line))
    data = (ROOT / words[words.index("--data-binary" if "--data-binary" in words else "-d") + 1][1:]).read_bytes()
    headers = dict([words[words.index("-H") + 1].split(": ")]) if "-H" in words else {}
    with urllib.request.urlopen(urllib.request.Request(words[-1], data, headers), timeout=20) as answer:
        return json.load(answer)


def test_the_line_with_a_picture_works_when_pasted(said: str) -> None:
    best, *_ = pasted(said, "seven.png")["predictions"][0]
    assert best["label"] == "seven"


def test_the_line_with_numbers_is_answered_by_the_stable_version(said: str) -> None:
    assert "labels/stable" in said
    assert pasted(said, "seven.json")["predictions"][0]["digit"] == 7


def test_the_status_page_is_where_the_greeting_says(said: str) -> None:
    line = next(line for line in said.splitlines() if line.startswith("Status page"))
    with urllib.request.urlopen(line.split()[2], timeout=20) as page:
        assert b"<title>zeroserve" in page.read()


def test_files_are_named_from_the_working_directory_or_in_full(tmp_path: Path) -> None:
    assert "@functions/demo/seven.png " in greeting(1, ROOT)
    assert f"@{HERE}/seven.png " in greeting(1, tmp_path)


def test_both_versions_are_complete_and_name_their_classes() -> None:
    storage = open_storage(demo_model().base_path)
    listings = storage.list_versions()
    assert sorted(listings) == [1, 2] == sorted(demo_model().labels.values())
    for version, listing in listings.items():
        assert missing(storage, listing) == []
        sidecar = read_sidecar(HERE / "models" / "digits" / str(version))
        assert sidecar.labels[7] == "seven"
        assert len(sidecar.labels) == 10


def test_the_second_version_reads_more_of_the_held_out_digits() -> None:
    accuracy = json.loads((HERE / "accuracy.json").read_text())["accuracy"]
    assert 0.9 < accuracy["1"] < accuracy["2"]
