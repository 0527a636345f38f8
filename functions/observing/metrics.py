"""Counters, gauges and histograms under the stock server's names, and some of our own.

A sample costs under a microsecond, so no client library is imported on the way to the first answer. Thread safety:
samples may come from any thread, and the text may be asked for meanwhile.

Source: tensorflow_serving/servables/tensorflow/util.cc, saved_model_warmup_util.cc and model_servers/
prometheus_exporter.cc (names: `/` becomes `:`; the exponential buckets start at 10 us and grow by 1.8, 33 of them).
"""

import bisect
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from functions.observing.metrics_text import Labels, Samples, text

DEFAULT_PATH = "/monitoring/prometheus/metrics"

REST, GRPC, OIP_REST, OIP_GRPC = "REST", "GRPC", "OIP_REST", "OIP_GRPC"
"""Protocols in `zeroserve_requests_total`."""

_SERVING = ":tensorflow:serving:"

MAX_SERIES = 10_000
"""Combinations of label values that one family keeps apart; later ones are counted under empty labels, because names
of models that do not exist come from whoever asks for them."""

LATENCY_BOUNDS: tuple[float, ...] = tuple(10 * 1.8**i for i in range(32))
"""Upper bounds of the latency buckets in microseconds; the 33rd bucket is without a bound."""

LOAD_BOUNDS: tuple[float, ...] = tuple(0.001 * 2.0**i for i in range(20))
"""Upper bounds of the buckets for the phases of a load: 1 ms to 9 minutes, in seconds."""


class Counter:
    """A count per combination of label values that only grows."""

    def __init__(self, name: str, labels: Sequence[str]) -> None:
        self.name = name
        self._labels = tuple(labels)
        self._lock = threading.Lock()
        self._rows: dict[Labels, float] = {}

    def add(self, values: Labels, amount: float = 1) -> None:
        """Adds `amount` (0 or more) to the row of `values`, one for each label."""
        with self._lock:
            if values not in self._rows and len(self._rows) >= MAX_SERIES:
                values = ("",) * len(self._labels)
            self._rows[values] = self._rows.get(values, 0) + amount

    def value(self, values: Labels) -> float:
        """The count of the row of `values`; 0 when there is none."""
        return self._rows.get(values, 0)

    def samples(self) -> Samples:
        """All rows as they are now."""
        with self._lock:
            return Samples(self.name, "counter", self._labels, {key: (row,) for key, row in self._rows.items()})


class RequestCounter(Counter):
    """The stock server's count of requests, which knows no protocols, and the same by protocol. Each protocol's door
    counts in a counter of its own, so that a request is counted once.
    """

    def __init__(self) -> None:
        super().__init__(f"{_SERVING}request_count", ("model_name", "status"))
        self._by_protocol: dict[str, Counter] = {}

    def by(self, protocol: str) -> Counter:
        """What one protocol counts in, with the same labels."""
        return self._by_protocol.setdefault(protocol, Counter(self.name, self._labels))

    def value(self, values: Labels) -> float:
        """The count of the row of `values`, over all protocols."""
        return super().value(values) + sum(one.value(values) for one in list(self._by_protocol.values()))

    def samples(self) -> Samples:
        """All rows as they are now, over all protocols."""
        own = super().samples()
        rows = dict(own.rows)
        for counter in list(self._by_protocol.values()):
            for values, (count, *_) in counter.samples().rows.items():
                rows[values] = (rows.get(values, (0.0,))[0] + count,)
        return replace(own, rows=rows)

    def protocol_samples(self) -> Samples:
        """The same by protocol."""
        rows: dict[Labels, tuple[float, ...]] = {
            (name, protocol, status): row
            for protocol, counter in list(self._by_protocol.items())
            for (name, status), row in counter.samples().rows.items()
        }
        return Samples("zeroserve_requests_total", "counter", ("model_name", "protocol", "status"), rows)


class _ByProtocol:
    """The family that shows a `RequestCounter` by protocol."""

    def __init__(self, counter: RequestCounter) -> None:
        self._counter = counter

    def samples(self) -> Samples:
        """All rows as they are now."""
        return self._counter.protocol_samples()


class _Row:
    __slots__ = ("buckets", "total")

    def __init__(self, size: int) -> None:
        self.buckets = [0] * size
        self.total = 0.0


