"""The dashboard of the gateway: Envoy's own metrics and its counts by model and client. Pure.

Source: docs of Envoy (statistics of the HTTP connection manager, clusters, outlier detection, local rate limit,
api_key_auth, overload manager), and what an Envoy with our configuration exports.
"""

from knative.monitoring.panel import WINDOW, Dashboard, Panel, Query, Variable
from knative.monitoring.words import mean, quantile, rate, summed

_HERE = 'namespace=~"$namespace"'
_MODEL = f'{_HERE}, model=~"$model"'
_ENTRY = f'{_HERE}, envoy_http_conn_manager_prefix="entry"'
_MODELS = f'{_HERE}, envoy_cluster_name="models"'
REQUESTS = "envoy_zeroserve_requests"
UNAUTHORIZED = "envoy_http_api_key_auth_unauthorized"
LIMITED = "envoy_zeroserve_{}_limits_http_local_rate_limit_rate_limited"
HEAP = "envoy_overload_envoy_resource_monitors_fixed_heap_pressure"


def _count(metric: str, where: str, legend: str) -> Query:
    return Query(f"sum({rate(metric, WINDOW, where)})", legend)


GATEWAY = Dashboard(
    "zeroserve-gateway",
    "zeroserve: gateway",
    "The entry: who calls what, what is refused before a model hears of it, and how models answer.",
    (Variable("namespace", "namespace", REQUESTS), Variable("model", "model", REQUESTS)),
    (
        (
            "Requests that reached a model",
            (
                Panel(
                    "By model and code",
                    [Query(summed("model, code", rate(REQUESTS, WINDOW, _MODEL)), "{{model}} {{code}}")],
                    "reqps",
                    "The gateway is always there: these counts are whole where those of short-lived pods are not.",
                    stacked=True,
                ),
                Panel(
                    "By client",
                    [Query(summed("client", rate(REQUESTS, WINDOW, _MODEL)), "{{client}}")],
                    "reqps",
                    stacked=True,
                ),
                Panel(
                    "Time, a cold start included",
                    [
                        Query(
                            quantile(0.5, "model", "envoy_zeroserve_milliseconds_bucket", WINDOW, _MODEL),
                            "p50 {{model}}",
                        ),
                        Query(
                            quantile(0.99, "model", "envoy_zeroserve_milliseconds_bucket", WINDOW, _MODEL),
                            "p99 {{model}}",
                        ),
                    ],
                    "ms",
                ),
            ),
        ),
        (
            "Refused before a model heard of it",
            (
                Panel(
                    "Keys",
                    [
                        _count(UNAUTHORIZED, _ENTRY, "wrong or none"),
                        _count("envoy_http_api_key_auth_allowed", _ENTRY, "good"),
                    ],
                    "reqps",
                ),
                Panel(
                    "Limits",
                    [
                        _count(LIMITED.format("client"), _HERE, "of clients"),
                        _count(LIMITED.format("model"), _HERE, "of models"),
                        _count("envoy_cluster_ratelimit_over_limit", _MODELS, "of the rate-limit service"),
                        _count("envoy_cluster_ratelimit_error", _MODELS, "the rate-limit service did not answer"),
                    ],
                    "reqps",
                ),
                Panel(
                    "Requests by class, and bodies that are too large",
                    [
                        Query(
                            summed("envoy_response_code_class", rate("envoy_http_downstream_rq_xx", WINDOW, _ENTRY)),
                            "{{envoy_response_code_class}}xx",
                        ),
                        _count("envoy_http_downstream_rq_too_large", _ENTRY, "too large"),
                    ],
                    "reqps",
                ),
            ),
        ),
        (
            "Models, as Envoy sees them",
            (
                Panel(
                    "Tried again",
                    [
                        _count("envoy_cluster_upstream_rq_retry", _MODELS, "tries"),
                        _count("envoy_cluster_upstream_rq_retry_success", _MODELS, "that helped"),
                        _count("envoy_cluster_upstream_rq_retry_overflow", _MODELS, "beyond the budget"),
                        _count("envoy_cluster_upstream_cx_connect_fail", _MODELS, "connections that failed"),
                    ],
                    "reqps",
                ),
                Panel(
                    "Left alone for a while",
                    [
                        Query(f"sum(envoy_cluster_outlier_detection_ejections_active{{{_MODELS}}})", "now"),
                        _count(
                            "envoy_cluster_outlier_detection_ejections_enforced_consecutive_gateway_failure",
                            _MODELS,
                            "ejections per second",
                        ),
                    ],
                ),
                Panel(
                    "Answers of models, mean",
                    [
                        Query(
                            f"({mean('envoy_cluster_name', 'envoy_cluster_upstream_rq_time', WINDOW, _MODELS)})",
                            "models",
                        )
                    ],
                    "ms",
                ),
            ),
        ),
        (
            "Envoy",
            (
                Panel(
                    "In flight",
                    [
                        Query(f"sum(envoy_http_downstream_rq_active{{{_ENTRY}}})", "requests"),
                        Query(f"sum(envoy_http_downstream_cx_active{{{_ENTRY}}})", "connections"),
                        Query(f"sum(envoy_cluster_upstream_rq_active{{{_MODELS}}})", "at models"),
                    ],
                ),
                Panel(
                    "Memory that counts",
                    [Query(f"max({HEAP}{{{_HERE}}})", "% of the heap's limit")],
                    "percent",
                    "From 95 on, nothing new is taken.",
                ),
                Panel(
                    "Names of models",
                    [
                        Query(f"max(envoy_dns_cache_models_num_hosts{{{_HERE}}})", "remembered"),
                        _count("envoy_dns_cache_models_dns_query_failure", _HERE, "look-ups that failed, per second"),
                    ],
                ),
            ),
        ),
    ),
)
