"""What acts: reads a service, carries a plan out, and says why a revision does not become ready."""

import time
from collections.abc import Callable, Mapping, Sequence

from knative.client import Client
from knative.condition import condition, fatal, is_current, is_ready, pod_reasons, probe_reasons
from knative.error import DeployError
from knative.names import version_tag
from knative.observation import ServiceStatus, observed, service_status
from knative.rollout import AwaitReady, CreateRevision, Observed, SetTraffic, Step
from knative.service import PORT, READY_PATH, Deployment, Version, manifest, traffic_patch
from knative.traffic import Traffic, in_words

POLL_SECONDS = 0.5
"""Between two looks at a revision that is awaited."""

ROUTE_SECONDS = 60.0
"""What the ingress gets to follow a traffic block."""

FATAL_SECONDS = 20.0
"""How long a reason that waiting does not cure is watched before it is believed: a pull is tried again, and may do."""

Progress = Callable[[str], None]


class Deployer:
    """Services of one namespace.

    Args:
        client: of the cluster.
        progress: told in one line what is being done.
    """

    def __init__(self, client: Client, namespace: str, progress: Progress) -> None:
        self._client = client
        self._namespace = namespace
        self._progress = progress

    def observe(self, name: str) -> Observed:
        """A service as a plan sees it."""
        service = self._client.service(self._namespace, name)
        return observed(service, self._client.revisions(self._namespace, name) if service else ())

    def status(self, name: str) -> ServiceStatus:
        """A service as people see it, with the pods' reasons.

        Raises:
            DeployError: there is no such service.
        """
        service = self._client.service(self._namespace, name)
        if service is None:
            raise DeployError(
                f"no service {name!r} in namespace {self._namespace!r}: zeroserve list shows those there are"
            )
        return service_status(service, self._client.revisions(self._namespace, name))

    def run(
        self,
        deployment: Deployment,
        versions: Mapping[int, Version],
        steps: Sequence[Step],
        *,
        keep_owner: bool,
        seconds: float,
    ) -> None:
        """Carries a plan out.

        Args:
            deployment: what its revisions are made from.
            versions: by their numbers.
            keep_owner: the traffic is somebody else's, and is not noted as ours.
            seconds: what a revision gets to become ready.

        Raises:
            DeployError: a revision is not ready in time, or never will be; traffic stays where it was.
        """
        for step in steps:
            match step:
                case CreateRevision(name, version, traffic):
                    self._progress(f"create revision {name}")
                    self._client.apply(manifest(deployment, versions[version], traffic, ours=not keep_owner))
                case AwaitReady(name):
                    self._await_revision(name, seconds)
                case SetTraffic(traffic):
                    self.set_traffic(deployment.name, traffic, ours=not keep_owner)
        self.await_service(deployment.name)

    def set_traffic(self, name: str, traffic: Traffic, *, ours: bool = True) -> None:
        """Writes the traffic block."""
        self._progress(f"traffic: {in_words(traffic)}")
        service = self._client.service(self._namespace, name) or {"metadata": {"resourceVersion": ""}}
        self._client.patch(
            self._namespace,
            name,
            traffic_patch(traffic, ours=ours),
            resource_version=service["metadata"]["resourceVersion"],
        )

    def reasons(self, revision: str) -> list[str]:
        """Why a revision's pods are not ready: the cluster's reason, and what the model itself says."""
        found = []
        for pod in self._client.pods(self._namespace, revision):
            if pod["metadata"].get("deletionTimestamp"):
                continue
            found += pod_reasons(pod)
            if pod.get("status", {}).get("phase") == "Running":
                name = pod["metadata"]["name"]
                found += probe_reasons(self._client.ask_pod(self._namespace, name, PORT, READY_PATH))
        return list(dict.fromkeys(found))

    def _await_revision(self, name: str, seconds: float) -> None:
        started = time.monotonic()
        told: list[str] = []
        hopeless_since: float | None = None
        self._progress(f"wait for {name}")
        while True:
            entry = self._client.revision(self._namespace, name)
            if entry is not None and is_ready(entry):
                self._progress(f"{name} is ready after {time.monotonic() - started:.1f} s")
                return
            reasons = self.reasons(name)
            status, reason, message = condition(entry or {})
            for line in reasons:
                if line not in told:
                    told.append(line)
                    self._progress(f"  {line}")
            now = time.monotonic()
            hopeless_since = (hopeless_since or now) if fatal(reasons) else None
            if (
                status == "False"
                or now - started > seconds
                or (hopeless_since and now - hopeless_since > FATAL_SECONDS)
            ):
                why = "; ".join(reasons or told) or f"{reason}: {message}".strip(": ") or "no reason is given"
                raise DeployError(f"revision {name} is not ready after {now - started:.0f} s: {why}")
            time.sleep(POLL_SECONDS)

    def await_service(self, name: str, seconds: float = ROUTE_SECONDS) -> None:
        """Waits until the ingress does what the traffic block says.

        Raises:
            DeployError: it does not in time.
        """
        started = time.monotonic()
        while True:
            service = self._client.service(self._namespace, name) or {}
            status, reason, message = condition(service, "RoutesReady")
            if is_current(service) and status == "True":
                return
            if time.monotonic() - started > seconds:
                raise DeployError(f"service {name} has no route after {seconds:.0f} s: {reason}: {message}")
            time.sleep(POLL_SECONDS)


def kn_commands(deployment: Deployment, steps: Sequence[Step]) -> list[str]:
    """What `kn` would be asked for the traffic of a plan; revisions come from `-o yaml`."""
    commands = []
    for step in steps:
        match step:
            case CreateRevision(name, version, _):
                commands.append(f"kubectl apply --server-side -f {version_tag(version)}.yaml  # {name}")
            case AwaitReady(name):
                commands.append(f"kubectl wait --for=condition=Ready -n {deployment.namespace} revision/{name}")
            case SetTraffic(traffic):
                commands.append(kn_traffic(deployment.name, deployment.namespace, traffic))
    return commands


def kn_traffic(service: str, namespace: str, traffic: Traffic) -> str:
    """The `kn` command that writes a block."""
    words = [f"kn service update {service} -n {namespace}"]
    words += [f"--tag {target.revision}={target.tag}" for target in traffic if target.tag]
    words += [f"--traffic {target.tag or target.revision}={target.percent}" for target in traffic if target.percent]
    return " ".join(words)
