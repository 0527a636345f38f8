"""What pods count, added up over pods that come, go and begin again."""

import math
import time
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.gate_http import Peer
from events.health import Seen
from events.health_counts import Book, Counters, begun, book_text, counters, looked, read_book
from events.health_pods import METRICS_PATH
from tests.functions.command import Command
from tests.functions.served import GOLDEN_MODELS


def one(total: int, wrong: int = 0, quick: int = 0, slow: int = 0) -> Counters:
    return Counters(total, wrong, {1000.0: quick, 2000.0: quick + slow, math.inf: quick + slow})


def test_a_real_server_counts_answers_errors_and_how_long_they_took(tmp_path):
    with Command(tmp_path, "--model_name=m", f"--model_base_path={GOLDEN_MODELS / 'half_plus_two'}") as command:
        command.until_ready()
        peer = Peer(f"http://127.0.0.1:{command.port}")
        before = counters(_metrics(command.port), "m")
        for _ in range(5):
            assert peer.ask("/v1/models/m:predict", {"instances": [1.0]}).status == 200
        for _ in range(3):
            assert peer.ask("/v1/models/m:predict", {"instances": ["x"]}).status == 400
        deadline = time.monotonic() + 10
        while counters(_metrics(command.port), "m").total - before.total < 8:
            assert time.monotonic() < deadline
        after = counters(_metrics(command.port), "m")
        assert (after.total - before.total, after.wrong - before.wrong) == (8, 3)
        assert after.below[math.inf] - before.below.get(math.inf, 0) == 5
        assert counters(_metrics(command.port), "another") == Counters()


def _metrics(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{METRICS_PATH}") as response:
        content: bytes = response.read()
    return content


@given(st.binary(max_size=200))
def test_metrics_that_are_none_count_nothing(text):
    assert counters(text, "m").total == 0


def test_what_was_counted_before_the_rollout_does_not_count():
    book = looked(begun("new", {"a": one(1000, 900)}, {}, 0, 0), {"a": one(1010, 900)}, {"b": one(5)}, 0)
    assert book.errors.old == Seen(10, 0)
    assert book.errors.new == Seen(5, 0)


def test_a_counter_that_is_lower_than_before_has_begun_again():
    book = looked(begun("new", {"a": one(1000)}, {"b": one(0)}, 0, 0), {"a": one(7, 2)}, {"b": one(3)}, 0)
    assert book.errors.old == Seen(7, 2)


def test_a_pod_that_is_gone_takes_nothing_back_and_one_that_was_silent_is_not_counted_twice():
    book = begun("new", {"a": one(100)}, {"b": one(0)}, 0, 0)
    book = looked(book, {"a": one(150)}, {"b": one(10)}, 0)
    book = looked(book, {}, {"b": one(20)}, 0)
    assert book.asked == 20
    book = looked(book, {"a": one(160)}, {"b": one(20)}, 0)
    assert (book.errors.old + book.errors.pending_old).total == 60


def test_what_is_slow_is_what_the_old_revision_rarely_needs():
    old = {"a": one(200, 0, quick=198, slow=2)}
    book = begun("new", old, {}, 0, 0)
    assert book.bound == 1000.0
    book = looked(book, {"a": one(300, 0, quick=297, slow=3)}, {"b": one(50, 0, quick=10, slow=40)}, 0)
    assert book.slow.old == Seen(100, 1)
    assert book.slow.new == Seen(50, 40)


def test_what_is_slow_may_be_declared():
    assert begun("new", {"a": one(1, 0, quick=1)}, {}, 0, 1.5).bound == 2000.0


def test_slowness_waits_until_the_old_revision_has_shown_what_is_usual():
    book = begun("new", {"a": one(10, quick=10)}, {}, 0, 0)
    assert book.bound == 0.0
    book = looked(book, {"a": one(200, quick=200)}, {"b": one(90, quick=0, slow=90)}, 0)
    assert (book.bound, book.slow.new) == (1000.0, Seen())
    book = looked(book, {"a": one(300, quick=300)}, {"b": one(91, quick=0, slow=91)}, 0)
    assert (book.slow.old, book.slow.new) == (Seen(100, 0), Seen(1, 1))


pods = st.dictionaries(
    st.sampled_from("abc"),
    st.builds(
        lambda wrong, quick, slow: one(wrong + quick + slow, wrong, quick, slow),
        *[st.integers(0, 500)] * 3,
    ),
    max_size=3,
)


@given(st.lists(st.tuples(pods, pods), max_size=5))
def test_a_book_survives_an_annotation_and_counts_no_more_wrong_than_all(looks):
    book = begun("new", {}, {}, 3, 0)
    for old, new in looks:
        book = looked(book, {f"old-{name}": each for name, each in old.items()}, new, 0)
    for evidence in (book.errors, book.slow):
        for side in (evidence.old, evidence.new, evidence.pending_old, evidence.pending_new):
            assert 0 <= side.wrong <= side.total
    again = read_book(book_text(book), "new")
    assert again is not None
    assert again.last == book.last
    assert again.errors.value == pytest.approx(book.errors.value, rel=1e-4)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"revision": "new"}', book_text(Book("other"))])
def test_somebody_elses_book_is_none(text):
    assert read_book(text, "new") is None
