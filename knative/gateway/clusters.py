"""Whom Envoy calls: models, by the name of their host, and what stands beside them. Pure.

Source: docs of Envoy (dynamic forward proxy cluster, outlier detection, circuit breakers).
"""

from typing import Any

from knative.gateway import limits, tracing, who
from knative.gateway.process import TYPES, Process, admin_address, dns_cache, socket_address
from knative.gateway.settings import Gateway, collector_url, split_address

MODELS_CLUSTER = "models"
ADMIN_CLUSTER = "admin"
NOWHERE_CLUSTER = "nowhere"
"""Without a host: what a request without a model is sent to."""

MAX_REQUESTS = 4096
"""On their way to models at a time, over all of them."""

FAILURES = 5
"""In a row, until a model is left alone for a while."""


def clusters(gateway: Gateway, process: Process) -> list[dict[str, Any]]:
    """All of them; those of the issuer, the rate-limit service and the collector where they are wanted."""
    models: dict[str, Any] = {
        "name": MODELS_CLUSTER,
        "connect_timeout": "5s",
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {
            "name": "envoy.clusters.dynamic_forward_proxy",
            "typed_config": {
                "@type": f"{TYPES}.clusters.dynamic_forward_proxy.v3.ClusterConfig",
                "dns_cache_config": dns_cache(),
            },
        },
        "typed_extension_protocol_options": _protocols(
            upstream_http_protocol_options={"auto_sni": True, "auto_san_validation": True},
            use_downstream_protocol_config={"http2_protocol_options": {}},
        ),
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": MAX_REQUESTS,
                    "max_pending_requests": MAX_REQUESTS,
                    "max_requests": MAX_REQUESTS,
                    "retry_budget": {"budget_percent": {"value": 20}, "min_retry_concurrency": 3},
                }
            ]
        },
    }
    if gateway.ejection_seconds:
        models["outlier_detection"] = _ejection(gateway.ejection_seconds)
    nowhere = {"name": NOWHERE_CLUSTER, "type": "STATIC"}
    found = [models, nowhere, _static(ADMIN_CLUSTER, admin_address(process), kind="STATIC")]
    if gateway.rate_limit_service:
        host, port = split_address(gateway.rate_limit_service)
        service = _static(limits.SERVICE_CLUSTER, socket_address(host, port))
        service["typed_extension_protocol_options"] = _protocols(explicit_http_config={"http2_protocol_options": {}})
        found.append(service)
    if gateway.jwt is not None and gateway.jwt.keys_url:
        found.append(_outside(who.JWKS_CLUSTER, *who.jwks_address(gateway.jwt)))
    if gateway.traces:
        found.append(_outside(tracing.CLUSTER, *collector_url(gateway.traces)[:3]))
    return found


def _ejection(seconds: int) -> dict[str, Any]:
    return {
        "consecutive_gateway_failure": FAILURES,
        "enforcing_consecutive_gateway_failure": 100,
        "enforcing_consecutive_5xx": 0,
        "enforcing_success_rate": 0,
        "base_ejection_time": f"{seconds}s",
        "max_ejection_time": f"{6 * seconds}s",
        "interval": "1s",
        # Each host is a model: one that fails is no reason to keep another.
        "max_ejection_percent": 100,
    }


def _outside(name: str, host: str, port: int, tls: bool) -> dict[str, Any]:
    cluster = _static(name, socket_address(host, port))
    if tls:
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"{TYPES}.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": host,
                "auto_sni_san_validation": True,
                "common_tls_context": {
                    "validation_context": {
                        "trusted_ca": {"filename": "/etc/ssl/certs/ca-certificates.crt"},
                        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": host}}],
                    }
                },
            },
        }
    return cluster


def _static(name: str, address: dict[str, Any], kind: str = "STRICT_DNS") -> dict[str, Any]:
    return {
        "name": name,
        "type": kind,
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }


def _protocols(**config: Any) -> dict[str, Any]:
    kind = f"{TYPES}.upstreams.http.v3.HttpProtocolOptions"
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": kind, **config}}
