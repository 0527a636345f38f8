"""Gates, then steps while metrics hold: decisions carried out on a value, as landing carries them out on a cluster."""

import json
import threading
from dataclasses import dataclass, field, replace

import pytest

from events.gate import GateUnsureError, Verdict
from events.gate_bench import Bench
from events.gate_http import Peer
from events.gate_rollout import MAX_GATE_SECONDS, MIN_GATE_SECONDS, UNSURE_SECONDS, Gated
from events.health_counts import Counters
from events.rollout_hook import Decision, Hold, Move, Situation, Stop
from events.wish import wish
from knative import keys
from knative.declaration import Declaration
from knative.error import DeployError
from knative.observation import observed
from knative.policy import parse_policy
from knative.progression import Phase, noted
from knative.rollout import SetTraffic, plan
from knative.service import Deployment, Version, manifest, revision, traffic_patch
from knative.traffic import TrafficTarget, shares

DEPLOYMENT = Deployment("m", "s3://b/m", "image:1", namespace="n")
OLD, NEW = (revision(DEPLOYMENT, Version(number, "f")) for number in (1, 2))


@dataclass
class FixedGate:
    """Says what it is told to."""

    verdict: Verdict | Exception | threading.Event = field(default_factory=lambda: Verdict(passed=True, words="fine"))
    name: str = "fixed"
    asked: int = 0

    def judge(self, subject):
        self.asked += 1
        if isinstance(self.verdict, Exception):
            raise self.verdict
        if isinstance(self.verdict, threading.Event):
            assert self.verdict.wait(30)
            return Verdict(passed=True, words="fine")
        return self.verdict


class Stage:
    """A service of two versions as a value, and a rollout that decides about the second."""

    def __init__(self, rollout="steps=10,50,100:60s", **gates):
        self.declaration = Declaration(DEPLOYMENT, rollout=parse_policy(rollout), gates=gates)
        self.resource = manifest(DEPLOYMENT, Version(1, "f"), (TrafficTarget(OLD, 100, "v1"),))
        self.ready = {OLD: True, NEW: True}
        self.now = 1000.0
        self.counts = {OLD: Counters(), NEW: Counters()}
        self.restarts = 0
        self.told = []
        self.gate = FixedGate()
        self.bench = Bench(1)
        self.peers = []
        self.rollout = Gated(
            [self.gate],
            self.bench,
            self.address,
            pods=lambda namespace, name, model: {name: self.counts[name]},
            restarts=lambda namespace, name: self.restarts,
            clock=lambda: self.now,
        )

    def address(self, namespace, service, tag, revision):
        self.peers.append((namespace, service, tag, revision))
        return Peer(f"http://{tag}-{service}.{namespace}")

    def revisions(self):
        return [
            {
                "metadata": {"name": name, "annotations": {keys.VERSION: "1"}},
                "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
            }
            for name, ready in self.ready.items()
        ]

    def look(self) -> Decision:
        """One decision, carried out as landing does."""
        now = observed(self.resource, self.revisions())
        others = [name for name in shares(now.traffic) if name != NEW]
        situation = Situation(
            "n", self.declaration, self.resource, self.revisions(), now, others[0] if others else None, NEW, 2
        )
        decision = self.rollout.decide(situation)
        if isinstance(decision, Hold):
            return decision
        if isinstance(decision, Stop):
            self.annotate(decision)
            return decision
        wanted = wish("m", {2: NEW}, now, frozenset({1, 2}), labels={}, policy=decision.policy)
        step = next((step for step in plan(now, wanted) if isinstance(step, SetTraffic)), None)
        if step is not None:
            patch = traffic_patch(step.traffic)
            self.resource["spec"]["traffic"] = patch["spec"]["traffic"]
            self.resource["metadata"]["annotations"] |= patch["metadata"]["annotations"]
        self.annotate(decision)
        return decision

    def annotate(self, decision):
        annotations = self.resource["metadata"]["annotations"]
        if any(annotations.get(key) != value for key, value in decision.annotations.items()):
            annotations |= decision.annotations
            self.told += [kind for kind, _ in decision.told]

    def until_judged(self) -> Decision:
        """Looks until the gates have said something."""
        pause = threading.Event()
        for _ in range(500):
            decision = self.look()
            if not isinstance(decision, Hold) and self.gate.asked:
                return decision
            pause.wait(0.01)
        raise AssertionError("the gates say nothing")

    def serve(self, old=0, new=0, *, old_wrong=0, new_wrong=0):
        for name, total, wrong in ((OLD, old, old_wrong), (NEW, new, new_wrong)):
            before = self.counts[name]
            self.counts[name] = Counters(before.total + total, before.wrong + wrong)

    @property
    def share(self):
        return shares(observed(self.resource, self.revisions()).traffic).get(NEW, 0)

    @property
    def progress(self):
        return noted(self.resource)


