"""Mixes on real servers: over every protocol, with models of the process and of another one, and when that is down."""

import contextlib
import copy
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from functions.client import Client
from functions.commands import inspect as inspect_cli
from functions.demo.bundle import HERE
from loader.status import Code, ServingError
from tests.functions.command import Command
from tests.functions.served import GOLDEN_MODELS, ROOT

EXAMPLE = ROOT / "examples" / "mixing"
MIX: dict[str, Any] = json.loads((EXAMPLE / "models" / "digits_mix" / "1" / "mix.json").read_text())
DIGITS = HERE / "models" / "digits"
ALL = 'model_version_policy { all {} } version_labels { key: "stable" value: 1 }'


def images(count: int = 200) -> "np.ndarray[Any, np.dtype[np.float32]]":
    from sklearn.datasets import load_digits  # noqa: PLC0415  a second of imports

    return (load_digits().images[:count] / 16).astype(np.float32)


def start(folder: Path, models: dict[str, tuple[Path, str]], *flags: str) -> Command:
    folder.mkdir()
    config = folder / "models.config"
    listed = (
        f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" {more} }}'
        for name, (path, more) in models.items()
    )
    config.write_text(f"model_config_list {{ {' '.join(listed)} }}")
    return Command(
        folder, f"--model_config_file={config}", "--allow_version_labels_for_unavailable_models=true", *flags
    )


def write(base: Path, declared: dict[str, Any], version: int = 1) -> Path:
    folder = base / str(version)
    folder.mkdir(parents=True)
    (folder / "mix.json").write_text(json.dumps(declared))
    return base


def remote(url: str, **more: Any) -> dict[str, Any]:
    declared = copy.deepcopy(MIX)
    large = declared["steps"]["large"]
    del large["label"]
    large.update(url=url, **more)
    return declared


def rows(command: Command, step: str, branch: str, name: str = "zeroserve_mix_rows_total") -> float:
    text = command.get("/monitoring/prometheus/metrics").text
    found = re.findall(rf'^{name}{{.*step="{step}",branch="{branch}".*}} (\S+)$', text, re.MULTILINE)
    return sum(map(float, found))


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """The example, as its README starts it."""
    folder = tmp_path_factory.mktemp("local")
    flags = ("--allow_version_labels_for_unavailable_models=true", "--enable_batching=true")
    with Command(folder, f"--model_config_file={EXAMPLE / 'models.conf'}", *flags) as command:
        command.until_ready()
        yield command


@pytest.mark.parametrize("protocol", ["rest", "grpc", "oip"])
def test_rows_take_their_own_branch_and_come_back_in_order(local: Command, protocol: str) -> None:
    x = images()
    target = f"127.0.0.1:{local.port}"
    with Client(target, protocol=protocol) as client:
        mixed = client.predict("digits_mix", {"image": x}).outputs
        small, large = (client.predict("digits", {"image": x}, version=number).outputs for number in (1, 2))
    unsure = small["scores"].max(axis=1) < 0.8
    assert 0 < unsure.sum() < len(x)
    assert mixed["escalated"].tolist() == unsure.tolist()
    assert mixed["scores"].dtype == np.float32
    np.testing.assert_allclose(mixed["scores"][~unsure], small["scores"][~unsure], rtol=1e-5)
    np.testing.assert_allclose(mixed["scores"][unsure], large["scores"][unsure], rtol=1e-4, atol=1e-6)
    assert mixed["digit"].tolist() == mixed["scores"].argmax(axis=1).tolist()


def test_one_row_alone_gives_what_it_gives_among_others(local: Command) -> None:
    x = images(40)
    with Client(f"127.0.0.1:{local.port}") as client:
        whole = client.predict("digits_mix", {"image": x}).outputs
        alone = [client.predict("digits_mix", {"image": x[row : row + 1]}).outputs for row in range(len(x))]
    assert whole["digit"].tolist() == [one["digit"][0] for one in alone]
    np.testing.assert_allclose(whole["scores"], np.concatenate([one["scores"] for one in alone]), rtol=1e-5, atol=1e-7)


def test_metadata_status_and_the_output_filter_are_those_of_any_model(local: Command) -> None:
    metadata = local.get("/v1/models/digits_mix/metadata").json()["metadata"]["signature_def"]["signature_def"]
    assert metadata["serving_default"]["outputs"]["scores"]["tensor_shape"]["dim"][1]["size"] == "10"
    assert local.versions("digits_mix") == {1: ("AVAILABLE", "")}
    answer = local.get("/v2/models/digits_mix").json()
    assert {one["name"]: one["datatype"] for one in answer["outputs"]} == {
        "digit": "INT64",
        "escalated": "BOOL",
        "scores": "FP32",
    }
    before = rows(local, "small", "run")
    with Client(f"127.0.0.1:{local.port}") as client:
        assert [*client.predict("digits_mix", images(3), outputs=["digit"]).outputs] == ["digit"]
    assert rows(local, "small", "run") == before + 3
    empty = requests.post(local.url("/v1/models/digits_mix:predict"), json={"inputs": {"image": [[1.0]]}}, timeout=30)
    assert empty.status_code == 400


