"""`zeroserve events` without a cluster; tests/e2e has the rest."""

from pathlib import Path

import pytest
import yaml

from events import config_event
from events.decode import of_cloud_event
from events.door import SWEEPS
from events.envelope import Envelope
from events.error import MalformedError
from functions.cli import main
from functions.commands.events import EVENT_TYPES

INSTALL = ["events", "install", "-n", "models", "--image", "registry/zeroserve-deploy:1", "-o", "yaml"]


def documents(capsys: pytest.CaptureFixture[str], *words: str) -> dict[tuple[str, str], dict[str, object]]:
    assert main([*INSTALL, *words]) == 0
    found = yaml.safe_load_all(capsys.readouterr().out)
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


def test_manifests_are_printed_without_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    found = documents(capsys, "--anonymous-events", "--watch", "hdfs://namenode/models")
    assert {kind for kind, _ in found} == {
        "Broker",
        "ContainerSource",
        "PingSource",
        "Role",
        "RoleBinding",
        "Service",
        "ServiceAccount",
        "SinkBinding",
        "Trigger",
    }


def test_a_guarded_door_has_a_secret_that_nobody_guesses(capsys: pytest.CaptureFixture[str]) -> None:
    secrets = {
        str(documents(capsys, "--oidc-audience=zeroserve")["Secret", "zeroserve-events"]["stringData"]) for _ in "12"
    }
    assert len(secrets) == 2


def test_a_secret_that_is_given_is_used(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("a-word-that-nobody-guesses")
    found = documents(capsys, "--oidc-audience=zeroserve", f"--secret-file={file}")
    assert found["Secret", "zeroserve-events"]["stringData"] == {"secret": "a-word-that-nobody-guesses"}


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], "authentication-oidc"),
        (["--anonymous-events", "--oidc-audience=a"], "goes with neither"),
        (["--anonymous-events", "--sweep=daily"], "five fields"),
        (["--anonymous-events", "--env=WRONG"], "NAME=VALUE"),
        (["--oidc-audience=a", "--secret-file=/none"], "/none"),
        (["--anonymous-events", "--image="], "--image="),
    ],
)
def test_what_makes_no_sense_is_one_line(capsys: pytest.CaptureFixture[str], words: list[str], wanted: str) -> None:
    assert main([*INSTALL, *words]) == 1
    error = capsys.readouterr().err
    assert wanted in error
    assert len(error.splitlines()) == 1


def test_an_unknown_command_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "instal"]) == 1
    assert "install, status, uninstall" in capsys.readouterr().err


@pytest.mark.parametrize("kind", sorted({*EVENT_TYPES} - SWEEPS - {config_event.TYPE}))
def test_every_storage_event_that_is_let_through_is_understood(kind: str) -> None:
    name = kind.replace("s3.*", "s3.ObjectCreated:Put").replace("*", "BlobCreated")
    with pytest.raises(MalformedError):  # it lacks its data; an event that nobody understands needs none
        of_cloud_event(Envelope({"specversion": "1.0", "id": "1", "source": "s", "type": name}, None))


def test_a_sweep_is_let_through() -> None:
    assert SWEEPS & {*EVENT_TYPES}
