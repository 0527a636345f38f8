"""The whole configuration of Envoy, as its bootstrap file: pure.

    listener -> who calls -> client's limits -> whole body, up to a size -> which model -> model's limits -> its service

The order is the point: what is refused is refused before the first byte goes to a model, so that a model at zero stays
there. Hosts are looked up by name when they are asked for first; nobody registers a model.

Source: docs of Envoy 1.40 (bootstrap, HTTP connection manager, edge best practices, dynamic forward proxy).
"""

from typing import Any

from knative.gateway import limits, who
from knative.gateway.access import access_logs
from knative.gateway.clusters import ADMIN_CLUSTER, MODELS_CLUSTER, NOWHERE_CLUSTER, clusters
from knative.gateway.entry import script
from knative.gateway.process import TYPES, Process, admin_address, dns_cache, http_filter, socket_address
from knative.gateway.replies import cors, local_replies
from knative.gateway.settings import Gateway
from knative.gateway.tracing import tracing

HEALTH_PATH = "/healthz"
METRICS_PATH = "/metrics"
MAX_CONNECTIONS = 10_000
"""Of callers at a time."""

HEADER_SECONDS = "10s"
IDLE_SECONDS = "300s"
BODY_SECONDS = "60s"
"""What a caller gets to send a whole request."""

STREAMS = 128
"""Of one HTTP/2 connection at a time."""

_OWN_HEADERS = (
    limits.CLIENT_HEADER,
    limits.MODEL_HEADER,
    "x-zeroserve-forwarded",
    "x-zeroserve-copy",
    "knative-serving-tag",
)
"""No caller's: who calls, what is called, and what revisions tell each other."""


def configuration(gateway: Gateway, process: Process) -> dict[str, Any]:
    """The bootstrap file, which is JSON."""
    return {
        "node": {"id": "zeroserve-gateway", "cluster": "zeroserve-gateway"},
        "admin": {"address": admin_address(process)},
        "static_resources": {
            "listeners": [_entry(gateway, process), _metrics(process)],
            "clusters": clusters(gateway, process),
        },
        "overload_manager": _overload(process),
        "stats_flush_interval": "5s",
    }


def _entry(gateway: Gateway, process: Process) -> dict[str, Any]:
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "entry",
        "codec_type": "AUTO",
        "server_header_transformation": "PASS_THROUGH",
        "use_remote_address": True,
        "xff_num_trusted_hops": gateway.trusted_hops,
        "skip_xff_append": False,
        "normalize_path": True,
        "merge_slashes": False,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "request_headers_timeout": HEADER_SECONDS,
        "stream_idle_timeout": f"{gateway.timeout_seconds}s",
        "request_timeout": BODY_SECONDS,
        "common_http_protocol_options": {
            "idle_timeout": IDLE_SECONDS,
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
        "http2_protocol_options": {
            "max_concurrent_streams": STREAMS,
            "initial_stream_window_size": 1 << 20,
            "initial_connection_window_size": 4 << 20,
        },
        "early_header_mutation_extensions": [_without_own_headers()],
        "access_log": access_logs(gateway),
        "always_set_request_id_in_response": True,
        **tracing(gateway),
        "local_reply_config": local_replies(),
        "http_filters": _filters(gateway, process),
        "route_config": {"name": "models", "virtual_hosts": [_virtual_host(gateway)]},
    }
    return _listener("entry", process.address, process.port, manager, gateway.max_body_bytes)


def _filters(gateway: Gateway, process: Process) -> list[dict[str, Any]]:
    proxy = {"dns_cache_config": dns_cache()}
    return [
        _health(),
        http_filter("cors", "cors.v3.Cors"),
        *limits.retry_after(gateway),
        *who.authentication(gateway, process.keys_folder),
        _prepared(),
        *limits.client_limits(gateway),
        http_filter("buffer", "buffer.v3.Buffer", max_request_bytes=gateway.max_body_bytes),
        http_filter("entry", "lua.v3.Lua", default_source_code={"inline_string": script(gateway)}),
        *limits.model_limits(gateway),
        *limits.shared_limits(gateway),
        http_filter("models", "dynamic_forward_proxy.v3.FilterConfig", **proxy),
        http_filter("router", "router.v3.Router", suppress_envoy_headers=True),
    ]


