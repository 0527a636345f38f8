"""What outcomes say of each version: count, sum and sum of squares, from which a mean and its error follow."""

import threading
from collections.abc import Callable
from functools import partial

from functions.observing.metrics import Counter, Gauge, Metrics
from functions.observing.metrics_text import Labels

COUNT, SUM, SQUARES = "zeroserve_outcomes", "zeroserve_outcomes_sum", "zeroserve_outcomes_squares_sum"
"""Gauges, since outcomes may be negative; they are added up over processes."""

MAX_OUTCOME = 1e6
"""The largest outcome by amount: one of 1e300 would be the mean of all others."""

MAX_VERSIONS = 256
"""Versions that are kept apart; those that come after have empty labels. Ids without a seal can be made up."""


class Outcomes:
    """Adds up. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[Labels, tuple[float, float, float]] = {}
        self.results = Counter("zeroserve_feedback_total", ("result",))
        """Requests by what became of them: accepted, repeated, refused, busy."""

    def add(self, model: str, version: int, outcome: float) -> None:
        """Adds an outcome of a version."""
        key: Labels = (model, str(version))
        with self._lock:
            if key not in self._rows and len(self._rows) >= MAX_VERSIONS:
                key = ("", "")
            count, total, squares = self._rows.get(key, (0.0, 0.0, 0.0))
            self._rows[key] = (count + 1, total + outcome, squares + outcome * outcome)

    def add_to(self, metrics: Metrics) -> None:
        """Shows them."""
        metrics.add_family(self.results)
        for place, name in enumerate((COUNT, SUM, SQUARES)):
            metrics.add_family(Gauge(name, ("model_name", "version"), self._column(place)))

    def _column(self, place: int) -> Callable[[], dict[Labels, float]]:
        return partial(self._read, place)

    def _read(self, place: int) -> dict[Labels, float]:
        with self._lock:
            return {key: row[place] for key, row in self._rows.items()}
