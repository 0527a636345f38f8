"""What Cloud Run refuses is left out, or refused here in words."""

import json

import pytest
import yaml

from knative.cloud_run import cloud_run_service
from knative.error import DeployError
from knative.service import Deployment, Version, manifest, revision
from knative.traffic import TrafficTarget

# Source: Cloud Run Admin API v1; fields that it says are supported.
REVISION_FIELDS = {
    "containerConcurrency", "timeoutSeconds", "serviceAccountName", "containers", "volumes", "nodeSelector",
}  # fmt: skip
CONTAINER_FIELDS = {
    "name", "image", "command", "args", "env", "ports", "resources", "volumeMounts", "startupProbe", "livenessProbe",
}  # fmt: skip


def made(**fields: object) -> dict:
    deployment = Deployment("m", "gs://models/m", "europe-docker.pkg.dev/p/r/zeroserve:1", **fields)
    version = Version(7, "f")
    traffic = (TrafficTarget(revision(deployment, version), 100, "v7"),)
    return cloud_run_service(manifest(deployment, version, traffic))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"cpu": "2", "memory": "1Gi", "min_scale": 1, "max_scale": 5, "concurrency": 64, "target": 8},
        {"gpus": 1, "cache": "memory:2Gi", "cluster_local": True, "service_account": "a@p.iam.gserviceaccount.com"},
    ],
)
def test_only_fields_that_cloud_run_supports_are_left(fields):
    service = made(**fields)
    template = service["spec"]["template"]
    container = template["spec"]["containers"][0]
    assert set(service) == {"apiVersion", "kind", "metadata", "spec"}
    assert set(template["spec"]) <= REVISION_FIELDS
    assert set(container) <= CONTAINER_FIELDS
    assert set(container.get("resources", {})) <= {"limits"}
    assert [set(volume) for volume in template["spec"]["volumes"]] == [{"name", "emptyDir"}]
    assert template["spec"]["volumes"][0]["emptyDir"]["medium"] == "Memory"
    names = {*service["metadata"]["annotations"], *template["metadata"]["annotations"]}
    allowed = {"autoscaling.knative.dev/minScale", "autoscaling.knative.dev/maxScale"}
    assert {name for name in names if "knative.dev/" in name} <= allowed
    assert all("/" not in label for label in service["metadata"]["labels"])
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] <= 240
    assert "svc.cluster.local" not in json.dumps(service)
    assert yaml.safe_load(yaml.safe_dump(service)) == service


def test_scale_ingress_and_gpu_say_it_in_cloud_runs_words():
    service = made(min_scale=1, max_scale=5, gpus=1, cluster_local=True)
    annotations = service["spec"]["template"]["metadata"]["annotations"]
    assert annotations["autoscaling.knative.dev/minScale"] == "1"
    assert annotations["autoscaling.knative.dev/maxScale"] == "5"
    assert annotations["run.googleapis.com/cpu-throttling"] == "false"
    assert service["metadata"]["annotations"]["run.googleapis.com/ingress"] == "internal"
    assert service["spec"]["template"]["spec"]["nodeSelector"] == {"run.googleapis.com/accelerator": "nvidia-l4"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"environment_secrets": ("s3",)}, "--env-from-secret"),
        ({"key_secret": "key"}, "--key-secret"),
        ({"pull_secrets": ("pull",)}, "--pull-secret"),
        ({"cache": "pvc:models"}, "--cache"),
        ({"cache": "hostPath:/models"}, "--cache"),
        ({"gpus": 1, "gpu_resource": "nvidia.com/mig-1g.5gb"}, "--gpu-resource"),
    ],
)
def test_what_cloud_run_has_not_got_is_refused_in_words(fields, words):
    with pytest.raises(DeployError, match=words):
        made(**fields)
