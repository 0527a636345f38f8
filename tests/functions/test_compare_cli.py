"""`zeroserve compare`: intervals and tests against tables and scipy, and the report of what servers count."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from scipy import stats

from functions.commands.compare import EXIT_FAILED, main
from functions.observing.metrics import Metrics
from functions.routing.arm_report import as_json, lines, report
from functions.routing.counts import RoutingCounts
from functions.routing.exposition import Totals, samples
from functions.routing.interval import MIN_SAMPLES, Interval, difference, mean, quantile, share
from functions.routing.sample_ratio import p_value, survival
from functions.tap.outcomes import Outcomes

# Intervals.


def close(found: Interval, wanted: tuple[float, float, float]) -> bool:
    return all(abs(one - other) < 5e-5 for one, other in zip(found, wanted, strict=True))


def test_wilsons_interval_is_that_of_newcombes_table() -> None:
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
    assert close(share(81, 263), (81 / 263, 0.2553, 0.3662))
    assert close(share(15, 148), (15 / 148, 0.0624, 0.1605))
    assert close(share(0, 20), (0.0, 0.0, 0.1611))
    assert close(share(1, 29), (1 / 29, 0.0061, 0.1718))


def test_the_interval_of_a_difference_is_that_of_newcombes_table() -> None:
    # Newcombe 1998, Statistics in Medicine 17:873, table II, method 10: 56/70 - 48/80, 9/10 - 3/10, 10/10 - 0/10
    assert close(difference(share(48, 80), share(56, 70)), (0.2, 0.0524, 0.3339))
    assert close(difference(share(3, 10), share(9, 10)), (0.6, 0.1705, 0.8090))
    assert close(difference(share(0, 10), share(10, 10)), (1.0, 0.6075, 1.0))


@given(st.integers(1, 10**6).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_wilsons_interval_is_scipys(counted: tuple[int, int]) -> None:
    wanted = stats.binomtest(*counted).proportion_ci(0.95, method="wilson")
    found = share(*counted)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


def test_of_a_hundred_intervals_ninety_five_hold_what_is_true() -> None:
    draw = np.random.default_rng(7)
    bounds = np.geomspace(0.01, 10, 40)
    quantiles = differences = 0
    for _ in range(400):
        buckets = np.histogram(draw.exponential(1.0, 500), [0, *bounds, np.inf])[0]
        found = quantile(bounds.tolist(), buckets.tolist(), 0.95)
        quantiles += found.low <= stats.expon.ppf(0.95) <= found.high
        one, other = draw.binomial(800, 0.05), draw.binomial(200, 0.1)
        between = difference(share(one, 800), share(other, 200))
        differences += between.low <= 0.05 <= between.high
    assert quantiles >= 0.95 * 400
    assert differences >= 0.93 * 400


COUNTS = st.integers(1, 10**6).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))


@given(COUNTS, COUNTS)
def test_an_interval_holds_its_value_and_turns_with_its_sides(one: tuple[int, int], other: tuple[int, int]) -> None:
    first, second = share(*one), share(*other)
    assert 0 <= first.low <= first.value <= first.high <= 1
    there, back = difference(first, second), difference(second, first)
    assert there.low <= there.value <= there.high
    assert there.low == pytest.approx(-back.high)


def test_nothing_is_known_of_nothing() -> None:
    assert math.isnan(share(0, 0).value)
    assert math.isnan(difference(share(0, 0), share(1, 2)).low)
    assert math.isnan(quantile([1.0], [0, 0], 0.5).value)


@given(st.lists(st.integers(0, 50), min_size=3, max_size=12).filter(any), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_lies_in_the_bucket_that_holds_its_rank(counts: list[int], q: float) -> None:
    bounds = [float(one) for one in range(1, len(counts))]
    found = quantile(bounds, counts, q)
    assert found.low <= found.value <= found.high
    below = sum(count for bound, count in zip(bounds, counts, strict=False) if bound <= found.low)
    assert below <= q * sum(counts) + 1e-9


def test_a_quantile_narrows_with_more_samples() -> None:
    bounds = [float(one) for one in range(1, 101)]
    few, many = quantile(bounds, [1] * 100 + [0], 0.5), quantile(bounds, [100] * 100 + [0], 0.5)
    assert (few.value, many.value) == (50, 50)
    assert many.high - many.low < few.high - few.low < 25


@given(st.lists(st.floats(-1e3, 1e3), min_size=MIN_SAMPLES, max_size=60), st.lists(st.floats(-1, 1), min_size=40))
def test_the_difference_of_means_is_welchs(one: list[float], other: list[float]) -> None:
    found = [mean(len(each), sum(each), sum(number * number for number in each)) for each in (one, other)]
    if all(set(each) <= {0.0, 1.0} for each in (one, other)):
        return
    deviations = [stats.tsem(each) if len(set(each)) > 1 else 0.0 for each in (one, other)]
    if not any(set(each) <= {0.0, 1.0} for each in (one, other)):
        wanted = stats.norm.ppf(0.975) * math.hypot(*deviations)
        against = difference(*found)
        assert against.high - against.value == pytest.approx(wanted, rel=1e-3, abs=1e-3)
        assert against.value == pytest.approx(sum(other) / len(other) - sum(one) / len(one), abs=1e-6)


def test_outcomes_of_zero_and_one_are_a_share_and_few_others_prove_nothing() -> None:
    assert mean(10, 3, 3) == share(3, 10)
    assert mean(5, 2.5, 1.25).high == math.inf
    assert math.isnan(mean(0, 0, 0).value)


# The split.


@given(st.floats(0, 200), st.integers(1, 30))
def test_the_tail_of_chi_square_is_scipys(statistic: float, freedom: int) -> None:
    assert survival(statistic, freedom) == pytest.approx(stats.chi2.sf(statistic, freedom), rel=1e-9, abs=1e-300)


def test_a_split_that_is_off_is_told_from_one_that_is_not() -> None:
    weights = {"v1": 80.0, "v2": 20.0, "v3": 0.0}
    assert p_value({"v1": 1602, "v2": 398}, weights) > 0.5
    assert p_value({"v1": 1700, "v2": 300}, weights) < 1e-6
    assert p_value({"v1": 1700, "v2": 300}, weights) == pytest.approx(stats.chisquare([1700, 300], [1600, 400]).pvalue)
    assert math.isnan(p_value({"v1": 8, "v2": 2}, weights))
    assert math.isnan(p_value({"v1": 100}, {"v1": 100.0}))


# Reading metrics.


@given(st.text(max_size=12), st.integers(0, 10**9))
def test_what_our_metrics_write_is_read_back(name: str, count: int) -> None:
    metrics = Metrics()
    metrics.request_count.add((name.replace("\r", ""), "OK"), count)
    text = metrics.text().decode("utf-8", "surrogatepass")
    if name.isprintable():
        assert (":tensorflow:serving:request_count", {"model_name": name, "status": "OK"}, count) in list(samples(text))


def test_the_samples_are_those_that_prometheus_reads() -> None:
    metrics = Metrics()
    metrics.request_count.add(('a"b\\c\nd', "OK"), 3)
    metrics.request_latency.observe(("m", "predict", "REST"), 50.0)
    text = metrics.text().decode()
    wanted = [
        (one.name.removesuffix("_total"), one.labels, one.value)
        for family in text_string_to_metric_families(text)
        for one in family.samples
    ]
    found = [(name.removesuffix("_total"), dict(labels), value) for name, labels, value in samples(text)]
    assert sorted(found, key=str) == sorted(wanted, key=str)


# The report.


def server(tag: str, good: int, bad: int, latency: float, refused: int = 0) -> str:
    metrics = Metrics()
    counts = RoutingCounts(metrics)
    metrics.request_count.add(("m", "OK"), good)
    metrics.request_count.add(("m", "INTERNAL"), bad)
    metrics.request_count.add(("m", "INVALID_ARGUMENT"), refused)
    metrics.request_count.add(("other", "INTERNAL"), 1000)
    for _ in range(good):
        metrics.request_latency.observe(("m", "predict", "REST"), latency)
    counts.arms.add((tag, "arrival", "here"), good + bad + refused)
    counts.shadowed.add(("v1", "v3", "same"), 90)
    counts.shadowed.add(("v1", "v3", "different"), 10)
    counts.top.add(("v1", "v3", "same"), 99)
    counts.top.add(("v1", "v3", "different"), 1)
    counts.difference.observe(("v1", "v3"), 0.5)
    return metrics.text().decode()


def totals(*texts: str) -> Totals:
    found = Totals()
    for text in texts:
        found.add(samples(text))
    return found


def test_arms_are_compared_by_what_the_server_is_to_blame_for() -> None:
    arms = {
        "v1": totals(server("v1", 800, 0, 1000.0), server("v1", 790, 10, 1000.0)),
        "v2": totals(server("v2", 350, 50, 4000.0, 25)),
    }
    found = report("m", {"v1": 80, "v2": 20}, {"v1": 2, "v2": 1}, arms)
    first, second = found.arms
    assert (first.tag, first.good, first.errors, first.refused, first.pods) == ("v1", 1590, 10, 0, 2)
    assert (second.tag, second.good, second.errors, second.refused) == ("v2", 350, 50, 25)
    assert second.against_first.low > 0.08
    assert 0.5 < first.milliseconds[0.5].value < 1.9 < second.milliseconds[0.5].value < 7
    assert (found.splits.keys(), found.mismatch) == ({"arrival"}, False)
    (shadow,) = found.shadows
    assert (shadow.results, shadow.different_share.value) == ({"same": 270, "different": 30}, 0.1)
    assert shadow.top_same.value == 0.99
    text = "\n".join(lines(found))
    assert "more errors" in text
    assert "split by arrival: as asked for" in text
    json.dumps(as_json(found), allow_nan=False)


def test_a_split_that_is_off_is_said_and_users_are_counted_where_they_keep_their_arm() -> None:
    half = {tag: totals(server(tag, 500, 0, 1.0)) for tag in ("v1", "v2")}
    off = report("m", {"v1": 80, "v2": 20}, {}, half)
    assert off.mismatch
    assert "NOT what was asked for" in "\n".join(lines(off))
    metrics = Metrics()
    RoutingCounts(metrics).arms.add(("v2", "user", "there"), 500)
    busy = report("m", {"v1": 80, "v2": 20}, {}, {"v1": totals(metrics.text().decode())})
    assert (busy.splits["user"] < 0.001, busy.mismatch) == (True, False)
    assert "busy users" in "\n".join(lines(busy))


def test_outcomes_are_their_versions_whichever_pod_was_told() -> None:
    told: dict[str, Outcomes] = {"v1": Outcomes(), "v2": Outcomes()}
    for number in range(1000):
        # Feedback about both versions reaches both revisions.
        told["v1" if number % 3 else "v2"].add("m", 1, float(number % 10 < 5))
        told["v1" if number % 5 else "v2"].add("m", 2, float(number % 10 < 7))
    told["v1"].add("other", 2, 1e6)
    arms = {}
    for tag, outcomes in told.items():
        metrics = Metrics()
        outcomes.add_to(metrics)
        arms[tag] = totals(metrics.text().decode())
    found = report("m", {"v1": 80, "v2": 20}, {}, arms)
    first, second = found.arms
    assert (first.outcomes, first.outcome.value, second.outcomes, second.outcome.value) == (1000, 0.5, 1000, 0.7)
    assert second.outcome_against_first == difference(share(500, 1000), share(700, 1000))
    text = "\n".join(lines(found))
    assert "v2 outcomes: 1000, mean 0.7 [" in text
    assert "mean outcome: higher" in text
    json.dumps(as_json(found), allow_nan=False)


def test_a_service_without_pods_has_a_report_too() -> None:
    found = report("m", {"v1": 100}, {}, {})
    assert "-" in lines(found)[1]
    json.dumps(as_json(found), allow_nan=False)


# The command; what it asks of a cluster, tests/e2e asks of a real one.


def test_without_a_cluster_the_command_says_so_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["m", f"--kubeconfig={tmp_path / 'none'}"]) == EXIT_FAILED
    error = capsys.readouterr().err
    assert error.startswith("zeroserve compare: no cluster: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "1e9"])
def test_a_time_that_makes_no_sense_is_refused(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["m", f"--seconds={seconds}"]) == EXIT_FAILED
    assert "wanted 0 to 86400" in capsys.readouterr().err
