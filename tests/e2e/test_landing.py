"""An upload deploys, once, in whatever order events and files come, and however many functions run."""

import os
import random
import secrets
import shutil
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from events.own_event import CREATED, REMOVED, SWEEP
from functions.commands.cluster import main as cluster_command
from functions.observing.metrics import DEFAULT_PATH
from knative import keys
from knative.declaration import DECLARATION_KEY, config_map, declaration_text
from knative.traffic import TrafficTarget
from tests.e2e.deployers import HOST, IMAGE, Cluster, Deployer, cluster, deployer, eventually, post, upload
from tests.functions.served import GOLDEN_MODELS
from tests.servers.sink import sink_server

pytestmark = pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="no cluster: KUBECONFIG is not set")

MODEL = GOLDEN_MODELS / "half_plus_two" / "1"
MODELS = int(os.environ.get("ZEROSERVE_E2E_MODELS", "5"))
VERSIONS = int(os.environ.get("ZEROSERVE_E2E_VERSIONS", "10"))
ROUTED = 7
"""Addressed versions that an ingress on the Gateway API can route where Knative routes by its tag header too: two rules
for each and two for the service, of at most 16.

Source: HTTPRouteSpec.rules, maxItems; net-gateway-api pkg/reconciler/ingress/resources/httproute.go.
"""
SEED = os.environ.get("ZEROSERVE_E2E_SEED") or secrets.token_hex(4)
"""Of what is left to chance; printed, so that a run can be had again."""


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


def test_a_function_that_ends_in_the_middle_of_a_rollout_wakes_another_one(place, tmp_path):
    place.declare("m", tmp_path / "m", image="dev.local/no-such-image:1")
    place.declare("done", tmp_path / "done")
    with sink_server() as sink:
        with deployer(tmp_path, place.namespace, SERVING_ROLLOUT_SINK=sink.url) as function:
            land(function, tmp_path / "done", 1)
            land(function, tmp_path / "m", 1)
            eventually(lambda: place.tags("done").keys() == {"v1"})
            assert function.sweep() in {202, 204}
        kinds = {}
        while SWEEP not in kinds:
            event = sink.next()
            kinds[event.headers["ce-type"]] = event.data
    assert kinds[SWEEP]["reason"] == "a deploy function ended while rollouts were under way: m"


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


@dataclass
class Deliveries:
    """Two functions that get each event no time, once or twice, now or later and in another order; by chance.

    Attributes:
        told: events that were sent, by how often; 0 times are lost.
        late: those that are held back.
    """

    functions: tuple[Deployer, Deployer]
    chance: random.Random
    told: Counter[int] = field(default_factory=Counter)
    late: list[Path] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, file: Path) -> None:
        with self.lock:
            times = self.chance.choice((0, 1, 1, 2))
            self.told[times] += 1
            now = [file] * times
            if self.chance.random() < 0.3:
                self.late += now
                now = []
            # What was held back comes after what happened later.
            while self.late and self.chance.random() < 0.3:
                now.append(self.late.pop(self.chance.randrange(len(self.late))))
            sent = [(self.chance.choice(self.functions), one) for one in now]
        for function, one in sent:
            function.created(one)


