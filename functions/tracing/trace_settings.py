"""What the standard OTEL_* variables say of traces. Those that say where and how to send are the exporter's to read.

Source: OpenTelemetry's specification, "Environment Variable Specification" (names, defaults), "Tracing SDK" (samplers).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from functions.flags import UsageError
from functions.observing.trace_context import TraceParent

EXPORTER = "opentelemetry.exporter.otlp.proto.http"
PROTOCOL = "http/protobuf"

_RANGE = 1 << 64


@dataclass(frozen=True, slots=True)
class Sampler:
    """Which requests are traced.

    Attributes:
        follows: whether a request of a caller that has decided is traced as the caller decided.
        share: of all others, 0 to 1, by the trace's id: everybody who sees the id decides alike.
    """

    follows: bool = True
    share: float = 1.0

    def samples(self, parent: TraceParent | None, trace_id: str) -> bool:
        """Whether this request is traced."""
        if self.follows and parent is not None:
            return parent.sampled
        return self.share >= 1 or int(trace_id[16:], 16) < round(self.share * _RANGE)


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """How traces are kept and sent.

    Attributes:
        queue_spans: that wait to be sent; more are dropped.
        batch_spans: in one message.
        delay_seconds: how long they are collected at most.
    """

    sampler: Sampler = Sampler()
    queue_spans: int = 2048
    batch_spans: int = 512
    delay_seconds: float = 5.0


_SHARES = {"always_on": 1.0, "always_off": 0.0, "traceidratio": None}


def trace_settings(environment: Mapping[str, str]) -> TraceSettings | None:
    """The settings; None where the variables switch traces off.

    Raises:
        UsageError: a variable says what cannot be, or the extra `otel` is not installed.
    """
    asked = {name: value.strip() for name, value in environment.items() if value.strip()}
    if asked.get("OTEL_SDK_DISABLED", "").lower() == "true" or asked.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    exporter = asked.get("OTEL_TRACES_EXPORTER", "otlp")
    if exporter != "otlp":
        raise UsageError(f"OTEL_TRACES_EXPORTER={exporter}: wanted otlp or none; others are the collector's business")
    protocol = asked.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or asked.get("OTEL_EXPORTER_OTLP_PROTOCOL") or PROTOCOL
    if protocol != PROTOCOL:
        raise UsageError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol}: wanted {PROTOCOL}, which collectors take at port 4318"
        )
    if not installed():
        raise UsageError(
            "--traces needs OpenTelemetry, which is not installed: install zeroserve with it: zeroserve[otel]"
        )
    queue = _number(asked, "OTEL_BSP_MAX_QUEUE_SIZE", 2048)
    return TraceSettings(
        _sampler(asked),
        queue,
        min(_number(asked, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512), queue),
        _number(asked, "OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000,
    )


def installed() -> bool:
    """Whether the extra is there; imports nothing of weight."""
    try:
        return find_spec(EXPORTER) is not None
    except ModuleNotFoundError:
        return False


def _sampler(asked: Mapping[str, str]) -> Sampler:
    name = asked.get("OTEL_TRACES_SAMPLER", "parentbased_always_on").lower()
    follows = name.startswith("parentbased_")
    kind = name.removeprefix("parentbased_")
    if kind not in _SHARES:
        wanted = ", ".join(f"{prefix}{one}" for prefix in ("", "parentbased_") for one in _SHARES)
        raise UsageError(f"OTEL_TRACES_SAMPLER={name}: wanted one of {wanted}")
    share = _SHARES[kind]
    if share is None:
        text = asked.get("OTEL_TRACES_SAMPLER_ARG", "1")
        try:
            share = float(text)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise UsageError(f"OTEL_TRACES_SAMPLER_ARG={text}: wanted a share, 0 to 1")
    return Sampler(follows, share)


def _number(asked: Mapping[str, str], name: str, default: int) -> int:
    text = asked.get(name, str(default))
    if not (text.isascii() and text.isdigit() and 0 < int(text[:12]) <= 10_000_000):
        raise UsageError(f"{name}={text}: wanted a whole number from 1 to 10000000")
    return int(text)
