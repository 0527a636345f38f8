"""A bad version on a real cluster: stopped before its first user, or taken back in the middle of its canary."""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from events.own_event import CREATED
from knative import keys, kubeconfig
from knative.client import Client
from knative.declaration import DECLARATION_KEY, Declaration, config_map, declaration_text
from knative.policy import parse_policy
from knative.progression import Phase, Progress, noted
from knative.service import Deployment
from tests.e2e.deployers import Deployer, deployer, eventually
from tests.e2e.ingress import BODY, Service
from tests.e2e.place import MODEL, SECRET, Place, needs_cluster, run
from tests.functions.served import GOLDEN_MODELS
from tests.servers.sink import SinkServer, sink_server

pytestmark = needs_cluster

BAD = GOLDEN_MODELS / "mlp" / "1"
"""Another model: it refuses what half_plus_two takes."""

SECONDS = 180.0


@dataclass
class Stage:
    """A model whose versions land in a bucket, and a deploy function that brings them to the cluster."""

    here: Place
    client: Client
    function: Deployer
    sink: SinkServer

    def declare(self, rollout: str, **gates: object) -> None:
        deployment = Deployment(
            "m",
            self.here.url("m"),
            os.environ["ZEROSERVE_E2E_IMAGE"],
            namespace=self.here.namespace,
            cpu="50m",
            memory="400Mi",
            environment_secrets=(SECRET,),
        )
        text = declaration_text(Declaration(deployment, rollout=parse_policy(rollout), gates=gates))
        config = config_map("m", self.here.namespace, {DECLARATION_KEY: text})
        self.client.apply_config_map(config, keys.FIELD_MANAGER)

    def land(self, version: int, model: Path) -> None:
        """Uploads a version, and tells of it."""
        url = self.here.upload("m", version, model)
        assert self.function.send(CREATED, {"url": f"{url}/{version}/saved_model.pb"})[0] in {202, 204}

    def progress(self) -> Progress | None:
        return noted(self.client.service(self.here.namespace, "m"))

    def ended(self) -> bool:
        progress = self.progress()
        return progress is not None and progress.phase is not Phase.STEPPING

    def landing_note(self) -> str:
        service = self.client.service(self.here.namespace, "m") or {"metadata": {}}
        note: str = service["metadata"].get("annotations", {}).get(keys.LANDING, "")
        return note

    def kinds(self) -> list[str]:
        """What the world was told so far."""
        found = []
        while not self.sink.received.empty():
            received = self.sink.next()
            found.append(received.headers["ce-type"].split(".")[3])
        return found


@pytest.fixture
def stage(here: Place, tmp_path: Path) -> Iterator[Stage]:
    client = Client(kubeconfig.read(os.environ["KUBECONFIG"], {}))
    environ = {
        **here.store.environ,
        # The function is a process on this machine, where names of the cluster mean nothing.
        "SERVING_PEER_URL": f"http://{{tag}}-{{service}}.{{namespace}}.{os.environ['KNATIVE_DOMAIN']}",
        "SERVING_PEER_GATEWAY": os.environ["KNATIVE_INGRESS"],
    }
    with (
        sink_server() as sink,
        deployer(tmp_path, here.namespace, SERVING_ROLLOUT_SINK=sink.url, **environ) as function,
    ):
        yield Stage(here, client, function, sink)
    client.close()


@dataclass
class Load:
    """What users saw: (moment, status) of each request."""

    seen: list[tuple[float, int]] = field(default_factory=list)

    def between(self, first: float, last: float) -> list[int]:
        return [status for moment, status in self.seen if first <= moment <= last]


