"""What became of each prediction that was chosen to leave the process: nothing is lost in silence.

At any time `sampled = passed + dropped + those that wait`.
"""

from functions.observing.metrics import Counter, Metrics

RECORD, LOG, FEEDBACK = "record", "prediction_log", "feedback"
"""The exits."""

QUEUE_FULL = "queue_full"
"""More came than leaves: the sink or the store is slow or away."""

TOO_LARGE = "too_large"
"""A record that no file of records should hold."""

DUPLICATE = "duplicate"
"""The same request is recorded already."""

LIMIT = "limit"
"""--record_limit is reached."""

UNREADABLE = "unreadable"
"""It has no form in what is written: a defect, logged."""

REFUSED = "refused"
"""The sink does not want it: sending it again would not help."""

FAILED = "failed"
"""The sink or the store did not take it, however often it was tried."""

SHUTDOWN = "shutdown"
"""It was still there when the process had to end."""


class TapCounts:
    """The counters. Thread-safe.

    Attributes:
        sampled: chosen, by exit.
        passed: written or taken by the sink, by exit.
        dropped: by exit and reason.
        logged: the stock server's count of logged requests, by model and status.
    """

    def __init__(self) -> None:
        self.sampled = Counter("zeroserve_tap_sampled_total", ("exit",))
        self.passed = Counter("zeroserve_tap_passed_total", ("exit",))
        self.dropped = Counter("zeroserve_tap_dropped_total", ("exit", "reason"))
        self.logged = Counter(":tensorflow:serving:request_log_count", ("model_name", "status_code"))

    def add_to(self, metrics: Metrics) -> None:
        """Shows them."""
        for family in (self.sampled, self.passed, self.dropped, self.logged):
            metrics.add_family(family)

    def drop(self, exit_: str, reason: str, count: int = 1) -> None:
        """Some were given up."""
        self.dropped.add((exit_, reason), count)
