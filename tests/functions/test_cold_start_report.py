"""What held a cold start up, from what a page and a pod say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.cold_start import OFFSET_SECONDS, PHASES, SECONDS, TOTAL
from functions.commands.cold_start_report import pod_phases, report, text
from tests.functions.command import Command
from tests.functions.served import GOLDEN_MODELS, ROOT


def page(spans: dict[str, tuple[float, float]], more: str = "") -> str:
    """A metrics page with these beginnings and lengths."""
    rows = [
        f'{family}{{phase="{name}"}} {span[column]!r}'
        for column, family in ((0, OFFSET_SECONDS), (1, SECONDS))
        for name, span in spans.items()
    ]
    return "\n".join(["# TYPE other counter", "other 1", *rows, more]) + "\n"


PIPELINED = {
    "import": (0.0, 0.5),
    "library": (0.25, 0.25),
    "list": (0.125, 0.125),
    "download": (0.25, 1.25),
    "load": (1.5, 0.25),
    TOTAL: (0.0, 2.0),
}


def test_each_moment_belongs_to_the_phase_that_held_the_start_up() -> None:
    found = report("m", page(PIPELINED, 'zeroserve_cache_bytes_total{source="storage"} 1e3'))
    assert found is not None
    waited = {one.name: one.waited for one in found.phases}
    # The library and most imports cost nothing: the download was under way.
    assert waited == pytest.approx(
        {"import": 0.125, "list": 0.125, "download": 1.25, "library": 0, "load": 0.25, "other": 0.25}
    )
    assert found.total == 2.0
    assert (found.storage_bytes, found.cache_bytes) == (1000, 0)
    assert [line.partition(":")[0] for line in found.advice] == ["download 62%", "other 12%", "load 12%"]
    assert "--cache pvc:CLAIM" in found.advice[0]
    assert "download       0.25    1.25     62%" in text(found)


@given(st.dictionaries(st.sampled_from(PHASES), st.tuples(st.floats(0, 5), st.floats(0, 5))), st.floats(0.01, 10))
def test_what_the_phases_held_up_is_the_whole_start(spans: dict[str, tuple[float, float]], total: float) -> None:
    found = report("m", page({**spans, TOTAL: (0.0, total)}))
    assert found is not None
    assert sum(one.waited for one in found.phases) == pytest.approx(total)
    assert all(one.waited >= 0 for one in found.phases)


def stamp(second: int) -> str:
    return f"2026-01-01T00:00:{second:02}Z"


def test_a_pod_adds_what_came_before_and_after_its_process() -> None:
    pod = {
        "metadata": {"creationTimestamp": stamp(0)},
        "status": {
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp(2)},
                {"type": "Ready", "status": "True", "lastTransitionTime": stamp(12)},
            ],
            "containerStatuses": [
                {"name": "queue-proxy", "state": {"running": {"startedAt": stamp(9)}}},
                {"name": "zeroserve", "state": {"running": {"startedAt": stamp(8)}}},
            ],
        },
    }
    events = [
        {"reason": "Pulling", "firstTimestamp": stamp(2), "metadata": {}},
        {"reason": "Pulled", "firstTimestamp": stamp(7), "metadata": {}},
    ]
    found = report("pod", page(PIPELINED), pod_phases(pod, events))
    assert found is not None
    waited = {one.name: one.waited for one in found.phases}
    assert found.total == 12
    assert sum(waited.values()) == pytest.approx(12)
    assert {name: waited[name] for name in ("schedule", "image", "container", "ready")} == pytest.approx(
        {"schedule": 2, "image": 5, "container": 1, "ready": 2}
    )
    assert found.advice[0].startswith("image 42%: pulling the image")
    present = [{"reason": "Pulled", "firstTimestamp": stamp(7), "metadata": {}}]
    again = report("pod", page(PIPELINED), pod_phases(pod, present))
    assert again is not None
    assert {one.name: one.waited for one in again.phases}["container"] == 6


def test_a_page_without_a_whole_start_gives_no_report() -> None:
    assert report("m", "# nothing\n") is None
    assert report("m", page({"import": (0.0, 1.0)})) is None


def coldstart(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "functions.cli", "coldstart", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_the_command_asks_a_server_by_its_url(tmp_path: Path) -> None:
    with Command(tmp_path, f"--model_base_path={GOLDEN_MODELS / 'half_plus_two'}", "--model_name=m") as command:
        command.until_ready()
        said = coldstart(command.url(""))
        assert said.returncode == 0, said.stderr
        assert said.stdout.startswith(f"{command.url('')}: ")
        port = command.port
        (found,) = json.loads(coldstart(command.url(""), "--json").stdout)
    assert {"import", "library", "load"} <= {one["name"] for one in found["phases"]}
    assert sum(one["waited"] for one in found["phases"]) == pytest.approx(found["total"])
    gone = coldstart(f"http://127.0.0.1:{port}")
    assert (gone.returncode, gone.stdout) == (1, "")
    assert gone.stderr.startswith("zeroserve coldstart: http://127.0.0.1:")
    assert gone.stderr.count("\n") == 1
