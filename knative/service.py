"""The manifest of the service whose revision serves one version: pure.

Source: docs of Knative's runtime contract and ../docs/deploy.md. Port name `h2c` makes the ingress speak HTTP/2 to the
container, which carries REST and gRPC on the service's one URL.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from knative import keys
from knative.error import DeployError
from knative.names import checked_namespace, checked_service, revision_name
from knative.traffic import Traffic, as_text
from knative.volumes import cache_volume, routes_volume

API_VERSION = "serving.knative.dev/v1"
PORT = 8080
CACHE_PATH = "/cache"
"""Where the volume of the model cache is mounted."""

ROUTES_FOLDER = "/etc/zeroserve/routes"
ROUTES_FILE = "routes.json"
"""In that folder, and the key of the service's ConfigMap."""

TEMPORARY_PATH = "/tmp"  # noqa: S108  a volume of its own in every pod
READY_PATH = "/readyz"
USER = 65532
"""Nobody's user id, as the image has it."""

MAX_CONTAINER_CONCURRENCY = 1000
"""Source: knative/serving pkg/apis/config/defaults.go."""


KEY_FOLDER = "/etc/zeroserve/key"
KEY_FILE = "key.json"
"""Key of a secret that holds a Google service account's key, unless it says another one."""

_QUANTITY = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?")
_RESOURCE = re.compile(r"[a-z0-9.-]+/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_OWN_VARIABLES = {
    keys.CONTAINER_ENVIRONMENT_NAME,
    keys.CONTAINER_ENVIRONMENT_URL,
    keys.CONTAINER_ENVIRONMENT_VERSION,
    keys.CONTAINER_ENVIRONMENT_CACHE,
    keys.CONTAINER_ENVIRONMENT_POLL,
    keys.CONTAINER_ENVIRONMENT_PEER_URL,
    keys.CONTAINER_ENVIRONMENT_ROUTES,
    keys.CONTAINER_ENVIRONMENT_SIGNING_KEYS,
}


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a model.

    Attributes:
        number: its number in storage.
        fingerprint: changes whenever its bytes do.
    """

    number: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the user wants of a service, whatever version it serves.

    Attributes:
        name: the service's.
        url: storage path of the model's versions, as pods see it.
        image: of the container; a tag other than `latest`, or a digest.
        namespace: where it lives.
        model: the name that requests call the model by.
        cpu, memory: Kubernetes quantities; CPU is a request, memory both a request and the limit.
        gpus: how many of `gpu_resource`; 0 for none.
        gpu_resource: `nvidia.com/gpu`, or what a MIG or time-slicing device is called on the cluster.
        min_scale, max_scale: pods; 0 and 0 mean down to none, and no limit.
        concurrency: requests that one pod gets at a time; 0 means no limit. With batching: at least twice a batch.
        target: concurrent requests per pod that the autoscaler aims at; 0 leaves it to the cluster.
        service_account: whose identity reads storage; empty for the namespace's default.
        environment: variables as they are.
        environment_secrets: names of secrets whose keys become variables: credentials of s3.
        key_secret: `SECRET` or `SECRET/KEY` with a Google service account's key, mounted as a file; without it the
            service account's own identity is used.
        pull_secrets: names of secrets for the image's registry.
        cache: `emptyDir`, `emptyDir:SIZE`, `memory:SIZE`, `pvc:CLAIM` or `hostPath:/FOLDER`.
        cluster_local: no address outside the cluster.
        timeout_seconds: longest request, a cold start included.
        progress_seconds: longest way to the first ready pod; 0 leaves it to the cluster.
        signing_keys: public keys in PEM: only versions that one of them signed are deployed, and loaded; empty for
            any version.
    """

    name: str
    url: str
    image: str
    namespace: str = "default"
    model: str = ""
    cpu: str = ""
    memory: str = ""
    gpus: int = 0
    gpu_resource: str = "nvidia.com/gpu"
    min_scale: int = 0
    max_scale: int = 0
    concurrency: int = 0
    target: int = 0
    service_account: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    environment_secrets: tuple[str, ...] = ()
    key_secret: str = ""
    pull_secrets: tuple[str, ...] = ()
    cache: str = "emptyDir"
    cluster_local: bool = False
    timeout_seconds: int = 300
    progress_seconds: int = 0
    signing_keys: str = ""

    def __post_init__(self) -> None:
        checked_service(self.name)
        checked_namespace(self.namespace)
        if not self.image or not self.image.isprintable() or " " in self.image:
            raise DeployError(
                f"image {self.image!r}: wanted REGISTRY/zeroserve:TAG, made from the Dockerfile's target predict"
            )
        if not self.url or not self.url.isprintable():
            raise DeployError(f"url {self.url!r}: wanted the folder of the numbered versions, such as s3://bucket/m")
        self._check_numbers()
        cache_volume(self.cache)
        reserved = {"PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"} & set(self.environment)
        if reserved:
            raise DeployError(f"variables {', '.join(sorted(reserved))} are set by Knative: leave them out")
        taken = _OWN_VARIABLES & set(self.environment)
        if taken:
            raise DeployError(f"variables {', '.join(sorted(taken))} are set by zeroserve deploy: leave them out")

    def _check_numbers(self) -> None:
        if not 0 <= self.concurrency <= MAX_CONTAINER_CONCURRENCY:
            raise DeployError(f"concurrency {self.concurrency}: Knative takes 0 to {MAX_CONTAINER_CONCURRENCY}")
        if min(self.min_scale, self.max_scale, self.target, self.gpus, self.progress_seconds) < 0:
            raise DeployError("scales, target, GPUs and seconds: wanted 0 or more")
        if self.max_scale and self.min_scale > self.max_scale:
            raise DeployError(f"min scale {self.min_scale} is above max scale {self.max_scale}")
        if self.timeout_seconds < 1:
            raise DeployError(f"timeout {self.timeout_seconds} s: wanted 1 or more (a cluster allows 600 at first)")
        if self.gpus and not _RESOURCE.fullmatch(self.gpu_resource):
            raise DeployError(f"GPU resource {self.gpu_resource!r}: wanted a name such as nvidia.com/mig-1g.5gb")
        for name, quantity in (("cpu", self.cpu), ("memory", self.memory)):
            if quantity and not _QUANTITY.fullmatch(quantity):
                raise DeployError(f"{name} {quantity!r}: wanted a quantity such as 500m, 2 or 1Gi")


