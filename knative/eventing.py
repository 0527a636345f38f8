"""What makes an upload deploy, as manifests: a Broker, a Trigger, a sweep, the deploy function, and who it may be.

    storage's events -> Broker -> Trigger (by type) -> deploy function (scales to zero) -> Services of this namespace
                                  PingSource (sweep) -^

Pure. What is said here wins over what somebody else wrote into the same fields, and nothing else is touched.

Source: knative/eventing pkg/apis/eventing/v1 (Broker, Trigger), pkg/apis/sources/v1 (PingSource, ContainerSource,
SinkBinding), pkg/apis/duck/v1 (DeliverySpec); docs of Knative Eventing (subscriptions API filters).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from knative.error import DeployError

BROKER = "zeroserve"
FUNCTION = "zeroserve-deploy"
"""Name of the deploy function, of its Trigger, and of its identity: ServiceAccount, Role and RoleBinding."""

SWEEP = "zeroserve-sweep"
SECRET = "zeroserve-events"  # noqa: S105  a name
SECRET_KEY = "secret"  # noqa: S105  a name
WATCH = "zeroserve-watch"
"""Begins the name of a ContainerSource; a digest of what it watches follows."""

PART = "app.kubernetes.io/managed-by"
OWNER = "zeroserve-events"
"""Value of the label `PART` on all that is made here, and our name as field manager. Not the one that services of
models have: the deploy function is no model."""

PORT = 8080
FUNCTION_SECONDS = 300
"""Longest that one event may take."""

RETRIES = 8
BACKOFF = "PT0.5S"
"""Doubled each time: 0.5 s to 64 s, some 2 minutes in all. What takes longer is healed by the sweep."""

PING_TYPE = "dev.knative.sources.ping"
"""Of every PingSource's events: none can give them another type."""

SECRET_FOLDER = "/etc/zeroserve/events"  # noqa: S105  a path
USER = 65532

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Installation:
    """What is to be installed.

    Attributes:
        namespace: where; the function touches services of this one only.
        image: of the deploy function: the Dockerfile's target deploy.
        types: of events that the function gets; one that ends in `*` is a prefix.
        sweep: schedule of the sweep, as of cron; empty for none.
        watch: URLs that get a watcher in the cluster.
        watch_volumes: claims that watchers mount: path -> name of the claim.
        dead_letter: URL that gets the events that could not be delivered; empty for nowhere.
        environment: variables of the function and of the watchers: endpoints of storage.
        environment_secrets: names of secrets whose keys become variables: credentials of storage.
        annotations: of the function's ServiceAccount: workload identity of a cloud.
        audience: of the function's door: the Trigger sends an OIDC token for it, webhooks a secret. Empty: the door is
            open to whatever reaches it, which is the cluster alone.
        max_scale: copies of the function at the same time.
    """

    namespace: str
    image: str
    types: Sequence[str]
    sweep: str = "*/1 * * * *"
    watch: Sequence[str] = ()
    watch_volumes: Mapping[str, str] = field(default_factory=dict)
    dead_letter: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    environment_secrets: Sequence[str] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    audience: str = ""
    max_scale: int = 3

    def __post_init__(self) -> None:
        if not self.image:
            raise DeployError(
                "no image: --image=REGISTRY/zeroserve-deploy:TAG, made from the Dockerfile's target deploy"
            )
        if self.sweep and len(self.sweep.split()) != 5:
            raise DeployError(f"--sweep={self.sweep!r}: wanted five fields as of cron, such as '*/1 * * * *'")


def metadata(name: str, installation: Installation) -> Manifest:
    """Name, place and owner."""
    return {"name": name, "namespace": installation.namespace, "labels": {PART: OWNER}}


def broker(installation: Installation) -> Manifest:
    """Takes all events, and keeps those that could not be delivered from being lost in silence."""
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Broker",
        "metadata": metadata(BROKER, installation),
        "spec": {"delivery": _delivery(installation)},
    }


def trigger(installation: Installation) -> Manifest:
    """Sends the function the events that it understands, and tries again what it answers 503 or 429."""
    subscriber: Manifest = {"ref": _function()}
    if installation.audience:
        subscriber["audience"] = installation.audience
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": metadata(FUNCTION, installation),
        "spec": {
            "broker": BROKER,
            "filters": [{"any": [_filter(kind) for kind in installation.types]}],
            "subscriber": subscriber,
            "delivery": _delivery(installation),
        },
    }


def _filter(kind: str) -> Manifest:
    return {"prefix": {"type": kind[:-1]}} if kind.endswith("*") else {"exact": {"type": kind}}


def _function() -> Manifest:
    return {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": FUNCTION}


def _delivery(installation: Installation) -> Manifest:
    delivery: Manifest = {"retry": RETRIES, "backoffPolicy": "exponential", "backoffDelay": BACKOFF}
    if installation.dead_letter:
        delivery["deadLetterSink"] = {"uri": installation.dead_letter}
    return delivery
