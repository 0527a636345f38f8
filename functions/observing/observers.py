"""Who wants to know of requests, put together from the settings: nobody, and then nothing is made."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from functions.cold_start import ColdStart
from functions.config import Settings, own_revision, own_service, telemetry_environment
from functions.observing.metrics import Metrics
from functions.web.message import Handler
from functions.web.service import AsgiApplication

if TYPE_CHECKING:
    from functions.observing.access import Observer
    from functions.tap.tap import Tap
    from loader.model_config import ModelConfig


class Observers:
    """Those who want to know of the requests of one server."""

    def __init__(self, observers: "Sequence[Observer]", tap: "Tap | None" = None) -> None:
        self._observers = observers
        self._tap = tap

    def before(self, application: AsgiApplication, is_ready: Callable[[], bool]) -> AsgiApplication:
        """The application with those before it."""
        from functions.observing.access_door import AccessDoor  # noqa: PLC0415  only where somebody asks

        return AccessDoor(application, self._observers, is_ready=is_ready)

    def door(self, handler: Handler) -> Handler:
        """The handler of `/v1`, with the door of outcomes before it where `--feedback` is on."""
        return handler if self._tap is None else self._tap.before(handler)

    def follow(self, configs: "Callable[[], Sequence[ModelConfig]]") -> None:
        """The models that are served, as they are configured at any time."""
        if self._tap is not None:
            self._tap.shares.follow(configs)

    def add_to(self, metrics: Metrics) -> None:
        """Shows their counts."""
        for one in self._observers:
            one.add_to(metrics)

    def started(self, cold_start: ColdStart) -> None:
        """The server's start is over."""
        for one in self._observers:
            one.started(cold_start)

    def close(self, timeout: float) -> None:
        """Ends them; `timeout` in seconds is for each."""
        for one in self._observers:
            one.close(timeout)


def observers(settings: Settings, worker: int | None = None) -> Observers | None:
    """Those that the settings name; None where they name nobody.

    Args:
        settings: the settings.
        worker: this process among several.

    Raises:
        UsageError: the OTEL_* variables or K_SINK's make no sense, or a sink or a storage is missing.
    """
    found: list[Any] = []
    if settings.request_log != "off":
        from functions.observing.request_log import RequestLog, write_to_stderr  # noqa: PLC0415  a start without it does not pay

        found.append(
            RequestLog(
                write_to_stderr,
                as_json=settings.log_format == "json",
                share=settings.request_log_share if settings.request_log == "all" else 0.0,
                revision=own_revision(),
                worker=worker,
            )
        )
    if settings.traces:
        from functions.tracing.trace_settings import trace_settings  # noqa: PLC0415  as above
        from functions.tracing.traces import Traces  # noqa: PLC0415

        wanted = trace_settings(telemetry_environment())
        if wanted is not None:
            found.insert(0, Traces(wanted, own_service() or "zeroserve", own_revision()))
    tap = None
    if settings.record_to or settings.prediction_log_share or settings.feedback:
        from functions.tap.tap import open_tap  # noqa: PLC0415  as above

        tap = open_tap(settings)
        found.append(tap)
    return Observers(found, tap) if found else None


def check_telemetry() -> None:
    """Looks at the OTEL_* variables before anything is started.

    Raises:
        UsageError: they make no sense, or the extra `otel` is not installed.
    """
    from functions.tracing.trace_settings import trace_settings  # noqa: PLC0415  as above

    trace_settings(telemetry_environment())
