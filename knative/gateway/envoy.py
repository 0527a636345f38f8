"""The whole configuration of Envoy, as its bootstrap file: pure.

    listener -> who calls -> client's limits -> whole body, up to a size -> which model -> model's limits -> its service

The order is the point: what is refused is refused before the first byte goes to a model, so that a model at zero stays
there. Hosts are looked up by name when they are asked for first; nobody registers a model.

Source: docs of Envoy 1.40 (bootstrap, HTTP connection manager, edge best practices, dynamic forward proxy).
"""

from dataclasses import dataclass
from typing import Any

from knative.gateway import limits, who
from knative.gateway.access import access_logs
from knative.gateway.api_keys import FOLDER, KEY_HEADER
from knative.gateway.entry import script
from knative.gateway.settings import METRICS_PORT, PORT, Gateway, split_address

MODELS_CLUSTER = "models"
ADMIN_CLUSTER = "admin"
NOWHERE_CLUSTER = "nowhere"
"""Without a host: what a request without a model is sent to."""

HEALTH_PATH = "/healthz"
METRICS_PATH = "/metrics"
ADMIN_SOCKET = "/tmp/envoy/admin.sock"  # noqa: S108  a volume of the pod alone

MAX_MODELS = 1024
"""Hosts that are remembered at a time."""

MAX_REQUESTS = 4096
"""On their way to models at a time, over all of them."""

MAX_CONNECTIONS = 10_000
"""Of callers at a time."""

HEADER_SECONDS = "10s"
IDLE_SECONDS = "300s"
BODY_SECONDS = "60s"
"""What a caller gets to send a whole request."""

FAILURES = 5
"""In a row, until a model is left alone for a while."""

STREAMS = 128
"""Of one HTTP/2 connection at a time."""

_TYPES = "type.googleapis.com/envoy.extensions"
_HTTP = f"{_TYPES}.filters.http"
_DNS_CACHE: dict[str, Any] = {
    "name": "models",
    "max_hosts": MAX_MODELS,
    "dns_lookup_family": "V4_PREFERRED",
    "host_ttl": "300s",
}
_OWN_HEADERS = (limits.CLIENT_HEADER, limits.MODEL_HEADER, "x-zeroserve-forwarded", "knative-serving-tag")
"""No caller's: who calls, what is called, and what revisions tell each other."""


@dataclass(frozen=True, slots=True)
class Process:
    """Where one Envoy listens and reads.

    Attributes:
        address: that callers reach.
        port, metrics_port: 0 for any free one.
        admin_socket: where Envoy's own administration listens; nothing but metrics leaves it.
        keys_folder: holds the file of keys.
        heap_bytes: above which nothing new is taken.
    """

    address: str = "0.0.0.0"  # noqa: S104  a pod's door
    port: int = PORT
    metrics_port: int = METRICS_PORT
    admin_socket: str = ADMIN_SOCKET
    keys_folder: str = FOLDER
    heap_bytes: int = 400 << 20


def configuration(gateway: Gateway, process: Process) -> dict[str, Any]:
    """The bootstrap file, which is JSON."""
    return {
        "node": {"id": "zeroserve-gateway", "cluster": "zeroserve-gateway"},
        "admin": {"address": _socket(process)},
        "static_resources": {
            "listeners": [_entry(gateway, process), _metrics(process)],
            "clusters": _clusters(gateway, process),
        },
        "overload_manager": _overload(process),
        "stats_flush_interval": "5s",
    }


def _entry(gateway: Gateway, process: Process) -> dict[str, Any]:
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
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
        "local_reply_config": _local_replies(),
        "http_filters": _filters(gateway, process),
        "route_config": {"name": "models", "virtual_hosts": [_virtual_host(gateway)]},
    }
    return _listener("entry", process.address, process.port, manager, gateway.max_body_bytes)


