"""The JobSink of batch jobs: its manifests, and what the commands print and refuse."""

import json

import pytest
import yaml

from functions.cli import main
from knative.error import DeployError
from knative.job_sink import EVENT_FILE, REQUESTED, JobSink, manifests

WORDS = ("--model", "s3://models/half", "--allow", "s3://data/")


def wanted(**fields: object) -> JobSink:
    return JobSink(**{"namespace": "shop", "image": "dev.local/zeroserve:1", "words": WORDS} | fields)  # type: ignore[arg-type]


def test_a_job_gets_the_event_and_the_words() -> None:
    (sink,) = manifests(wanted())
    assert (sink["apiVersion"], sink["kind"]) == ("sinks.knative.dev/v1alpha1", "JobSink")
    assert sink["metadata"] | {"labels": {}} == {"name": "zeroserve-batch", "namespace": "shop", "labels": {}}
    assert set(sink["spec"]) == {"job"}
    pod = sink["spec"]["job"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"] == ["batch", "--event", EVENT_FILE, *WORDS]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert pod["restartPolicy"] == "Never"  # what a pod failure policy asks for


def test_what_no_further_try_can_help_ends_the_job_and_a_moved_pod_is_no_try() -> None:
    spec = manifests(wanted(retries=2, seconds=60))[0]["spec"]["job"]["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (2, 60)
    final, moved = spec["podFailurePolicy"]["rules"]
    assert (final["action"], final["onExitCodes"]["values"], moved["action"]) == ("FailJob", [3], "Ignore")


def test_a_trigger_brings_the_events_that_ask_for_jobs() -> None:
    sink, trigger = manifests(wanted(name="nightly", broker="default"))
    assert trigger["spec"]["broker"] == "default"
    assert trigger["spec"]["filter"] == {"attributes": {"type": REQUESTED}}
    reference = {"apiVersion": sink["apiVersion"], "kind": "JobSink", "name": "nightly"}
    assert trigger["spec"]["subscriber"] == {"ref": reference}


def test_storage_is_reached_with_variables_secrets_claims_and_an_identity() -> None:
    (sink,) = manifests(
        wanted(
            sink="http://broker/shop/default",
            service_account="reader",
            environment={"AWS_ENDPOINT_URL": "http://s3"},
            environment_secrets=["s3"],
            volumes={"/data": "claim"},
        )
    )
    pod = sink["spec"]["job"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    assert variables == {"AWS_ENDPOINT_URL": "http://s3", "K_SINK": "http://broker/shop/default"}
    assert container["envFrom"] == [{"secretRef": {"name": "s3"}}]
    assert container["volumeMounts"][1] == {"name": "claim-0", "mountPath": "/data"}
    assert pod["volumes"][1] == {"name": "claim-0", "persistentVolumeClaim": {"claimName": "claim"}}
    assert pod["serviceAccountName"] == "reader"


@pytest.mark.parametrize("fields", [{"image": ""}, {"name": "Not A Name"}, {"volumes": {"data": "claim"}}])
def test_what_a_cluster_would_refuse_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(DeployError):
        wanted(**fields)


@pytest.mark.parametrize("command", [["render"], ["install", "-o", "yaml"]])
def test_manifests_are_printed_without_a_cluster(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--image", "dev.local/zeroserve:1", "-n", "shop", "--broker", "default"]
    assert main(["batch", *command, *flags, "--", *WORDS]) == 0
    assert list(yaml.safe_load_all(capsys.readouterr().out)) == json.loads(
        json.dumps(manifests(wanted(broker="default")))
    )


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--model", "s3://m"], "-- --allow"),
        (["--model", "s3://m", "--allow", "s3://d", "x.csv"], "the event names the inputs"),
        (["--model", "s3://m", "--allow", "s3://d", "--restart"], "whether to restart"),
    ],
)
def test_words_that_make_no_job_are_refused(words: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batch", "render", "--image", "x", "--", *words]) == 1
    assert reason in capsys.readouterr().err
