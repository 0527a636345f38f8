"""Only signed versions are deployed where a declaration names keys."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.deployers import Cluster, Deployer, cluster, deployer, eventually
from tests.functions.served import GOLDEN_MODELS
from tests.loader.signing import Signer

pytestmark = pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="no cluster: KUBECONFIG is not set")

MODEL = GOLDEN_MODELS / "half_plus_two" / "1"


@pytest.fixture
def place() -> Iterator[Cluster]:
    with cluster() as found:
        yield found


@pytest.fixture
def function(place: Cluster, tmp_path: Path) -> Iterator[Deployer]:
    with deployer(tmp_path, place.namespace) as found:
        yield found


def test_a_version_waits_for_its_signature_and_a_wrong_one_leaves_traffic_as_it_was(
    place: Cluster, function: Deployer, tmp_path: Path
) -> None:
    signer, stranger = Signer(tmp_path), Signer(tmp_path, "stranger")
    models = tmp_path / "m"
    place.declare("m", models)
    place.redeclare("m", signing_keys=signer.public)
    shutil.copytree(MODEL, models / "1")
    status, text = function.created(models / "1" / "saved_model.pb")
    assert status == 503
    assert "model.sig: not there" in text
    signature = signer.sign(models / "1")
    assert function.created(signature)[0] == 202
    eventually(lambda: place.shares("m") == {1: 100} and place.tags("m").keys() == {"v1"})

    shutil.copytree(MODEL, models / "2")
    assert function.created(stranger.sign(models / "2"))[0] == 204
    assert place.versions("m") == [1]
    assert place.shares("m") == {1: 100}
    assert "made by none of the keys" in place.note("m")

    # Signed anew, it is another version of the files: looked at again, and deployed.
    assert function.created(signer.sign(models / "2"))[0] == 202
    eventually(lambda: place.shares("m") == {2: 100})
    assert place.note("m") == ""
    (container,) = place.service("m")["spec"]["template"]["spec"]["containers"]
    assert {"name": "SERVING_MODEL_SIGNING_KEYS", "value": signer.public} in container["env"]


def test_a_first_version_that_nobody_signed_deploys_nothing(place: Cluster, function: Deployer, tmp_path: Path) -> None:
    signer, stranger = Signer(tmp_path), Signer(tmp_path, "stranger")
    models = tmp_path / "m"
    place.declare("m", models)
    place.redeclare("m", signing_keys=signer.public)
    shutil.copytree(MODEL, models / "1")
    assert function.created(stranger.sign(models / "1"))[0] == 204
    assert function.sweep() == 204
    assert place.service("m") == {}
    assert function.log.read_text().count("WARNING zeroserve.landing: m: ") == 1
