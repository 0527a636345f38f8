"""What sends events to the Broker from inside the cluster: the sweep, watchers of storage that sends nothing, and the
deploy function itself. Pure.

Source: knative/eventing pkg/apis/sources/v1; pkg/apis/duck/v1 (Destination).
"""

from typing import Any

from knative.eventing import BROKER, FUNCTION, SWEEP, USER, WATCH, Installation, Manifest, metadata
from knative.names import digest

SWEEP_DATA = "{}"
"""The sweep says no more than that it is time."""

WATCH_CONTAINER = "watch"


def ping(installation: Installation) -> Manifest:
    """Wakes the function on a schedule: heals lost events, moves rollouts on."""
    return {
        "apiVersion": "sources.knative.dev/v1",
        "kind": "PingSource",
        "metadata": metadata(SWEEP, installation),
        "spec": {
            "schedule": installation.sweep,
            "contentType": "application/json",
            "data": SWEEP_DATA,
            "sink": {"ref": _broker()},
        },
    }


def binding(installation: Installation) -> Manifest:
    """Tells the function where the Broker is, as `K_SINK`: what becomes of rollouts goes there."""
    return {
        "apiVersion": "sources.knative.dev/v1",
        "kind": "SinkBinding",
        "metadata": metadata(FUNCTION, installation),
        "spec": {
            "subject": {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": FUNCTION},
            "sink": {"ref": _broker()},
        },
    }


def watcher(installation: Installation, url: str) -> Manifest:
    """`zeroserve watch URL` as a ContainerSource: Knative tells it where the Broker is, and keeps it running."""
    return {
        "apiVersion": "sources.knative.dev/v1",
        "kind": "ContainerSource",
        "metadata": metadata(f"{WATCH}-{digest(url)}", installation),
        "spec": {"template": {"spec": _pod(installation, url)}, "sink": {"ref": _broker()}},
    }


def _pod(installation: Installation, url: str) -> Manifest:
    volumes = {f"volume-{number}": pair for number, pair in enumerate(sorted(installation.watch_volumes.items()))}
    container: dict[str, Any] = {
        "name": WATCH_CONTAINER,
        "image": installation.image,
        "args": ["watch", url],
        "env": [{"name": name, "value": value} for name, value in sorted(installation.environment.items())],
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
        "securityContext": security(),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  a volume of its own
            *({"name": name, "mountPath": path, "readOnly": True} for name, (path, _) in volumes.items()),
        ],
    }
    if installation.environment_secrets:
        container["envFrom"] = [{"secretRef": {"name": name}} for name in installation.environment_secrets]
    claims = [
        {"name": name, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
        for name, (_, claim) in volumes.items()
    ]
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}, *claims],
    }


def security() -> Manifest:
    """What a container may: nothing but run as nobody."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _broker() -> Manifest:
    return {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": BROKER}
