"""The manifest: what Knative accepts, what a pod can start with, and a name that follows from the content."""

from dataclasses import replace

import pytest

from functions.config import load_settings
from knative import keys
from knative.error import DeployError
from knative.service import MAX_CONTAINER_CONCURRENCY, Deployment, Version, manifest, revision, traffic_patch
from knative.traffic import WHOLE, block, from_text

DEPLOYMENT = Deployment("m", "s3://b/m", "registry/zeroserve:1", namespace="prod", model="My_Model")
VERSION = Version(7, "f" * 32)
TRAFFIC = block({revision(DEPLOYMENT, VERSION): WHOLE}, {"v7": revision(DEPLOYMENT, VERSION)})


def template(deployment: Deployment = DEPLOYMENT) -> dict:
    return manifest(deployment, VERSION, TRAFFIC)["spec"]["template"]


def environment(deployment: Deployment = DEPLOYMENT) -> dict[str, str]:
    return {one["name"]: one["value"] for one in template(deployment)["spec"]["containers"][0]["env"]}


def test_the_template_has_the_name_that_was_planned():
    assert template()["metadata"]["name"] == revision(DEPLOYMENT, VERSION)


@pytest.mark.parametrize(
    "change", [{"image": "i:2"}, {"memory": "1Gi"}, {"environment": {"A": "b"}}, {"cache": "pvc:c"}]
)
def test_other_content_is_another_revision(change):
    assert revision(replace(DEPLOYMENT, **change), VERSION) != revision(DEPLOYMENT, VERSION)
    assert revision(DEPLOYMENT, Version(7, "0" * 32)) != revision(DEPLOYMENT, VERSION)


def test_a_pod_can_start_with_its_variables():
    settings = load_settings([], environment() | {"PORT": "8080"})
    assert (settings.model_name, settings.model_base_path, settings.model_version) == ("My_Model", "s3://b/m", 7)
    assert settings.peer_url == "http://{tag}-m.prod.svc.cluster.local"
    assert settings.routes_file == "/etc/zeroserve/routes/routes.json"


def test_pods_see_their_routes_and_nothing_else_of_what_is_declared():
    volumes = {one["name"]: one for one in template()["spec"]["volumes"]}
    assert volumes["routes"]["configMap"] == {
        "name": "zeroserve-m",
        "optional": True,
        "items": [{"key": "routes.json", "path": "routes.json"}],
    }


def test_every_volume_is_mounted_and_every_mount_is_a_volume():
    spec = template(replace(DEPLOYMENT, key_secret="gcs/sa.json"))["spec"]
    mounted = {one["name"] for one in spec["containers"][0]["volumeMounts"]}
    assert mounted == {one["name"] for one in spec["volumes"]}


def test_the_container_has_no_rights():
    spec = template()["spec"]
    security = spec["containers"][0]["securityContext"]
    assert spec["automountServiceAccountToken"] is False
    assert (security["runAsNonRoot"], security["readOnlyRootFilesystem"]) == (True, True)
    assert security["capabilities"] == {"drop": ["ALL"]}


def test_a_key_is_a_file_that_googles_libraries_find():
    assert environment(replace(DEPLOYMENT, key_secret="gcs"))["GOOGLE_APPLICATION_CREDENTIALS"] == (
        "/etc/zeroserve/key/key.json"
    )


def test_gpus_are_limits_under_whatever_name_the_cluster_gives_them():
    mig = replace(DEPLOYMENT, gpus=1, gpu_resource="nvidia.com/mig-1g.5gb")
    assert template(mig)["spec"]["containers"][0]["resources"] == {"limits": {"nvidia.com/mig-1g.5gb": "1"}}


def test_autoscaling_is_said_on_the_template_where_knative_reads_it():
    found = manifest(replace(DEPLOYMENT, min_scale=1, max_scale=5, target=7), VERSION, TRAFFIC)
    assert not [name for name in found["metadata"]["annotations"] if name.startswith("autoscaling.")]
    annotations = found["spec"]["template"]["metadata"]["annotations"]
    assert (annotations[keys.MIN_SCALE], annotations[keys.MAX_SCALE], annotations[keys.TARGET]) == ("1", "5", "7")


def test_traffic_of_ours_is_noted_and_that_of_others_is_not():
    ours = traffic_patch(TRAFFIC, previous="m-v6-00000000")["metadata"]["annotations"]
    assert from_text(ours[keys.TRAFFIC]) == TRAFFIC
    assert (ours[keys.PREVIOUS], ours[keys.OWNER]) == ("m-v6-00000000", None)
    theirs = traffic_patch(TRAFFIC, ours=False, owner="kn")["metadata"]["annotations"]
    assert (theirs[keys.TRAFFIC], theirs[keys.OWNER]) == ("", "kn")
    assert keys.PREVIOUS not in theirs


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": "M"}, "cannot name a service"),
        ({"namespace": "a/b"}, "cannot name a namespace"),
        ({"image": ""}, "wanted REGISTRY/zeroserve:TAG"),
        ({"image": "a b"}, "wanted REGISTRY/zeroserve:TAG"),
        ({"url": ""}, "wanted the folder"),
        ({"url": "s3://b/\x1b[2J"}, "wanted the folder"),
        ({"concurrency": MAX_CONTAINER_CONCURRENCY + 1}, "Knative takes 0 to"),
        ({"min_scale": 3, "max_scale": 2}, "above max scale"),
        ({"min_scale": -1}, "wanted 0 or more"),
        ({"timeout_seconds": 0}, "wanted 1 or more"),
        ({"gpus": 1, "gpu_resource": "gpu"}, "nvidia.com/mig"),
        ({"cpu": "much"}, "wanted a quantity"),
        ({"memory": "1 Gi"}, "wanted a quantity"),
        ({"cache": "disk"}, "wanted emptyDir"),
        ({"cache": "hostPath:relative"}, "wanted emptyDir"),
        ({"environment": {"PORT": "1"}}, "set by Knative"),
        ({"environment": {"SERVING_MODEL_VERSION": "1"}}, "set by zeroserve deploy"),
    ],
)
def test_what_no_pod_could_start_with_is_refused(change, text):
    with pytest.raises(DeployError, match=text):
        replace(DEPLOYMENT, **change)
