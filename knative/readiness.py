"""Waits for revisions and routes, and says why one does not come: the cluster's reason and the model's own words."""

import time
from collections.abc import Callable, Sequence

from knative.client import Client
from knative.condition import condition, fatal, is_current, is_ready, pod_reasons, probe_reasons
from knative.error import DeployError
from knative.refusal import remedy
from knative.service import PORT, READY_PATH

POLL_SECONDS = 0.5
"""Between two looks at what is awaited."""

MADE_SECONDS = 30.0
"""What the cluster gets to make a revision of a template."""

ROUTE_SECONDS = 60.0
"""What the ingress gets to follow a traffic block."""

FATAL_SECONDS = 20.0
"""How long a reason that waiting does not cure is watched before it is believed: a pull is tried again, and may do."""

TELL_SECONDS = 10.0
"""After so long without news the waiting itself is news."""

Progress = Callable[[str], None]


class NotReadyError(DeployError):
    """A revision is not ready in time, or never will be.

    Attributes:
        revision: its name.
    """

    def __init__(self, revision: str, message: str) -> None:
        super().__init__(message)
        self.revision = revision


class Readiness:
    """What of one namespace is ready.

    Args:
        progress: told in one line what is new.
    """

    def __init__(self, client: Client, namespace: str, progress: Progress) -> None:
        self._client = client
        self._namespace = namespace
        self._progress = progress

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

    def await_made(self, service: str, name: str) -> None:
        """Waits until the cluster has made the revision: a newer template before that would leave it out.

        Raises:
            DeployError: it does not.
        """
        until = time.monotonic() + MADE_SECONDS
        while self._client.revision(self._namespace, name) is None:
            if time.monotonic() > until:
                found = self._client.service(self._namespace, service) or {}
                _, reason, message = condition(found, "ConfigurationsReady")
                raise DeployError(f"revision {name} is not made after {MADE_SECONDS:.0f} s: {reason}: {message}")
            time.sleep(POLL_SECONDS / 5)

    def await_revision(self, name: str, seconds: float) -> None:
        """Waits until a revision is ready, and tells what keeps it.

        Raises:
            NotReadyError: it is not within `seconds`, or never will be.
            DeployError: it was deleted meanwhile.
        """
        started = told_at = time.monotonic()
        told: list[str] = []
        hopeless_since: float | None = None
        seen = False
        self._progress(f"wait for {name}")
        while True:
            entry = self._client.revision(self._namespace, name)
            if entry is not None and is_ready(entry):
                self._progress(f"{name} is ready after {time.monotonic() - started:.1f} s")
                return
            if entry is None and seen:
                raise DeployError(f"revision {name} was deleted by somebody else meanwhile")
            seen = entry is not None
            reasons = self.reasons(name)
            now = time.monotonic()
            for line in reasons:
                if line not in told:
                    told.append(line)
                    told_at = now
                    self._progress(f"  {line}")
            if now - told_at > TELL_SECONDS:
                told_at = now
                self._progress(f"  {now - started:.0f} s: {_state(entry)}")
            # Between two crashes a container runs for a moment, and how it ended before is all that tells.
            hopeless_again = fatal(reasons) or (hopeless_since is not None and any(" (exit " in one for one in reasons))
            hopeless_since = (hopeless_since or now) if hopeless_again else None
            hopeless = hopeless_since is not None and now - hopeless_since > FATAL_SECONDS
            if condition(entry or {})[0] == "False" or now - started > seconds or hopeless:
                why = "; ".join(reasons or told) or _state(entry)
                raise NotReadyError(name, f"revision {name} is not ready after {now - started:.0f} s: {why}")
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
            if service and is_current(service) and status == "True":
                return
            if time.monotonic() - started > seconds:
                warned = self._client.warnings(self._namespace, "Ingress", name)[-1:]
                why = ": ".join([reason, message, *warned, *filter(None, map(remedy, warned))])
                raise DeployError(f"service {name} has no route after {seconds:.0f} s: {why}")
            time.sleep(POLL_SECONDS)


def _state(entry: object) -> str:
    if not isinstance(entry, dict):
        return "it does not exist"
    said: Sequence[str] = [one for one in condition(entry)[1:] if one]
    return ": ".join(said) or "its pod is starting"
