"""Counts by version, of a real server: every protocol, each version, loads that fail, and several workers."""

import shutil
from pathlib import Path

import requests

from tests.functions.command import SECONDS, Command
from tests.functions.exported import scrape, value
from tests.functions.served import GOLDEN_MODELS


def _infer(command: Command, model: str, version: int, **wrong: object) -> int:
    tensor = {"name": "x", "shape": [1], "datatype": "FP32", "data": [2.0]} | wrong
    url = command.url(f"/v2/models/{model}/versions/{version}/infer")
    return requests.post(url, json={"inputs": [tensor]}, timeout=SECONDS).status_code


def test_runs_are_counted_by_version_whatever_the_protocol(tmp_path: Path) -> None:
    for version in (1, 2):
        shutil.copytree(GOLDEN_MODELS / "half_plus_two" / "1", tmp_path / "m" / str(version))
    config = tmp_path / "models.conf"
    config.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{tmp_path / "m"}" model_platform: "tensorflow" '
        "model_version_policy { all {} } } }"
    )
    with Command(tmp_path, f"--model_config_file={config}") as command:
        command.until_ready()
        assert command.predict().status_code == 200
        for version in (1, 1, 2):
            assert _infer(command, "m", version) == 200
        late = requests.post(
            command.url("/v1/models/m/versions/1:predict"),
            data='{"instances": [1.0]}',
            headers={"x-request-timeout-ms": "0.001"},
            timeout=SECONDS,
        )
        assert late.status_code == 504
        found = scrape(f"127.0.0.1:{command.port}")
    assert value(found, "zeroserve_run_seconds_count", model_name="m", version="1") == 2
    assert value(found, "zeroserve_run_seconds_count", model_name="m", version="2") == 2
    assert value(found, "zeroserve_run_failures_total", model_name="m", version="1", status="DEADLINE_EXCEEDED") == 1
    assert value(found, "zeroserve_version_state", model_name="m", state="AVAILABLE") == 2


def test_a_load_that_fails_is_counted_and_its_state_is_shown(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN_MODELS / "half_plus_two" / "1", tmp_path / "m" / "1")
    flags = ("--model_name=m", f"--model_base_path={tmp_path / 'm'}", "--file_system_poll_wait_seconds=1")
    quick = ("--max_num_load_retries=1", "--load_retry_interval_micros=1000")
    with Command(tmp_path, *flags, *quick) as command:
        command.until_ready()
        broken = shutil.copytree(GOLDEN_MODELS / "half_plus_two" / "1", tmp_path / "2")
        data = next((broken / "variables").glob("variables.data*"))
        data.write_bytes(bytes(len(data.read_bytes())))  # of the right size, and not what the checksums say
        shutil.move(broken, tmp_path / "m" / "2")
        command.until(lambda: command.versions().get(2, ("", ""))[0] == "END")
        found = scrape(f"127.0.0.1:{command.port}")
        assert command.predict().status_code == 200
    assert value(found, "zeroserve_load_failures_total", model_name="m", version="2") == 2
    assert value(found, "zeroserve_version_state", model_name="m", version="2", state="END") == 1
    assert value(found, "zeroserve_version_state", model_name="m", version="1", state="AVAILABLE") == 1


def test_the_state_of_a_version_is_one_of_all_workers(tmp_path: Path) -> None:
    flags = ("--model_name=m", f"--model_base_path={GOLDEN_MODELS / 'half_plus_two'}", "--workers=2")
    with Command(tmp_path, *flags) as command:
        command.until_ready()
        for _ in range(8):
            assert command.predict().status_code == 200
        found = scrape(f"127.0.0.1:{command.port}")
    assert set(found["zeroserve_version_state"].values()) == {1.0}
    assert value(found, "zeroserve_run_seconds_count", model_name="m") == 8
