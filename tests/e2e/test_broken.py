"""A version that cannot serve takes no traffic, `deploy` fails with the reason, and `status` shows it."""

import shutil
from pathlib import Path

import pytest

from tests.e2e.place import MODEL, Place, Said, needs_cluster

pytestmark = needs_cluster


def reasons(here: Place, name: str, version: int) -> str:
    """What `zeroserve status` says about a version."""
    rows = [row for row in here.status(name)["revisions"] if row["version"] == version]
    return " ".join(reason for row in rows for reason in row["reasons"])


def deploy_second(here: Place, second: Path, *words: str) -> Said:
    """Version 1 works; version 2 is another folder, and does not come up."""
    here.deploy("m", here.upload("m", 1))
    here.upload("m", 2, second)
    said = here.deploy("m", here.url("m"), "--ready-timeout=40", *words, fails=True)
    assert here.percents("m") == {1: 100}
    answer = here.service("m").predict()
    assert (answer.status, answer.version) == (200, 1)
    return said


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A version to be broken."""
    return Path(shutil.copytree(MODEL, tmp_path / "2"))


def test_a_corrupt_version_takes_no_traffic(here: Place, copy: Path):
    variables = copy / "variables" / "variables.data-00000-of-00001"
    content = bytearray(variables.read_bytes())
    content[0] ^= 0xFF
    variables.write_bytes(content)
    said = deploy_second(here, copy)
    assert "variables" in said.err or "checksum" in said.err.lower(), said.err
    assert reasons(here, "m", 2)


def test_a_model_that_is_no_model_is_not_even_deployed(here: Place, copy: Path):
    here.deploy("m", here.upload("m", 1))
    (copy / "saved_model.pb").write_bytes(b"garbage")
    here.upload("m", 2, copy)
    said = here.deploy("m", here.url("m"))
    assert "version 2 waits: saved_model.pb: 7 bytes that are not a whole SavedModel" in said.err
    assert here.percents("m") == {1: 100}


def test_a_setting_that_no_server_knows_is_not_even_deployed(here: Place):
    url = here.upload("m", 1)
    said = here.deploy("m", url, "--env=SERVING_MAX_BATCH_SIZ=3", fails=True)
    assert "the nearest known one is SERVING_MAX_BATCH_SIZE" in said.err
    assert here.get("ksvc")["items"] == []


def test_a_server_that_ends_at_its_start_takes_no_traffic(here: Place, copy: Path):
    said = deploy_second(here, copy, "--env=PYTHONHOME=/nowhere")
    assert "exit 1" in said.err
    assert "exit 1" in reasons(here, "m", 2)


def test_a_version_that_needs_too_much_memory_takes_no_traffic(here: Place, copy: Path):
    said = deploy_second(here, copy, "--memory=48Mi")
    assert "OOMKilled" in said.err
    assert "OOMKilled" in reasons(here, "m", 2)
