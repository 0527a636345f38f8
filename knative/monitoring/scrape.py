"""What Prometheus is to ask, and how often: for its operator (PodMonitor), and as plain scrape configs. Pure.

Pods are asked themselves, past queue-proxy: a scrape is no request, so it neither wakes a service nor keeps it awake.
The price: what a pod counted after the last scrape before its end is lost with it (docs/operations.md).

Source: Prometheus operator, API of monitoring.coreos.com/v1; prometheus.io, kubernetes_sd_config; knative/serving
pkg/reconciler/revision/resources (the port of our container is named `user-port` there).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from knative import keys
from knative.eventing import FUNCTION
from knative.gateway.envoy import METRICS_PATH
from knative.gateway.settings import NAME as GATEWAY

SERVING_PATH = "/monitoring/prometheus/metrics"
INTERVAL = "15s"
"""Short: pods live for a minute or so after their last request."""

USER_PORT = "user-port"
OWNER = "zeroserve-monitoring"
"""Value of the label `app.kubernetes.io/managed-by` on all that is made here: what carries `zeroserve` is a service, or
its declaration."""

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """Pods that are asked alike.

    Attributes:
        name: of the job.
        labels: of the pods, by their Kubernetes name; a value of None is any.
        container: whose port it is; other containers are left out.
        port: its name.
        path: of the metrics.
    """

    name: str
    labels: Mapping[str, str | None]
    container: str
    port: str
    path: str


TARGETS = (
    Target("zeroserve-models", {keys.SERVICE: None}, "zeroserve", USER_PORT, SERVING_PATH),
    Target(FUNCTION, {keys.SERVICE: FUNCTION}, "deploy", USER_PORT, SERVING_PATH),
    Target(GATEWAY, {"app.kubernetes.io/name": GATEWAY}, "envoy", "metrics", METRICS_PATH),
)

NAMED = ((keys.SERVICE, "knative_service"), (keys.REVISION, "revision"))
"""Labels of pods that become labels of series."""


def pod_monitors(namespace: str, *, everywhere: bool) -> list[Manifest]:
    """For the operator.

    Args:
        namespace: where they are put.
        everywhere: whether pods of all namespaces are asked, or of this one only.
    """
    return [
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PodMonitor",
            "metadata": {"name": one.name, "namespace": namespace, "labels": {keys.MANAGED_BY: OWNER}},
            "spec": {
                "selector": _selector(one),
                "namespaceSelector": {"any": True} if everywhere else {"matchNames": [namespace]},
                "podMetricsEndpoints": [
                    {
                        "port": one.port,
                        "path": one.path,
                        "interval": INTERVAL,
                        "relabelings": [_only(one, "sourceLabels"), *_named("sourceLabels", "targetLabel")],
                    }
                ],
            },
        }
        for one in TARGETS
    ]


def scrape_configs(namespace: str, *, everywhere: bool) -> list[dict[str, Any]]:
    """For a Prometheus without the operator: its `scrape_configs`, or a file of `scrape_config_files`."""
    discovery: dict[str, Any] = {"role": "pod"}
    if not everywhere:
        discovery["namespaces"] = {"names": [namespace]}
    return [
        {
            "job_name": one.name,
            "metrics_path": one.path,
            "scrape_interval": INTERVAL,
            "kubernetes_sd_configs": [discovery],
            "relabel_configs": [
                *(_has(label, value) for label, value in one.labels.items()),
                {"source_labels": [_meta("container_port_name")], "action": "keep", "regex": one.port},
                _only(one, "source_labels"),
                {"source_labels": [_meta("phase")], "action": "drop", "regex": "Succeeded|Failed"},
                {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
                *({"source_labels": [_meta(part)], "target_label": name} for part, name in _PLACE),
                *_named("source_labels", "target_label"),
            ],
        }
        for one in TARGETS
    ]


_PLACE = (("name", "pod"), ("container_name", "container"))


def _selector(target: Target) -> dict[str, Any]:
    exact = {label: value for label, value in target.labels.items() if value is not None}
    there = [label for label, value in target.labels.items() if value is None]
    return {
        **({"matchLabels": exact} if exact else {}),
        **({"matchExpressions": [{"key": label, "operator": "Exists"} for label in there]} if there else {}),
    }


def _only(target: Target, source: str) -> dict[str, Any]:
    return {source: [_meta("container_name")], "action": "keep", "regex": target.container}


def _named(source: str, to: str) -> list[dict[str, Any]]:
    return [{source: [_label(label)], to: name} for label, name in NAMED]


def _has(label: str, value: str | None) -> dict[str, Any]:
    return {"source_labels": [_label(label)], "action": "keep", "regex": ".+" if value is None else value}


def _label(name: str) -> str:
    return _meta("label_" + "".join(each if each.isalnum() else "_" for each in name))


def _meta(name: str) -> str:
    return f"__meta_kubernetes_pod_{name}"
