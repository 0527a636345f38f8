"""What acts: applies, finds and removes the objects of an installation. Not safe for several threads, as its client.

Source: kubernetes.io/docs/reference/using-api/server-side-apply.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from knative.client import ApiError, Client
from knative.condition import condition, fatal, is_current, pod_reasons
from knative.error import DeployError
from knative.eventing import BROKER, FUNCTION, OWNER, PART, SECRET, SWEEP, Installation, Manifest, broker, trigger
from knative.eventing_function import function, role, role_binding, secret, service_account
from knative.eventing_sources import binding, ping, watcher

SECRET_BYTES = 32

NUDGED = "zeroserve.dev/nudged"
"""On the Trigger: when it was last asked to be looked at again, in seconds since 1970."""

FEATURES = "/api/v1/namespaces/knative-eventing/configmaps/config-features"
"""Where Eventing's switches are."""

_SERVING = "serving.knative.dev/v1"
_EVENTING = "eventing.knative.dev/v1"
_SOURCES = "sources.knative.dev/v1"
_RBAC = "rbac.authorization.k8s.io/v1"

_KINDS = {
    "ContainerSource": (_SOURCES, "containersources"),
    "PingSource": (_SOURCES, "pingsources"),
    "SinkBinding": (_SOURCES, "sinkbindings"),
    "Trigger": (_EVENTING, "triggers"),
    "Broker": (_EVENTING, "brokers"),
    "Service": (_SERVING, "services"),
    "Secret": ("v1", "secrets"),
    "RoleBinding": (_RBAC, "rolebindings"),
    "Role": (_RBAC, "roles"),
    "ServiceAccount": ("v1", "serviceaccounts"),
}
"""Kind -> API and the word in its path, in the order in which they are taken away: senders before receivers."""

_ALWAYS = {
    "PingSource": SWEEP,
    "SinkBinding": FUNCTION,
    "Trigger": FUNCTION,
    "Broker": BROKER,
    "Service": FUNCTION,
    "RoleBinding": FUNCTION,
    "Role": FUNCTION,
    "ServiceAccount": FUNCTION,
}
"""What an installation has, whatever else was asked for."""

_OPTIONAL = ("PingSource", "ContainerSource")
"""Kinds of which a later installation may want fewer: those left over are removed."""

_SILENT = frozenset({"Role", "RoleBinding", "Secret", "ServiceAccount"})
"""Kinds without a status."""


@dataclass(frozen=True, slots=True)
class Part:
    """One object of the installation as it is.

    Attributes:
        kind, name: of the object.
        there: whether it exists.
        ready: whether it says so; objects that say nothing are ready once they are there.
        reason: why not, in one line.
        fatal: whether waiting longer is of no use.
    """

    kind: str
    name: str
    there: bool
    ready: bool
    reason: str
    fatal: bool = False


def new_secret() -> str:
    """A secret that nobody can guess."""
    return secrets.token_urlsafe(SECRET_BYTES)


def manifests(installation: Installation, secret_value: str) -> list[Manifest]:
    """All objects, in the order in which they are applied; without the Secret where `secret_value` is empty."""
    found = [service_account(installation), role(installation), role_binding(installation)]
    if secret_value:
        found.append(secret(installation, secret_value))
    # The binding comes before the function, which would otherwise get another revision by it.
    found += [broker(installation), binding(installation), function(installation), trigger(installation)]
    if installation.sweep:
        found.append(ping(installation))
    return found + [watcher(installation, url) for url in dict.fromkeys(installation.watch)]


def apply(client: Client, manifest: Manifest) -> None:
    """Server-side apply; doing it again changes nothing.

    Raises:
        DeployError: the cluster refuses it.
    """
    query = {"fieldManager": OWNER, "force": "true"}
    try:
        client.json("PATCH", _path_of(manifest), query, manifest, "application/apply-patch+yaml")
    except ApiError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            raise DeployError(
                f"the cluster knows no {manifest['kind']} of {manifest['apiVersion']}, or has no namespace "
                f"{manifest['metadata']['namespace']!r}: install Knative Serving and Eventing, make the namespace"
            ) from None
        raise


def nudge(client: Client, namespace: str) -> None:
    """Makes the controller look at the Trigger again: one that was made before the function had an address is not
    looked at when it gets one.
    """
    note = {"metadata": {"annotations": {NUDGED: str(int(time.time()))}}}
    path = _path("Trigger", namespace, FUNCTION)
    client.json("PATCH", path, {"fieldManager": OWNER}, note, "application/merge-patch+json")


