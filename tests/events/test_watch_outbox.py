"""The outbox: at least once, newest first, bounded."""

import queue
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import watch_outbox
from events.watch_event import Landed
from events.watch_outbox import MAX_RETRY_SECONDS, Outbox, backoff
from events.watch_sink import Answer

OK = Answer(delivered=True)
SECONDS = 30


class Told:
    """Collects what an outbox says."""

    def __init__(self) -> None:
        self.settled: queue.Queue[tuple[str, bool]] = queue.Queue()
        self.failed: queue.Queue[tuple[str, str, float | None]] = queue.Queue()

    def note(self, landed: Landed, delivered: bool) -> None:
        self.settled.put((landed.fingerprint, delivered))

    def fail(self, landed: Landed, text: str, after: float | None) -> None:
        self.failed.put((landed.fingerprint, text, after))


def landed(fingerprint: str, version: int = 7) -> Landed:
    return Landed("/models/m", str(version), fingerprint, 1, 1)


def test_an_event_is_sent_once_when_the_sink_takes_it() -> None:
    sent: queue.Queue[str] = queue.Queue()
    told = Told()
    outbox = Outbox(lambda one: [sent.put(one.fingerprint), OK][1], told.note, told.fail)  # type: ignore[func-returns-value]
    assert outbox.put(landed("a"))
    assert told.settled.get(timeout=SECONDS) == ("a", True)
    assert outbox.close(SECONDS) == 0
    assert sent.qsize() == 1


def test_what_fails_is_sent_again_after_the_time_that_the_sink_asks_for() -> None:
    answers = [Answer(delivered=False, again=True, after=0.01, text="503"), OK]
    told = Told()
    outbox = Outbox(lambda _: answers.pop(0), told.note, told.fail)
    outbox.put(landed("a"))
    assert told.settled.get(timeout=SECONDS) == ("a", True)
    assert told.failed.get(timeout=SECONDS) == ("a", "503", 0.01)
    outbox.close(SECONDS)


def test_what_is_refused_for_good_is_not_sent_again() -> None:
    told = Told()
    outbox = Outbox(lambda _: Answer(delivered=False, text="400"), told.note, told.fail)
    outbox.put(landed("a"))
    assert told.settled.get(timeout=SECONDS) == ("a", False)
    assert outbox.waiting == 0
    outbox.close(SECONDS)


def test_what_fails_too_often_is_given_up_where_there_is_a_limit() -> None:
    told = Told()
    outbox = Outbox(
        lambda _: Answer(delivered=False, again=True, after=0.0, text="no"), told.note, told.fail, max_tries=3
    )
    outbox.put(landed("a"))
    assert told.settled.get(timeout=SECONDS) == ("a", False)
    assert told.failed.qsize() == 3
    outbox.close(SECONDS)


def test_a_newer_event_of_the_same_version_takes_the_place_of_the_one_that_waits() -> None:
    begun, go_on = threading.Event(), threading.Event()
    sent: list[str] = []

    def send(one: Landed) -> Answer:
        sent.append(one.fingerprint)
        begun.set()
        go_on.wait(SECONDS)
        return OK

    told = Told()
    outbox = Outbox(send, told.note, told.fail)
    outbox.put(landed("a"))
    assert begun.wait(SECONDS)
    for fingerprint in "bcd":
        assert outbox.put(landed(fingerprint))
    go_on.set()
    assert [told.settled.get(timeout=SECONDS) for _ in range(2)] == [("a", True), ("d", True)]
    outbox.close(SECONDS)
    assert sent == ["a", "d"]


def test_a_full_outbox_refuses_new_versions_and_takes_news_of_old_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_outbox, "MAX_WAITING", 2)
    told = Told()
    outbox = Outbox(lambda _: Answer(delivered=False, again=True, after=60, text="503"), told.note, told.fail)
    assert [outbox.put(landed("a", version)) for version in (1, 2, 3)] == [True, True, False]
    assert outbox.put(landed("b", 1))
    assert outbox.waiting == 2
    outbox.close(SECONDS)


def test_nobody_is_told_of_a_version_that_is_gone() -> None:
    told = Told()
    outbox = Outbox(lambda _: Answer(delivered=False, again=True, after=60, text="503"), told.note, told.fail)
    outbox.put(landed("a"))
    told.failed.get(timeout=SECONDS)
    outbox.drop(landed("a").key)
    assert outbox.close(SECONDS) == 0


def test_a_closed_outbox_says_how_much_was_left_and_takes_nothing_more() -> None:
    told = Told()
    outbox = Outbox(lambda _: Answer(delivered=False, again=True, after=60, text="503"), told.note, told.fail)
    outbox.put(landed("a"))
    told.failed.get(timeout=SECONDS)
    assert outbox.close(SECONDS) == 1
    assert not outbox.put(landed("b", 8))


@given(st.integers(1, 10_000))
def test_waits_grow_and_stay_within_their_limit(tries: int) -> None:
    assert 0.5 <= backoff(tries) <= 1.25 * MAX_RETRY_SECONDS
