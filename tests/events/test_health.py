"""The sequential test: false alarms under peeking, power, and its exact law."""

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.health import Evidence, Seen, as_json, from_json, seen

SHARES = st.floats(0.001, 0.9)
COUNTS = st.integers(0, 200)


@st.composite
def seens(draw: st.DrawFn) -> Seen:
    total = draw(COUNTS)
    return Seen(total, draw(st.integers(0, total)))


def _draw(rng: random.Random, total: int, share: float) -> Seen:
    return Seen(total, sum(rng.random() < share for _ in range(total)))


def _looks(
    rng: random.Random, old: float, new: float, *, looks: int, rows: tuple[int, int], alpha: float
) -> int | None:
    """After how many requests to the new revision it is found worse; None for never. Looks after every block."""
    evidence = Evidence()
    for look in range(1, looks + 1):
        evidence = seen(evidence, _draw(rng, rows[0], old), _draw(rng, rows[1], new))
        if evidence.is_worse(alpha, 0.0):
            return look * rows[1]
    return None


@pytest.mark.parametrize(("share", "rows"), [(0.01, (90, 10)), (0.1, (50, 50)), (0.3, (5, 1)), (0.001, (99, 1))])
def test_a_version_that_is_no_worse_is_taken_back_at_most_as_often_as_allowed_however_often_one_looks(
    share: float, rows: tuple[int, int]
) -> None:
    rng, alpha, runs = random.Random(1), 0.1, 300
    alarms = sum(_looks(rng, share, share, looks=60, rows=rows, alpha=alpha) is not None for _ in range(runs))
    # Three standard deviations above alpha would happen once in a thousand such tests.
    assert alarms / runs <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


def test_five_times_the_errors_are_seen_within_a_few_hundred_requests() -> None:
    rng = random.Random(2)
    found = [_looks(rng, 0.01, 0.05, looks=100, rows=(90, 10), alpha=0.005) for _ in range(100)]
    caught = sorted(each for each in found if each is not None)
    assert len(caught) >= 95
    assert caught[len(caught) // 2] <= 400


def test_a_version_that_always_fails_is_seen_within_a_dozen_requests() -> None:
    rng = random.Random(3)
    found = [_looks(rng, 0.0, 1.0, looks=20, rows=(9, 1), alpha=0.005) for _ in range(20)]
    assert all(each is not None and each <= 12 for each in found)


@given(st.tuples(seens(), seens()), st.integers(1, 4), st.integers(1, 4), SHARES, SHARES)
def test_a_block_is_worth_at_most_one_on_average_when_the_new_version_is_no_worse(
    past: tuple[Seen, Seen], m: int, n: int, one: float, other: float
) -> None:
    p_new, p_old = sorted((one, other))
    before = seen(Evidence(), *past)
    pending_old, pending_new = before.pending_old.total, before.pending_new.total
    if pending_old or pending_new:
        return
    expected = 0.0
    for wrong_old, wrong_new in itertools.product(range(m + 1), range(n + 1)):
        chance = math.comb(m, wrong_old) * p_old**wrong_old * (1 - p_old) ** (m - wrong_old)
        chance *= math.comb(n, wrong_new) * p_new**wrong_new * (1 - p_new) ** (n - wrong_new)
        after = seen(before, Seen(m, wrong_old), Seen(n, wrong_new))
        expected += (
            chance
            * sum(math.exp(late - early) for late, early in zip(after.logs, before.logs, strict=True))
            / len(after.logs)
        )
    assert expected <= 1 + 1e-9


@given(seens(), seens())
def test_evidence_survives_an_annotation(old: Seen, new: Seen) -> None:
    evidence = from_json(as_json(seen(Evidence(), old, new)))
    again = seen(Evidence(), old, new)
    assert (evidence.old, evidence.new, evidence.pending_old, evidence.pending_new) == (
        again.old,
        again.new,
        again.pending_old,
        again.pending_new,
    )
    assert evidence.value == pytest.approx(again.value, rel=1e-4)


@given(st.lists(st.tuples(seens(), seens()), max_size=8))
def test_nothing_that_was_seen_is_lost_while_one_side_is_silent(blocks: list[tuple[Seen, Seen]]) -> None:
    evidence = Evidence()
    for old, new in blocks:
        evidence = seen(evidence, old, new)
    total = sum((old for old, _ in blocks), Seen())
    assert evidence.old + evidence.pending_old == total


def test_a_certain_difference_below_the_margin_is_no_breach() -> None:
    evidence = Evidence()
    for _ in range(50):
        evidence = seen(evidence, Seen(100_000, 100), Seen(100_000, 150))
    assert evidence.is_worse(0.01, 0.0)
    assert not evidence.is_worse(0.01, 0.001)


def test_text_that_is_no_evidence_is_refused() -> None:
    with pytest.raises(ValueError, match="evidence of 2 numbers"):
        from_json([1, 2])
