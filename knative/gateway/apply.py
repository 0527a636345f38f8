"""What acts: applies, finds and removes the gateway's objects. Not safe for several threads, as its client."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from knative.client import ApiError, Client
from knative.condition import fatal, pod_reasons
from knative.error import DeployError
from knative.gateway.api_keys import FILE, parse_keys
from knative.gateway.manifests import OWNER, PART, SECRET, Manifest
from knative.gateway.settings import NAME

KINDS = {
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets"),
    "Service": ("/api/v1", "services"),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "ConfigMap": ("/api/v1", "configmaps"),
    "Secret": ("/api/v1", "secrets"),
}
"""Kind -> the folder of its API and the word in its path, in the order in which they are taken away."""


@dataclass(frozen=True, slots=True)
class State:
    """The gateway as it is.

    Attributes:
        there: whether there is a Deployment.
        wanted, ready: its pods; only those of the newest configuration are ready.
        address: cluster IP, or what the load balancer has; empty for none.
        clients: who has a key, sorted.
        reason: why it is not ready, in one line.
        fatal: whether waiting longer is of no use.
    """

    there: bool
    wanted: int
    ready: int
    address: str
    clients: tuple[str, ...]
    reason: str = ""
    fatal: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether all pods are, with the newest configuration."""
        return self.there and self.wanted == self.ready and not self.reason


def apply(client: Client, manifest: Manifest, *, dry_run: bool = False) -> None:
    """Server-side apply; doing it again changes nothing.

    Raises:
        DeployError: the cluster refuses it.
    """
    query = {"fieldManager": OWNER, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
    metadata = manifest["metadata"]
    path = _path(manifest["kind"], metadata["namespace"], metadata["name"])
    client.json("PATCH", path, query, manifest, "application/apply-patch+yaml")


def keys(client: Client, namespace: str) -> tuple[dict[str, str] | None, str]:
    """Key -> client as the Secret has them, and the version of the Secret; None and "" where there is no Secret.

    Raises:
        DeployError: it is not ours.
    """
    found = _get(client, "Secret", namespace, SECRET)
    if found is None:
        return None, ""
    text = (found.get("data") or {}).get(FILE)
    if text is None:
        raise DeployError(f"Secret {SECRET} has no {FILE}: delete it, or let zeroserve gateway keys write it")
    return parse_keys(base64.b64decode(text).decode()), str(found["metadata"]["resourceVersion"])


def state(client: Client, namespace: str) -> State:
    """The gateway as it is."""
    deployment = _get(client, "Deployment", namespace, NAME)
    service = _get(client, "Service", namespace, NAME)
    clients = tuple(sorted(set((keys(client, namespace)[0] or {}).values())))
    if deployment is None or service is None:
        return State(False, 0, 0, "", clients, "it is not installed: zeroserve gateway install")
    wanted, status = int(deployment["spec"].get("replicas", 1)), deployment.get("status", {})
    current = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    updated = min(int(status.get("updatedReplicas", 0)), int(status.get("readyReplicas", 0))) if current else 0
    old = int(status.get("replicas", 0)) > int(status.get("updatedReplicas", 0))
    reasons = [] if updated >= wanted else _reasons(client, namespace)
    reason = "; ".join(reasons) or ("" if updated >= wanted and not old else "pods are starting")
    return State(True, wanted, updated, _address(service), clients, reason, fatal(reasons))


def installed(client: Client, namespace: str) -> list[tuple[str, str]]:
    """Kind and name of all objects that carry our label, in the order in which they are to be removed."""
    query = {"labelSelector": f"{PART}={OWNER}"}
    return [
        (kind, entry["metadata"]["name"])
        for kind in KINDS
        for entry in client.json("GET", _path(kind, namespace), query).get("items") or []
    ]


def remove(client: Client, namespace: str, kind: str, name: str) -> None:
    """Deletes an object and what belongs to it; one that is gone already is fine."""
    try:
        client.json("DELETE", _path(kind, namespace, name), {"propagationPolicy": "Background"})
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise


def _reasons(client: Client, namespace: str) -> list[str]:
    query = {"labelSelector": f"app.kubernetes.io/name={NAME}"}
    pods = client.json("GET", f"/api/v1/namespaces/{quote(namespace, safe='')}/pods", query).get("items") or []
    return [reason for pod in pods if not pod["metadata"].get("deletionTimestamp") for reason in pod_reasons(pod)]


def _address(service: Mapping[str, Any]) -> str:
    for entry in service.get("status", {}).get("loadBalancer", {}).get("ingress") or []:
        return str(entry.get("hostname") or entry.get("ip") or "")
    return str(service["spec"].get("clusterIP", ""))


def _get(client: Client, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
    try:
        return client.json("GET", _path(kind, namespace, name))
    except ApiError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise


def _path(kind: str, namespace: str, name: str = "") -> str:
    group, plural = KINDS[kind]
    folder = f"{group}/namespaces/{quote(namespace, safe='')}/{plural}"
    return f"{folder}/{quote(name, safe='')}" if name else folder
