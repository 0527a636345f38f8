"""The prediction log: sampled predictions as `com.zeroserve.request.v1` events."""

import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from functions.tap.counts import LOG
from functions.tap.event_sink import Event, EventSink, Letter

if TYPE_CHECKING:
    from functions.tap.sample import Sample

TYPE = "com.zeroserve.request.v1"

PROTOBUF = "application/protobuf"
"""Of a PredictionLog."""


@dataclass(frozen=True, slots=True)
class LogRules:
    """What is sent.

    Attributes:
        share: of the predictions, of models that say none themselves.
        as_protobuf: a PredictionLog instead of JSON.
        redact: names whose values are not sent; `*` is all.
        max_value_bytes: of one input or output.
    """

    share: float
    as_protobuf: bool
    redact: frozenset[str]
    max_value_bytes: int


class PredictionLogger:
    """Sends samples to a sink. Safe from any thread.

    Args:
        sink: where to.
        rules: what.
        service: of the cluster, for the events' source; empty for none.
        draw: a number from 0 to 1, without 1.
    """

    def __init__(
        self, sink: EventSink, rules: LogRules, service: str, draw: Callable[[], float] = random.random
    ) -> None:
        self._sink = sink
        self.rules = rules
        self._service = service
        self._draw = draw

    def wants(self, share: float) -> bool:
        """Whether this prediction is one of the share."""
        return self._draw() < share

    def offer(self, sample: "Sample") -> None:
        """Takes a sample, or counts it as dropped."""
        self._sink.offer(Letter(LOG, sample.model, lambda: self._event(sample)), sample.size)

    def _event(self, sample: "Sample") -> Event:
        from functions.tap.redaction import redacted  # noqa: PLC0415  messages: by the first use, on the sink's thread

        rules = self.rules
        sample = redacted(sample, rules.redact)
        seconds, nanoseconds = divmod(sample.unix_ns, 1_000_000_000)
        attributes = {
            "id": str(uuid.uuid4()),
            "type": TYPE,
            "source": source(self._service, sample.model, sample.version),
            "subject": sample.request_id,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds // 1000:06}Z",
        }
        if sample.traceparent:
            attributes["traceparent"] = sample.traceparent
        if not rules.as_protobuf:
            from functions.tap.sample_json import sample_json  # noqa: PLC0415  as above

            return Event(attributes, "application/json", sample_json(sample))
        from functions.tap.sample_log import omitted, prediction_log  # noqa: PLC0415  as above

        names = omitted(sample)
        if names:
            attributes["omitted"] = ",".join(names)
        return Event(attributes, PROTOBUF, prediction_log(sample).SerializeToString())


def source(service: str, model: str = "", version: int = 0) -> str:
    """The events' source: `//zeroserve/<service>/models/<model>/versions/<version>`."""
    base = f"//zeroserve/{quote(service, safe='')}"
    return f"{base}/models/{quote(model, safe='')}/versions/{version}" if model else base
