"""What is told of each request: one JSON line, and counts by model and client. Pure.

No line has a key, a token or a query. Source: docs of Envoy's access logs (command operators) and of its stats logger.
"""

from typing import Any

from knative.gateway.limits import CLIENT_HEADER, MODEL_HEADER
from knative.gateway.settings import Gateway

_TYPES = "type.googleapis.com/envoy.extensions.access_loggers"


def access_logs(gateway: Gateway) -> list[dict[str, Any]]:
    """A line on standard output for each request but those of health."""
    fields = {
        "time": "%START_TIME%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "traceparent": "%REQ(TRACEPARENT)%",
        "method": "%REQ(:METHOD)%",
        "path": "%PATH(NQ:PATH)%",
        "protocol": "%PROTOCOL%",
        "status": "%RESPONSE_CODE%",
        "grpc_status": "%GRPC_STATUS_NUMBER%",
        "why": "%RESPONSE_CODE_DETAILS%",
        "flags": "%RESPONSE_FLAGS%",
        "client": f"%REQ({CLIENT_HEADER})%",
        "model": f"%REQ({MODEL_HEADER})%",
        "from": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "bytes_in": "%BYTES_RECEIVED%",
        "bytes_out": "%BYTES_SENT%",
        "ms": "%DURATION%",
        "model_ms": "%RESPONSE_DURATION%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "user_agent": "%REQ(USER-AGENT)%",
    }
    line = {
        "@type": f"{_TYPES}.stream.v3.StdoutAccessLog",
        "log_format": {"json_format": fields, "omit_empty_values": True},
    }
    return [
        {"name": "line", "filter": {"not_health_check_filter": {}}, "typed_config": line},
        {"name": "counts", "filter": _of_models(), "typed_config": _counts(gateway)},
    ]


def _of_models() -> dict[str, Any]:
    """Requests for a model that there is: a name that somebody makes up is answered 404, and becomes no series."""
    known = {"header_filter": {"header": {"name": MODEL_HEADER, "present_match": True}}}
    found = {"status_code_filter": {"comparison": {"op": "NE", "value": {"default_value": 404, "runtime_key": "-"}}}}
    return {"and_filter": {"filters": [known, found]}}


def _counts(gateway: Gateway) -> dict[str, Any]:
    model = {"name": "model", "value_format": f"%REQ({MODEL_HEADER})%"}
    tags = [model, {"name": "code", "value_format": "%RESPONSE_CODE%"}]
    if not gateway.is_open:  # else clients are addresses, of which there is no end
        tags.append({"name": "client", "value_format": f"%REQ({CLIENT_HEADER})%"})
    return {
        "@type": f"{_TYPES}.stats.v3.Config",
        "stat_prefix": "zeroserve",
        "counters": [{"stat": {"name": "requests", "tags": tags}, "value_fixed": 1}],
        "histograms": [
            {
                "stat": {"name": "milliseconds", "tags": [model]},
                "value_format": "%DURATION%",
                "unit": "Milliseconds",
            }
        ],
    }