@pytest.fixture
def make():
    stages = []

    def made(*arguments, **gates):
        stages.append(Stage(*arguments, **gates))
        return stages[-1]

    yield made
    for stage in stages:
        stage.bench.close()


def test_gates_see_a_version_by_its_tag_before_anybody_else(make):
    stage = make()
    assert isinstance(stage.look(), Move)
    assert stage.share == 0
    assert {"revisionName": NEW, "percent": 0, "tag": "v2"} in stage.resource["spec"]["traffic"]
    assert stage.gate.asked == 0
    stage.until_judged()
    assert stage.share == 10
    assert {("n", "m", "v1", OLD), ("n", "m", "v2", NEW)} == set(stage.peers)


def test_a_version_that_fails_a_gate_gets_no_traffic_and_the_service_says_why(make):
    stage = make()
    stage.gate.verdict = Verdict(passed=False, words="input 'x' is gone")
    decision = stage.until_judged()
    assert isinstance(decision, Stop)
    assert decision.why == "gate fixed: input 'x' is gone"
    assert stage.progress.phase is Phase.ROLLED_BACK
    assert stage.progress.why == decision.why
    assert stage.told == ["failed"]
    asked = stage.gate.asked
    assert stage.look() == Stop(decision.why)
    assert (stage.gate.asked, stage.share, stage.told) == (asked, 0, ["failed"])


def test_a_version_that_failed_is_judged_again_once_the_gates_are_others(make):
    stage = make()
    stage.gate.verdict = Verdict(passed=False, words="no")
    stage.until_judged()
    stage.declaration = replace(stage.declaration, gates={"signatures": "ignore"})
    stage.gate.verdict = Verdict(passed=True, words="fine")
    stage.until_judged()
    while stage.share == 0:
        stage.look()
    assert stage.share == 10


def test_a_gate_that_cannot_look_opens_nothing_and_is_asked_again(make):
    stage = make()
    stage.gate.verdict = GateUnsureError("m-v2 does not answer")
    decision = stage.until_judged()
    assert decision == Stop("gates cannot look: m-v2 does not answer", again=UNSURE_SECONDS)
    stage.gate.verdict = Verdict(passed=True, words="fine")
    while stage.share == 0:
        stage.look()
    assert stage.told == ["step"]


def test_quick_gates_are_asked_after_soon_and_slow_ones_less_and_less_often(make):
    stage = make()
    stage.gate.verdict = threading.Event()
    assert stage.look().again == 0
    assert stage.look() == Hold("gates are looking", MIN_GATE_SECONDS)
    stage.now += 8
    assert stage.look() == Hold("gates are looking", 2.0)
    stage.now += 800
    assert stage.look() == Hold("gates are looking", MAX_GATE_SECONDS)
    stage.gate.verdict.set()


def test_a_gate_that_breaks_opens_nothing(make):
    stage = make()
    stage.gate.verdict = ZeroDivisionError("oh")
    assert stage.until_judged() == Stop("gates cannot look: ZeroDivisionError: oh", again=UNSURE_SECONDS)
    assert stage.share == 0


def test_steps_go_on_with_the_pause_over_and_enough_requests(make):
    stage = make(health={"min_requests": 50})
    stage.until_judged()
    stage.serve(450, 50)
    stage.look()
    assert stage.share == 10  # the pause is not over
    stage.now += 61
    stage.look()
    assert stage.share == 50
    stage.now += 61
    stage.look()
    assert stage.share == 50  # the requests of the step before do not count for this one
    assert "50 requests are wanted" in stage.progress.why
    stage.serve(50, 50)
    stage.look()
    assert stage.share == 100
    assert stage.progress.phase is Phase.PROMOTED
    assert stage.told == ["step", "step", "promoted"]