@contextmanager
def load(service: Service, users: int = 4, pause: float = 0.04) -> Iterator[Load]:
    """Users who ask all the time, each request on its own connection's turn."""
    found, end = Load(), threading.Event()

    def ask() -> None:
        with service.connection() as asked:
            while not end.wait(pause):
                answer = asked("POST", f"/v1/models/{service.model}:predict", BODY)
                found.seen.append((time.time(), answer.status))

    threads = [threading.Thread(target=ask) for _ in range(users)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        end.set()
        for thread in threads:
            thread.join()


def test_a_version_with_other_signatures_never_sees_a_user_and_the_service_says_why(stage):
    stage.declare("canary=20")
    stage.land(1, MODEL)
    eventually(lambda: stage.here.percents("m") == {1: 100} and stage.here.status("m")["ready"], SECONDS)
    with load(stage.here.service("m"), users=2) as seen:
        stage.land(2, BAD)
        eventually(stage.ended, SECONDS)
    progress = stage.progress()
    assert progress is not None
    assert progress.phase is Phase.ROLLED_BACK
    assert progress.why.startswith("gate signatures: signature 'serving_default'")
    assert stage.here.percents("m") == {1: 100}
    assert {status for _, status in seen.seen} == {200}
    eventually(lambda: "gate signatures" in stage.landing_note())
    eventually(lambda: "failed" in stage.kinds())


def test_a_bad_version_in_the_middle_of_a_canary_costs_no_more_than_its_share_until_it_is_taken_back(stage, capsys):
    stage.declare("canary=20", signatures="ignore")
    stage.land(1, MODEL)
    eventually(lambda: stage.here.percents("m") == {1: 100} and stage.here.status("m")["ready"], SECONDS)
    with load(stage.here.service("m")) as seen:
        stage.land(2, BAD)
        eventually(lambda: (stage.progress() or Progress("", {}, (0,), 0, 0, 0)).percent == 20, SECONDS)
        eventually(stage.ended, SECONDS)
        progress = stage.progress()
        assert progress is not None
        eventually(lambda: [status for _, status in seen.seen[-100:]] == [200] * 100)
    assert progress.phase is Phase.ROLLED_BACK
    assert "requests failed" in progress.why
    assert stage.here.percents("m") == {1: 100}
    wrong = [moment for moment, status in seen.seen if status != 200]
    during = seen.between(wrong[0], wrong[-1])
    share = sum(status != 200 for status in during) / len(during)
    with capsys.disabled():
        print(
            f"\nbad canary at 20 %: {len(wrong)} of {len(during)} requests failed ({share:.1%}) in the "
            f"{wrong[-1] - wrong[0]:.1f} s from the first failure to the last; {progress.why}"
        )
    # 20 % of some hundred requests, and four standard deviations.
    assert share <= 0.2 + 4 * (0.16 / len(during)) ** 0.5
    assert wrong[-1] - wrong[0] < 60
    told = stage.kinds()
    assert told.index("step") < told.index("rolled_back")
    assert stage.function.sweep() == 204
    assert stage.here.percents("m") == {1: 100}


def test_a_retrained_version_that_answers_otherwise_is_refused_and_one_that_agrees_passes(stage, built, tmp_path):
    stage.declare("", replay={"records": "golden"})
    stage.land(1, built("line"))
    m = stage.here.service("m")
    eventually(lambda: m.ask("POST", "/v1/models/m:predict", BODY).status == 200, SECONDS)
    requests = tmp_path / "requests.jsonl"
    requests.write_text("".join(json.dumps({"instances": [x, x + 1.0]}) + "\n" for x in range(20)))
    (pod,) = stage.here.pods("m")
    address = stage.here.get("pod", pod)["status"]["podIP"]
    golden = f"{stage.here.url('m')}/golden/requests.tfrecord"
    words = ["record", f"http://{address}:8080", "--model=m", f"--requests={requests}", f"--to={golden}"]
    said = run(sys.executable, "-m", "functions.cli", *words, store=stage.here.store)
    assert said.status == 0, said.err

    stage.land(2, built("line_otherwise"))
    eventually(stage.ended, SECONDS)
    progress = stage.progress()
    assert progress.phase is Phase.ROLLED_BACK
    assert progress.why.startswith("gate replay: 0 of 20 answers agree"), progress.why
    assert stage.here.percents("m") == {1: 100}
    eventually(lambda: "gate replay" in stage.landing_note())

    stage.land(3, built("line_again"))
    eventually(lambda: stage.here.percents("m") == {3: 100}, SECONDS)
    eventually(lambda: stage.progress().phase is Phase.PROMOTED)
    assert {"failed", "promoted"} <= set(stage.kinds())


def test_a_good_version_passes_its_gates_and_its_steps(stage):
    stage.declare("steps=20,100:5s", health={"min_requests": 20})
    stage.land(1, MODEL)
    eventually(lambda: stage.here.percents("m") == {1: 100} and stage.here.status("m")["ready"], SECONDS)
    with load(stage.here.service("m")) as seen:
        stage.land(2, MODEL)
        eventually(lambda: stage.here.percents("m") == {2: 100}, SECONDS)
    assert {status for _, status in seen.seen} == {200}
    eventually(lambda: stage.progress() is not None and stage.progress().phase is Phase.PROMOTED)
    told = stage.kinds()
    assert told.index("step") < told.index("promoted")
