"""A Service of Knative as Cloud Run takes it: the same revision without what Cloud Run refuses. Pure.

Cloud Run's own sandbox does what the left out fields ask for elsewhere: no token, no capabilities, other tenants out of
sight. What would be missing without a word (a secret, a volume, a device) is an error instead.

Source: Cloud Run Admin API v1 (namespaces.services: RevisionSpec, Container, Volume, Probe), Cloud Run YAML reference.
"""

from collections.abc import Mapping
from typing import Any

from knative import keys
from knative.error import DeployError

STARTUP_SECONDS = 240
"""What a startup probe may take at most."""

GPU = "nvidia.com/gpu"
MIN_SCALE = "autoscaling.knative.dev/minScale"
MAX_SCALE = "autoscaling.knative.dev/maxScale"
INGRESS = "run.googleapis.com/ingress"
THROTTLING = "run.googleapis.com/cpu-throttling"
ACCELERATOR = "run.googleapis.com/accelerator"

_HERE_ONLY = frozenset({keys.CONTAINER_ENVIRONMENT_PEER_URL, keys.CONTAINER_ENVIRONMENT_ROUTES})
"""Variables about the cluster: names that only its DNS knows, a file that a ConfigMap would hold."""


def cloud_run_service(service: Mapping[str, Any], accelerator: str = "nvidia-l4") -> dict[str, Any]:
    """The Service for `gcloud run services replace`.

    Args:
        service: as `knative.service.manifest` makes it.
        accelerator: kind of GPU, where one is asked for.

    Raises:
        DeployError: it needs something that Cloud Run has not got.
    """
    meta, template = service["metadata"], service["spec"]["template"]
    annotations = {name: value for name, value in meta["annotations"].items() if not _is_knatives(name)}
    if meta["labels"].get(keys.VISIBILITY) == keys.CLUSTER_LOCAL:
        annotations[INGRESS] = "internal"
    return {
        "apiVersion": service["apiVersion"],
        "kind": "Service",
        "metadata": {"name": meta["name"], "labels": {"managed-by": keys.FIELD_MANAGER}, "annotations": annotations},
        "spec": {"template": _template(template, accelerator), "traffic": list(service["spec"]["traffic"])},
    }


def _template(template: Mapping[str, Any], accelerator: str) -> dict[str, Any]:
    spec, given = template["spec"], template["metadata"]["annotations"]
    annotations = {name: value for name, value in given.items() if not _is_knatives(name)}
    for theirs, ours in ((MIN_SCALE, keys.MIN_SCALE), (MAX_SCALE, keys.MAX_SCALE)):
        if given.get(ours, "0") != "0":
            annotations[theirs] = given[ours]
    if spec.get("imagePullSecrets"):
        raise DeployError("--pull-secret: Cloud Run takes images from Artifact Registry, with the service account")
    container = _container(spec["containers"][0])
    made: dict[str, Any] = {
        "timeoutSeconds": spec["timeoutSeconds"],
        "containers": [container],
        "volumes": [_cache(volume) for volume in spec["volumes"] if volume["name"] == "cache"],
    }
    if spec["containerConcurrency"]:
        made["containerConcurrency"] = spec["containerConcurrency"]
    if "serviceAccountName" in spec:
        made["serviceAccountName"] = spec["serviceAccountName"]
    if GPU in container.get("resources", {}).get("limits", {}):
        annotations[THROTTLING] = "false"
        made["nodeSelector"] = {ACCELERATOR: accelerator}
    return {"metadata": {"name": template["metadata"]["name"], "annotations": annotations}, "spec": made}


def _container(container: Mapping[str, Any]) -> dict[str, Any]:
    if container.get("envFrom"):
        raise DeployError(
            "--env-from-secret: Cloud Run takes no whole secret: --service-account reads gs:// without one"
        )
    if any(mount["name"] == "key" for mount in container["volumeMounts"]):
        raise DeployError("--key-secret: Cloud Run has no secrets of Kubernetes: use --service-account")
    made: dict[str, Any] = {
        "image": container["image"],
        "ports": container["ports"],
        "env": [each for each in container["env"] if each["name"] not in _HERE_ONLY],
        # No revision takes traffic before it; readiness is not asked again.
        "startupProbe": {
            **container["readinessProbe"],
            "periodSeconds": 1,
            "timeoutSeconds": 1,
            "failureThreshold": STARTUP_SECONDS,
        },
        "volumeMounts": [mount for mount in container["volumeMounts"] if mount["name"] == "cache"],
    }
    resources = container.get("resources", {})
    limits = {**resources.get("requests", {}), **resources.get("limits", {})}
    devices = set(limits) - {"cpu", "memory", GPU}
    if devices:
        raise DeployError(f"--gpu-resource={min(devices)}: Cloud Run has {GPU} only")
    if limits:
        made["resources"] = {"limits": limits}
    return made


def _cache(volume: Mapping[str, Any]) -> dict[str, Any]:
    if "emptyDir" not in volume:
        raise DeployError("--cache: Cloud Run has no volume of a cluster: wanted emptyDir:SIZE or memory:SIZE")
    size = volume["emptyDir"].get("sizeLimit")
    return {"name": "cache", "emptyDir": {"medium": "Memory", **({"sizeLimit": size} if size else {})}}


def _is_knatives(name: str) -> bool:
    return name.partition("/")[0].endswith("knative.dev")