def test_fifty_versions_of_five_models_with_events_lost_doubled_and_late_end_in_one_revision_each(
    place, tmp_path, capsys
):
    """Two functions, one of which is killed at some moment; what nobody was told of, the sweep finds."""
    begun = time.monotonic()
    models = [f"m{number}" for number in range(MODELS)]
    versions = range(1, VERSIONS + 1)
    for name in models:
        place.declare(name, tmp_path / name, versions="all")
    chance = random.Random(SEED)
    whole: dict[tuple[str, int], float] = {}
    with deployer(tmp_path, place.namespace) as first, deployer(tmp_path, place.namespace) as second:
        deliveries = Deliveries((first, second), chance)

        def put(name: str, version: int, told: Callable[[Path], object]) -> None:
            folder = tmp_path / name / str(version)
            upload(MODEL, folder, told, random.Random(f"{name} {version} {SEED}"))
            whole[name, version] = max(file.stat().st_ctime for file in folder.rglob("*") if needed(file))

        def everything(name: str) -> None:
            order = random.Random(f"{name} {SEED}").sample(versions, len(versions))
            for version in order[: -1 if name == models[0] else None]:
                put(name, version, deliveries.tell)

        killed_after = chance.uniform(1.0, 10.0)
        killer = threading.Timer(killed_after, first.kill)
        killer.start()
        # Never complete, although one event after the other tells of it.
        incomplete = tmp_path / models[0] / "99" / "saved_model.pb"
        incomplete.parent.mkdir(parents=True)
        shutil.copyfile(MODEL / "saved_model.pb", incomplete)
        with ThreadPoolExecutor(len(models)) as pool:
            list(pool.map(everything, models))
            assert second.created(incomplete)[0] == 503
        uploaded = time.monotonic() - begun
        killer.join()
        eventually(lambda: not unfinished(second), 60 + 10 * len(whole))
        # A rollout under way looks at storage again and again; from here only the sweep is left to find this one.
        (last,) = set(versions) - {version for name, version in whole if name == models[0]}
        put(models[0], last, lambda file: None)
        unheard = [key for key in whole if f"v{key[1]}" not in place.tags(key[0])]
        sweeps = 0

        def all_there() -> bool:
            nonlocal sweeps
            sweeps += 1
            second.sweep()
            return all(place.tags(name).keys() == {f"v{version}" for version in versions} for name in models)

        eventually(all_there, 60 + 10 * len(whole))
        for name in models:
            assert place.versions(name) == list(versions)
            for entry in place.client.revisions(place.namespace, name):
                version = int(entry["metadata"]["name"].removeprefix(f"{name}-v").partition("-")[0])
                made = datetime.fromisoformat(entry["metadata"]["creationTimestamp"]).timestamp()
                assert made + 1 > whole[name, version], "a revision was made of an incomplete version"
            eventually(lambda name=name: place.shares(name) == {max(versions): 100})
            if len(versions) <= ROUTED:
                eventually(lambda name=name: place.ready(name))
        assert (models[0], last) in unheard
    told = deliveries.told
    with capsys.disabled():
        print(
            f"\nseed {SEED}: {len(whole)} versions of {len(models)} models in {time.monotonic() - begun:.0f} s, "
            f"{uploaded:.0f} s of it uploads: {told.total()} files, {told[0]} never told of, {told[2]} told of twice, "
            f"{len(deliveries.late)} deliveries never came; one function killed after {killed_after:.1f} s; "
            f"{len(unheard)} versions found by {sweeps} sweeps; {sum(map(len, map(place.revisions, models)))} revisions"
        )


def needed(file: Path) -> bool:
    """Whether a version is not complete without it."""
    return file.is_file() and file.name != "fingerprint.pb"


def unfinished(function: Deployer) -> bool:
    """Whether a function has a rollout under way, by its own metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{function.port}{DEFAULT_PATH}") as answer:
        return 'state="working"' in answer.read().decode()


def test_a_declaration_that_nobody_understands_is_said_to_be_on_the_service_and_before_there_is_one(
    place, function, tmp_path, capfd
):
    def spoil(name: str, text: str) -> None:
        place.client.apply_config_map(config_map(name, place.namespace, {DECLARATION_KEY: text}), keys.FIELD_MANAGER)

    def note() -> str:
        return (
            place.client.config_map(place.namespace, "zeroserve-m")["metadata"]
            .get("annotations", {})
            .get(keys.LANDING, "")
        )

    here = f"--namespace={place.namespace}"
    place.declare("m", tmp_path / "m")
    good = declaration_text(place.declared["m"])
    spoil("m", good.replace('"gates"', '"gats"'))
    shutil.copytree(MODEL, tmp_path / "m" / "1")
    assert function.created(tmp_path / "m" / "1" / "saved_model.pb")[0] == 204
    assert "'gats' is not known; did you mean 'gates'?" in note()
    assert place.service("m") == {}
    assert cluster_command("declare", ["m", str(tmp_path / "m"), here]) == 1
    assert "--fresh forgets what was declared" in capfd.readouterr().err
    assert cluster_command("declare", ["m", str(tmp_path / "m"), here, f"--image={IMAGE}", "--fresh"]) == 0
    place.declare("m", tmp_path / "m")  # with sizes that fit here
    function.sweep()
    eventually(lambda: place.tags("m").keys() == {"v1"})
    assert function.sweep() == 204
    assert note() == ""
    spoil("m", good.replace('"compatible"', '"sort of"').replace('"ignore"', '"sort of"'))
    assert function.created(tmp_path / "m" / "1" / "saved_model.pb")[0] == 204
    assert "gates.signatures 'sort of': wanted compatible or ignore" in place.note("m")
    capfd.readouterr()
    cluster_command("status", ["m", here])
    assert "nothing lands until it is declared anew: gates.signatures 'sort of'" in capfd.readouterr().out
    spoil("m", good)
    assert function.sweep() == 204
    assert place.note("m") == ""
