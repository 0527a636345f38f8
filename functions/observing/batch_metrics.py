"""What in-function batching does, as metrics: waits, sizes, padding, run times and refusals by model and version."""

from collections.abc import Sequence

from functions.observing.metrics import Counter, Histogram, Metrics
from loader.servable import ServableId
from loader.status import Code

_ROWS: tuple[float, ...] = tuple(2.0**power for power in range(13))
_SECONDS: tuple[float, ...] = tuple(1e-4 * 2.0**power for power in range(18))


class BatchMetrics:
    """The families of batching. Thread-safe.

    Attributes:
        queuing_latency: microseconds that requests waited, under the stock server's name.
        waited: the same in seconds, by servable.
        rows: requests' own rows of a batch.
        padding: rows that were run for nobody.
        seconds: run time of a batch.
        rejected: requests refused before they ran.
    """

    def __init__(self, metrics: Metrics, thread_pool_name: str) -> None:
        labels = ("model_name", "version")
        self._pool = (thread_pool_name,)
        self.queuing_latency = Histogram(":tensorflow:serving:batching_session:queuing_latency", ("thread_pool_name",))
        self.waited = Histogram("zeroserve_batch_queue_seconds", labels, _SECONDS)
        self.rows = Histogram("zeroserve_batch_rows", labels, _ROWS)
        self.padding = Counter("zeroserve_batch_padding_rows_total", labels)
        self.seconds = Histogram("zeroserve_batch_run_seconds", labels, _SECONDS)
        self.rejected = Counter("zeroserve_batch_rejected_total", (*labels, "status"))
        for family in (self.queuing_latency, self.waited, self.rows, self.padding, self.seconds, self.rejected):
            metrics.add_family(family)

    def observer(self, servable: ServableId) -> "ServableBatches":
        """What the scheduler of one version reports to."""
        return ServableBatches(self, servable)

    def queued(self, seconds: float) -> None:
        """One request waited this long."""
        self.queuing_latency.observe(self._pool, seconds * 1e6)


class ServableBatches:
    """The batches of one version; a `loader.batching.BatchObserver`."""

    def __init__(self, metrics: BatchMetrics, servable: ServableId) -> None:
        self._metrics = metrics
        self._labels = (servable.name, str(servable.version))

    def waited(self, seconds: Sequence[float]) -> None:
        """See `loader.batching.BatchObserver`."""
        metrics = self._metrics
        for each in seconds:
            metrics.queued(each)
            metrics.waited.observe(self._labels, each)

    def ran(self, rows: int, padded: int, seconds: float) -> None:
        """See `loader.batching.BatchObserver`."""
        metrics, labels = self._metrics, self._labels
        metrics.rows.observe(labels, rows)
        metrics.seconds.observe(labels, seconds)
        if padded > rows:
            metrics.padding.add(labels, padded - rows)

    def rejected(self, code: Code) -> None:
        """See `loader.batching.BatchObserver`."""
        self._metrics.rejected.add((*self._labels, code.name))
