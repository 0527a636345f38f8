"""Percents are whole, sum to 100, and survive being written and read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knative.error import DeployError
from knative.traffic import (
    WHOLE,
    TrafficTarget,
    as_text,
    block,
    from_json,
    from_text,
    in_words,
    scaled,
    shares,
)

NAMES = st.sampled_from([f"m-v{version}-00000000" for version in range(1, 7)])
WEIGHTS = st.dictionaries(NAMES, st.integers(0, 1000), min_size=1).filter(lambda weights: sum(weights.values()) > 0)
TAGS = st.dictionaries(st.sampled_from(["stable", "canary", "v1", "v2", "v3"]), NAMES)


@given(WEIGHTS, st.integers(0, WHOLE))
def test_scaled_weights_sum_to_the_total_and_keep_their_order(weights, total):
    percents = scaled(weights, total)
    assert sum(percents.values()) == total
    assert all(percent >= 0 for percent in percents.values())
    for one in weights:
        for other in weights:
            assert weights[one] <= weights[other] or percents[one] >= percents[other]


@given(WEIGHTS, TAGS)
def test_a_block_sums_to_100_has_each_tag_once_and_says_what_was_asked(weights, tags):
    percents = scaled(weights, WHOLE)
    targets = block(percents, tags)
    assert sum(target.percent for target in targets) == WHOLE
    assert shares(targets) == {name: percent for name, percent in percents.items() if percent}
    assert {target.tag: target.revision for target in targets if target.tag} == tags


@given(WEIGHTS, TAGS)
def test_a_block_that_was_written_is_read_as_it_was(weights, tags):
    targets = block(scaled(weights, WHOLE), tags)
    assert from_text(as_text(targets)) == targets
    assert from_json([target.as_json() for target in reversed(targets)]) == targets


@pytest.mark.parametrize("percents", [{"a": 99}, {"a": 101}, {"a": -1, "b": 101}, {}])
def test_percents_that_do_not_sum_to_100_are_refused(percents):
    with pytest.raises(DeployError, match="wanted 100"):
        block(percents, {})


def test_nothing_can_be_shared_out_to_nobody():
    with pytest.raises(DeployError, match="no revision"):
        scaled({"a": 0}, WHOLE)


def test_a_service_without_a_block_sends_all_to_its_latest_revision():
    assert from_json([]) == (TrafficTarget("", WHOLE),)
    assert TrafficTarget("", WHOLE).as_json() == {"latestRevision": True, "percent": 100}


def test_a_block_in_words():
    assert in_words((TrafficTarget("m-1", 80, "stable"), TrafficTarget("", 20))) == "m-1 80% #stable, latest 20%"
