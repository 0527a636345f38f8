"""Everything as files, and as objects of a cluster that has Prometheus' operator and Grafana's sidecar. Pure.

Source: Prometheus operator, API of monitoring.coreos.com/v1 (PrometheusRule, PodMonitor); Grafana's Helm chart (its
sidecar takes ConfigMaps with the label `grafana_dashboard`).
"""

import json
from typing import Any

import yaml

from knative import keys
from knative.monitoring.alerts import Objectives, rule_groups
from knative.monitoring.batching import BATCHING
from knative.monitoring.entry import GATEWAY
from knative.monitoring.panel import grafana
from knative.monitoring.records import RECORDS
from knative.monitoring.rollouts import ROLLOUTS
from knative.monitoring.scrape import OWNER, pod_monitors, scrape_configs
from knative.monitoring.serving import SERVING
from knative.monitoring.starts import STARTS

DASHBOARDS = (SERVING, BATCHING, STARTS, ROLLOUTS, RECORDS, GATEWAY)
SIDECAR = {"grafana_dashboard": "1"}
RULES = "zeroserve"
BOARD = "dashboard-"
"""Begins the names of dashboards' ConfigMaps: a declaration's and the gateway's own begin with `zeroserve-`."""

Manifest = dict[str, Any]


def files(namespace: str, wanted: Objectives, *, everywhere: bool) -> dict[str, str]:
    """Name of a file below a folder -> its text: for Grafana's provisioning, and for Prometheus' own configuration."""
    found = {f"grafana/{one.uid}.json": json.dumps(grafana(one), indent=1) + "\n" for one in DASHBOARDS}
    found["prometheus/zeroserve.rules.yaml"] = _yaml(rule_groups(wanted))
    found["prometheus/zeroserve.scrape.yaml"] = _yaml(
        {"scrape_configs": scrape_configs(namespace, everywhere=everywhere)}
    )
    found["kubernetes/zeroserve.yaml"] = yaml.safe_dump_all(
        manifests(namespace, wanted, everywhere=everywhere), sort_keys=False
    )
    return found


def manifests(namespace: str, wanted: Objectives, *, everywhere: bool) -> list[Manifest]:
    """PodMonitors, a PrometheusRule, and a ConfigMap for each dashboard."""
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": _metadata(RULES, namespace),
        "spec": rule_groups(wanted),
    }
    boards = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _metadata(f"{BOARD}{one.uid}", namespace, SIDECAR),
            "data": {f"{one.uid}.json": json.dumps(grafana(one))},
        }
        for one in DASHBOARDS
    ]
    return [*pod_monitors(namespace, everywhere=everywhere), rule, *boards]


def _metadata(name: str, namespace: str, labels: dict[str, str] | None = None) -> Manifest:
    return {"name": name, "namespace": namespace, "labels": {keys.MANAGED_BY: OWNER, **(labels or {})}}


def _yaml(value: object) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, width=1000)
    return text
