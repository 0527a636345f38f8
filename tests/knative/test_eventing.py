"""The manifests that make an upload deploy."""

import dataclasses
import re
from typing import Any

import pytest

from functions.deployer.settings import load_deployer_settings
from knative import keys
from knative.error import DeployError
from knative.eventing import BROKER, FUNCTION, OWNER, PART, PING_TYPE, SECRET, Installation, broker, trigger
from knative.eventing_apply import manifests
from knative.eventing_function import RULES, function, role, role_binding, secret, service_account
from knative.eventing_sources import ping, watcher

INSTALLATION = Installation(
    namespace="models",
    image="registry/zeroserve:1",
    types=("com.zeroserve.storage.object.created.v1", PING_TYPE, "com.amazonaws.s3.*"),
    watch=("hdfs://namenode/models", "/models"),
    watch_volumes={"/models": "claim"},
    environment={"AWS_ENDPOINT_URL": "http://s3"},
    environment_secrets=("s3-credentials",),
    annotations={"iam.gke.io/gcp-service-account": "me@project"},
)


def every() -> list[dict[str, Any]]:
    return manifests(INSTALLATION, "word")


def test_all_is_in_the_namespace_and_carries_a_label_that_models_do_not_have() -> None:
    for manifest in every():
        meta = manifest["metadata"]
        assert meta["namespace"] == "models", manifest["kind"]
        assert meta["labels"][PART] == OWNER
    assert PART == keys.MANAGED_BY
    assert OWNER != keys.FIELD_MANAGER


def test_names_are_unique_within_a_kind_and_are_names() -> None:
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in every()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])", name) for _, name in names)


def test_the_same_wish_gives_the_same_manifests() -> None:
    assert every() == every()


def test_identity_comes_before_what_runs_as_it_and_the_broker_before_its_trigger() -> None:
    order = [manifest["kind"] for manifest in every()]
    assert order.index("RoleBinding") < order.index("Service") < order.index("Trigger")
    assert order.index("Secret") < order.index("Service")
    assert order.index("Broker") < order.index("SinkBinding") < order.index("Service")
    assert order.index("Trigger") < order.index("PingSource")


