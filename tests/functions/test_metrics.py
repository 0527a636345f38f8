"""Counters, histograms and their text."""

import math
import random
import threading

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from functions.observing.metrics import LATENCY_BOUNDS, MAX_SERIES, Counter, Gauge, Histogram, Metrics
from functions.observing.metrics_text import Samples, total


def test_latency_buckets_start_at_ten_microseconds_and_grow_by_eight_tenths() -> None:
    assert len(LATENCY_BOUNDS) == 32  # and one without a bound: 33
    assert LATENCY_BOUNDS[0] == 10
    assert math.isclose(LATENCY_BOUNDS[1], 18)


def test_a_counter_shows_a_line_for_each_combination_of_labels() -> None:
    counter = Counter(":a:b", ("model_name", "status"))
    counter.add(("m", "OK"))
    counter.add(("m", "OK"), 2)
    counter.add(('q"\\\n', "OK"))
    assert list(counter.samples().lines()) == [
        "# TYPE :a:b counter",
        ':a:b{model_name="m",status="OK"} 3',
        ':a:b{model_name="q\\"\\\\\\n",status="OK"} 1',
    ]


def test_a_large_count_is_not_rounded() -> None:
    counter = Counter("c", ())
    counter.add((), 123_456_789)
    assert list(counter.samples().lines())[1] == "c 123456789"


def test_buckets_are_cumulative_and_end_with_the_count() -> None:
    histogram = Histogram("h", ("model",), (1, 2))
    for sample in (1, 1.5, 5):
        histogram.observe(("m",), sample)
    assert list(histogram.samples().lines()) == [
        "# TYPE h histogram",
        'h_bucket{model="m",le="1"} 1',
        'h_bucket{model="m",le="2"} 2',
        'h_bucket{model="m",le="+Inf"} 3',
        'h_sum{model="m"} 7.5',
        'h_count{model="m"} 3',
    ]


def test_samples_of_several_threads_are_all_counted() -> None:
    counter = Counter("c", ())
    threads = [threading.Thread(target=lambda: [counter.add(()) for _ in range(10_000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.value(()) == 40_000


def test_the_families_have_the_stock_servers_names() -> None:
    text = Metrics().text().decode()
    for name in ("request_count", "request_latency", "runtime_latency", "request_example_counts"):
        assert f"# TYPE :tensorflow:serving:{name} " in text


def test_names_that_callers_make_up_do_not_grow_the_metrics_without_limit() -> None:
    counter, histogram = Counter("c", ("model",)), Histogram("h", ("model",))
    for index in range(MAX_SERIES + 50):
        counter.add((f"m{index}",))
        histogram.observe((f"m{index}",), 1.0)
    assert counter.value(("",)) == 50
    assert sum(line.startswith("h_count") for line in histogram.samples().lines()) == MAX_SERIES + 1


NUMBERS = st.lists(st.integers(0, 1000).map(float), min_size=3, max_size=3).map(tuple)
PROCESS = st.dictionaries(st.tuples(st.sampled_from("abc")), NUMBERS).map(
    lambda rows: [Samples("h", "histogram", ("l",), rows, (1.0,))]
)


@given(st.lists(PROCESS, max_size=4), st.randoms())
def test_the_total_of_processes_is_the_sum_of_their_numbers_in_any_order(
    processes: list[list[Samples]], random: random.Random
) -> None:
    shuffled = random.sample(processes, len(processes))
    found = {values: numbers for one in total(processes) for values, numbers in one.rows.items()}
    assert found == {values: numbers for one in total(shuffled) for values, numbers in one.rows.items()}
    every = [numbers for process in processes for one in process for numbers in one.rows.values()]
    assert [sum(column) for column in zip(*found.values(), strict=True)] == [
        sum(column) for column in zip(*every, strict=True)
    ]


def test_of_a_gauge_that_says_so_the_largest_number_counts() -> None:
    one, other = (Gauge("g", (), lambda n=n: {(): n}, highest=True).samples() for n in (1.5, 0.5))
    assert list(total([[one], [other]])[0].lines()) == ["# TYPE g gauge", "g 1.5"]


def test_the_text_is_what_prometheus_reads() -> None:
    metrics = Metrics()
    metrics.request_count.add(('a"b\\c\nd', "OK"), 3)
    metrics.request_latency.observe(("m", "Predict", "GRPC"), 15.0)
    found = {one.name: one for one in text_string_to_metric_families(metrics.text().decode())}
    sample = found[":tensorflow:serving:request_count"].samples[0]
    assert (sample.labels, sample.value) == ({"model_name": 'a"b\\c\nd', "status": "OK"}, 3)
    latency = found[":tensorflow:serving:request_latency"]
    assert (latency.type, len(latency.samples)) == ("histogram", 33 + 2)
    assert [one.value for one in latency.samples if one.labels.get("le") in {"10", "18", "+Inf"}] == [0, 1, 1]


def test_the_total_of_a_family_is_told_by_either_form_of_its_name() -> None:
    metrics = Metrics()
    metrics.request_count.add(("m", "OK"), 2)
    metrics.request_count.add(("m", "NOT_FOUND"))
    metrics.request_latency.observe(("m", "predict", "REST"), 50.0)
    assert metrics.total("/tensorflow/serving/request_count") == 3
    assert metrics.total(":tensorflow:serving:request_latency") == 1
    assert metrics.total("nothing") == 0


def test_a_request_is_counted_once_and_shown_in_all_and_by_protocol() -> None:
    metrics = Metrics()
    rest, grpc = metrics.request_count.by("REST"), metrics.request_count.by("GRPC")
    rest.add(("m", "OK"), 2)
    grpc.add(("m", "OK"))
    grpc.add(("m", "INTERNAL"))
    assert metrics.request_count.by("REST") is rest
    assert metrics.request_count.value(("m", "OK")) == 3
    rows = {one.name: dict(one.rows) for one in metrics.samples()}
    assert rows[":tensorflow:serving:request_count"] == {("m", "OK"): (3,), ("m", "INTERNAL"): (1,)}
    assert rows["zeroserve_requests_total"] == {
        ("m", "REST", "OK"): (2,),
        ("m", "GRPC", "OK"): (1,),
        ("m", "GRPC", "INTERNAL"): (1,),
    }