def _virtual_host(gateway: Gateway) -> dict[str, Any]:
    policy = {
        "retry_on": "connect-failure,refused-stream,reset-before-request",
        "num_retries": gateway.retries,
        "retry_back_off": {"base_interval": "0.05s", "max_interval": "1s"},
    }
    action = {
        "cluster": MODELS_CLUSTER,
        "timeout": f"{gateway.timeout_seconds}s",
        "max_stream_duration": {"grpc_timeout_header_max": f"{gateway.timeout_seconds}s"},
        **({"retry_policy": policy} if gateway.retries else {}),
    }
    found = {"name": limits.MODEL_HEADER, "present_match": True}
    nowhere = {"cluster": NOWHERE_CLUSTER}
    host: dict[str, Any] = {
        "name": "models",
        "domains": ["*"],
        "routes": [
            # The script sets the header last. Envoy lets a request go on when a script fails: it must not go anywhere.
            {"match": {"prefix": "/", "headers": [found]}, "route": action},
            *(
                {"match": match, "route": nowhere, **({"typed_per_filter_config": config} if config else {})}
                for match, config in who.routes_matches(gateway)
            ),
        ],
        "rate_limits": limits.shared_descriptors(gateway),
    }
    if gateway.cors_origins:
        host["typed_per_filter_config"] = {"cors": cors(gateway)}
    return host


def _metrics(process: Process) -> dict[str, Any]:
    """Prometheus' text, of the admin port's paths the only one that is offered."""
    route = {
        "match": {"path": METRICS_PATH},
        "route": {"cluster": ADMIN_CLUSTER, "prefix_rewrite": "/stats/prometheus"},
    }
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "metrics",
        "http_filters": [_health(), http_filter("router", "router.v3.Router")],
        "route_config": {"virtual_hosts": [{"name": "metrics", "domains": ["*"], "routes": [route]}]},
    }
    return _listener("metrics", process.address, process.metrics_port, manager, 1 << 15)


def _listener(name: str, address: str, port: int, manager: dict[str, Any], buffer_bytes: int) -> dict[str, Any]:
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return {
        "name": name,
        "address": socket_address(address, port),
        "per_connection_buffer_limit_bytes": buffer_bytes,
        "filter_chains": [chain],
    }


def _overload(process: Process) -> dict[str, Any]:
    heap = {
        "name": "envoy.resource_monitors.fixed_heap",
        "typed_config": {
            "@type": f"{TYPES}.resource_monitors.fixed_heap.v3.FixedHeapConfig",
            "max_heap_size_bytes": process.heap_bytes,
        },
    }
    connections = {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {
            "@type": f"{TYPES}.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            "max_active_downstream_connections": MAX_CONNECTIONS,
        },
    }
    actions = [
        {"name": f"envoy.overload_actions.{name}", "triggers": [{"name": heap["name"], "threshold": {"value": value}}]}
        for name, value in (("shrink_heap", 0.9), ("stop_accepting_requests", 0.95))
    ]
    return {"refresh_interval": "0.25s", "resource_monitors": [heap, connections], "actions": actions}


def _health() -> dict[str, Any]:
    match = [{"name": ":path", "string_match": {"exact": HEALTH_PATH}}]
    return http_filter("health", "health_check.v3.HealthCheck", pass_through_mode=False, headers=match)


def _prepared() -> dict[str, Any]:
    """Somebody whom no key and no token names is the address that calls."""

    def put(key: str, value: str, action: str = "OVERWRITE_IF_EXISTS_OR_ADD") -> dict[str, Any]:
        return {"append": {"header": {"key": key, "value": value}, "append_action": action}}

    mutations = [
        put(limits.CLIENT_HEADER, "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "ADD_IF_ABSENT"),
        put("x-forwarded-host", "%REQ(:AUTHORITY)%"),
    ]
    return http_filter("prepared", "header_mutation.v3.HeaderMutation", mutations={"request_mutations": mutations})


def _without_own_headers() -> dict[str, Any]:
    return {
        "name": "own-headers",
        "typed_config": {
            "@type": f"{TYPES}.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": [{"remove": name} for name in _OWN_HEADERS],
        },
    }