def revision(deployment: Deployment, version: Version) -> str:
    """The name of the revision in which `deployment` serves `version`."""
    return revision_name(deployment.name, version.number, _template(deployment, version))


def manifest(
    deployment: Deployment, version: Version, traffic: Traffic, *, ours: bool = True, owner: str = ""
) -> dict[str, Any]:
    """The service that makes the revision of `version` and sends traffic as `traffic` says.

    Args:
        ours: whether the traffic is noted as what we wrote; without it, it stays somebody else's.
        owner: who that is, where it is known.
    """
    template = _template(deployment, version)
    template["metadata"]["name"] = revision_name(deployment.name, version.number, template)
    labels = {keys.MANAGED_BY: keys.FIELD_MANAGER}
    if deployment.cluster_local:
        labels[keys.VISIBILITY] = keys.CLUSTER_LOCAL
    return {
        "apiVersion": API_VERSION,
        "kind": "Service",
        "metadata": {
            "name": deployment.name,
            "namespace": deployment.namespace,
            "labels": labels,
            "annotations": {keys.MODEL: _model(deployment), keys.URL: deployment.url}
            | _note(traffic, ours=ours, owner=owner),
        },
        "spec": {"template": template, "traffic": [target.as_json() for target in traffic]},
    }


def traffic_patch(
    traffic: Traffic, *, ours: bool = True, owner: str = "", previous: str | None = None
) -> dict[str, Any]:
    """A merge patch that changes the traffic of a service and nothing else.

    Args:
        ours, owner: as for `manifest`.
        previous: notes which revision had all traffic before; None leaves that note as it is.
    """
    annotations: dict[str, str | None] = {keys.OWNER: None, **_note(traffic, ours=ours, owner=owner)}
    if previous is not None:
        annotations[keys.PREVIOUS] = previous
    return {
        "metadata": {"annotations": annotations},
        "spec": {"traffic": [target.as_json() for target in traffic]},
    }


