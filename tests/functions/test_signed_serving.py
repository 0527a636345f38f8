"""`--model_signing_keys`: a real server, models signed by the real `model_signing`, storage on this machine and S3."""

import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functions.command import Command
from tests.functions.served import ROOT
from tests.loader.signing import Signer
from tests.servers.s3 import S3Server, s3_server

FLAGS = ("--model_name=m", "--file_system_poll_wait_seconds=1", "--max_num_load_retries=0")


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path)


@pytest.fixture
def models(tmp_path: Path, golden: Path) -> Path:
    shutil.copytree(golden / "half_plus_two" / "1", tmp_path / "models" / "1")
    return tmp_path / "models"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def test_a_version_is_served_once_its_signature_has_come_and_holds(
    tmp_path: Path, models: Path, signer: Signer, golden: Path
) -> None:
    flags = (*FLAGS, f"--model_base_path={models}", f"--model_signing_keys={signer.public_file}")
    with Command(tmp_path, *flags) as server:
        server.until_line("version 1 of m is not complete in storage: model.sig: not there")
        assert server.predict().status_code != 200
        signer.sign(models / "1")
        server.until(lambda: server.predict().status_code == 200)
        assert server.predict().json() == {"predictions": [2.5]}
        # The next version holds another model than the one that was signed.
        shutil.copytree(models / "1", tmp_path / "2")
        shutil.copy(golden / "mlp" / "1" / "saved_model.pb", tmp_path / "2" / "saved_model.pb")
        (tmp_path / "2").rename(models / "2")
        server.until(lambda: server.versions().get(2, ("", ""))[0] == "END")
        assert server.versions()[2][1] == "saved_model.pb: not what was signed"
        assert server.versions()[1][0] == "AVAILABLE"
        assert server.predict().json() == {"predictions": [2.5]}


def test_what_is_loaded_is_what_was_signed_whatever_became_of_storage_and_cache(
    tmp_path: Path, models: Path, signer: Signer, s3: S3Server
) -> None:
    signer.sign(models / "1")
    s3.put_tree(models / "1", "signed/1")
    flags = (*FLAGS, "--model_base_path=s3://models/signed", f"--cache_directory={tmp_path / 'cache'}")
    environ = s3.environ | {"SERVING_MODEL_SIGNING_KEYS": signer.public}
    for start in ("empty cache", "kept cache"):
        with Command(tmp_path, *flags, environ=environ) as server:
            server.until_ready()
            assert server.predict().json() == {"predictions": [2.5]}, start
            server.port_file.unlink()
    for file in (tmp_path / "cache").rglob("saved_model.pb"):
        file.chmod(0o644)
        file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with Command(tmp_path, *flags, environ=environ) as server:
        server.until(server.versions)
        # Either the cache has noticed and fetched it again, or it is refused; what changed is never served.
        server.until(lambda: server.predict().status_code == 200 or server.versions()[1][0] == "END")
        if server.predict().status_code == 200:
            assert server.predict().json() == {"predictions": [2.5]}


def test_an_archive_has_its_signature_inside(tmp_path: Path, models: Path, signer: Signer) -> None:
    signer.sign(models / "1")
    with tarfile.open(models / "7.tar.gz", "w:gz") as archive:
        archive.add(models / "1", ".")
    shutil.rmtree(models / "1")
    flags = (*FLAGS, f"--model_base_path={models}", f"--model_signing_keys={signer.public_file}")
    with Command(tmp_path, *flags) as server:
        server.until_ready()
        assert server.versions() == {7: ("AVAILABLE", "")}


@pytest.mark.parametrize("text", ["/nowhere/key.pem", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"])
def test_keys_that_are_none_end_the_start_with_one_line(models: Path, text: str) -> None:
    command = [sys.executable, "-m", "functions.cli", "serve", *FLAGS, f"--model_base_path={models}"]
    done = subprocess.run(
        [*command, f"--model_signing_keys={text}"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()[-1:]
    assert "--model_signing_keys" in line
