"""An upload deploys, once, in whatever order events and files come, and however many functions run."""

import os
import random
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from events.own_event import CREATED, REMOVED
from knative.traffic import TrafficTarget
from tests.e2e.deployers import HOST, Cluster, Deployer, cluster, deployer, eventually, post, upload
from tests.functions.served import GOLDEN_MODELS

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


def land(function: Deployer, model: Path, version: int) -> None:
    """Puts a whole version there, then tells of it."""
    shutil.copytree(MODEL, model / str(version))
    assert function.created(model / str(version) / "saved_model.pb")[0] in {202, 204}


def test_files_in_any_order_make_one_revision_once_the_last_is_there(place, function, tmp_path):
    place.declare("m", tmp_path / "m")
    answers = []
    upload(MODEL, tmp_path / "m" / "1", lambda file: answers.append(function.created(file)), random.Random(7))
    assert [status for status, _ in answers if status != 503] in ([202], [202, 202], [202, 204])
    assert all("version 1 is not complete" in text for status, text in answers if status == 503)
    eventually(lambda: place.shares("m") == {1: 100} and set(place.tags("m")) == {"v1"})
    assert len(place.revisions("m")) == 1
    assert function.created(tmp_path / "m" / "1" / "saved_model.pb")[0] == 204
    routes = place.client.config_map(place.namespace, "zeroserve-m")["data"]["routes.json"]
    assert '"arms": [{"percent": 100, "tag": "v1"}]' in routes


def test_the_next_version_takes_the_traffic_and_one_that_comes_late_does_not(place, function, tmp_path):
    place.declare("m", tmp_path / "m")
    land(function, tmp_path / "m", 2)
    eventually(lambda: place.tags("m").keys() == {"v2"})
    land(function, tmp_path / "m", 3)
    eventually(lambda: place.shares("m") == {3: 100})
    land(function, tmp_path / "m", 1)
    assert function.sweep() == 204
    assert place.versions("m") == [2, 3]
    assert place.shares("m") == {3: 100}


def test_a_served_version_that_is_deleted_hands_over_to_the_one_below_and_the_last_one_stays(place, function, tmp_path):
    place.declare("m", tmp_path / "m")
    land(function, tmp_path / "m", 1)
    eventually(lambda: place.tags("m").keys() == {"v1"})
    land(function, tmp_path / "m", 2)
    eventually(lambda: place.shares("m") == {2: 100})
    shutil.rmtree(tmp_path / "m" / "2")
    assert function.send(REMOVED, {"url": str(tmp_path / "m" / "2")})[0] in {202, 204}
    eventually(lambda: place.shares("m") == {1: 100})
    shutil.rmtree(tmp_path / "m")
    assert function.sweep() == 204
    assert place.shares("m") == {1: 100}


def test_overwritten_files_change_nothing_and_the_service_says_so(place, function, tmp_path):
    place.declare("m", tmp_path / "m")
    land(function, tmp_path / "m", 1)
    eventually(lambda: place.tags("m").keys() == {"v1"})
    before = place.revisions("m")
    (tmp_path / "m" / "1" / "variables" / "variables.index").unlink()
    assert function.created(tmp_path / "m" / "1" / "saved_model.pb")[0] == 204
    assert place.shares("m") == {1: 100}
    shutil.rmtree(tmp_path / "m" / "1")
    shutil.copytree(MODEL, tmp_path / "m" / "1", copy_function=shutil.copyfile)
    assert function.created(tmp_path / "m" / "1" / "saved_model.pb")[0] == 204
    assert place.revisions("m") == before
    assert "version 1 changed after it landed" in place.note("m")


def test_overwritten_files_make_another_revision_where_the_declaration_wants_it(place, function, tmp_path):
    place.declare("m", tmp_path / "m", overwritten="redeploy")
    land(function, tmp_path / "m", 1)
    eventually(lambda: place.tags("m").keys() == {"v1"})
    first = place.tags("m")["v1"]
    (tmp_path / "m" / "1" / "assets.extra").mkdir(exist_ok=True)
    (tmp_path / "m" / "1" / "assets.extra" / "readme.txt").write_text("new")
    # A manifest says that all is there; without one, quiet does.
    size = (tmp_path / "m" / "1" / "saved_model.pb").stat().st_size
    (tmp_path / "m" / "1" / "zeroserve.manifest.json").write_text(f'{{"saved_model.pb": {{"size": {size}}}}}')
    assert function.created(tmp_path / "m" / "1" / "zeroserve.manifest.json")[0] == 202
    eventually(lambda: place.tags("m").get("v1") not in {first, None})
    assert place.shares("m") == {1: 100}
    assert place.versions("m") == [1, 1]