def _note(traffic: Traffic, *, ours: bool, owner: str) -> dict[str, str]:
    # Of somebody else's traffic the empty note stays a note that does not fit.
    note = {keys.TRAFFIC: as_text(traffic) if ours else ""}
    return note | {keys.OWNER: owner} if owner and not ours else note


def _model(deployment: Deployment) -> str:
    return deployment.model or deployment.name


def _template(deployment: Deployment, version: Version) -> dict[str, Any]:
    annotations = {
        keys.MIN_SCALE: str(deployment.min_scale),
        keys.MODEL: _model(deployment),
        keys.URL: deployment.url,
        keys.VERSION: str(version.number),
        keys.FINGERPRINT: version.fingerprint,
    }
    if deployment.max_scale:
        annotations[keys.MAX_SCALE] = str(deployment.max_scale)
    if deployment.target:
        annotations[keys.TARGET] = str(deployment.target)
    if deployment.progress_seconds:
        annotations[keys.PROGRESS_DEADLINE] = f"{deployment.progress_seconds}s"
    spec: dict[str, Any] = {
        "containerConcurrency": deployment.concurrency,
        "timeoutSeconds": deployment.timeout_seconds,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [_container(deployment, version)],
        "volumes": [
            {"name": "cache", **cache_volume(deployment.cache)},
            {"name": "routes", **routes_volume(deployment.name, ROUTES_FILE)},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    if deployment.key_secret:
        spec["volumes"].append({"name": "key", "secret": {"secretName": deployment.key_secret.partition("/")[0]}})
    if deployment.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in deployment.pull_secrets]
    if deployment.service_account:
        spec["serviceAccountName"] = deployment.service_account
    return {"metadata": {"annotations": annotations}, "spec": spec}


def _container(deployment: Deployment, version: Version) -> dict[str, Any]:
    environment = {
        **deployment.environment,
        keys.CONTAINER_ENVIRONMENT_NAME: _model(deployment),
        keys.CONTAINER_ENVIRONMENT_URL: deployment.url,
        keys.CONTAINER_ENVIRONMENT_VERSION: str(version.number),
        keys.CONTAINER_ENVIRONMENT_CACHE: CACHE_PATH,
        # Its one version never changes: once it is found, an instance that looked again would only keep storage busy.
        keys.CONTAINER_ENVIRONMENT_POLL: "0",
        keys.CONTAINER_ENVIRONMENT_PEER_URL: (
            f"http://{{tag}}-{deployment.name}.{deployment.namespace}.svc.cluster.local"
        ),
        keys.CONTAINER_ENVIRONMENT_ROUTES: f"{ROUTES_FOLDER}/{ROUTES_FILE}",
    }
    if deployment.signing_keys:
        environment[keys.CONTAINER_ENVIRONMENT_SIGNING_KEYS] = deployment.signing_keys
    if deployment.key_secret:
        file = deployment.key_secret.partition("/")[2] or KEY_FILE
        environment["GOOGLE_APPLICATION_CREDENTIALS"] = f"{KEY_FOLDER}/{file}"
    container: dict[str, Any] = {
        "name": "zeroserve",
        "image": deployment.image,
        "ports": [{"name": "h2c", "containerPort": PORT}],
        "env": [{"name": name, "value": value} for name, value in sorted(environment.items())],
        "readinessProbe": {"httpGet": {"path": READY_PATH, "port": PORT}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": "cache", "mountPath": CACHE_PATH},
            {"name": "routes", "mountPath": ROUTES_FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": TEMPORARY_PATH},
        ],
    }
    if deployment.key_secret:
        container["volumeMounts"].append({"name": "key", "mountPath": KEY_FOLDER, "readOnly": True})
    if deployment.environment_secrets:
        container["envFrom"] = [{"secretRef": {"name": name}} for name in deployment.environment_secrets]
    resources = _resources(deployment)
    if resources:
        container["resources"] = resources
    return container


def _resources(deployment: Deployment) -> dict[str, Any]:
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    if deployment.cpu:
        requests["cpu"] = deployment.cpu
    if deployment.memory:
        requests["memory"] = limits["memory"] = deployment.memory
    if deployment.gpus:
        limits[deployment.gpu_resource] = str(deployment.gpus)
    return {kind: values for kind, values in (("requests", requests), ("limits", limits)) if values}
