"""The declarations of a namespace, and where their models lie; what landing writes on their ConfigMaps."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from events.place import Place, place_of
from knative import keys
from knative.client import Client
from knative.declaration import DECLARATION_KEY, declaration_of
from knative.error import DeployError
from knative.names import config_map_name
from knative.service import Version

CLAIM_MANAGER = "zeroserve-landing"
"""Field manager of the claim."""

NOTE_MANAGER = "zeroserve-landing-note"
"""Field manager of the note."""

_log = logging.getLogger("zeroserve.landing")


@dataclass(frozen=True, slots=True)
class Declared:
    """One declaration, as far as events are matched with it.

    Attributes:
        service: its name.
        base: where the versions of its model lie; None where a declaration that makes no sense does not even say that.
    """

    service: str
    base: Place | None


def read_declared(client: Client, namespace: str) -> tuple[Declared, ...]:
    """Every declaration of a namespace. One that makes no sense is among them: a look at its service says so there.

    Raises:
        DeployError: the cluster cannot be asked.
    """
    found: list[Declared] = []
    for config in client.config_maps(namespace):
        try:
            declaration = declaration_of(config)
        except DeployError as error:
            _log.warning("ConfigMap %s: %s", config["metadata"]["name"], error)
            found += _unreadable(config)
            continue
        if declaration is not None:
            found.append(Declared(declaration.deployment.name, place_of(declaration.deployment.url)))
    return tuple(found)


def _unreadable(config: Mapping[str, Any]) -> tuple[Declared, ...]:
    """A declaration that makes no sense, as far as it says whose it is."""
    service = (config["metadata"].get("labels") or {}).get(keys.SERVICE_LABEL, "")
    if not service or config_map_name(service) != config["metadata"]["name"]:
        return ()
    try:
        url = json.loads(config["data"][DECLARATION_KEY])["deployment"]["url"]
    except (ValueError, TypeError, LookupError, RecursionError):
        url = None
    return (Declared(service, place_of(url) if isinstance(url, str) else None),)


def noted_text(config: Mapping[str, Any]) -> str:
    """What is wrong with a service that does not exist yet, as its ConfigMap says; empty for nothing."""
    return str((config.get("metadata", {}).get("annotations") or {}).get(keys.LANDING, ""))


def write_note(client: Client, config: Mapping[str, Any], text: str) -> None:
    """Writes it there; an empty text takes it away.

    Raises:
        ConflictError: somebody else changed the ConfigMap: read again.
    """
    meta = config["metadata"]
    annotations = {"annotations": {keys.LANDING: text}} if text else {}
    note = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": meta["name"], "namespace": meta["namespace"], **annotations},
    }
    client.apply_config_map(note, NOTE_MANAGER, resource_version=meta["resourceVersion"])


def first_claim(config: Mapping[str, Any], version: int) -> str:
    """The fingerprint with which somebody is making the first revision of a service of this version; empty for none.

    A Service that does not exist has no resourceVersion to hold on to; the ConfigMap that declares it has. Without the
    claim, two functions that list a version a moment apart, a late file between them, would make two revisions.
    """
    claim = (config["metadata"].get("annotations") or {}).get(keys.FIRST, "")
    claimed, _, fingerprint = claim.partition(" ")
    return fingerprint if claimed == str(version) else ""


def write_claim(client: Client, config: Mapping[str, Any], version: Version) -> None:
    """Claims the first revision.

    Raises:
        ConflictError: somebody else changed the ConfigMap: read again.
    """
    meta = config["metadata"]
    annotations = {keys.FIRST: f"{version.number} {version.fingerprint}"}
    claim = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": meta["name"], "namespace": meta["namespace"], "annotations": annotations},
    }
    client.apply_config_map(claim, CLAIM_MANAGER, resource_version=meta["resourceVersion"])
