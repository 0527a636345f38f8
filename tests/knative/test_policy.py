"""Rollout policies are read from words and written as words, and nonsense is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knative.error import DeployError
from knative.policy import (
    GRADUAL_STEPS,
    AllAtOnce,
    Canary,
    Keep,
    Split,
    Steps,
    parse_percents,
    parse_policy,
    policy_text,
)
from knative.traffic import WHOLE, scaled

SPLITS = st.dictionaries(st.integers(0, 2**63 - 1).map(str), st.integers(1, 99), min_size=1, max_size=9).map(
    lambda weights: Split({int(version): share for version, share in scaled(weights, WHOLE).items()})
)
STEPS = st.builds(
    lambda percents, pause: Steps((*sorted(percents), WHOLE), pause),
    st.sets(st.integers(1, 99), max_size=9),
    st.integers(0, 86400),
)
POLICIES = st.one_of(st.just(Keep()), st.just(AllAtOnce()), st.builds(Canary, st.integers(0, WHOLE)), SPLITS, STEPS)


@given(POLICIES)
def test_a_policy_that_was_written_is_read_as_it_was(policy):
    assert parse_policy(policy_text(policy)) == policy


@given(st.text(max_size=40))
def test_words_are_a_policy_or_are_refused(text):
    try:
        policy = parse_policy(text)
    except DeployError:
        return
    assert parse_policy(policy_text(policy)) == policy


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("steps=10,50,100:5m", Steps((10, 50, 100), 300)),
        ("steps=10:1h", Steps((10, 100), 3600)),
        ("steps=1,99:7", Steps((1, 99, 100), 7)),
        ("gradual=300", Steps(GRADUAL_STEPS, 30)),
        ("split=1:80,2:20", Split({1: 80, 2: 20})),
    ],
)
def test_the_words_of_the_documentation(text, policy):
    assert parse_policy(text) == policy


@pytest.mark.parametrize(
    "text",
    [
        "all=1",
        "=",
        "canary",
        "canary=101",
        "canary=-1",
        "canary=\u0661",
        "split=1:50",
        "split=1:50,1:50",
        "split=",
        "steps=50,10:5m",
        "steps=10",
        "steps=0,10:5m",
        "steps=10,100:99h99",
        "steps=:5m",
        "gradual=soon",
        "steps=10:9999999h",
    ],
)
def test_what_is_no_policy_is_refused(text):
    with pytest.raises(DeployError):
        parse_policy(text)


def test_a_version_is_shared_out_to_once():
    assert parse_percents(["1=80", "2=20"], "=") == {1: 80, 2: 20}
    with pytest.raises(DeployError, match="version 1 is named twice"):
        parse_percents(["1=80", "1=20"], "=")
