"""Feedback ids: what is made is read, by whoever has the secret, and nothing else is."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.tap.feedback import MAX_REMEMBERED, Feedback
from functions.tap.feedback_id import SLACK_SECONDS, Answer, FeedbackIds
from functions.tap.outcomes import MAX_VERSIONS, Outcomes
from loader.status import Code, ServingError

OLD, NEW = "an older secret!", "the newer secret"
WEEK = 604_800

answers = st.builds(
    Answer,
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._~:/+=@-]{0,127}", fullmatch=True),
    st.text(min_size=1, max_size=20).filter(lambda text: not any(0xD800 <= ord(one) < 0xE000 for one in text)),
    st.integers(0, (1 << 63) - 1),
    st.integers(0, 1 << 40),
)


@given(answers, st.sampled_from([(), (NEW,), (OLD,)]))
def test_an_id_that_was_made_is_read(answer: Answer, secrets: tuple[str, ...]) -> None:
    made = FeedbackIds(secrets, WEEK).make(answer)
    assert made.isascii()
    assert made.isprintable()
    assert FeedbackIds((NEW, OLD) if secrets else (), WEEK).read(made, answer.unix_seconds + 1) == answer


@given(answers, st.integers(0, 400), st.sampled_from("aB0!-"))
def test_a_changed_id_is_refused(answer: Answer, place: int, letter: str) -> None:
    ids = FeedbackIds((NEW,), WEEK)
    made = ids.make(answer)
    changed = made[: place % len(made)] + letter + made[place % len(made) + 1 :]
    if changed != made:
        with pytest.raises(ServingError):
            ids.read(changed, answer.unix_seconds)


@given(st.text(max_size=200))
def test_any_text_is_an_id_or_refused(text: str) -> None:
    for secrets in ((), (NEW,)):
        with contextlib.suppress(ServingError):
            FeedbackIds(secrets, WEEK).read(text, time.time())


def test_an_id_of_another_secret_of_another_time_or_without_a_seal_is_refused() -> None:
    answer = Answer("r", "m", 1, 1_000_000_000)
    ids = FeedbackIds((NEW,), WEEK)
    for text, now, code in (
        (FeedbackIds((OLD,), WEEK).make(answer), 1_000_000_001, Code.PERMISSION_DENIED),
        (FeedbackIds((), WEEK).make(answer), 1_000_000_001, Code.PERMISSION_DENIED),
        ("r", 1_000_000_001, Code.PERMISSION_DENIED),
        (ids.make(answer), 1_000_000_000 + WEEK + 1, Code.FAILED_PRECONDITION),
        (ids.make(answer), 1_000_000_000 - SLACK_SECONDS - 1, Code.FAILED_PRECONDITION),
    ):
        with pytest.raises(ServingError) as caught:
            ids.read(text, now)
        assert caught.value.code is code


def test_versions_that_are_made_up_fill_a_bounded_number_of_rows() -> None:
    outcomes = Outcomes()
    for version in range(10 * MAX_VERSIONS):
        outcomes.add("m", version, 1.0)
    assert len(outcomes._read(0)) == MAX_VERSIONS + 1
    assert sum(outcomes._read(0).values()) == 10 * MAX_VERSIONS


def test_what_is_remembered_is_bounded() -> None:
    ids = FeedbackIds((), WEEK)
    door = Feedback(ids, Outcomes(), None, source=lambda _: "s")
    for number in range(MAX_REMEMBERED + 10):
        text = ids.make(Answer(f"r{number}", "m", 1, int(time.time())))
        assert door._take(b'{"request_id": "%s", "outcome": true}' % text.encode()) == "accepted"
    assert len(door._known) == MAX_REMEMBERED


def test_without_a_sink_only_numbers_of_known_versions_are_taken() -> None:
    ids = FeedbackIds((), WEEK)
    door = Feedback(ids, Outcomes(), None, source=lambda _: "s")
    full = ids.make(Answer("r", "m", 1, int(time.time())))
    for body in (b'{"request_id": "r", "outcome": 1}', b'{"request_id": "%s", "outcome": "good"}' % full.encode()):
        with pytest.raises(ServingError, match="nothing takes this"):
            door._take(body)
