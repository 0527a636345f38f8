"""However many ask, one look at a thing runs and one more waits; who asks gets a look that began afterwards."""

import threading
from concurrent.futures import CancelledError

import pytest

from events.looks import BusyError, Looks


class Work:
    """A look that waits to be let go, and counts."""

    def __init__(self):
        self.begun = 0
        self.started = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.together = 0
        self.most = 0
        self.lock = threading.Lock()

    def __call__(self, key):
        with self.lock:
            self.begun += 1
            number = self.begun
            self.together += 1
            self.most = max(self.most, self.together)
        self.started.release()
        assert self.go.acquire(timeout=30)
        with self.lock:
            self.together -= 1
        if key == "bad":
            raise ValueError("no")
        return number


@pytest.fixture
def work():
    return Work()


@pytest.fixture
def looks(work):
    made = Looks(work, 4)
    yield made
    for _ in range(100):
        work.go.release()
    made.close()


def test_a_thousand_questions_cost_two_looks(looks, work):
    first = looks.ask("m")
    assert work.started.acquire(timeout=30)
    later = [looks.ask("m") for _ in range(1000)]
    work.go.release(2)
    assert first.result(30) == 1
    assert {one.result(30) for one in later} == {2}
    assert (work.begun, work.most) == (2, 1)


def test_different_things_are_looked_at_side_by_side_up_to_the_limit(looks, work):
    asked = [looks.ask(str(number)) for number in range(9)]
    for _ in range(4):
        assert work.started.acquire(timeout=30)
    assert not work.started.acquire(timeout=0.1)
    work.go.release(9)
    for one in asked:
        one.result(30)
    assert work.most == 4


def test_a_look_that_fails_fails_its_own_question_only(looks, work):
    work.go.release(2)
    bad, good = looks.ask("bad"), looks.ask("good")
    with pytest.raises(ValueError, match="no"):
        bad.result(30)
    assert good.result(30)
    work.go.release()
    again = looks.ask("bad")
    with pytest.raises(ValueError, match="no"):
        again.result(30)


def test_asked_for_later_it_comes_by_itself_and_the_sooner_time_wins(looks, work):
    looks.ask_later("m", 600)
    looks.ask_later("m", 0.01)
    looks.ask_later("m", 500)
    assert work.started.acquire(timeout=30)
    assert not work.started.acquire(timeout=0.1)


def test_after_the_end_nothing_more_is_taken(work):
    looks = Looks(work, 1)
    running = looks.ask("m")
    assert work.started.acquire(timeout=30)
    waiting = looks.ask("m")
    work.go.release()
    looks.close()
    assert running.result(30) == 1
    with pytest.raises(CancelledError):
        waiting.result(0)
    with pytest.raises(BusyError):
        looks.ask("m")
    looks.ask_later("m", 0)
