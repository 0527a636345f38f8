"""The pods of a revision, asked through the API server: no address of a pod need be reachable."""

from typing import Any

from events.health_counts import MAX_PODS, Counters, counters
from knative.client import Client
from knative.service import PORT

OK = 200
METRICS_PATH = "/monitoring/prometheus/metrics"
"""Where a predict pod shows its metrics, unless a monitoring config moved them."""


def read_pods(client: Client, namespace: str, revision: str, model: str) -> dict[str, Counters]:
    """Pod -> its counters, of those that run and answer.

    Raises:
        DeployError: the cluster cannot be asked.
    """
    found = {}
    for pod in client.pods(namespace, revision)[:MAX_PODS]:
        if pod.get("status", {}).get("phase") != "Running":
            continue
        name = pod["metadata"]["name"]
        text = client.ask_pod(namespace, name, PORT, METRICS_PATH)
        if text:
            found[_short(pod)] = counters(text, model)
    return found


def ask_running(client: Client, namespace: str, revision: str, path: str) -> bytes:
    """What the first of a revision's running pods answers to a GET with 200; empty where none does.

    Raises:
        DeployError: the cluster cannot be asked.
    """
    for pod in client.pods(namespace, revision)[:MAX_PODS]:
        if pod.get("status", {}).get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp"):
            status, body = client.pod_answer(namespace, pod["metadata"]["name"], PORT, path)
            if status == OK:
                return body
    return b""


def restarts(client: Client, namespace: str, revision: str) -> int:
    """How often containers of the revision's pods began again.

    Raises:
        DeployError: the cluster cannot be asked.
    """
    return sum(
        int(status.get("restartCount", 0))
        for pod in client.pods(namespace, revision)
        for status in pod.get("status", {}).get("containerStatuses") or ()
    )


def _short(pod: dict[str, Any]) -> str:
    """Tells pods apart, as long as a rollout lasts, in few characters."""
    uid: str = pod["metadata"].get("uid", "")
    return uid[:13] or pod["metadata"]["name"]
