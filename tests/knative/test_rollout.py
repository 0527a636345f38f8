"""A plan reaches what is wanted, is empty once that is reached, and leaves others' traffic alone."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from knative.error import DeployError
from knative.policy import AllAtOnce, Canary, Keep, Split
from knative.rollout import (
    AwaitReady,
    CreateRevision,
    Observed,
    SetTraffic,
    Wanted,
    apply,
    aspired_traffic,
    deployed,
    foreign,
    plan,
)
from knative.traffic import WHOLE, TrafficTarget, block, scaled, shares


def name(version: int, content: int = 0) -> str:
    return f"m-v{version}-{content:08x}"


VERSIONS = st.integers(1, 6)


@st.composite
def wishes(draw):
    versions = draw(st.sets(VERSIONS, min_size=1, max_size=4))
    chosen = st.sampled_from(sorted(versions))
    weights = draw(st.dictionaries(chosen, st.integers(1, 9), min_size=1))
    split = {int(key): percent for key, percent in scaled({str(v): w for v, w in weights.items()}, WHOLE).items()}
    return Wanted(
        "m",
        {version: name(version, draw(st.integers(0, 1))) for version in versions},
        draw(st.dictionaries(st.sampled_from(["stable", "canary", "a_b"]), chosen)),
        draw(st.sampled_from([Keep(), AllAtOnce(), Canary(draw(st.integers(0, WHOLE))), Split(split)])),
        draw(st.booleans()),
    )


@st.composite
def clusters(draw):
    if draw(st.booleans()):
        return Observed({})
    revisions = draw(st.dictionaries(st.builds(name, VERSIONS, st.integers(0, 1)), st.booleans(), min_size=1))
    names = st.sampled_from(sorted(revisions))
    percents = scaled(draw(st.dictionaries(names, st.integers(1, 9), min_size=1)), WHOLE)
    traffic = block(percents, draw(st.dictionaries(st.sampled_from(["v1", "v2", "stable", "theirs"]), names)))
    return Observed(revisions, traffic, draw(st.sampled_from([traffic, None, (TrafficTarget(name(1), WHOLE),)])))


@given(clusters(), wishes())
def test_a_plan_that_was_applied_leaves_nothing_to_do(observed, wanted):
    assume(not isinstance(wanted.policy, Canary))
    after = apply(observed, plan(observed, wanted), wanted)
    assert plan(after, wanted) == []


@given(clusters(), wishes(), st.integers(0, WHOLE))
def test_a_canary_that_was_applied_leaves_nothing_to_do(observed, wanted, percent):
    wanted = Wanted(wanted.service, wanted.revisions, wanted.labels, Canary(percent), adopt=True)
    after = apply(observed, plan(observed, wanted), wanted)
    assert plan(after, wanted) == []


@given(clusters(), wishes())
def test_a_plan_reaches_the_traffic_that_is_wanted(observed, wanted):
    after = apply(observed, plan(observed, wanted), wanted)
    assert sum(shares(after.traffic).values()) == WHOLE
    assert after.traffic == aspired_traffic(observed, wanted)
    assert all(after.revisions[revision] for revision in wanted.revisions.values())


@given(clusters(), wishes())
def test_traffic_never_moves_before_the_revision_is_ready(observed, wanted):
    now = observed
    for step in plan(observed, wanted):
        if isinstance(step, SetTraffic) and not foreign(observed, wanted):
            assert all(now.revisions[revision] for revision in shares(step.traffic))
        if isinstance(step, CreateRevision) and observed.exists:
            assert step.traffic == observed.traffic
        now = apply(now, [step], wanted)


@given(clusters(), wishes())
def test_what_others_wrote_keeps_its_percents_and_tags(observed, wanted):
    assume(foreign(observed, wanted))
    after = apply(observed, plan(observed, wanted), wanted)
    assert shares(after.traffic) == shares(observed.traffic)
    tagged = {target.tag: target.revision for target in observed.traffic if target.tag}
    assert tagged.items() <= {target.tag: target.revision for target in after.traffic if target.tag}.items()
    assert after.written == observed.written


def test_the_first_version_of_a_service_is_made_awaited_and_tagged():
    steps = plan(Observed({}), Wanted("m", {1: name(1)}, {"stable": 1}))
    assert steps == [
        CreateRevision(name(1), 1, (TrafficTarget(name(1), WHOLE),)),
        AwaitReady(name(1)),
        SetTraffic((TrafficTarget(name(1), WHOLE, "stable"), TrafficTarget(name(1), 0, "v1"))),
    ]


def test_a_canary_leaves_the_rest_with_those_who_had_it():
    traffic = block({name(1): 30, name(2): 70}, {"v1": name(1), "v2": name(2)})
    observed = Observed({name(1): True, name(2): True}, traffic, traffic)
    wanted = Wanted("m", {1: name(1), 2: name(2), 3: name(3)}, {}, Canary(10))
    assert shares(aspired_traffic(observed, wanted)) == {name(1): 27, name(2): 63, name(3): 10}


def test_a_deploy_that_says_nothing_about_traffic_keeps_a_split_and_moves_all_to_a_new_version():
    traffic = block({name(1): 30, name(2): 70}, {"v1": name(1), "v2": name(2)})
    observed = Observed({name(1): True, name(2): True}, traffic, traffic)
    assert plan(observed, Wanted("m", {1: name(1), 2: name(2)}, {})) == []
    newer = Wanted("m", {2: name(2), 3: name(3)}, {})
    assert shares(aspired_traffic(observed, newer)) == {name(3): 100}


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (Wanted("m", {}, {}), "no version to deploy"),
        (Wanted("m", {1: name(1)}, {"stable": 2}), "label stable=2: version 2 is not deployed; these are: 1"),
        (Wanted("m", {1: name(1)}, {}, Split({1: 50, 2: 50})), "2=50: version 2 is not deployed"),
    ],
)
def test_a_wish_that_does_not_fit_is_refused_in_words(wanted, text):
    with pytest.raises(DeployError, match=text):
        plan(Observed({}), wanted)


def test_the_versions_of_a_service_are_read_from_their_tags():
    traffic = block({name(1): 100}, {"v1": name(1), "stable": name(1), "v2": name(2)})
    assert deployed("m", traffic) == {1: name(1), 2: name(2)}
