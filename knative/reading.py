"""A service as it was read at one moment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from knative.client import Client
from knative.names import config_map_name
from knative.observation import observed
from knative.rollout import Observed


@dataclass(frozen=True, slots=True)
class Reading:
    """What the cluster has of a service.

    Attributes:
        resource: Knative's Service; None where there is none.
        revisions: its Revisions.
        observed: the same for plans.
        config: its ConfigMap; None where there is none.
    """

    resource: Mapping[str, Any] | None
    revisions: Sequence[Mapping[str, Any]]
    observed: Observed
    config: Mapping[str, Any] | None

    @property
    def version(self) -> str:
        """The Service's resourceVersion; empty where there is none."""
        found: str = (self.resource or {}).get("metadata", {}).get("resourceVersion", "")
        return found


def read(client: Client, namespace: str, name: str) -> Reading:
    """A service as it is now.

    Raises:
        DeployError: the cluster cannot be asked.
    """
    resource = client.service(namespace, name)
    revisions = client.revisions(namespace, name) if resource else ()
    config = client.config_map(namespace, config_map_name(name))
    return Reading(resource, revisions, observed(resource, revisions), config)