def test_a_trigger_lets_through_the_types_that_are_asked_for_and_nothing_else() -> None:
    spec = trigger(INSTALLATION)["spec"]
    assert spec["broker"] == BROKER
    assert spec["filters"] == [
        {
            "any": [
                {"exact": {"type": "com.zeroserve.storage.object.created.v1"}},
                {"exact": {"type": "dev.knative.sources.ping"}},
                {"prefix": {"type": "com.amazonaws.s3."}},
            ]
        }
    ]
    assert spec["subscriber"] == {"ref": {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": FUNCTION}}


def test_a_door_that_checks_tokens_gets_its_audience_into_the_trigger() -> None:
    asked = dataclasses.replace(INSTALLATION, audience="zeroserve")
    assert trigger(asked)["spec"]["subscriber"]["audience"] == "zeroserve"


@pytest.mark.parametrize("build", [broker, trigger])
def test_what_is_not_delivered_is_tried_again_and_then_kept(build: Any) -> None:
    assert "deadLetterSink" not in build(INSTALLATION)["spec"]["delivery"]
    delivery = build(dataclasses.replace(INSTALLATION, dead_letter="http://letters/"))["spec"]["delivery"]
    assert delivery == {
        "retry": 8,
        "backoffPolicy": "exponential",
        "backoffDelay": "PT0.5S",
        "deadLetterSink": {"uri": "http://letters/"},
    }


def test_the_function_has_no_address_outside_the_cluster_and_scales_to_zero() -> None:
    service = function(INSTALLATION)
    template = service["spec"]["template"]
    assert service["metadata"]["labels"][keys.VISIBILITY] == keys.CLUSTER_LOCAL
    assert template["metadata"]["annotations"] == {keys.MIN_SCALE: "0", keys.MAX_SCALE: "3"}
    assert template["spec"]["serviceAccountName"] == FUNCTION
    assert template["spec"]["volumes"] == [{"name": "tmp", "emptyDir": {}}]


def test_who_may_send_is_said_to_the_function_as_it_wants_it() -> None:
    (container,) = function(INSTALLATION)["spec"]["template"]["spec"]["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    load_deployer_settings(container["args"][1:], variables)
    assert variables["SERVING_ANONYMOUS_EVENTS"] == "true"
    guarded = function(dataclasses.replace(INSTALLATION, audience="zeroserve"))["spec"]["template"]["spec"]
    variables = {one["name"]: one["value"] for one in guarded["containers"][0]["env"]}
    settings = load_deployer_settings((), variables)
    assert settings.event_audience == "zeroserve"
    mounts = {one["name"]: one["mountPath"] for one in guarded["containers"][0]["volumeMounts"]}
    assert settings.event_secret_file == f"{mounts['events']}/secret"
    assert guarded["volumes"][1] == {"name": "events", "secret": {"secretName": SECRET}}


def test_nothing_that_runs_may_write_to_its_image_or_be_root() -> None:
    pods = [function(INSTALLATION)["spec"]["template"]["spec"], watcher(INSTALLATION, "/m")["spec"]["template"]["spec"]]
    for container in (container for pod in pods for container in pod["containers"]):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert context["runAsNonRoot"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}


def test_the_role_is_of_one_namespace_and_deletes_nothing() -> None:
    assert role(INSTALLATION)["kind"] == "Role"
    verbs = {verb for rule in role(INSTALLATION)["rules"] for verb in rule["verbs"]}
    assert verbs <= {"get", "list", "create", "patch"}
    assert all(rule["resources"] != ["*"] and "*" not in rule["apiGroups"] for rule in role(INSTALLATION)["rules"])
    assert not any("secrets" in rule["resources"] for rule in role(INSTALLATION)["rules"])
    assert all(reason for *_, reason in RULES)


def test_the_role_is_bound_to_the_function_alone() -> None:
    binding = role_binding(INSTALLATION)
    assert binding["roleRef"]["name"] == role(INSTALLATION)["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": FUNCTION, "namespace": "models"}]
    assert service_account(INSTALLATION)["metadata"]["annotations"] == {"iam.gke.io/gcp-service-account": "me@project"}


def test_a_secret_that_stays_is_not_among_what_is_applied() -> None:
    assert "Secret" not in {manifest["kind"] for manifest in manifests(INSTALLATION, "")}
    assert secret(INSTALLATION, "word")["stringData"] == {"secret": "word"}


def test_without_a_schedule_there_is_no_sweep() -> None:
    kinds = {manifest["kind"] for manifest in manifests(dataclasses.replace(INSTALLATION, sweep=""), "")}
    assert "PingSource" not in kinds
    assert ping(INSTALLATION)["spec"]["schedule"] == "*/1 * * * *"


def test_each_place_gets_a_watcher_that_knows_the_broker_by_knative() -> None:
    found = [one for one in every() if one["kind"] == "ContainerSource"]
    assert [one["spec"]["template"]["spec"]["containers"][0]["args"] for one in found] == [
        ["watch", "hdfs://namenode/models"],
        ["watch", "/models"],
    ]
    pod = found[1]["spec"]["template"]["spec"]
    assert pod["volumes"][1] == {
        "name": "volume-0",
        "persistentVolumeClaim": {"claimName": "claim", "readOnly": True},
    }
    assert pod["containers"][0]["volumeMounts"][1] == {"name": "volume-0", "mountPath": "/models", "readOnly": True}
    assert not pod["automountServiceAccountToken"]
    assert found[0]["spec"]["sink"]["ref"]["name"] == BROKER


@pytest.mark.parametrize(
    ("change", "wanted"), [({"image": ""}, "--image="), ({"sweep": "daily"}, "five fields"), ({"sweep": "* *"}, "cron")]
)
def test_what_makes_no_sense_is_refused(change: dict[str, str], wanted: str) -> None:
    with pytest.raises(DeployError, match=wanted):
        dataclasses.replace(INSTALLATION, **change)  # type: ignore[arg-type]
