"""What runs the gateway on a cluster: pure.

Always there, and on CPUs: it is what lets models be away. A Deployment and a Service, its configuration in a
ConfigMap, the keys in a Secret that it watches.

Source: kubernetes.io/docs (Deployment, Pod Security Standards: restricted, lifecycle hooks).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from knative.error import DeployError
from knative.gateway.api_keys import FILE, FOLDER
from knative.gateway.envoy import HEALTH_PATH, METRICS_PATH, configuration
from knative.gateway.process import ADMIN_SOCKET, Process
from knative.gateway.settings import METRICS_PORT, NAME, PORT, Gateway
from knative.names import digest

IMAGE = "docker.io/envoyproxy/envoy:v1.40.0"
SECRET = f"{NAME}-keys"
OWNER = NAME
"""Value of the label `PART`, and our name as field manager."""

PART = "app.kubernetes.io/managed-by"
CONFIG_FOLDER = "/etc/zeroserve/gateway"
CONFIG_FILE = "envoy.json"
USER = 65532
DRAIN_SECONDS = 10
"""A pod that is to go gets no new connections and ends the requests that it has."""

SERVICE_TYPES = ("ClusterIP", "NodePort", "LoadBalancer")
MEMORY_MIB = 512
HEAP_SHARE = 0.75
"""Of the memory: above it nothing new is taken."""

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Installation:
    """Where and how it runs.

    Attributes:
        image: with `envoy` on its PATH.
        replicas: each of which counts limits for itself.
        service_type: how it is reached from outside.
        cpu: Kubernetes quantity, a request.
        memory_mib: request and limit.
        threads: of Envoy, each of which answers requests.
    """

    image: str = IMAGE
    replicas: int = 1
    service_type: str = SERVICE_TYPES[0]
    cpu: str = "100m"
    memory_mib: int = MEMORY_MIB
    threads: int = 2

    def __post_init__(self) -> None:
        if not self.image or not self.image.isprintable() or " " in self.image:
            raise DeployError(f"image {self.image!r}: wanted one with Envoy, such as {IMAGE}")
        if self.replicas < 1 or self.threads < 1 or self.memory_mib < 64:
            raise DeployError("replicas and threads: wanted 1 or more; memory: 64 MiB or more")
        if self.service_type not in SERVICE_TYPES:
            raise DeployError(f"service type {self.service_type!r}: wanted {', '.join(SERVICE_TYPES)}")


def manifests(gateway: Gateway, installation: Installation) -> list[Manifest]:
    """All objects but the Secret, in the order in which they are applied."""
    process = Process(heap_bytes=int(installation.memory_mib * HEAP_SHARE) << 20)
    text = json.dumps(configuration(gateway, process), indent=1)
    found = [
        _object(gateway, "v1", "ConfigMap", {"data": {CONFIG_FILE: text}}),
        _object(gateway, "apps/v1", "Deployment", {"spec": _deployment(gateway, installation, digest(text))}),
        _object(gateway, "v1", "Service", {"spec": _service(installation)}),
    ]
    if installation.replicas > 1:
        budget = {"maxUnavailable": 1, "selector": {"matchLabels": _labels()}}
        found.append(_object(gateway, "policy/v1", "PodDisruptionBudget", {"spec": budget}))
    return found


def secret(namespace: str, text: str, resource_version: str = "") -> Manifest:
    """The Secret with the file of keys; with a version, only as long as that is the newest."""
    metadata: Manifest = {"name": SECRET, "namespace": namespace, "labels": {PART: OWNER}}
    if resource_version:
        metadata["resourceVersion"] = resource_version
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {FILE: text}}


def _deployment(gateway: Gateway, installation: Installation, version: str) -> Manifest:
    annotations = {
        "zeroserve.dev/configuration": version,
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(METRICS_PORT),
        "prometheus.io/path": METRICS_PATH,
    }
    folder = ADMIN_SOCKET.rpartition("/")[0]
    volumes: list[Manifest] = [
        {"name": "config", "configMap": {"name": NAME}},
        {"name": "admin", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]
    mounts: list[Manifest] = [
        {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
        {"name": "admin", "mountPath": folder},
    ]
    if gateway.keys:
        # The whole folder: a single file that is mounted would never change.
        volumes.append({"name": "keys", "secret": {"secretName": SECRET}})
        mounts.append({"name": "keys", "mountPath": FOLDER, "readOnly": True})
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": DRAIN_SECONDS + 20,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(installation, mounts)],
        "volumes": volumes,
    }
    return {
        "replicas": installation.replicas,
        "selector": {"matchLabels": _labels()},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {"metadata": {"labels": _labels(), "annotations": annotations}, "spec": pod},
    }


def _container(installation: Installation, mounts: Sequence[Manifest]) -> Manifest:
    command = ["envoy", "-c", f"{CONFIG_FOLDER}/{CONFIG_FILE}", "--concurrency", str(installation.threads)]
    memory = f"{installation.memory_mib}Mi"
    probe = {"httpGet": {"path": HEALTH_PATH, "port": PORT}}
    return {
        "name": "envoy",
        "image": installation.image,
        "command": [*command, "--log-level", "warning"],
        "ports": [{"name": "http", "containerPort": PORT}, {"name": "metrics", "containerPort": METRICS_PORT}],
        "resources": {"requests": {"cpu": installation.cpu, "memory": memory}, "limits": {"memory": memory}},
        "readinessProbe": {**probe, "periodSeconds": 2},
        "livenessProbe": {**probe, "periodSeconds": 10, "failureThreshold": 6},
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_SECONDS}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }


def _service(installation: Installation) -> Manifest:
    return {
        "type": installation.service_type,
        "selector": _labels(),
        # Metrics are the pod's alone: what this Service offers may be the internet's.
        "ports": [{"name": "http", "port": 80, "targetPort": PORT}],
    }


def _labels() -> dict[str, str]:
    return {"app.kubernetes.io/name": NAME}


def _object(gateway: Gateway, version: str, kind: str, content: Manifest) -> Manifest:
    metadata = {"name": NAME, "namespace": gateway.namespace, "labels": {PART: OWNER}}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **content}