def installed(client: Client, namespace: str) -> list[Manifest]:
    """All objects that carry our label, in the order in which they are to be removed."""
    return [
        {"apiVersion": api, "kind": kind, "metadata": entry["metadata"]}
        for kind, (api, _) in _KINDS.items()
        for entry in _list(client, kind, namespace)
    ]


def left_over(client: Client, namespace: str, documents: Sequence[Manifest]) -> list[Manifest]:
    """Sources of an installation before this one that it no longer wants."""
    wanted = {(one["kind"], one["metadata"]["name"]) for one in documents}
    return [
        {"apiVersion": _KINDS[kind][0], "kind": kind, "metadata": entry["metadata"]}
        for kind in _OPTIONAL
        for entry in _list(client, kind, namespace)
        if (kind, entry["metadata"]["name"]) not in wanted
    ]


def remove(client: Client, manifest: Manifest) -> None:
    """Deletes an object; one that is gone already is fine."""
    try:
        client.json("DELETE", _path_of(manifest))
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise


def parts(client: Client, namespace: str) -> list[Part]:
    """What an installation always has, and the watchers and the secret that this one has."""
    names = [*_ALWAYS.items()]
    for kind in ("Secret", "ContainerSource"):
        names += [(kind, entry["metadata"]["name"]) for entry in _list(client, kind, namespace)]
    return [part(client, kind, namespace, name) for kind, name in names]


def part(client: Client, kind: str, namespace: str, name: str) -> Part:
    """One object as it is on the cluster."""
    found = _get(client, kind, namespace, name)
    if found is None:
        return Part(kind, name, there=False, ready=False, reason="")
    if kind in _SILENT:
        return Part(kind, name, there=True, ready=True, reason="")
    state, reason, message = condition(found)
    if state == "True" and is_current(found):
        return Part(kind, name, there=True, ready=True, reason="")
    reasons = _pod_reasons(client, namespace, found) if kind == "Service" else []
    text = "; ".join(reasons) or f"{reason}: {message}".strip(": ")
    return Part(kind, name, there=True, ready=False, reason=" ".join(text.split()), fatal=fatal(reasons))


def _pod_reasons(client: Client, namespace: str, service: Mapping[str, Any]) -> list[str]:
    """What keeps the newest revision's pods from running."""
    revision = service.get("status", {}).get("latestCreatedRevisionName", "")
    pods = client.pods(namespace, revision) if revision else []
    return [reason for pod in pods if not pod["metadata"].get("deletionTimestamp") for reason in pod_reasons(pod)]


def address(client: Client, namespace: str) -> str:
    """Where the Broker takes events; empty while it does not."""
    found = _get(client, "Broker", namespace, BROKER)
    url: str = (found or {}).get("status", {}).get("address", {}).get("url", "")
    return url


def proves_senders(client: Client) -> bool:
    """Whether Eventing gives its senders tokens that say who they are.

    Source: knative.dev/docs/eventing/features/sender-identity.
    """
    try:
        found = client.json("GET", FEATURES)
    except ApiError as error:
        if error.status in {HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN}:
            return False
        raise
    return str((found.get("data") or {}).get("authentication-oidc", "")).lower() == "enabled"


def has_secret(client: Client, namespace: str) -> bool:
    """Whether there is one already: it stays, webhooks are set up with it."""
    return _get(client, "Secret", namespace, SECRET) is not None


def _get(client: Client, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
    try:
        return client.json("GET", _path(kind, namespace, name))
    except ApiError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise


def _list(client: Client, kind: str, namespace: str) -> list[dict[str, Any]]:
    try:
        found = client.json("GET", _path(kind, namespace), {"labelSelector": f"{PART}={OWNER}"})
    except ApiError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return []  # the cluster does not know this kind
        raise
    items: list[dict[str, Any]] = found.get("items") or []
    return items


def _path_of(manifest: Manifest) -> str:
    return _path(manifest["kind"], manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def _path(kind: str, namespace: str, name: str = "") -> str:
    api, plural = _KINDS[kind]
    group = f"/apis/{api}" if "/" in api else f"/api/{api}"
    folder = f"{group}/namespaces/{quote(namespace, safe='')}/{plural}"
    return f"{folder}/{quote(name, safe='')}" if name else folder
