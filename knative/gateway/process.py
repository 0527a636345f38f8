"""Where one Envoy listens and reads, and what its configuration is made of: pure."""

from dataclasses import dataclass
from typing import Any

from knative.gateway.api_keys import FOLDER
from knative.gateway.settings import METRICS_PORT, PORT

ADMIN_SOCKET = "/tmp/envoy/admin.sock"  # noqa: S108  a volume of the pod alone
MAX_MODELS = 1024
"""Hosts that are remembered at a time."""

TYPES = "type.googleapis.com/envoy.extensions"


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


def http_filter(name: str, kind: str, **config: Any) -> dict[str, Any]:
    """One of Envoy's own HTTP filters."""
    return {"name": name, "typed_config": {"@type": f"{TYPES}.filters.http.{kind}", **config}}


def dns_cache() -> dict[str, Any]:
    """Of the names of models; the filter and the cluster have to say the same."""
    resolver = {
        "name": "envoy.network.dns_resolver.cares",
        "typed_config": {
            "@type": f"{TYPES}.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            # Names are whole: a pod's search domains would only ask more, and for other names.
            "dns_resolver_options": {"no_default_search_domain": True},
        },
    }
    return {
        "name": "models",
        "max_hosts": MAX_MODELS,
        "dns_lookup_family": "V4_PREFERRED",
        "host_ttl": "300s",
        "typed_dns_resolver_config": resolver,
    }


def admin_address(process: Process) -> dict[str, Any]:
    """Of Envoy's administration: a socket that nobody else may open."""
    return {"pipe": {"path": process.admin_socket, "mode": 0o600}}


def socket_address(host: str, port: int) -> dict[str, Any]:
    """A host and a port."""
    return {"socket_address": {"address": host, "port_value": port}}
