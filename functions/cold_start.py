"""Where the time of a cold start goes: the phases from the start of the process until it is ready, and who is told.

    import     the interpreter and our own modules
    library    opening TensorFlow's library
    list       looking at storage, and proving that a version is complete
    download   fetching a version into the cache, or verifying what is there already
    load       graph, variables, tables
    warmup     the model's recorded requests
    total      from the start of the process until the models are ready

Phases overlap, so each has a beginning as well as a length. Of several models a phase lasts from the first one's
beginning to the last one's end. An answer that a cold start has delayed carries them as `Server-Timing`, over REST and
as gRPC metadata; the metrics keep them.

Source: W3C "Server Timing" (name;dur=milliseconds;desc="text").
"""

import contextlib
import threading
import time
from collections.abc import Iterator, MutableMapping
from typing import Any

from functions.observing.metrics import Gauge, Metrics
from functions.observing.metrics_text import Labels
from functions.process_age import process_age
from functions.web.service import Send

PHASES = ("import", "library", "list", "download", "load", "warmup")
TOTAL = "total"
SECONDS = "zeroserve_cold_start_seconds"
OFFSET_SECONDS = "zeroserve_cold_start_offset_seconds"

TELLING_SECONDS = 1.0
"""Requests that come so soon after the start was over may have waited for it in front of this process (a proxy that
holds them until we are ready): they are told, too."""


class ColdStart:
    """The phases of one process's start. Safe from any thread; times are those of `time.perf_counter()`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._born = time.perf_counter() - (process_age() or 0.0)
        self._spans: dict[str, tuple[float, float]] = {}
        self._ended: float | None = None

    @property
    def born(self) -> float:
        """When the process was made."""
        return self._born

    def note(self, phase: str, began: float, ended: float) -> None:
        """Adds a span to a phase; nothing once the start is over: what comes later was not waited for."""
        with self._lock:
            if self._ended is None:
                known = self._spans.get(phase, (began, ended))
                self._spans[phase] = (min(known[0], began), max(known[1], ended))

    @contextlib.contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Notes how long the block takes, if it comes to its end."""
        began = time.perf_counter()
        yield
        self.note(phase, began, time.perf_counter())

    def end(self) -> None:
        """The models are ready."""
        with self._lock:
            if self._ended is None:
                self._ended = time.perf_counter()

    def rows(self) -> dict[str, tuple[float, float]]:
        """By phase, in their order: beginning and length in seconds; `total` once the start is over."""
        with self._lock:
            spans = {name: self._spans[name] for name in PHASES if name in self._spans}
            if self._ended is not None:
                spans[TOTAL] = (self._born, self._ended)
        return {name: (max(0.0, began - self._born), ended - began) for name, (began, ended) in spans.items()}

    def server_timing(self) -> bytes:
        """The header's value."""
        return ", ".join(
            f'{name};dur={seconds * 1000:.1f};desc="start={start * 1000:.1f}"'
            for name, (start, seconds) in self.rows().items()
        ).encode()

    def is_over(self, seconds: float) -> bool:
        """Whether the start has been over for so long."""
        ended = self._ended
        return ended is not None and time.perf_counter() - ended > seconds

    def add_to(self, metrics: Metrics) -> None:
        """Shows the phases; of several workers the slowest."""

        def part(index: int) -> dict[Labels, float]:
            return {(name,): row[index] for name, row in self.rows().items()}

        metrics.add_family(Gauge(SECONDS, ("phase",), lambda: part(1), highest=True))
        metrics.add_family(Gauge(OFFSET_SECONDS, ("phase",), lambda: part(0), highest=True))


class ColdAnswers:
    """Which answers carry the phases: the first prediction's, and those of all that came before the start was over or
    within `TELLING_SECONDS` after it. Used by one event loop.

    Args:
        cold_start: what they are told of; without one no answer carries anything.
    """

    def __init__(self, cold_start: ColdStart | None = None) -> None:
        self._cold_start = cold_start
        self._told = False

    def telling(self, method: str, send: Send) -> Send:
        """What an answer is sent with: `send`, with the header where it is due. Predictions are POST everywhere."""
        cold_start = self._cold_start
        if cold_start is None or method != "POST":
            return send
        if self._told and cold_start.is_over(TELLING_SECONDS):
            self._cold_start = None
            return send
        self._told = True

        async def told(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                value = cold_start.server_timing()
                if value:
                    message = {**message, "headers": [*message.get("headers", ()), (b"server-timing", value)]}
            await send(message)

        return told
