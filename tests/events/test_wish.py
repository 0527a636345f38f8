"""What landed is read from the cluster's own objects; the wish that follows is reached in one plan, and then stays."""

from hypothesis import given
from hypothesis import strategies as st

from events.rollout_hook import AtOnce, Move, Situation
from events.wish import failures, gone, landed, usable, wish
from knative import keys
from knative.declaration import Declaration
from knative.names import revision_tag
from knative.policy import AllAtOnce, Canary, Keep
from knative.rollout import Observed, Pin, SetTraffic, apply, plan
from knative.service import Deployment
from knative.traffic import WHOLE, TrafficTarget, block, scaled, shares


def name(version, content=0):
    return f"m-v{version}-{content:08x}"


def revision(version, content=0, status="True", made=""):
    condition = {"type": "Ready", "status": status, "reason": "R", "message": "because"}
    return {
        "metadata": {
            "name": name(version, content),
            "annotations": {keys.FINGERPRINT: f"f{content}"},
            "creationTimestamp": made,
        },
        "status": {"conditions": [condition]},
    }


def service(traffic=(), template=None):
    return {"spec": {"traffic": list(traffic), "template": template or {}}}


def test_nothing_has_landed_where_there_is_no_service():
    assert landed("m", None, []) == {}


def test_a_version_has_landed_from_the_moment_that_the_template_says_so():
    template = {"metadata": {"name": name(3), "annotations": {keys.FINGERPRINT: "f"}}}
    found = landed("m", service(template=template), [revision(2)])
    assert {version: one.fingerprint for version, one in found.items()} == {2: "f0", 3: "f"}
    assert found[2].ready
    assert not found[3].ready


def test_of_two_revisions_of_a_version_the_tagged_one_counts_and_else_the_later():
    both = [revision(1, 1, made="2026-01-02"), revision(1, 2, made="2026-01-01")]
    assert landed("m", service(), both)[1].revision == name(1, 1)
    tagged = [{"revisionName": name(1, 2), "tag": "v1", "percent": 100}]
    assert landed("m", service(tagged), both)[1].revision == name(1, 2)


def test_a_revision_that_failed_has_landed_only_while_it_has_traffic():
    failed = revision(1, status="False")
    assert landed("m", service(), [failed]) == {}
    assert landed("m", service([{"revisionName": name(1), "percent": 100}]), [failed])[1].failed == "R: because"
    assert failures("m", [failed, revision(2), {"metadata": {"name": "m-00001"}}]) == {name(1): "R: because"}


VERSIONS = st.integers(1, 5)


@st.composite
def clusters(draw):
    revisions = draw(st.dictionaries(st.builds(name, VERSIONS, st.integers(0, 1)), st.booleans(), min_size=1))
    weights = draw(st.dictionaries(st.sampled_from(sorted(revisions)), st.integers(1, 9), min_size=1))
    percents = scaled(weights, WHOLE)
    tags = {f"v{each[3]}": each for each in sorted(revisions) if draw(st.booleans())}
    for each in percents:  # a block of ours addresses whatever it gives traffic to
        if tags.setdefault(f"v{each[3]}", each) != each:
            tags[revision_tag("m", each)] = each
    traffic = block(percents, tags)
    return Observed(revisions, traffic, traffic)


@st.composite
def situations(draw):
    observed = draw(clusters())
    chosen = {int(each[3]): each for each in draw(st.sets(st.sampled_from(sorted(observed.revisions))))}
    listed = frozenset(draw(st.sets(VERSIONS)) | chosen.keys())
    labels = draw(st.dictionaries(st.sampled_from(["stable", "canary"]), VERSIONS))
    policy = draw(st.sampled_from([Keep(), AllAtOnce(), Canary(10)]))
    return observed, chosen, listed, labels, policy


@given(situations())
def test_the_wish_is_reached_by_one_plan_and_keeping_it_changes_nothing(situation):
    observed, names, listed, labels, policy = situation
    chosen = usable("m", names, observed)
    if not chosen:
        return
    wanted = wish("m", chosen, observed, listed, labels=labels, policy=policy)
    after = moved(observed, wanted)
    assert sum(shares(after.traffic).values()) == WHOLE
    again = wish("m", chosen, after, listed, labels=labels, policy=Pin(shares(after.traffic)))
    if not gone("m", after, listed):
        assert [step for step in plan(after, again) if isinstance(step, SetTraffic)] == []


def moved(observed, wanted):
    """What landing does of a plan: the traffic, and nothing else."""
    return apply(observed, [step for step in plan(observed, wanted) if isinstance(step, SetTraffic)], wanted)


TRAFFIC = (TrafficTarget(name(1), 90, "v1"), TrafficTarget(name(2), 10, "v2"))
BOTH = Observed({name(1): True, name(2): True}, TRAFFIC, TRAFFIC)


def test_the_version_that_the_traffic_leaves_keeps_its_share_and_its_tag():
    wanted = wish("m", {2: name(2)}, BOTH, frozenset({1, 2}), labels={}, policy=Pin({name(1): 50, name(2): 50}))
    assert moved(BOTH, wanted).traffic == (TrafficTarget(name(1), 50, "v1"), TrafficTarget(name(2), 50, "v2"))


def test_a_version_that_is_not_in_storage_any_more_hands_over_all_its_traffic():
    wanted = wish("m", {1: name(1)}, BOTH, frozenset({1}), labels={"new": 2}, policy=Canary(5))
    assert shares(moved(BOTH, wanted).traffic) == {name(1): 100}
    wanted = wish("m", {2: name(2)}, BOTH, frozenset({2}), labels={}, policy=Canary(5))
    assert shares(moved(BOTH, wanted).traffic) == {name(2): 100}


def test_what_stumbles_while_it_serves_may_keep_its_traffic_and_what_was_never_ready_gets_none():
    stumbling = Observed({name(1): False, name(2): False, name(3): True}, TRAFFIC, TRAFFIC)
    assert usable("m", {1: name(1), 2: name(2), 3: name(3)}, stumbling) == {1: name(1), 2: name(2), 3: name(3)}
    first = (TrafficTarget(name(1), 100),)
    assert usable("m", {1: name(1)}, Observed({name(1): False}, first, first)) == {}


def decided(observed, policy, new):
    deployment = Deployment("m", "s3://b/m", "image:1")
    situation = Situation("n", Declaration(deployment, rollout=policy), {}, (), observed, name(1), name(new), new)
    return AtOnce().decide(situation)


def test_a_new_version_moves_as_declared_and_one_that_was_decided_on_before_stays_where_it_is():
    only = (TrafficTarget(name(1), 100, "v1"),)
    assert decided(Observed({name(1): True, name(2): True}, only, only), Canary(5), 2) == Move(Canary(5))
    assert decided(BOTH, Canary(5), 2) == Move(Pin({name(1): 90, name(2): 10}))
    back = (TrafficTarget(name(1), 100, "v1"), TrafficTarget(name(2), 0, "v2"))
    assert decided(Observed({name(1): True, name(2): True}, back, back), AllAtOnce(), 2) == Move(Pin({name(1): 100}))
