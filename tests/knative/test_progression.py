"""A rollout in steps advances on good health only, ends once, and two who drive it take a step once."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knative import keys
from knative.policy import Canary, Steps
from knative.progression import (
    Health,
    Phase,
    Progress,
    Verdict,
    advance,
    begin,
    in_words,
    note,
    noted,
    policy_of,
)
from knative.rollout import Observed, Pin
from knative.traffic import WHOLE, block

OLD, NEW = "m-v1-00000000", "m-v2-00000000"
STEPS = Steps((10, 50, WHOLE), 60)
GOOD, BAD, UNKNOWN = Verdict(Health.GOOD), Verdict(Health.BAD, "errors"), Verdict(Health.UNKNOWN, "no requests")


def at(percent: int) -> Observed:
    traffic = block({OLD: WHOLE - percent, NEW: percent}, {"v1": OLD, "v2": NEW})
    return Observed({OLD: True, NEW: True}, traffic, traffic)


def started() -> Progress:
    return begin(STEPS, NEW, at(0), 1000.0)


def test_it_begins_with_the_first_percent_and_remembers_who_served():
    assert started() == Progress(NEW, {OLD: WHOLE}, (10, 50, WHOLE), 60, 0, 1000.0)
    assert policy_of(started(), at(0)) == Canary(10)


def test_where_nobody_serves_there_is_nothing_to_step_through():
    assert begin(STEPS, NEW, Observed({NEW: True}), 1000.0).phase is Phase.PROMOTED
    assert begin(Steps((WHOLE,), 0), NEW, at(0), 1000.0).phase is Phase.PROMOTED


def test_good_health_advances_after_the_pause_until_all_is_promoted():
    state, now = started(), 1000.0
    assert advance(state, at(10), now + 59, GOOD) == state
    state = advance(state, at(10), now + 60, GOOD)
    assert (state.percent, state.since, state.phase) == (50, now + 60, Phase.STEPPING)
    state = advance(state, at(50), now + 120, GOOD)
    assert (state.percent, state.phase) == (WHOLE, Phase.PROMOTED)
    assert advance(state, at(WHOLE), now + 999, BAD) == state


def test_unknown_health_waits_and_says_for_what():
    state = advance(started(), at(10), 9999.0, UNKNOWN)
    assert (state.step, state.phase, state.why) == (0, Phase.STEPPING, "no requests")
    assert advance(state, at(10), 99999.0, UNKNOWN) is state


def test_bad_health_goes_back_at_once_to_what_served_before():
    state = advance(started(), at(10), 1001.0, BAD)
    assert (state.phase, state.why) == (Phase.ROLLED_BACK, "errors")
    assert policy_of(state, at(10)) == Pin({OLD: WHOLE})
    assert policy_of(state, Observed({NEW: True})) is None


@pytest.mark.parametrize("observed", [at(30), Observed(at(10).revisions, at(10).traffic, None)])
def test_traffic_that_somebody_else_moved_stops_it_and_stays(observed):
    state = advance(started(), observed, 9999.0, BAD)
    assert state.phase is Phase.STOPPED
    assert policy_of(state, observed) is None


@given(st.lists(st.tuples(st.sampled_from([GOOD, BAD, UNKNOWN]), st.integers(0, 100)), max_size=30))
def test_it_never_skips_a_step_and_never_leaves_an_end(looks):
    state, now = started(), 1000.0
    for verdict, seconds in looks:
        now += seconds
        after = advance(state, at(state.percent), now, verdict)
        assert after.step - state.step in {0, 1}
        if after.step > state.step:
            assert verdict is GOOD
            assert now - state.since >= STEPS.pause_seconds
        if state.phase is not Phase.STEPPING:
            assert after == state
        # Whoever drives it from an older reading finds the same state, and takes no other step.
        assert (
            advance(after, at(after.percent), now, verdict if after.step == state.step else UNKNOWN).step == after.step
        )
        state = after
    assert (state.phase is Phase.PROMOTED) == (state.percent == WHOLE and state.phase is not Phase.ROLLED_BACK)


@given(st.sampled_from(Phase), st.text(max_size=20), st.floats(0, 4e9), st.integers(0, 2))
def test_a_state_that_was_noted_is_read_as_it_was(phase, why, since, step):
    state = Progress(NEW, {OLD: WHOLE}, (10, 50, WHOLE), 60, step, round(since, 3), phase, why)
    assert noted({"metadata": {"annotations": note(state)}}) == state
    assert NEW in in_words(state, since)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", json.dumps({"revision": NEW, "percents": [], "step": 0}), '{"percents": 3}', "null"]
)
def test_a_note_that_somebody_else_wrote_is_no_rollout(text):
    assert noted({"metadata": {"annotations": {keys.ROLLOUT: text}}}) is None
    assert noted(None) is None


def test_a_version_that_never_had_traffic_was_refused_and_not_taken_back():
    refused = Progress(NEW, {OLD: WHOLE}, (0, 10, WHOLE), 60, 0, 0.0, Phase.ROLLED_BACK, "gate signatures: x")
    assert in_words(refused, 0.0) == f"{NEW} was refused: gate signatures: x"
    assert in_words(replace(refused, step=1), 0.0) == f"{NEW} was taken back at 10%: gate signatures: x"
