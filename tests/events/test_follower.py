"""What is not finished goes on: at once, after a failure, or in another process."""

import threading
from types import SimpleNamespace

import pytest

from events import follower as follower_module
from events.clients import Clients
from events.follower import TRIES, Follower
from events.outcome import Outcome, State
from knative.error import DeployError


class Steps:
    """Stands where `Landing` does: takes the steps that it is told to take, the last one for ever."""

    def __init__(self, *outcomes):
        self.clients = Clients(lambda: pytest.fail("no cluster is asked"))
        self.namespace = "n"
        self.outcomes = list(outcomes)
        self.taken = 0
        self.quiet = threading.Event()

    def advance(self, service):
        self.taken += 1
        if len(self.outcomes) == 1:
            self.quiet.set()
        found = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def make(monkeypatch):
    monkeypatch.setattr(follower_module, "TRY_SECONDS", 0.001)
    made = []

    def follow(*outcomes):
        steps = Steps(*outcomes)
        seen = []
        followed = Follower(steps, 2, lambda service, found: seen.append(found))
        made.append(followed)
        return SimpleNamespace(steps=steps, seen=seen, follower=followed)

    yield follow
    for one in made:
        one.close()


BUSY = DeployError("the cluster does not answer")


def test_a_look_that_fails_is_tried_again_although_nobody_asks_again(make):
    one = make(BUSY, BUSY, Outcome(State.DONE))
    with pytest.raises(DeployError):
        one.follower.looks.ask("m").result(30)
    assert one.steps.quiet.wait(30)
    one.follower.close()
    assert [found and found.state for found in one.seen] == [None, None, State.DONE]
    assert one.follower.unfinished == frozenset()


def test_a_look_that_keeps_failing_is_left_to_events_and_the_sweep(make):
    one = make(*[BUSY] * (TRIES + 1))
    with pytest.raises(DeployError):
        one.follower.looks.ask("m").result(30)
    assert one.steps.quiet.wait(30)
    with pytest.raises(DeployError):
        one.follower.looks.ask("m").result(30)
    assert one.follower.unfinished == {"m"}
    one.follower.close()
    assert one.steps.taken <= TRIES + 2


def test_a_rollout_that_is_under_way_when_the_function_ends_is_known(make):
    one = make(Outcome(State.WORKING), Outcome(State.DONE))
    one.follower.looks.ask("m").result(30)
    assert one.follower.unfinished == {"m"}
    one.follower.looks.ask("m").result(30)
    assert one.follower.unfinished == frozenset()
