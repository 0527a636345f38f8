"""The declarations of a namespace, and where their models lie; the claim on a service's first revision."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from events.place import Place, place_of
from knative import keys
from knative.client import Client
from knative.declaration import declaration_of
from knative.error import DeployError
from knative.service import Version

CLAIM_MANAGER = "zeroserve-landing"
"""Field manager of the claim."""

_log = logging.getLogger("zeroserve.landing")


@dataclass(frozen=True, slots=True)
class Declared:
    """One declaration, as far as events are matched with it.

    Attributes:
        service: its name.
        base: where the versions of its model lie.
    """

    service: str
    base: Place


def read_declared(client: Client, namespace: str) -> tuple[Declared, ...]:
    """Every declaration of a namespace. One that cannot be read is logged and left out: the others matter no less.

    Raises:
        DeployError: the cluster cannot be asked.
    """
    found = []
    for config in client.config_maps(namespace):
        try:
            declaration = declaration_of(config)
        except DeployError as error:
            _log.warning("ConfigMap %s: %s", config["metadata"]["name"], error)
            continue
        if declaration is not None:
            found.append(Declared(declaration.deployment.name, place_of(declaration.deployment.url)))
    return tuple(found)


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