def test_inspect_shows_what_a_mix_takes_and_gives_or_what_is_wrong_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write(tmp_path / "mix", MIX)
    assert inspect_cli.main([str(base), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["signatures"]["serving_default"]
    assert [one["name"] for one in shown["outputs"]] == ["digit", "escalated", "scores"]
    wrong = copy.deepcopy(MIX)
    wrong["steps"]["large"]["when"] = "max(small) < 0.8"
    assert inspect_cli.main([str(write(tmp_path / "mix", wrong, 2))]) != 0
    assert "steps.large.when: no input is named 'small'" in capsys.readouterr().err


def test_a_server_without_a_mix_imports_nothing_of_them() -> None:
    code = (
        "import sys, functions.models, functions.model_loader, functions.doors;"
        "print([name for name in sys.modules if 'mixing.' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "['loader.mixing.mix_file']"


def test_a_step_asks_another_service_only_for_the_rows_that_need_it(tmp_path: Path) -> None:
    x = images()
    with contextlib.ExitStack() as stack:
        far = stack.enter_context(start(tmp_path / "far", {"digits": (DIGITS, "")}))
        far.until_ready()
        models = {"digits": (DIGITS, ALL)}
        for protocol in ("oip", "rest", "grpc"):
            declared = remote(f"http://127.0.0.1:{far.port}", protocol=protocol)
            models[protocol] = (write(tmp_path / protocol, declared), "")
        near = stack.enter_context(start(tmp_path / "near", models))
        near.until_ready()

        def asked() -> float:
            text = far.get("/monitoring/prometheus/metrics").text
            return sum(map(float, re.findall(r"request_example_count_total{.*} (\S+)", text)))

        with Client(f"127.0.0.1:{near.port}") as client:
            small = client.predict("digits", {"image": x}, version=1).outputs["scores"]
            large = client.predict("digits", {"image": x}, version=2).outputs["scores"]
            unsure = small.max(axis=1) < 0.8
            client.predict("oip", {"image": x[~unsure]})
            assert rows(near, "large", "run") == 0
            for protocol in ("oip", "rest", "grpc"):
                scores = client.predict(protocol, {"image": x}).outputs["scores"]
                np.testing.assert_allclose(scores, np.where(unsure[:, None], large, small), rtol=1e-4, atol=1e-6)
        assert rows(near, "large", "run") == 3 * unsure.sum()
        assert asked() in (2 * unsure.sum(), 3 * unsure.sum())


CHAIN = {
    "inputs": {"x": {"dtype": "float32", "shape": [-1]}},
    "steps": {
        "first": {"model": "half", "inputs": {"x": "x"}},
        "second": {"model": "half", "inputs": {"x": "first.y"}},
        "third": {"model": "half", "inputs": {"x": "second.y * 2"}, "when": "x > 0", "otherwise": {"y": "first.y"}},
    },
    "outputs": {
        "y": {"value": "third.y", "dtype": "float32", "shape": [-1]},
        "middle": {"value": "vote(first.y, second.y, second.y)", "dtype": "float32", "shape": [-1]},
        "all": {"value": "concat(first.y, second.y)", "dtype": "float32", "shape": [-1, 2]},
        "mean": {"value": "average(first.y, second.y)", "dtype": "float32", "shape": [-1]},
    },
}


def test_an_output_is_the_next_models_input_and_outputs_are_combined(tmp_path: Path) -> None:
    x = np.array([-2, 0, 4, 8], np.float32)
    first, second = x / 2 + 2, (x / 2 + 2) / 2 + 2
    models = {"half": (GOLDEN_MODELS / "half_plus_two", ""), "chain": (write(tmp_path / "chain", CHAIN), "")}
    with start(tmp_path / "server", models) as server:
        server.until_ready()
        for protocol in ("rest", "grpc", "oip"):
            with Client(f"127.0.0.1:{server.port}", protocol=protocol) as client:
                found = client.predict("chain", {"x": x}).outputs
            np.testing.assert_allclose(found["y"], np.where(x > 0, second + 2, first))
            np.testing.assert_allclose(found["middle"], second)
            np.testing.assert_allclose(found["mean"], (first + second) / 2)
            np.testing.assert_allclose(found["all"], np.stack([first, second], axis=1))


def test_while_the_other_service_is_down_the_fallback_answers(tmp_path: Path) -> None:
    x = images(50)
    with contextlib.ExitStack() as stack:
        far = stack.enter_context(start(tmp_path / "far", {"digits": (DIGITS, "")}))
        far.until_ready()
        whole = remote(f"http://127.0.0.1:{far.port}")
        strict = copy.deepcopy(whole)
        del strict["steps"]["large"]["fallback"]
        models = {
            "digits": (DIGITS, ALL),
            "soft": (write(tmp_path / "soft", whole), ""),
            "strict": (write(tmp_path / "strict", strict), ""),
        }
        near = stack.enter_context(start(tmp_path / "near", models))
        near.until_ready()
        with Client(f"127.0.0.1:{near.port}", attempts=1) as client:
            client.predict("soft", {"image": x})
            far.process.kill()
            far.process.wait()
            small = client.predict("digits", {"image": x}, version=1).outputs["scores"]
            unsure = small.max(axis=1) < 0.8
            answer = client.predict("soft", {"image": x}).outputs
            np.testing.assert_allclose(answer["scores"], small, rtol=1e-5)
            assert not answer["escalated"].any()
            assert rows(near, "large", "fallback") == unsure.sum()
            assert rows(near, "large", "run", "zeroserve_mix_step_failures_total") == 1
            page = (ROOT / "docs" / "metrics.md").read_text()
            text = near.get("/monitoring/prometheus/metrics").text
            families = set(re.findall(r"^# TYPE (zeroserve_mix_\S+)", text, re.MULTILINE))
            assert families == set(re.findall(r"^\| `(zeroserve_mix_\w+)` \|", page, re.MULTILINE))
            with pytest.raises(ServingError, match="step 'large'") as error:
                client.predict("strict", {"image": x})
            assert error.value.code is Code.UNAVAILABLE
            client.predict("strict", {"image": x[~unsure]})  # nobody is asked for these


def test_a_deadline_is_told_to_the_other_service(tmp_path: Path, golden: Path) -> None:
    """A service that never answers costs the step's deadline, not the request's."""
    import socket  # noqa: PLC0415
    import time  # noqa: PLC0415

    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        declared = remote(f"http://127.0.0.1:{silent.getsockname()[1]}", deadline_ms=300)
        models = {"digits": (DIGITS, ALL), "mix": (write(tmp_path / "mix", declared), "")}
        near = stack.enter_context(start(tmp_path / "near", models))
        near.until_ready()
        with Client(f"127.0.0.1:{near.port}", attempts=1) as client:
            began = time.monotonic()
            answer = client.predict("mix", {"image": np.zeros((1, 8, 8), np.float32) + 0.5}).outputs
            assert 0.25 < time.monotonic() - began < 5
            assert not answer["escalated"].any()
        silent.settimeout(5)
        connection = stack.enter_context(silent.accept()[0])
        connection.settimeout(5)
        head = connection.recv(65536).lower()
        told = re.search(rb"x-request-timeout-ms: (\d+)", head)
        assert told is not None
        assert 0 < int(told[1]) <= 300


def test_a_mix_that_names_an_unknown_model_is_not_served_and_the_one_before_it_stays(tmp_path: Path) -> None:
    base = write(tmp_path / "mix", MIX)
    flags = ("--max_num_load_retries=0", "--file_system_poll_wait_seconds=1")
    models = {"digits": (DIGITS, ALL + ' version_labels { key: "canary" value: 2 }'), "mix": (base, "")}
    with start(tmp_path / "near", models, *flags) as near:
        near.until_ready()
        wrong = copy.deepcopy(MIX)
        wrong["steps"]["large"]["model"] = "digit"
        write(base, wrong, 2)
        near.until(lambda: near.versions("mix").get(2, ("", ""))[0] == "END")
        assert "steps.large.model: no model 'digit' is configured here: found digits, mix" in near.versions("mix")[2][1]
        assert near.versions("mix")[1][0] == "AVAILABLE"
        itself = copy.deepcopy(MIX)
        itself["steps"]["small"] = {"model": "mix", "inputs": {"image": "image"}}
        write(base, itself, 3)
        near.until(lambda: near.versions("mix").get(3, ("", ""))[0] == "AVAILABLE")
        answer = requests.post(
            near.url("/v1/models/mix:predict"), json={"instances": np.zeros((1, 8, 8)).tolist()}, timeout=30
        )
        assert answer.status_code == 400
        assert "does one ask itself?" in answer.json()["error"]