class Histogram:
    """How samples spread over buckets, per combination of label values."""

    def __init__(self, name: str, labels: Sequence[str], bounds: Sequence[float] = LATENCY_BOUNDS) -> None:
        self.name = name
        self._labels = tuple(labels)
        self._bounds = tuple(bounds)
        self._lock = threading.Lock()
        self._rows: dict[Labels, _Row] = {}

    def observe(self, values: Labels, sample: float) -> None:
        """Puts `sample` into the row of `values`, one for each label."""
        place = bisect.bisect_left(self._bounds, sample)
        with self._lock:
            row = self._rows.get(values)
            if row is None and len(self._rows) >= MAX_SERIES:
                values = ("",) * len(self._labels)
                row = self._rows.get(values)
            if row is None:
                row = self._rows[values] = _Row(len(self._bounds) + 1)
            row.buckets[place] += 1
            row.total += sample

    def samples(self) -> Samples:
        """All rows as they are now."""
        with self._lock:
            rows = {key: (*map(float, row.buckets), row.total) for key, row in self._rows.items()}
        return Samples(self.name, "histogram", self._labels, rows, self._bounds)


class Gauge:
    """Numbers that go up and down, looked up when they are asked for.

    Args:
        read: the numbers by label values.
        highest: of several processes the largest number counts, not the sum.
    """

    def __init__(
        self, name: str, labels: Sequence[str], read: Callable[[], Mapping[Labels, float]], *, highest: bool = False
    ) -> None:
        self._name = name
        self._labels = tuple(labels)
        self._read = read
        self._highest = highest

    def samples(self) -> Samples:
        """All rows as they are now."""
        rows = {values: (number,) for values, number in self._read().items()}
        return Samples(self._name, "gauge", self._labels, rows, highest=self._highest)


Family = Counter | Gauge | Histogram | _ByProtocol


class Metrics:
    """The families of one server.

    Attributes:
        request_count: requests by model and canonical status, good and bad; `by(protocol)` is what a door counts in.
        request_latency: microseconds from the complete request to the answer, of good ones.
        runtime_latency: microseconds of the run alone, waiting in a queue included.
        example_count: rows by request.
        example_total: rows in all.
        warmup_latency: microseconds of a version's warm-up; only versions that have one.
        warmup_records: records of warm-up files.
        load_seconds: by phase: `list` (a look at storage, what is missing included), `download`, `load`, `warmup`.
    """

    def __init__(self) -> None:
        serving = _SERVING
        self.request_count = RequestCounter()
        self.request_latency = Histogram(f"{serving}request_latency", ("model_name", "API", "entrypoint"))
        self.runtime_latency = Histogram(f"{serving}runtime_latency", ("model_name", "API", "runtime"))
        self.example_count = Histogram(f"{serving}request_example_counts", ("model",), tuple(2.0**i for i in range(32)))
        self.example_total = Counter(f"{serving}request_example_count_total", ("model",))
        self.warmup_latency = Histogram(f"{serving}model_warmup_latency", ("model_path", "status"))
        self.warmup_records = Counter(f"{serving}model_warmup_records_read", ("model_path", "status"))
        self.load_seconds = Histogram("zeroserve_load_seconds", ("model_name", "phase"), LOAD_BOUNDS)
        self._families: list[Family] = [
            self.request_count,
            _ByProtocol(self.request_count),
            self.request_latency,
            self.runtime_latency,
            self.example_count,
            self.example_total,
            self.warmup_latency,
            self.warmup_records,
            self.load_seconds,
        ]

    def add_family(self, family: Family) -> None:
        """Shows one more family, of another part of the server."""
        self._families.append(family)

    def samples(self) -> list[Samples]:
        """All families as they are now."""
        return [family.samples() for family in self._families]

    def total(self, name: str) -> int:
        """The sum over all labels of the counter, or the number of samples of the histogram, of this name; else 0.

        Args:
            name: as in the text format, or with the slashes of the stock server's registry.
        """
        wanted = name.replace("/", ":")
        found = next((each for each in self.samples() if each.name == wanted), None)
        if found is None:
            return 0
        return int(sum(sum(row[:-1] if found.kind == "histogram" else row) for row in found.rows.values()))

    def text(self) -> bytes:
        """Everything in Prometheus' text format 0.0.4."""
        return text(self.samples())
