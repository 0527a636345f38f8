"""Counts of servers, read and added up: processes that began again, and numbers that cannot be."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from functions.observing.metrics import Metrics
from functions.routing.arm_report import as_json, lines, report
from functions.routing.exposition import Totals, samples, since

COUNT = ":tensorflow:serving:request_count"
LATENCY = ":tensorflow:serving:request_latency"


def text(good: int, bad: int = 0, latency: float = 100.0) -> str:
    metrics = Metrics()
    if good:
        metrics.request_count.add(("m", "OK"), good)
    if bad:
        metrics.request_count.add(("m", "INTERNAL"), bad)
    for _ in range(good):
        metrics.request_latency.observe(("m", "predict", "REST"), latency)
    return metrics.text().decode()


def counted(now: str, before: str) -> dict[tuple[str, ...], float]:
    totals = Totals()
    totals.add(since(now, before))
    return totals.by(COUNT, "status")


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_what_is_counted_between_two_looks_is_their_difference(good: int, bad: int, more: int, worse: int) -> None:
    found = counted(text(good + more, bad + worse), text(good, bad))
    assert found.get(("OK",), 0) == more
    assert found.get(("INTERNAL",), 0) == worse


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (text(50, 5), text(7)),  # all counts are lower
        (text(50), text(60, 5).replace('status="OK"} 60', 'status="OK"} 7')),  # one is
        (text(5, 50), text(7)),  # one is gone, the other one has grown beyond
    ],
)
def test_a_process_that_began_again_counts_from_zero(before: str, now: str) -> None:
    assert counted(now, before)["OK",] == 7
    assert all(value >= 0 for value in counted(now, before).values())
    bounds, counts = _histogram(now, before)
    assert sum(counts) in {7, 60}
    assert len(counts) == len(bounds) + 1


def _histogram(now: str, before: str) -> tuple[object, object]:
    totals = Totals()
    totals.add(since(now, before))
    return totals.histogram(LATENCY)


def test_a_server_that_was_not_there_before_counts_all_it_says() -> None:
    assert counted(text(7), "")["OK",] == 7
    assert counted("", text(7)) == {}


HOSTILE = st.sampled_from(["NaN", "+Inf", "-Inf", "-5", "1e308", "1e18", "0", "3.5", "x", "", "1e999", "7"])
STATUS = st.sampled_from(["OK", "INTERNAL", "NO_SUCH", "", 'a"', "\\"])
LINES = st.lists(
    st.one_of(
        st.builds(lambda status, value: f'{COUNT}{{model_name="m",status="{status}"}} {value}', STATUS, HOSTILE),
        st.builds(lambda le, value: f'{LATENCY}_bucket{{model_name="m",le="{le}"}} {value}', HOSTILE, HOSTILE),
        st.builds(lambda value: f'zeroserve_arm_requests_total{{arm="v1",by="arrival"}} {value}', HOSTILE),
        st.builds(lambda value: f'zeroserve_shadow_total{{arm="v1",shadow="v2",result="same"}} {value}', HOSTILE),
        st.builds(lambda value: f'zeroserve_shadow_difference_bucket{{arm="v1",shadow="v2"}} {value}', HOSTILE),
        st.text(max_size=30),
    ),
    max_size=12,
).map("\n".join)


GOOD, BAD = (f'{COUNT}{{model_name="m",status="{status}"}}' for status in ("OK", "INTERNAL"))


@given(LINES, LINES, LINES, st.floats(0, 100), st.floats(0, 100))
@example(f"{GOOD} 7\n{BAD} -5", "", "", 50.0, 50.0)
@example(f"{GOOD} 1e18\n{BAD} 1e18", f"{GOOD} NaN\n{BAD} 3", "", 50.0, 50.0)
@example(f"{GOOD} 7\n{BAD} 3.5", "", f"{GOOD} 6\n{BAD} 9", 0.0, 0.0)
def test_whatever_pods_say_there_is_a_report(one: str, other: str, before: str, first: float, second: float) -> None:
    totals = {}
    for tag, words in (("v1", one), ("v2", other)):
        totals[tag] = Totals()
        totals[tag].add(since(words, before))
    found = report("m", {"v1": first, "v2": second}, {}, totals)
    assert lines(found)
    assert as_json(found)
    for arm in found.arms:
        assert math.isnan(arm.error_share.value) or 0 <= arm.error_share.low <= arm.error_share.high <= 1


@given(LINES)
def test_no_number_that_cannot_be_is_read(words: str) -> None:
    assert all(abs(value) <= 1e18 for _, _, value in samples(words))
