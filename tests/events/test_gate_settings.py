"""The declaration's gates: what is left out has its default, what nobody understands is refused."""

import pytest

from events.gate_settings import GateSettings, ReplaySettings, gate_settings
from knative.error import DeployError


def test_no_gates_are_compatible_signatures_and_a_watched_rollout():
    found = gate_settings({})
    assert found == GateSettings()
    assert (found.signatures, found.replay) == ("compatible", None)


def test_what_is_said_is_taken_and_the_rest_has_its_default():
    found = gate_settings({"signatures": "ignore", "replay": {"top_k": 5, "rtol": 1}, "health": {"quiet": "wait"}})
    assert found.replay == ReplaySettings(top_k=5, rtol=1.0)
    assert found.health.quiet == "wait"
    assert found.health.min_requests == 100


@pytest.mark.parametrize(
    ("gates", "words"),
    [
        ({"signature": "ignore"}, "did you mean 'signatures'"),
        ({"signed": {}}, "'signed' is not known"),
        ({"signatures": "maybe"}, "wanted compatible or ignore"),
        ({"replay": {"rtoll": 1}}, "did you mean 'rtol'"),
        ({"replay": {"share": 1.5}}, "replay.share 1.5: wanted 1e-09 to 1"),
        ({"replay": {"rtol": float("nan")}}, "replay.rtol nan"),
        ({"replay": {"records": "../other/requests"}}, "a path below url"),
        ({"replay": {"records": "/etc/passwd"}}, "a path below url"),
        ({"replay": {"records": "file:///etc/passwd"}}, "a path below url"),
        ({"replay": {"records": "s3://b/../c/"}}, "a path below url"),
        ({"replay": {"records": "://b/c"}}, "a path below url"),
        ({"replay": []}, "wanted an object"),
        ({"health": {"min_requests": "many"}}, "wanted int, found str"),
        ({"health": {"min_requests": True}}, "wanted int, found bool"),
        ({"health": {"alpha": 0}}, "health.alpha"),
    ],
)
def test_gates_that_nobody_understands_are_refused(gates, words):
    with pytest.raises(DeployError, match=words):
        gate_settings(gates)
