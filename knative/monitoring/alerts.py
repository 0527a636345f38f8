"""Rules for Prometheus: when somebody should look, and what they read then. Pure.

The budget of errors is burned by several windows at once: a short one so that an alert ends soon after its cause, a
long one so that a blip is none. docs/operations.md says of each alert what it means and what helps.

Source: Google, "The Site Reliability Workbook", chapter 5 (multiwindow, multi-burn-rate alerts, table 5-8).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from knative.error import DeployError
from knative.monitoring import entry
from knative.monitoring.words import ERRORS, LATENCY, REQUESTS, grown, quantile, rate, share, summed

RUNBOOK = "docs/operations.md"
PAGE, TICKET = "page", "ticket"
"""Severities: wakes somebody, or waits for the next working day."""

BURNS = ((14.4, "1h", "5m", PAGE), (6.0, "6h", "30m", PAGE), (1.0, "3d", "6h", TICKET))
"""How many times faster than the budget allows, over which windows, and whom that concerns."""

_REFUSED = rate("zeroserve_batch_rejected_total", "5m", 'status="RESOURCE_EXHAUSTED"')
_LOST = rate("zeroserve_forwarded_total", "5m", 'result=~"failed|late"')
_MODEL = "namespace, model_name"
_VERSION = "namespace, model_name, version"


@dataclass(frozen=True, slots=True)
class Objectives:
    """What is promised.

    Attributes:
        good: share of requests that are answered without an error of the server's, such as 0.999.
        latency_seconds: that 99 of 100 good requests stay below.
        start_seconds: that a cold start stays below.
    """

    good: float = 0.999
    latency_seconds: float = 1.0
    start_seconds: float = 30.0

    def __post_init__(self) -> None:
        if not 0.5 <= self.good < 1:
            raise DeployError(f"objective of {self.good:g}: wanted a share of good requests from 0.5 to 0.99999")
        if not (0 < self.latency_seconds < 3600 and 0 < self.start_seconds < 3600):
            raise DeployError("latency and start: wanted seconds above 0 and below 3600")


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert.

    Attributes:
        name: as it is heard of, and as docs/operations.md has it.
        expr: PromQL; each series that it gives is an alert.
        wait: for how long it has to be so.
        severity: `PAGE` or `TICKET`.
        text: one line, with labels in it.
    """

    name: str
    expr: str
    wait: str
    severity: str
    text: str


def share_rule(window: str) -> str:
    """The name of the recorded share of errors over a window."""
    return f"model:zeroserve_errors:share_rate{window}"


def recordings() -> list[tuple[str, str]]:
    """Name and PromQL of what is recorded, for the burn rates: long windows are dear to ask for again and again."""
    windows = sorted({window for _, long, short, _ in BURNS for window in (long, short)})
    good, bad = 'status="OK"', f'status=~"{ERRORS}"'
    return [(share_rule(one), share(_MODEL, rate(REQUESTS, one, bad), rate(REQUESTS, one, good))) for one in windows]


def alerts(wanted: Objectives) -> Sequence[Alert]:
    """All of them."""
    return (*_requests(wanted), *_versions(wanted), *_records(), *_entry())


def _requests(wanted: Objectives) -> list[Alert]:
    budget = 1 - wanted.good
    burns = [
        Alert(
            f"ZeroserveErrorBudgetBurns{long}",
            f"{share_rule(long)} > {burn * budget:.6g} and {share_rule(short)} > {burn * budget:.6g}",
            "2m",
            severity,
            "{{ $labels.model_name }}: {{ $value | humanizePercentage }} of requests fail, "
            f"{burn:g} times what {100 * wanted.good:g}% allow.",
        )
        for burn, long, short, severity in BURNS
    ]
    return [
        *burns,
        Alert(
            "ZeroserveLatencyHigh",
            f"{quantile(0.99, _MODEL, LATENCY, '10m')} > {wanted.latency_seconds * 1e6:.9g}",
            "10m",
            TICKET,
            "{{ $labels.model_name }}: the slowest 1% of good requests take {{ $value | humanize }} us and more, "
            f"wanted {wanted.latency_seconds:g} s.",
        ),
        Alert(
            "ZeroserveQueueFull",
            f"{summed(_VERSION, _REFUSED)} > 0",
            "5m",
            PAGE,
            "{{ $labels.model_name }} {{ $labels.version }}: {{ $value | humanize }} requests a second are refused: "
            "the queue is full or their deadline cannot be met.",
        ),
        Alert(
            "ZeroserveForwardingFails",
            f"{summed('namespace, tag', _LOST)} > 0",
            "10m",
            TICKET,
            "Requests that belong to the revision {{ $labels.tag }} do not reach it.",
        ),
    ]


