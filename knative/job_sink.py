"""A JobSink that runs a batch job for each event that asks for one, and the Trigger that brings it those. Pure.

    event -> Broker -> Trigger (by type) -> JobSink -> a Job for each (source, id) -> its sink is told what became of it

The JobSink hands the event to its Job as a file, and makes one Job for each source and id however often the event
comes. What is said of the Job is the words behind `zeroserve batch --event`; the event says the rest.

Source: knative/eventing pkg/apis/sinks/v1alpha1/job_sink_types.go and cmd/jobsink/main.go;
kubernetes.io/docs/concepts/workloads/controllers/job (pod failure policy).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from knative.error import DeployError
from knative.eventing_sources import security
from knative.names import checked_namespace, checked_service

REQUESTED = "com.zeroserve.batch.requested.v1"
EVENT_FILE = "/etc/jobsink-event/event"
"""Where a JobSink mounts the event."""

NAME = "zeroserve-batch"
PART = "app.kubernetes.io/managed-by"
OWNER = "zeroserve-batch"
"""Value of the label `PART` on all that is made here, and our name as field manager."""

EXIT_FINAL = 3
"""Exit status of a job that another try cannot help."""

RETRIES = 4
KEEP_SECONDS = 24 * 3600
"""How long an ended Job is kept, with its log. The same event comes again within that time: it gets no second Job."""

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class JobSink:
    """What is to be installed.

    Attributes:
        namespace: where.
        image: of the Dockerfile's target predict.
        words: of `zeroserve batch` beside `--event`: which model, which places an event may name.
        name: of the JobSink and its Trigger.
        broker: that has the events; empty: no Trigger, events are posted to the JobSink's own address.
        sink: URL that is told what became of a job; empty for nowhere.
        service_account: whose rights storage is reached with; empty for the namespace's default.
        environment: variables: endpoints of storage.
        environment_secrets: names of secrets whose keys become variables: credentials of storage.
        volumes: claims that are mounted: path -> name of the claim.
        cpu, memory: requested; memory is the limit, too.
        scratch: size of the volume for parts and models on their way.
        retries: further tries of a job that failed where another try may help; each goes on where the last one ended.
        seconds: longest that a job may take, all tries together; 0 for any time.
    """

    namespace: str
    image: str
    words: Sequence[str]
    name: str = NAME
    broker: str = ""
    sink: str = ""
    service_account: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    environment_secrets: Sequence[str] = ()
    volumes: Mapping[str, str] = field(default_factory=dict)
    cpu: str = "1"
    memory: str = "2Gi"
    scratch: str = "10Gi"
    retries: int = RETRIES
    seconds: int = 0

    def __post_init__(self) -> None:
        checked_namespace(self.namespace)
        checked_service(self.name)
        if not self.image:
            raise DeployError("no image: --image=REGISTRY/zeroserve:TAG, made from the Dockerfile's target predict")
        for path in self.volumes:
            if not path.startswith("/"):
                raise DeployError(f"volume {path!r}: wanted an absolute path")


def job_sink(wanted: JobSink) -> Manifest:
    """The JobSink with the Job that each event gets."""
    mounts = [{"name": f"claim-{number}", "mountPath": path} for number, path in enumerate(sorted(wanted.volumes))]
    claims = [
        {"name": f"claim-{number}", "persistentVolumeClaim": {"claimName": wanted.volumes[path]}}
        for number, path in enumerate(sorted(wanted.volumes))
    ]
    environment = dict(wanted.environment) | ({"K_SINK": wanted.sink} if wanted.sink else {})
    container: Manifest = {
        "name": "batch",
        "image": wanted.image,
        "args": ["batch", "--event", EVENT_FILE, *wanted.words],
        "env": [{"name": name, "value": value} for name, value in sorted(environment.items())],
        "resources": {
            "requests": {"cpu": wanted.cpu, "memory": wanted.memory},
            "limits": {"memory": wanted.memory},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": security(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *mounts],  # noqa: S108  a volume of its own
    }
    if wanted.environment_secrets:
        container["envFrom"] = [{"secretRef": {"name": name}} for name in wanted.environment_secrets]
    pod: Manifest = {
        "restartPolicy": "Never",
        "enableServiceLinks": False,
        "securityContext": {"fsGroup": security()["runAsUser"]},
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": wanted.scratch}}, *claims],
    }
    if wanted.service_account:
        pod["serviceAccountName"] = wanted.service_account
    spec: Manifest = {
        "completions": 1,
        "parallelism": 1,
        "backoffLimit": wanted.retries,
        "ttlSecondsAfterFinished": KEEP_SECONDS,
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": "batch", "operator": "In", "values": [EXIT_FINAL]},
                },
                # A pod that was moved away is no failed try.
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]
        },
        "template": {"metadata": {"labels": {PART: OWNER}}, "spec": pod},
    }
    if wanted.seconds:
        spec["activeDeadlineSeconds"] = wanted.seconds
    return {
        "apiVersion": "sinks.knative.dev/v1alpha1",
        "kind": "JobSink",
        "metadata": _metadata(wanted),
        "spec": {"job": {"metadata": {"labels": {PART: OWNER}}, "spec": spec}},
    }


def trigger(wanted: JobSink) -> Manifest:
    """Brings the JobSink the events that ask for jobs, and no others."""
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": _metadata(wanted),
        "spec": {
            "broker": wanted.broker,
            "filter": {"attributes": {"type": REQUESTED}},
            "subscriber": {"ref": {"apiVersion": "sinks.knative.dev/v1alpha1", "kind": "JobSink", "name": wanted.name}},
        },
    }


def manifests(wanted: JobSink) -> list[Manifest]:
    """All objects, in the order in which they are applied."""
    return [job_sink(wanted), *([trigger(wanted)] if wanted.broker else [])]


def _metadata(wanted: JobSink) -> Manifest:
    return {"name": wanted.name, "namespace": wanted.namespace, "labels": {PART: OWNER}}
