"""The deploy function: its Service, its identity, and what that may do. Pure.

Kubernetes cannot give rights by label, so the function could touch any Service of its namespace; it touches those that
carry our label only. Models that somebody else must not see changed belong into another namespace.

Source: kubernetes.io/docs/reference/access-authn-authz/rbac; knative/serving pkg/apis/serving/v1.
"""

from typing import Any

from knative import keys
from knative.eventing import (
    FUNCTION,
    FUNCTION_SECONDS,
    PORT,
    SECRET,
    SECRET_FOLDER,
    SECRET_KEY,
    Installation,
    Manifest,
    metadata,
)
from knative.eventing_sources import security

RULES: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("serving.knative.dev", "services", ("get", "list", "create", "patch"), "makes revisions, moves traffic"),
    ("serving.knative.dev", "revisions", ("get", "list"), "waits until one is ready, and says why it is not"),
    ("", "configmaps", ("get", "list", "create", "patch"), "reads what is declared, writes the routes of a service"),
    ("", "pods", ("get", "list"), "finds why a revision is not ready, and the pods whose metrics decide a rollout"),
    ("", "pods/proxy", ("get",), "reads the readiness and the metrics of those pods"),
)
"""API group, resource, verbs, and what for. Nothing is deleted: what no traffic reaches is collected by Knative."""

ARGUMENTS = ("deployer",)
"""What the image is asked to do: to answer events."""

READY_PATH = "/readyz"


def service_account(installation: Installation) -> Manifest:
    """Whose rights the function has, here and, by annotations, in a cloud's storage."""
    meta = metadata(FUNCTION, installation)
    if installation.annotations:
        meta["annotations"] = dict(installation.annotations)
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}


def role(installation: Installation) -> Manifest:
    """What it may do, in its own namespace only."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": metadata(FUNCTION, installation),
        "rules": [
            {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)} for group, resource, verbs, _ in RULES
        ],
    }


def role_binding(installation: Installation) -> Manifest:
    """Gives the function that role."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata(FUNCTION, installation),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": FUNCTION},
        "subjects": [{"kind": "ServiceAccount", "name": FUNCTION, "namespace": installation.namespace}],
    }


def secret(installation: Installation, value: str) -> Manifest:
    """What webhooks that come from outside the Broker must send."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(SECRET, installation),
        "type": "Opaque",
        "stringData": {SECRET_KEY: value},
    }


def function(installation: Installation) -> Manifest:
    """The function's Service: no address outside the cluster, no pod while nothing happens."""
    meta = metadata(FUNCTION, installation)
    meta["labels"][keys.VISIBILITY] = keys.CLUSTER_LOCAL
    container: dict[str, Any] = {
        "name": "deploy",
        "image": installation.image,
        "args": list(ARGUMENTS),
        "ports": [{"name": "http1", "containerPort": PORT}],
        "env": [{"name": name, "value": value} for name, value in sorted(_environment(installation).items())],
        "readinessProbe": {"httpGet": {"path": READY_PATH, "port": PORT}},
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": security(),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  a volume of its own
            *([{"name": "events", "mountPath": SECRET_FOLDER, "readOnly": True}] if installation.audience else []),
        ],
    }
    if installation.environment_secrets:
        container["envFrom"] = [{"secretRef": {"name": name}} for name in installation.environment_secrets]
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {
            "template": {
                "metadata": {
                    "annotations": {keys.MIN_SCALE: "0", keys.MAX_SCALE: str(installation.max_scale)},
                },
                "spec": {
                    "serviceAccountName": FUNCTION,
                    "enableServiceLinks": False,
                    "timeoutSeconds": FUNCTION_SECONDS,
                    "containers": [container],
                    "volumes": [
                        {"name": "tmp", "emptyDir": {}},
                        *([{"name": "events", "secret": {"secretName": SECRET}}] if installation.audience else []),
                    ],
                },
            }
        },
    }


def _environment(installation: Installation) -> dict[str, str]:
    """Who may send, as the deploy function's settings say it; and the storage's own variables."""
    if not installation.audience:
        return {**installation.environment, "SERVING_ANONYMOUS_EVENTS": "true"}
    return {
        **installation.environment,
        "SERVING_EVENT_AUDIENCE": installation.audience,
        "SERVING_EVENT_SECRET_FILE": f"{SECRET_FOLDER}/{SECRET_KEY}",
    }