def _versions(wanted: Objectives) -> list[Alert]:
    return [
        Alert(
            "ZeroserveColdStartSlow",
            f'zeroserve_cold_start_seconds{{phase="total"}} > {wanted.start_seconds:g}',
            "0m",
            TICKET,
            "{{ $labels.pod }} took {{ $value | humanizeDuration }} from the start of its process until it was ready, "
            f"wanted {wanted.start_seconds:g} s.",
        ),
        Alert(
            "ZeroserveVersionFailed",
            f'max by ({_VERSION}) (zeroserve_version_state{{state="END"}}) > 0',
            "1m",
            TICKET,
            "{{ $labels.model_name }}: version {{ $labels.version }} did not load; what was there before goes on.",
        ),
        Alert(
            "ZeroserveVersionNotLoading",
            f'max by ({_VERSION}) (zeroserve_version_state{{state=~"START|LOADING"}}) > 0',
            "15m",
            TICKET,
            "{{ $labels.model_name }}: version {{ $labels.version }} is on its way and does not arrive.",
        ),
        Alert(
            "ZeroserveLoadFailing",
            grown("zeroserve_load_failures_total", "15m"),
            "0m",
            TICKET,
            "{{ $labels.model_name }} {{ $labels.version }}: {{ $labels.phase }} fails with {{ $labels.status }}.",
        ),
        Alert(
            "ZeroserveWorkerEnded",
            "increase(zeroserve_worker_restarts[15m]) > 0",
            "0m",
            TICKET,
            "A worker of {{ $labels.pod }} ended by itself and was replaced.",
        ),
        Alert(
            "ZeroserveRolloutFailed",
            'zeroserve_landing_state{state="failed"} == 1',
            "1m",
            TICKET,
            "{{ $labels.service }}: the version that is wanted does not come up; traffic stayed where it was.",
        ),
        Alert(
            "ZeroserveRolloutTakenBack",
            grown('zeroserve_rollout_events_total{kind="rolled_back"}', "1h"),
            "0m",
            TICKET,
            "{{ $labels.service }}: the new version was worse, and its traffic was taken back.",
        ),
        Alert(
            "ZeroserveLandingUnreachable",
            'zeroserve_landing_state{state="unreachable"} == 1',
            "15m",
            TICKET,
            "{{ $labels.service }}: the deploy function cannot ask the cluster or storage about it.",
        ),
        Alert(
            "ZeroserveRoutesBroken",
            grown("zeroserve_routes_broken_total", "15m"),
            "0m",
            TICKET,
            "{{ $labels.pod }} cannot read its routes: users may be on the wrong arm.",
        ),
    ]


def _records() -> list[Alert]:
    return [
        Alert(
            "ZeroserveEventsDropped",
            grown('zeroserve_tap_dropped_total{reason!~"duplicate|limit"}', "15m"),
            "0m",
            TICKET,
            "{{ $labels.pod }} drops what was to be logged ({{ $labels.exit }}: {{ $labels.reason }}); answers go on.",
        ),
        Alert(
            "ZeroserveSpansLost",
            grown('zeroserve_trace_spans_total{result!="exported"}', "15m"),
            "0m",
            TICKET,
            "Spans of {{ $labels.pod }} do not reach the collector ({{ $labels.result }}); answers go on.",
        ),
        Alert(
            "ZeroserveLinesLost",
            grown('zeroserve_request_log_lines_total{result!="written"}', "15m"),
            "0m",
            TICKET,
            "{{ $labels.pod }} writes more lines than its log takes; answers go on.",
        ),
    ]


def _entry() -> list[Alert]:
    by_model = "namespace, model"
    failed, all_of_it = (rate(entry.REQUESTS, "10m", where) for where in ('code=~"5.."', ""))
    keys = f"sum by (namespace) ({rate(entry.UNAUTHORIZED, '10m')})"
    calls = f"sum by (namespace) ({rate('envoy_http_downstream_rq_total', '10m', _PREFIX)})"
    return [
        Alert(
            "ZeroserveGatewayErrors",
            f"{summed(by_model, failed)} / {summed(by_model, all_of_it)} > 0.05",
            "10m",
            PAGE,
            "{{ $labels.model }}: {{ $value | humanizePercentage }} of what the gateway passed on came back as 5xx.",
        ),
        Alert(
            "ZeroserveGatewayKeysRefused",
            f"{keys} / {calls} > 0.5 and {keys} > 1",
            "10m",
            TICKET,
            "Most callers of the gateway have no good key: somebody tries keys, or keys were changed.",
        ),
        Alert(
            "ZeroserveGatewayKeysUnread",
            grown("envoy_extension_config_discovery_http_filter_zeroserve_keys_config_fail", "10m"),
            "0m",
            PAGE,
            "The gateway does not understand its new keys: the old ones hold.",
        ),
        Alert(
            "ZeroserveGatewayLimitsUncounted",
            f"sum by (namespace) ({rate('envoy_cluster_ratelimit_error', '5m', _MODELS)}) > 0",
            "5m",
            PAGE,
            "The rate-limit service does not answer: requests are not counted over all replicas, or are refused.",
        ),
        Alert(
            "ZeroserveGatewayMemoryHigh",
            f"max by (namespace, pod) ({entry.HEAP}) > 90",
            "5m",
            PAGE,
            "{{ $labels.pod }} uses {{ $value }}% of what it may: from 95 on it takes nothing new.",
        ),
    ]


_PREFIX = 'envoy_http_conn_manager_prefix="entry"'
_MODELS = 'envoy_cluster_name="models"'


def rule_groups(wanted: Objectives) -> dict[str, Any]:
    """What a rule file of Prometheus holds, and the `spec` of a PrometheusRule."""
    recorded = [{"record": name, "expr": expr} for name, expr in recordings()]
    asked = [
        {
            "alert": one.name,
            "expr": one.expr,
            "for": one.wait,
            "labels": {"severity": one.severity},
            "annotations": {"summary": one.text, "runbook": f"{RUNBOOK}#{one.name.lower()}"},
        }
        for one in alerts(wanted)
    ]
    return {
        "groups": [
            {"name": "zeroserve-shares", "interval": "1m", "rules": recorded},
            {"name": "zeroserve-alerts", "rules": asked},
        ]
    }