def _filters(gateway: Gateway, process: Process) -> list[dict[str, Any]]:
    proxy = {"dns_cache_config": _dns_cache()}
    return [
        _health(),
        _filter("cors", "cors.v3.Cors"),
        *limits.retry_after(gateway),
        *who.authentication(gateway, process.keys_folder),
        _prepared(),
        *limits.client_limits(gateway),
        _filter("buffer", "buffer.v3.Buffer", max_request_bytes=gateway.max_body_bytes),
        _filter("entry", "lua.v3.Lua", default_source_code={"inline_string": script(gateway)}),
        *limits.model_limits(gateway),
        *limits.shared_limits(gateway),
        _filter("models", "dynamic_forward_proxy.v3.FilterConfig", **proxy),
        _filter("router", "router.v3.Router", suppress_envoy_headers=True),
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
        host["typed_per_filter_config"] = {"cors": _cors(gateway)}
    return host


def _cors(gateway: Gateway) -> dict[str, Any]:
    origins = []
    for origin in gateway.cors_origins:
        pattern = r"[A-Za-z0-9:/.-]+" if origin == "*" else origin.replace(".", r"\.").replace("*", "[A-Za-z0-9-]+")
        origins.append({"safe_regex": {"regex": pattern}} if "*" in origin else {"exact": origin})
    return {
        "@type": f"{_HTTP}.cors.v3.CorsPolicy",
        "allow_origin_string_match": origins,
        "allow_methods": "GET, POST, OPTIONS",
        "allow_headers": f"content-type, content-encoding, authorization, {KEY_HEADER}, x-request-id, traceparent, "
        "inference-header-content-length",
        "expose_headers": "retry-after, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, server-timing, "
        "x-request-id, inference-header-content-length",
        "max_age": "600",
    }


def _local_replies() -> dict[str, Any]:
    """What the gateway says itself looks like what TensorFlow Serving says; gRPC has its own way."""
    grpc = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
    other = {**grpc, "invert_match": True, "treat_missing_header_as_empty": True}
    rest = {"header_filter": {"header": other}}
    limited = {"status_code_filter": {"comparison": {"op": "EQ", "value": {"default_value": 429, "runtime_key": "-"}}}}
    unknown = {"response_flag_filter": {"flags": ["DF"]}}
    not_found = [{"header": {"key": "grpc-status", "value": "5"}}]
    lost = {"inline_string": "no model of that name is deployed here: its service is not in DNS"}
    many = {"inline_string": "too many requests: x-ratelimit-limit says how many there may be"}
    text = {"json_format": {"error": "%LOCAL_REPLY_BODY%", "reason": "%RESPONSE_CODE_DETAILS%"}}

    def of(*filters: dict[str, Any]) -> dict[str, Any]:
        return {"and_filter": {"filters": [*filters, rest]}}

    return {
        "mappers": [
            {"filter": of(unknown), "status_code": 404, "body": lost, "body_format_override": text},
            {"filter": unknown, "status_code": 404, "body": lost, "headers_to_add": not_found},
            {"filter": of(limited), "body": many, "body_format_override": text},
            {"filter": rest, "body_format_override": text},
        ]
    }


def _clusters(gateway: Gateway, process: Process) -> list[dict[str, Any]]:
    models: dict[str, Any] = {
        "name": MODELS_CLUSTER,
        "connect_timeout": "5s",
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {
            "name": "envoy.clusters.dynamic_forward_proxy",
            "typed_config": {
                "@type": f"{_TYPES}.clusters.dynamic_forward_proxy.v3.ClusterConfig",
                "dns_cache_config": _dns_cache(),
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
    found = [models, nowhere, _static(ADMIN_CLUSTER, _socket(process), kind="STATIC")]
    if gateway.rate_limit_service:
        host, port = split_address(gateway.rate_limit_service)
        service = _static(limits.SERVICE_CLUSTER, _address(host, port))
        service["typed_extension_protocol_options"] = _protocols(explicit_http_config={"http2_protocol_options": {}})
        found.append(service)
    if gateway.jwt is not None and gateway.jwt.keys_url:
        found.append(_issuer(*who.jwks_address(gateway.jwt)))
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


def _issuer(host: str, port: int, tls: bool) -> dict[str, Any]:
    cluster = _static(who.JWKS_CLUSTER, _address(host, port))
    if tls:
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"{_TYPES}.transport_sockets.tls.v3.UpstreamTlsContext",
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


def _metrics(process: Process) -> dict[str, Any]:
    """Prometheus' text, of the admin port's paths the only one that is offered."""
    route = {
        "match": {"path": METRICS_PATH},
        "route": {"cluster": ADMIN_CLUSTER, "prefix_rewrite": "/stats/prometheus"},
    }
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "metrics",
        "http_filters": [_health(), _filter("router", "router.v3.Router")],
        "route_config": {"virtual_hosts": [{"name": "metrics", "domains": ["*"], "routes": [route]}]},
    }
    return _listener("metrics", process.address, process.metrics_port, manager, 1 << 15)


def _listener(name: str, address: str, port: int, manager: dict[str, Any], buffer_bytes: int) -> dict[str, Any]:
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return {
        "name": name,
        "address": _address(address, port),
        "per_connection_buffer_limit_bytes": buffer_bytes,
        "filter_chains": [chain],
    }


def _overload(process: Process) -> dict[str, Any]:
    heap = {
        "name": "envoy.resource_monitors.fixed_heap",
        "typed_config": {
            "@type": f"{_TYPES}.resource_monitors.fixed_heap.v3.FixedHeapConfig",
            "max_heap_size_bytes": process.heap_bytes,
        },
    }
    connections = {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {
            "@type": f"{_TYPES}.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
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
    return _filter("health", "health_check.v3.HealthCheck", pass_through_mode=False, headers=match)


def _prepared() -> dict[str, Any]:
    """Somebody whom no key and no token names is the address that calls."""

    def put(key: str, value: str, action: str = "OVERWRITE_IF_EXISTS_OR_ADD") -> dict[str, Any]:
        return {"append": {"header": {"key": key, "value": value}, "append_action": action}}

    mutations = [
        put(limits.CLIENT_HEADER, "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "ADD_IF_ABSENT"),
        put("x-forwarded-host", "%REQ(:AUTHORITY)%"),
    ]
    return _filter("prepared", "header_mutation.v3.HeaderMutation", mutations={"request_mutations": mutations})


def _without_own_headers() -> dict[str, Any]:
    return {
        "name": "own-headers",
        "typed_config": {
            "@type": f"{_TYPES}.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": [{"remove": name} for name in _OWN_HEADERS],
        },
    }


def _filter(name: str, kind: str, **config: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"{_HTTP}.{kind}", **config}}


def _protocols(**config: Any) -> dict[str, Any]:
    kind = f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions"
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": kind, **config}}


def _dns_cache() -> dict[str, Any]:
    resolver = {
        "name": "envoy.network.dns_resolver.cares",
        "typed_config": {
            "@type": f"{_TYPES}.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            # Names are whole: a pod's search domains would only ask more, and for other names.
            "dns_resolver_options": {"no_default_search_domain": True},
        },
    }
    return {**_DNS_CACHE, "typed_dns_resolver_config": resolver}


def _socket(process: Process) -> dict[str, Any]:
    return {"pipe": {"path": process.admin_socket, "mode": 0o600}}


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
