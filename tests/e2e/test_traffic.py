"""Who gets the traffic: splits, users that stay, what others change, the way back, and what a second deploy does."""

import math
from collections import Counter
from collections.abc import Mapping

import yaml

from tests.e2e.ingress import Service, eventually
from tests.e2e.place import Place, needs_cluster

pytestmark = needs_cluster

PATH = "/v1/models/m:predict"
BODY = b'{"instances": [1.0]}'
Z = 3.29
"""Standard deviations on both sides of the mean that hold 99.9 % of a normal distribution."""


def two_versions(here: Place, *words: str) -> Service:
    """Versions 1 and 2; all their pods stay, so that a count is not a count of cold starts."""
    here.upload("m", 1)
    here.deploy("m", here.upload("m", 2), "--policy=latest:2", "--min-scale=1", *words)
    return here.service("m")


def counted(service: Service, requests: int, **headers: str) -> Mapping[int, int]:
    """Version -> answers."""
    seen: Counter[int] = Counter()
    with service.connection() as ask:
        for _ in range(requests):
            answer = ask("POST", PATH, BODY, headers)
            assert answer.status == 200, answer
            seen[answer.version] += 1
    return seen


def within(successes: int, trials: int, share: float) -> bool:
    """Whether a count is inside the 99.9 % interval of a binomial distribution (by the normal one, which is close)."""
    return abs(successes - trials * share) <= Z * math.sqrt(trials * share * (1 - share)) + 0.5


def test_a_split_is_kept_kn_may_change_it_and_one_command_goes_back(here: Place):
    m = two_versions(here, "--rollout=split=1:80,2:20")
    assert here.percents("m") == {1: 80, 2: 20}
    seen = counted(m, 2000)
    assert within(seen[2], 2000, 0.2), seen

    # What is asked again changes nothing.
    before = here.get("ksvc", "m")["metadata"]["generation"]
    again = here.deploy("m", here.url("m"), "--policy=latest:2", "--min-scale=1", "--rollout=split=1:80,2:20")
    assert "nothing to do" in again.err
    assert here.get("ksvc", "m")["metadata"]["generation"] == before
    assert len(here.get("revisions")["items"]) == 2

    # Somebody else's split stays, and is shown, until it is adopted.
    here.kn("service", "update", "m", "--traffic=v1=40", "--traffic=v2=60")
    kept = here.deploy("m", here.url("m"), "--policy=latest:2", "--min-scale=1", "--rollout=split=1:80,2:20")
    assert "--adopt" in kept.err
    assert here.percents("m") == {1: 40, 2: 60}
    assert here.status("m")["changed_by_others"] is True
    eventually(lambda: within(counted(m, 300)[2], 300, 0.6))
    here.deploy("m", here.url("m"), "--policy=latest:2", "--min-scale=1", "--rollout=split=1:80,2:20", "--adopt")
    assert here.percents("m") == {1: 80, 2: 20}

    here.zeroserve("promote", "m", "2")
    assert here.percents("m") == {2: 100}
    here.zeroserve("rollback", "m")
    assert here.percents("m") == {1: 100}
    eventually(lambda: counted(m, 20) == {1: 20})
    assert m.predict("/versions/2").version == 2


def test_a_user_keeps_the_arm_while_weights_stand(here: Place):
    m = two_versions(here, "--rollout=split=1:50,2:50", "--sticky=header:x-user-id")
    users = [f"user-{number}" for number in range(60)]

    def arms() -> dict[str, int]:
        return {user: m.predict(**{"x-user-id": user}).version for user in users}

    first: dict[str, int] = {}

    def settled() -> bool:
        """A pod sees its routes up to a minute late; from then on nobody moves."""
        before = dict(first)
        first.update(arms())
        return before == first and arms() == first

    eventually(settled, 120)
    assert set(first.values()) == {1, 2}
    for _ in range(5):
        assert arms() == first
    assert set(counted(m, 60)) == {1, 2}


def test_latest_two_keeps_two_addressable_versions_and_no_third(here: Place):
    url = here.upload("m", 1)
    for version in (1, 2, 3):
        here.upload("m", version)
        here.deploy("m", url, "--policy=latest:2")
    m = here.service("m")
    assert m.predict().version == 3
    assert m.predict("/versions/2").version == 2
    assert m.predict("/versions/1").status == 404
    assert {row["version"] for row in here.status("m")["revisions"]} == {2, 3}
    eventually(lambda: len(here.get("revisions")["items"]) == 2)


def test_what_deploy_prints_can_be_applied_and_a_dry_run_changes_nothing(here: Place):
    url = here.upload("m", 1)
    dry = here.deploy("m", url, "--dry-run")
    assert "m-v1-" in dry.out
    assert here.get("ksvc")["items"] == []
    printed = here.deploy("m", url, "-o", "yaml").out
    assert {document["kind"] for document in yaml.safe_load_all(printed)} >= {"Service"}
    here.kubectl("apply", "--server-side", "-f", "-", feed=printed)
    here.kubectl("wait", "--for=condition=Ready", "--timeout=120s", "ksvc/m")
    assert here.service("m").works()
