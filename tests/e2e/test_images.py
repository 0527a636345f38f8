"""The two images as the cluster runs them."""

import json
import os

from tests.e2e.ingress import eventually
from tests.e2e.place import Place, needs_cluster

pytestmark = needs_cluster


def test_the_deploy_image_reads_the_cluster_without_tensorflow_numpy_and_grpc(here: Place):
    here.deploy("m", here.upload("m", 1))
    here.kubectl("create", "serviceaccount", "reader")
    here.kubectl("create", "rolebinding", "reader", "--clusterrole=admin", f"--serviceaccount={here.namespace}:reader")
    here.kubectl(
        "create",
        "role",
        "knative",
        "--verb=get,list",
        "--resource=services.serving.knative.dev,revisions.serving.knative.dev",
    )
    here.kubectl("create", "rolebinding", "knative", "--role=knative", f"--serviceaccount={here.namespace}:reader")
    script = (
        "import importlib.util as found, sys\n"
        "here = [name for name in ('tensorflow', 'numpy', 'grpc') if found.find_spec(name)]\n"
        "assert not here, here\n"
        "from functions.cli import main\n"
        "sys.exit(main(['status', 'm', '--json']))\n"
    )
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "reader"},
        "spec": {
            "serviceAccountName": "reader",
            "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532},
            "containers": [
                {
                    "name": "reader",
                    "image": os.environ["ZEROSERVE_E2E_DEPLOY_IMAGE"],
                    "command": ["python", "-c", script],
                    "securityContext": {
                        "readOnlyRootFilesystem": True,
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }
    here.kubectl("apply", "-f", "-", feed=json.dumps(pod))
    eventually(lambda: here.get("pod", "reader")["status"]["phase"] in {"Succeeded", "Failed"})
    said = here.kubectl("logs", "reader")
    assert json.loads(said)["name"] == "m", said


def test_predict_pods_are_nobody_write_nothing_and_hold_no_token(here: Place):
    here.deploy("m", here.upload("m", 1))
    spec = here.get("pods", "-l", "serving.knative.dev/service=m")["items"][0]["spec"]
    assert spec["automountServiceAccountToken"] is False
    container = next(each for each in spec["containers"] if each["name"] != "queue-proxy")
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["runAsNonRoot"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
