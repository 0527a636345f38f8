"""Sends spans in a thread of its own. No prediction waits for it, or fails with it; what is not sent is counted.

The thread imports OpenTelemetry when the server's start is over: until then spans wait, so that a cold start pays
nothing for them.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from functions.tracing.describe import request_span
from functions.tracing.spans import Link, RequestTrace, Span
from functions.tracing.trace_settings import TraceSettings

EXPORTED, FAILED, DROPPED = "exported", "failed", "dropped"
"""What becomes of spans: taken by the collector, not taken, or never sent for want of room."""

_log = logging.getLogger("zeroserve.tracing")


class Sender(Protocol):
    """Sends spans; see `functions.tracing.sdk`."""

    def export(self, spans: Sequence[Span]) -> bool:
        """Whether they were taken. Blocks."""

    def stop(self) -> None:
        """Ends the tries. From any thread."""


class SpanExporter:
    """Takes requests from the event loop's thread, and spans from any.

    Args:
        settings: sizes and times.
        sender: makes the sender; called by the thread.
        counted: is told how many spans have come to `EXPORTED`, `FAILED` or `DROPPED`. From any thread.
        cold_start: the span of the server's start.
    """

    def __init__(
        self,
        settings: TraceSettings,
        sender: Callable[[], Sender],
        counted: Callable[[str, int], None],
        cold_start: Link,
    ) -> None:
        self._settings = settings
        self._make = sender
        self._counted = counted
        self._cold_start = cold_start
        self._lock = threading.Lock()
        self._queue: deque[tuple[RequestTrace | Span, int]] = deque()  # with the size that it was taken for
        self._size = 0
        self._wake = threading.Event()
        self._closed = False
        self._sender: Sender | None = None
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """The server's start is over."""
        self._thread = threading.Thread(target=self._work, name="zeroserve-traces", daemon=True)
        self._thread.start()

    def offer(self, item: "RequestTrace | Span") -> None:
        """Takes the spans of a request that is over, or a span; drops them where there is no room."""
        size = item.size() if isinstance(item, RequestTrace) else 1
        with self._lock:
            room = not self._closed and self._size + size <= self._settings.queue_spans
            if room:
                self._queue.append((item, size))
                self._size += size
        if not room:
            self._counted(DROPPED, size)
            if isinstance(item, RequestTrace):
                item.release()
        elif self._size >= self._settings.batch_spans and not self._wake.is_set():
            self._wake.set()

    def close(self, timeout: float) -> None:
        """Sends what there is, and ends; gives up after so many seconds."""
        with self._lock:
            self._closed = True
        self._wake.set()
        if self._thread is None:
            self._drop()
            return
        self._thread.join(timeout)
        if self._thread.is_alive():
            if self._sender is not None:
                self._sender.stop()
            self._drop()

    def _work(self) -> None:
        try:
            self._sender = sender = self._make()
        except Exception:  # noqa: BLE001  traces that cannot be sent are no reason not to serve
            _log.exception("traces cannot be exported")
            with self._lock:
                self._closed = True
            self._drop()
            return
        while True:
            self._wake.wait(self._settings.delay_seconds)
            self._wake.clear()
            closing, well = self._closed, True
            while well and (spans := self._take()):
                well = self._send(sender, spans)
                well = well or not closing  # at the end a collector that is away is not waited for again
            if closing:
                self._drop()
                sender.stop()
                return

    def _send(self, sender: Sender, spans: Sequence[Span]) -> bool:
        try:
            taken = sender.export(spans)
        except Exception:  # noqa: BLE001  the next ones may go through
            _log.exception("an export of traces failed for a reason of our own")
            taken = False
        self._counted(EXPORTED if taken else FAILED, len(spans))
        return taken

    def _take(self) -> list[Span]:
        spans: list[Span] = []
        while len(spans) < self._settings.batch_spans:
            with self._lock:
                if not self._queue:
                    break
                item, size = self._queue.popleft()
                self._size -= size
            if isinstance(item, Span):
                spans.append(item)
                continue
            spans.append(request_span(item.access, self._cold_start))
            spans += item.below()
            item.release()
        return spans

    def _drop(self) -> None:
        with self._lock:
            left, self._size = self._size, 0
            self._queue.clear()
        if left:
            self._counted(DROPPED, left)