def test_a_version_that_does_not_come_up_leaves_the_traffic_where_it_is_and_says_why(place, function, tmp_path):
    place.declare("m", tmp_path / "m")
    land(function, tmp_path / "m", 1)
    eventually(lambda: place.tags("m").keys() == {"v1"})
    good = place.tags("m")["v1"]
    place.redeclare("m", image="dev.local/no-such-image:1", progress_seconds=5)
    assert function.sweep() in {202, 204}
    eventually(lambda: function.sweep() and place.note("m"), 90)
    assert "m-v1-" in place.note("m")
    assert place.tags("m")["v1"] == good
    assert place.shares("m") == {1: 100}
    place.redeclare(
        "m", image=place.declared["m"].deployment.image.replace("no-such-image", "demo"), progress_seconds=0
    )
    function.sweep()
    eventually(lambda: function.sweep() and not place.note("m"))


def test_traffic_that_somebody_else_set_stays(place, function, tmp_path):
    place.declare("m", tmp_path / "m", versions="all")
    land(function, tmp_path / "m", 1)
    land(function, tmp_path / "m", 2)
    eventually(lambda: place.tags("m").keys() == {"v1", "v2"})
    tags = place.tags("m")
    place.retarget("m", (TrafficTarget(tags["v1"], 70), TrafficTarget(tags["v2"], 30)))
    land(function, tmp_path / "m", 3)
    eventually(lambda: "v3" in place.tags("m"))
    assert place.shares("m") == {1: 70, 2: 30}


def test_a_service_accounts_token_for_this_door_is_taken_and_no_other(place, tmp_path):
    def token(audience: str) -> str:
        path = f"/api/v1/namespaces/{place.namespace}/serviceaccounts/default/token"
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": [audience]}}
        found: str = place.client.json("POST", path, None, asked)["status"]["token"]
        return found

    place.declare("m", tmp_path / "m")
    shutil.copytree(MODEL, tmp_path / "m" / "1")
    data = {"url": str(tmp_path / "m" / "1")}
    with deployer(tmp_path, place.namespace, "--event_audience=deploy-door") as function:
        assert function.send(CREATED, data, token("deploy-door"))[0] == 202
        assert function.send(CREATED, data, token("another-door"))[0] == 403
        assert function.send(CREATED, data)[0] == 403
    with deployer(tmp_path, place.namespace, "--event_audience=deploy-door", SERVING_EVENT_SUBJECTS="x") as function:
        status, text = function.send(CREATED, data, token("deploy-door"))
        assert (status, "is not among those that may" in text) == (403, True)


def test_a_broker_sends_an_event_again_until_its_version_is_complete(place, tmp_path):
    place.declare("m", tmp_path / "m")
    (tmp_path / "m" / "1").mkdir(parents=True)
    shutil.copy(MODEL / "saved_model.pb", tmp_path / "m" / "1")
    with deployer(tmp_path, place.namespace, "--anonymous_events") as function:
        broker = place.broker(f"http://{HOST}:{function.port}/")
        data = {"url": str(tmp_path / "m" / "1" / "saved_model.pb")}
        with ThreadPoolExecutor(1) as pool:
            # An in-memory broker answers when all is delivered; one that was made a moment ago may not know itself yet.
            sent = pool.submit(eventually, lambda: post(broker, CREATED, data) == 202)
            eventually(lambda: function.answered(503))
            # The events of the other files are lost.
            shutil.copytree(MODEL, tmp_path / "m" / "1", dirs_exist_ok=True)
            eventually(lambda: place.tags("m").keys() == {"v1"})
            sent.result()
        assert len(place.revisions("m")) == 1


def test_many_uploads_two_functions_one_killed_and_lost_events_end_in_one_revision_each(place, tmp_path):
    models = [f"m{number}" for number in range(int(os.environ.get("ZEROSERVE_E2E_MODELS", "3")))]
    versions = range(1, int(os.environ.get("ZEROSERVE_E2E_VERSIONS", "4")) + 1)
    for name in models:
        place.declare(name, tmp_path / name, versions="all")
    chance = random.Random(1)
    with deployer(tmp_path, place.namespace) as first, deployer(tmp_path, place.namespace) as second:

        def tell(file: Path) -> None:
            # One in four is lost, one in four is doubled; which function gets it is chance.
            for _ in range(chance.choice((0, 1, 1, 2))):
                chance.choice((first, second)).created(file)

        def everything(name: str) -> None:
            order = random.Random(name)
            for version in order.sample(versions, len(versions)):
                upload(MODEL, tmp_path / name / str(version), tell, order)

        killer = threading.Timer(3.0, first.kill)
        killer.start()
        with ThreadPoolExecutor(len(models)) as pool:
            list(pool.map(everything, models))
        killer.join()
        # What is not complete is never deployed, and what was lost the sweep finds.
        (tmp_path / models[0] / "99").mkdir()
        (tmp_path / models[0] / "99" / "saved_model.pb").write_bytes(b"\x08\x01")

        def all_there() -> bool:
            second.sweep()
            return all(place.tags(name).keys() == {f"v{version}" for version in versions} for name in models)

        eventually(all_there, 60 + 10 * len(models) * len(versions))
        for name in models:
            assert place.versions(name) == list(versions)
            eventually(lambda name=name: place.shares(name) == {max(versions): 100})
            eventually(lambda name=name: place.ready(name))
