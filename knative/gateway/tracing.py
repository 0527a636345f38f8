"""The entry's part of a trace: a span for the caller's request and one for the call of the model. Pure.

A caller's `traceparent` is taken, and its decision whether to keep the trace with it; the model's server gets the
entry's, so that one trace leads through both. Envoy sends spans over OTLP/HTTP from a thread of its own and gives up
what the collector does not take (`tracing_opentelemetry_spans_sent`, `envoy_cluster_upstream_rq` of the cluster).

Source: docs of Envoy 1.40 (OpenTelemetryConfig, HttpConnectionManager.Tracing).
"""

from typing import Any

from knative.gateway.limits import CLIENT_HEADER, MODEL_HEADER
from knative.gateway.settings import NAME, Gateway, collector_url

CLUSTER = "traces"
EXPORT_SECONDS = "1s"
"""What the collector gets for one message."""

MAX_PATH = 256
"""Characters of a path in a span."""


def tracing(gateway: Gateway) -> dict[str, Any]:
    """What the connection manager has to say of it; empty without a collector."""
    if not gateway.traces:
        return {}
    _, _, _, url = collector_url(gateway.traces)
    provider = {
        "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
        "http_service": {"http_uri": {"uri": url, "cluster": CLUSTER, "timeout": EXPORT_SECONDS}},
        "service_name": NAME,
    }
    tags = [
        {"tag": "zeroserve.model", "request_header": {"name": MODEL_HEADER}},
        # In the place of Envoy's own, which has the query: that may hold what is nobody's business.
        {"tag": "url.path", "value": f"%PATH(NQ:PATH):{MAX_PATH}%"},
    ]
    if not gateway.is_open:  # else clients are addresses
        tags.append({"tag": "zeroserve.client", "request_header": {"name": CLIENT_HEADER}})
    return {
        "tracing": {
            "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": provider},
            "random_sampling": {"value": gateway.trace_percent},
            "spawn_upstream_span": True,
            "max_path_tag_length": 0,
            "custom_tags": tags,
        }
    }
