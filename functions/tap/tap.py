"""The tap: where answered predictions leave the process, to files (`--record_to`), to a sink, with a feedback id.

It stands where the record of a request hears of its run (`functions.run_call`), whatever protocol asked, and never in
the way: what is not chosen costs a draw, what is chosen a place in a queue; all else is done by threads. Whatever goes
wrong is counted, and no answer hears of it.

Copies of requests (a shadow's, a gate's replay) say so and are nobody's requests: they pass by.
"""

import json
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from functions.cold_start import ColdStart
from functions.config import Settings, own_service, sink_environment
from functions.flags import UsageError
from functions.observing.access import Access
from functions.observing.metrics import Metrics
from functions.routing.peer_headers import COPY
from functions.tap import counts
from functions.tap.counts import TapCounts
from functions.tap.event_sink import EventSink, trusted
from functions.tap.feedback import Feedback
from functions.tap.feedback_id import Answer, FeedbackIds
from functions.tap.outcomes import Outcomes
from functions.tap.prediction_logger import LogRules, PredictionLogger, source
from functions.tap.recorder import MAX_RECORD_BYTES, Recorder, RecordRules
from functions.tap.shares import Shares
from functions.web.message import Handler
from loader.servable import Servable
from loader.status import ServingError
from loader.storage import open_storage

if TYPE_CHECKING:
    from functions.tap.sample import Sample
    from loader.dtypes import Array

_COPY = COPY.encode()
FEEDBACK_ID = b"x-feedback-id"

EXPOSED = (b"access-control-expose-headers", b"x-request-id, x-feedback-id")
"""Lets a page of another origin read them."""

_log = logging.getLogger("zeroserve.tap")


class Tap:
    """Those exits that the settings name. `begun` and `answered` are used on the event loop's thread.

    Attributes:
        shares: of models that say their own; it is to be told of the models.

    Args:
        settings: the server's.
        service: of the cluster; empty for none.
        sink_variables: `K_SINK`, `K_CE_OVERRIDES`, `K_CA_CERTS`.

    Raises:
        UsageError: a share without a sink; variables that cannot be read; a storage that cannot be.
    """

    def __init__(self, settings: Settings, service: str, sink_variables: Mapping[str, str]) -> None:
        self._counts = TapCounts()
        self._recorder: Recorder | None = None
        self._logger: PredictionLogger | None = None
        self._sink: EventSink | None = None
        self._ids: FeedbackIds | None = None
        self._cors = (EXPOSED,) if settings.rest_api_enable_cors_support else ()
        self._service = service
        self._outcomes = Outcomes()
        self.shares = Shares()
        url = settings.prediction_log_sink or sink_variables.get("K_SINK", "")
        if settings.prediction_log_share and not url:
            raise UsageError("--prediction_log_share without --prediction_log_sink (or K_SINK): say where to")
        if url and (settings.prediction_log_share or settings.feedback):
            extensions = _extensions(sink_variables.get("K_CE_OVERRIDES", ""))
            try:
                tls = trusted(url, sink_variables.get("K_CA_CERTS", ""))
            except ValueError as error:
                raise UsageError(str(error)) from None
            self._sink = EventSink(url, self._counts, extensions, tls)
        if self._sink is not None and settings.prediction_log_share:
            names = frozenset(name for name in settings.prediction_log_redact.split(",") if name)
            rules = LogRules(
                settings.prediction_log_share,
                settings.prediction_log_format == "prediction_log",
                names,
                settings.prediction_log_max_value_bytes,
            )
            self._logger = PredictionLogger(self._sink, rules, service)
        if settings.record_to:
            record_rules = RecordRules(settings.record_share, settings.record_limit, settings.record_seconds)
            try:
                storage = open_storage(settings.record_to, settings.storage_driver)
            except ServingError as error:
                raise UsageError(f"--record_to: {error.message}") from None
            self._recorder = Recorder(storage, record_rules, self._counts)
        if settings.feedback:
            self._ids = FeedbackIds(settings.feedback_secrets, settings.feedback_max_age_seconds)

    def begun(self, access: Access) -> None:
        """Takes part in a request: see `functions.observing.access.Sink`."""
        if _COPY not in access.headers:
            access.tap = self

    def started(self, cold_start: ColdStart) -> None:
        """Nothing: a start is nobody's request."""

    def ended(self, access: Access) -> None:
        """Nothing: what is to be known is known with the run."""

    def answered(self, access: Access, servable: Servable, feeds: "Mapping[str, Array]", result: Any) -> None:
        """See `functions.observing.access.Tap`."""
        try:
            if self._ids is not None:
                answer = Answer(access.request_id, servable.id.name, servable.id.version, int(time.time()))
                access.answer_headers = ((FEEDBACK_ID, self._ids.make(answer).encode("ascii")), *self._cors)
            recorder, logger, name = self._recorder, self._logger, servable.id.name
            if recorder is not None:
                share = self.shares.of(name, recorder.rules.share)
                if recorder.wants(name, share):
                    recorder.offer(
                        _take(access, servable, feeds, result, max_value_bytes=MAX_RECORD_BYTES, share=share)
                    )
            if logger is not None:
                share, most = self.shares.of(name, logger.rules.share), logger.rules.max_value_bytes
                if logger.wants(share):
                    logger.offer(_take(access, servable, feeds, result, max_value_bytes=most, share=share))
        except Exception:  # noqa: BLE001  the answer is there: nothing of this may fail it
            _log.exception("a prediction could not be sampled")
            self._counts.drop("tap", counts.UNREADABLE)

    def before(self, handler: Handler) -> Handler:
        """The handler of `/v1`, with the door of outcomes before it where there is one."""
        if self._ids is None:
            return handler

        def of(answer: Answer) -> str:
            return source(self._service, answer.model, answer.version)

        return Feedback(self._ids, self._outcomes, self._sink, source=of, headers=self._cors).before(handler)

    def add_to(self, metrics: Metrics) -> None:
        """Shows the counts."""
        self._counts.add_to(metrics)
        if self._ids is not None:
            self._outcomes.add_to(metrics)

    def close(self, timeout: float) -> None:
        """Sends and writes what waits; no request comes any more. `timeout` in seconds is for both together."""
        deadline = time.monotonic() + timeout
        if self._recorder is not None:
            self._recorder.close(timeout)
        if self._sink is not None:
            self._sink.close(max(0.0, deadline - time.monotonic()))


def _take(*given: Any, **limits: Any) -> "Sample":
    from functions.tap.sample import take  # noqa: PLC0415  numpy: not while the server starts

    return take(*given, **limits)


def open_tap(settings: Settings) -> Tap:
    """The tap of this process, with what its environment says. Errors as `Tap`."""
    return Tap(settings, own_service(), sink_environment())


def _extensions(overrides: str) -> dict[str, str]:
    try:
        found = json.loads(overrides or "{}").get("extensions") or {}
        return {str(name).lower(): str(value) for name, value in found.items()}
    except (ValueError, AttributeError):
        raise UsageError(f"K_CE_OVERRIDES={overrides!r:.200}: wanted JSON with extensions") from None