@pytest.mark.parametrize(("quiet", "share"), [("advance", 50), ("wait", 10), ("roll_back", 0)])
def test_a_step_that_nobody_calls_ends_as_it_is_declared(make, quiet, share):
    stage = make(health={"quiet": quiet, "max_wait_seconds": 600})
    stage.until_judged()
    stage.now += 601
    stage.look()
    assert stage.share == share


def test_a_version_that_fails_more_is_taken_back_as_one_whole_block(make):
    stage = make()
    stage.until_judged()
    stage.serve(90, 10, old_wrong=1, new_wrong=5)
    stage.look()
    stage.serve(90, 10, old_wrong=1, new_wrong=6)
    stage.look()
    assert shares(observed(stage.resource, stage.revisions()).traffic) == {OLD: 100}
    assert stage.progress.phase is Phase.ROLLED_BACK
    assert "requests failed" in stage.progress.why
    assert stage.told == ["step", "rolled_back"]
    assert isinstance(stage.look(), Stop)
    assert stage.share == 0


def test_requests_that_fail_for_both_take_nobody_back(make):
    stage = make(health={"min_requests": 100})
    stage.until_judged()
    for _ in range(20):
        stage.serve(90, 10, old_wrong=18, new_wrong=2)
        stage.now += 10
        stage.look()
    assert stage.share >= 50


def test_a_revision_that_is_not_ready_any_more_is_taken_back_and_so_is_one_that_restarts(make):
    stage = make()
    stage.until_judged()
    stage.ready[NEW] = False
    stage.look()
    assert stage.share == 0
    assert stage.progress.why == "the revision is not ready any more"
    stage = make()
    stage.until_judged()
    stage.restarts = 3
    stage.look()
    assert stage.progress.why == "its containers began again 3 times"


def test_a_canary_stays_until_somebody_promotes_it_and_is_watched_meanwhile(make):
    stage = make("canary=20")
    stage.until_judged()
    stage.serve(1000, 500)
    stage.now += 10**6
    stage.look()
    assert stage.share == 20
    assert "zeroserve promote" in stage.progress.why
    stage.serve(100, 100, new_wrong=80)
    stage.look()
    assert stage.share == 0


def test_without_steps_a_version_that_passes_has_all_traffic(make):
    stage = make("")
    stage.until_judged()
    assert stage.share == 100
    assert stage.told == ["promoted"]


def test_traffic_that_somebody_chose_stays(make):
    stage = make()
    stage.until_judged()
    block = (TrafficTarget(NEW, 30, "v2"), TrafficTarget(OLD, 70, "v1"))
    patch = traffic_patch(block)
    stage.resource["spec"] |= patch["spec"]
    stage.resource["metadata"]["annotations"] |= patch["metadata"]["annotations"]
    stage.look()
    assert stage.share == 30
    assert stage.progress.phase is Phase.STOPPED
    stage.look()
    assert stage.share == 30


def test_a_version_with_a_tag_that_we_did_not_begin_with_is_left_as_it_is(make):
    stage = make()
    stage.resource["spec"]["traffic"] = [
        {"revisionName": OLD, "percent": 100, "tag": "v1"},
        {"revisionName": NEW, "percent": 0, "tag": "v2"},
    ]
    stage.look()
    assert (stage.share, stage.gate.asked) == (0, 0)


def test_another_process_goes_on_from_what_the_service_says(make):
    stage = make()
    stage.until_judged()
    stage.serve(90, 10)
    stage.look()
    other = make()
    other.resource, other.counts, other.now = json.loads(json.dumps(stage.resource)), stage.counts, stage.now
    other.serve(900, 90)
    other.now += 61
    other.look()
    assert other.share == 50
    assert other.gate.asked == 0


def test_gates_that_make_no_sense_are_an_error(make):
    with pytest.raises(DeployError, match="did you mean"):
        make(signature="ignore").look()
