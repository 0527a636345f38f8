"""`zeroserve events` on a real cluster: manifests are taken, doing it twice changes nothing, rights are what is said.

The function's image is `ZEROSERVE_E2E_DEPLOY_IMAGE`; what needs it is skipped without.
"""

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from functions.cli import main
from functions.commands.events import EVENT_TYPES
from knative import kubeconfig
from knative.client import Client
from knative.eventing import FUNCTION, Installation
from knative.eventing_apply import apply, installed, manifests
from tests.functions.served import ROOT

pytestmark = pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="no cluster: KUBECONFIG is not set")

IMAGE = os.environ.get("ZEROSERVE_E2E_DEPLOY_IMAGE", "")
needs_image = pytest.mark.skipif(not IMAGE, reason="no image: ZEROSERVE_E2E_DEPLOY_IMAGE is not set")

ACCOUNT = "system:serviceaccount:{namespace}:" + FUNCTION


@pytest.fixture
def client() -> Iterator[Client]:
    one = Client(kubeconfig.read(os.environ["KUBECONFIG"], {}))
    yield one
    one.close()


@pytest.fixture
def namespace(client: Client) -> Iterator[str]:
    name = f"events-{secrets.token_hex(3)}"
    client.json("POST", "/api/v1/namespaces", None, {"metadata": {"name": name}})
    yield name
    client.json("DELETE", f"/api/v1/namespaces/{name}")


def path_of(manifest: dict[str, Any], namespace: str) -> str:
    api = manifest["apiVersion"]
    group = f"/apis/{api}" if "/" in api else f"/api/{api}"
    return f"{group}/namespaces/{namespace}/{manifest['kind'].lower()}s/{manifest['metadata']['name']}"


def check(client: Client, manifest: dict[str, Any], namespace: str) -> None:
    """Lets the API server judge a manifest: its schema, with no unknown field, and its admission."""
    manifest["metadata"]["namespace"] = namespace
    query = {"fieldManager": "tests", "force": "true", "dryRun": "All", "fieldValidation": "Strict"}
    client.json("PATCH", path_of(manifest, namespace), query, manifest, "application/apply-patch+yaml")


@pytest.mark.parametrize("audience", ["", "zeroserve"])
def test_the_cluster_takes_every_manifest_strictly(client: Client, namespace: str, audience: str) -> None:
    installation = Installation(
        namespace=namespace,
        image="dev.local/zeroserve-deploy:1",
        types=EVENT_TYPES,
        watch=("hdfs://namenode/models", "/models"),
        watch_volumes={"/models": "claim"},
        dead_letter="http://letters.example/",
        environment={"AWS_REGION": "eu-north-1"},
        environment_secrets=("s3",),
        annotations={"iam.gke.io/gcp-service-account": "me@project"},
        audience=audience,
    )
    for manifest in manifests(installation, "word" if audience else ""):
        check(client, manifest, namespace)


def test_the_cluster_takes_the_samples_of_the_page(client: Client, namespace: str) -> None:
    page = (ROOT / "docs" / "sources.md").read_text()
    samples = [yaml.safe_load(block.partition("```")[0]) for block in page.split("```yaml\n")[1:]]
    assert {sample["kind"] for sample in samples} == {"SinkBinding", "IntegrationSource"}
    for sample in samples:
        if sample["kind"] != "IntegrationSource":  # newer than the Knative that this is tried on
            check(client, sample, namespace)


def test_what_is_not_installed_is_said_to_be_missing(namespace: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "status", "-n", namespace, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["ready"]
    assert not any(part["there"] for part in found["parts"])
    assert {part["kind"] for part in found["parts"]} >= {"Broker", "Trigger", "Service", "PingSource", "Role"}


def test_a_cluster_without_tokens_for_senders_wants_to_be_told(
    namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["events", "install", "-n", namespace, "--image=dev.local/zeroserve-deploy:1", "--dry-run"]) == 1
    assert "--anonymous-events" in capsys.readouterr().err


def review(client: Client, namespace: str, account: str, verb: str, group: str, resource: str, where: str) -> bool:
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": account.format(namespace=namespace),
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
            "resourceAttributes": {
                "namespace": where,
                "verb": verb,
                "group": group,
                "resource": resource.partition("/")[0],
                "subresource": resource.partition("/")[2],
            },
        },
    }
    answer = client.json("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", None, body)
    return bool(answer["status"]["allowed"])


def test_the_function_may_do_what_it_does_and_nothing_else(client: Client, namespace: str) -> None:
    installation = Installation(namespace, "dev.local/zeroserve-deploy:1", EVENT_TYPES)
    for manifest in manifests(installation, ""):
        if manifest["kind"] in {"ServiceAccount", "Role", "RoleBinding"}:
            apply(client, manifest)
    may = [
        *(("serving.knative.dev", "services", verb) for verb in ("get", "list", "create", "patch")),
        *(("serving.knative.dev", "revisions", verb) for verb in ("get", "list")),
        *(("", "configmaps", verb) for verb in ("get", "list", "create", "patch")),
        *(("", "pods", verb) for verb in ("get", "list")),
        ("", "pods/proxy", "get"),
    ]
    may_not = [
        ("serving.knative.dev", "services", "delete"),
        ("", "secrets", "get"),
        ("", "secrets", "list"),
        ("", "pods", "create"),
        ("", "pods/exec", "create"),
        ("", "configmaps", "delete"),
        ("apps", "deployments", "patch"),
        ("rbac.authorization.k8s.io", "rolebindings", "create"),
        ("eventing.knative.dev", "triggers", "patch"),
    ]
    for group, resource, verb in may:
        assert review(client, namespace, ACCOUNT, verb, group, resource, namespace), (verb, resource)
        assert not review(client, namespace, ACCOUNT, verb, group, resource, "default"), (verb, resource)
    for group, resource, verb in may_not:
        assert not review(client, namespace, ACCOUNT, verb, group, resource, namespace), (verb, resource)


def generations(client: Client, namespace: str) -> dict[str, int]:
    """What is installed, with a number that grows with each change of what is wanted."""
    found = installed(client, namespace)
    return {f"{one['kind']} {one['metadata']['name']}": one["metadata"].get("generation", 0) for one in found}


@needs_image
def test_installing_twice_changes_nothing_and_uninstalling_leaves_nothing(
    client: Client, namespace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["events", "install", "-n", namespace, f"--image={IMAGE}", "--anonymous-events", "--json"]
    first, second = [*words, "--watch=/tmp/models"], words
    assert main(first) == 0, capsys.readouterr().err
    assert json.loads(capsys.readouterr().out)["ready"]
    before = generations(client, namespace)
    assert main(first) == 0
    assert generations(client, namespace) == before
    assert main(second) == 0
    assert "ContainerSource" not in {one["kind"] for one in installed(client, namespace)}
    capsys.readouterr()
    assert main(["events", "uninstall", "-n", namespace, "--json"]) == 0
    assert "Service zeroserve-deploy" in json.loads(capsys.readouterr().out)["deleted"]
    assert main(["events", "uninstall", "-n", namespace, "--dry-run"]) == 0
    assert capsys.readouterr().out == "nothing to do\n"
