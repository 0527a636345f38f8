"""What the deploy function did, as metrics: where each declared model stands, what became of rollouts, its answers.

The state is what the last look found, so it is as old as the last event or sweep; the counts are of this process.
"""

import threading
from collections.abc import Mapping
from typing import Any

from events.landing import Emit
from events.outcome import Outcome, State
from functions.observing.metrics import Counter, Gauge
from functions.observing.metrics_text import Labels, text

UNREACHABLE = "unreachable"
"""The state of a model whose cluster or storage could not be asked, or whose declaration makes no sense."""

PROXIED = frozenset({"forwarded", "x-forwarded-for"})
"""Headers of a request that came through a proxy: names of models are for who asks the pod itself.

Source: Knative's queue-proxy adds `Forwarded`, ingresses add `X-Forwarded-For`.
"""


class LandingMetrics:
    """The families of one deploy function. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[str, str] = {}
        self._rollouts = Counter("zeroserve_rollout_events_total", ("service", "kind"))
        self._answers = Counter("zeroserve_event_answers_total", ("code",))
        self._landing = Gauge("zeroserve_landing_state", ("service", "state"), self._rows)

    def looked(self, service: str, outcome: Outcome | None) -> None:
        """Notes what a look at a model found; None where it found nothing out."""
        with self._lock:
            if outcome is not None and outcome.state is State.UNDECLARED:
                self._states.pop(service, None)
            else:
                self._states[service] = UNREACHABLE if outcome is None else outcome.state.name.lower()

    def answered(self, status: int) -> None:
        """Counts the answer to an event."""
        self._answers.add((str(status),))

    def telling(self, tell: Emit) -> Emit:
        """Counts what becomes of rollouts, and tells it on."""

        def counted(kind: str, service: str, data: Mapping[str, Any]) -> None:
            self._rollouts.add((service, kind))
            tell(kind, service, data)

        return counted

    def text(self) -> bytes:
        """Everything in Prometheus' text format 0.0.4."""
        return text(family.samples() for family in (self._landing, self._rollouts, self._answers))

    def _rows(self) -> dict[Labels, float]:
        with self._lock:
            return dict.fromkeys(self._states.items(), 1.0)
