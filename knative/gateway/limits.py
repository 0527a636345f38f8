"""Rate limits and quotas, counted in Envoy or by the standard rate-limit service. Pure.

Each replica counts for itself; what has to hold over all of them is for the service. A client's limits and a model's
are two filters: the first comes before the body is read, the second once it is known whose model it is.

Source: docs of Envoy's local_ratelimit (descriptors, dynamic ones) and ratelimit filters, api of ratelimit/v3.
"""

from collections.abc import Sequence
from typing import Any

from knative.gateway.settings import EVERYBODY, Gateway, Limit

CLIENT_HEADER = "x-zeroserve-gateway-client"
MODEL_HEADER = "x-zeroserve-gateway-model"
"""Set here, taken from no caller: who calls, and the service of the model that is called."""

SERVICE_CLUSTER = "rate_limits"
DOMAIN = "zeroserve"
"""Of the descriptors at the rate-limit service."""

MAX_COUNTED = 10_000
"""Clients or models that are counted at a time; the ones unseen for longest are forgotten."""

RETRY_AFTER = """\
function envoy_on_response(handle)
  local headers = handle:headers()
  local reset = headers:get("x-ratelimit-reset")
  local refused = headers:get(":status") == "429" or headers:get("grpc-status") == "8"
  if refused and reset and not headers:get("retry-after") then headers:replace("retry-after", reset) end
end
"""
"""The script of the filter that says when to come again."""

SERVICE_SECONDS = "0.25s"
_TYPE = "type.googleapis.com/envoy.extensions.filters.http"


def retry_after(gateway: Gateway) -> list[dict[str, Any]]:
    """The filter that tells a caller who is refused when to come again; none without limits."""
    if not (gateway.client_limits or gateway.model_limits or gateway.rate_limit_service):
        return []
    config = {"@type": f"{_TYPE}.lua.v3.Lua", "default_source_code": {"inline_string": RETRY_AFTER}}
    return [{"name": "zeroserve.retry_after", "typed_config": config}]


def client_limits(gateway: Gateway) -> list[dict[str, Any]]:
    """The filter that counts what each client asks; none without such limits."""
    if not gateway.client_limits:
        return []
    return [_filter("zeroserve.client_limits", "client", CLIENT_HEADER, gateway.client_limits)]


def model_limits(gateway: Gateway) -> list[dict[str, Any]]:
    """The filter that counts what each model is asked; none without such limits."""
    if not gateway.model_limits:
        return []
    return [_filter("zeroserve.model_limits", "model", MODEL_HEADER, gateway.model_limits)]


def shared_limits(gateway: Gateway) -> list[dict[str, Any]]:
    """The filter that asks the rate-limit service about the client, the model, and both together."""
    if not gateway.rate_limit_service:
        return []
    config = {
        "@type": f"{_TYPE}.ratelimit.v3.RateLimit",
        "domain": DOMAIN,
        "timeout": SERVICE_SECONDS,
        "failure_mode_deny": gateway.rate_limit_required,
        "status_on_error": {"code": "ServiceUnavailable"},
        "rate_limited_as_resource_exhausted": True,
        "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
        "rate_limit_service": {
            "grpc_service": {"envoy_grpc": {"cluster_name": SERVICE_CLUSTER}},
            "transport_api_version": "V3",
        },
    }
    return [{"name": "zeroserve.shared_limits", "typed_config": config}]


def shared_descriptors(gateway: Gateway) -> list[dict[str, Any]]:
    """What the rate-limit service is asked about, on the route: `client`, `model`, and both."""
    if not gateway.rate_limit_service:
        return []
    client, model = _header("client", CLIENT_HEADER), _header("model", MODEL_HEADER)
    return [{"actions": actions} for actions in ([client], [model], [client, model])]


def _filter(name: str, key: str, header: str, limits: Sequence[Limit]) -> dict[str, Any]:
    # Limits of one client differ by their seconds: each is a descriptor of its own, and all of them have to hold.
    windows = sorted({limit.seconds for limit in limits})
    config = {
        "@type": f"{_TYPE}.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": name,
        "rate_limits": [{"actions": [_header(key, header), _window(seconds)]} for seconds in windows],
        "descriptors": [_descriptor(key, limit) for limit in sorted(limits, key=lambda one: one.whose == EVERYBODY)],
        "max_dynamic_descriptors": MAX_COUNTED,
        "token_bucket": {"max_tokens": (1 << 32) - 1, "tokens_per_fill": (1 << 32) - 1, "fill_interval": "1s"},
        "always_consume_default_token_bucket": False,
        "filter_enabled": {"default_value": {"numerator": 100}},
        "filter_enforced": {"default_value": {"numerator": 100}},
        "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
        "rate_limited_as_resource_exhausted": True,
    }
    return {"name": name, "typed_config": config}


def _descriptor(key: str, limit: Limit) -> dict[str, Any]:
    whose = {"key": key, "value": limit.whose} if limit.whose else {"key": key}
    return {
        "entries": [whose, {"key": "seconds", "value": str(limit.seconds)}],
        "token_bucket": {
            "max_tokens": limit.requests,
            "tokens_per_fill": limit.requests,
            "fill_interval": f"{limit.seconds}s",
        },
    }


def _header(key: str, header: str) -> dict[str, Any]:
    return {"request_headers": {"header_name": header, "descriptor_key": key}}


def _window(seconds: int) -> dict[str, Any]:
    return {"generic_key": {"descriptor_key": "seconds", "descriptor_value": str(seconds)}}
