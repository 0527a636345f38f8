"""A plan reaches what is wanted, is empty once that is reached, and leaves others' traffic alone."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from knative.error import DeployError
from knative.names import version_of
from knative.policy import AllAtOnce, Canary, Keep, Split, Steps
from knative.rollout import (
    AwaitReady,
    CreateRevision,
    DeleteRevision,
    Observed,
    Pin,
    SetTraffic,
    Wanted,
    apply,
    aspired_traffic,
    deployed,
    earlier,
    foreign,
    plan,
)
from knative.traffic import WHOLE, TrafficTarget, block, scaled, shares


def name(version: int, content: int = 0) -> str:
    return f"m-v{version}-{content:08x}"


VERSIONS = st.integers(1, 6)


@st.composite
def wishes(draw, *, adopt: bool | None = None):
    versions = draw(st.sets(VERSIONS, min_size=1, max_size=4))
    chosen = st.sampled_from(sorted(versions))
    weights = draw(st.dictionaries(chosen, st.integers(1, 9), min_size=1))
    split = {int(key): percent for key, percent in scaled({str(v): w for v, w in weights.items()}, WHOLE).items()}
    return Wanted(
        "m",
        {version: name(version, draw(st.integers(0, 1))) for version in versions},
        draw(st.dictionaries(st.sampled_from(["stable", "canary", "a_b"]), chosen)),
        draw(
            st.sampled_from(
                [Keep(), AllAtOnce(), Canary(draw(st.integers(0, WHOLE))), Split(split), Steps((7, WHOLE), 60)]
            )
        ),
        draw(st.booleans()) if adopt is None else adopt,
    )


@st.composite
def clusters(draw, *, changed: bool | None = None):
    if changed is None and draw(st.booleans()):
        return Observed({})
    ours = st.builds(name, VERSIONS, st.integers(0, 1))
    revisions = draw(st.dictionaries(ours | st.just("m-00001"), st.booleans(), min_size=1))
    names = st.sampled_from(sorted(revisions))
    percents = scaled(draw(st.dictionaries(names, st.integers(1, 9), min_size=1)), WHOLE)
    traffic = block(percents, draw(st.dictionaries(st.sampled_from(["v1", "v2", "stable", "theirs"]), names)))
    others = [None, (TrafficTarget("m-v1-ffffffff", WHOLE),)]
    written = others if changed else [*others, traffic]
    return Observed(
        revisions,
        traffic,
        draw(st.sampled_from(written)),
        draw(st.sampled_from(["", "m-v9-00000000"]) | names),
        frozenset(one for one in revisions if one != "m-00001"),
        draw(names),
    )


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


@given(clusters(changed=True), wishes(adopt=False))
def test_what_others_wrote_keeps_its_percents_and_tags(observed, wanted):
    assert foreign(observed, wanted)
    after = apply(observed, plan(observed, wanted), wanted)
    assert shares(after.traffic) == shares(observed.traffic)
    tagged = {target.tag: target.revision for target in observed.traffic if target.tag}
    assert tagged.items() <= {target.tag: target.revision for target in after.traffic if target.tag}.items()
    assert after.written == observed.written


@given(clusters(), wishes())
def test_only_our_own_revisions_that_nobody_needs_are_deleted_and_last(observed, wanted):
    steps = plan(observed, wanted)
    after = apply(observed, steps, wanted)
    gone = {step.name for step in steps if isinstance(step, DeleteRevision)}
    assert gone <= observed.ours
    assert not gone & {target.revision for target in (*after.traffic, *observed.traffic) if target in after.traffic}
    assert not gone & {*wanted.revisions.values(), after.previous, after.template}
    kinds = [isinstance(step, DeleteRevision) for step in steps]
    assert kinds == sorted(kinds)


@given(clusters(), wishes())
def test_every_revision_of_ours_with_traffic_has_a_tag_once_the_traffic_is_ours(observed, wanted):
    assume(not foreign(observed, wanted))
    after = apply(observed, plan(observed, wanted), wanted)
    tagged = {target.revision for target in after.traffic if target.tag}
    assert {one for one in shares(after.traffic) if version_of("m", one) is not None} <= tagged


@given(VERSIONS, wishes(adopt=True))
def test_going_back_is_possible_while_the_revision_that_had_all_traffic_is_there(version, wanted):
    whole = name(version, 7)
    traffic = block({whole: WHOLE}, {f"v{version}": whole})
    observed = Observed({whole: True}, traffic, traffic, "", frozenset({whole}), whole)
    assume(not isinstance(wanted.policy, Split) and not wanted.labels)
    after = apply(observed, plan(observed, wanted), wanted)
    if shares(after.traffic) != {whole: WHOLE}:
        assert earlier("m", after) == whole


def test_going_back_twice_does_not_lead_forward_again():
    traffic = block({name(3): WHOLE}, {"v1": name(1), "v2": name(2), "v3": name(3)})
    revisions = {name(1): True, name(2): True, name(3): True}
    observed = Observed(revisions, traffic, traffic, name(2))
    for version in (2, 1):
        target = earlier("m", observed)
        assert target == name(version)
        back = Wanted("m", {one: name(one) for one in (1, 2, 3)}, {}, Pin({target: WHOLE}))
        observed = apply(observed, plan(observed, back), back)
    with pytest.raises(DeployError, match="nothing to go back to"):
        earlier("m", observed)


def test_a_rollout_in_steps_that_has_come_further_does_not_begin_again():
    traffic = block({name(1): 50, name(2): 50}, {"v1": name(1), "v2": name(2)})
    observed = Observed({name(1): True, name(2): True}, traffic, traffic)
    assert plan(observed, Wanted("m", {1: name(1), 2: name(2)}, {}, Steps((10, 50, WHOLE), 60))) == []


def test_a_canary_of_a_new_image_stays_a_canary_when_the_deploy_is_repeated():
    old, new = name(2), name(2, 1)
    traffic = block({old: WHOLE}, {"v2": old})
    observed = Observed({old: True}, traffic, traffic)
    wanted = Wanted("m", {2: new}, {}, Canary(10))
    after = apply(observed, plan(observed, wanted), wanted)
    assert shares(after.traffic) == {old: 90, new: 10}
    assert plan(after, Wanted("m", {2: new}, {}, Keep())) == []


def test_a_new_image_keeps_the_split_between_versions():
    traffic = block({name(1): 30, name(2): 70}, {"v1": name(1), "v2": name(2)})
    observed = Observed({name(1): True, name(2): True}, traffic, traffic)
    newer = Wanted("m", {1: name(1, 1), 2: name(2, 1)}, {})
    assert shares(aspired_traffic(observed, newer)) == {name(1, 1): 30, name(2, 1): 70}


def test_a_label_keeps_its_version_addressed_when_the_policy_has_left_it():
    traffic = block({name(2): WHOLE}, {"v1": name(1), "v2": name(2), "stable": name(1)})
    observed = Observed({name(1): True, name(2): True}, traffic, traffic, "", frozenset({name(1), name(2)}), name(2))
    assert plan(observed, Wanted("m", {2: name(2)}, {"stable": 1})) == []
    assert plan(observed, Wanted("m", {2: name(2)}, {}))[-1] == DeleteRevision(name(1))


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
