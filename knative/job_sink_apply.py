"""What acts: applies and removes a JobSink and its Trigger. Not safe for several threads, as its client."""

from http import HTTPStatus
from urllib.parse import quote

from knative.client import ApiError, Client
from knative.error import DeployError
from knative.job_sink import OWNER, PART, Manifest

_KINDS = {
    "Trigger": ("eventing.knative.dev/v1", "triggers"),
    "JobSink": ("sinks.knative.dev/v1alpha1", "jobsinks"),
}
"""Kind -> API and the word in its path, in the order in which they are taken away: senders before receivers."""


def apply(client: Client, manifest: Manifest, *, dry_run: bool = False) -> None:
    """Server-side apply; doing it again changes nothing.

    Raises:
        DeployError: the cluster refuses it.
    """
    query = {"fieldManager": OWNER, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
    metadata = manifest["metadata"]
    path = _path(manifest["kind"], metadata["namespace"], metadata["name"])
    try:
        client.json("PATCH", path, query, manifest, "application/apply-patch+yaml")
    except ApiError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            raise DeployError(
                f"the cluster knows no {manifest['kind']} of {manifest['apiVersion']}, or has no namespace "
                f"{metadata['namespace']!r}: install Knative Eventing 1.15 or newer, make the namespace"
            ) from None
        raise


def installed(client: Client, namespace: str) -> list[tuple[str, str]]:
    """Kind and name of all objects that carry our label, in the order in which they are to be removed."""
    found = []
    for kind in _KINDS:
        try:
            listed = client.json("GET", _path(kind, namespace, ""), {"labelSelector": f"{PART}={OWNER}"})
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            continue  # the cluster does not know this kind
        found += [(kind, entry["metadata"]["name"]) for entry in listed.get("items") or []]
    return found


def address(client: Client, namespace: str, name: str) -> str:
    """Where the JobSink takes events; empty while it does not."""
    try:
        found = client.json("GET", _path("JobSink", namespace, name))
    except ApiError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return ""
        raise
    url: str = found.get("status", {}).get("address", {}).get("url", "")
    return url


def remove(client: Client, namespace: str, kind: str, name: str) -> None:
    """Deletes an object; one that is gone already is fine. Jobs that run end with their JobSink."""
    try:
        client.json("DELETE", _path(kind, namespace, name))
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise


def _path(kind: str, namespace: str, name: str) -> str:
    api, plural = _KINDS[kind]
    folder = f"/apis/{api}/namespaces/{quote(namespace, safe='')}/{plural}"
    return f"{folder}/{quote(name, safe='')}" if name else folder
