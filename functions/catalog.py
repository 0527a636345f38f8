"""What is served now, for people: models, versions with their states, labels, signatures.

The page and the OpenAPI document are two views of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from functions.client.signature_choice import runnable
from loader.manager import ServableManager
from loader.servable import ModelSpec, State
from loader.signature import Signature
from loader.status import ServingError


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """One version of a model.

    Attributes:
        state: the state's name, `AVAILABLE`.
        problem: why it is not there; empty while all is well.
        labels: the labels that point at it, sorted.
        signatures: by name; empty unless it is AVAILABLE.
    """

    version: int
    state: str
    problem: str
    labels: tuple[str, ...]
    signatures: Mapping[str, Signature]


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model; its versions with the highest first."""

    name: str
    versions: tuple[VersionEntry, ...]


def read_catalog(manager: ServableManager) -> list[ModelEntry]:
    """All models by name, as they are at this moment. Safe from any thread."""
    entries = []
    for name in sorted(manager.names()):
        labels = manager.labels(name)
        try:
            statuses = manager.statuses(name)
        except ServingError:
            statuses = []
        versions = tuple(
            VersionEntry(
                status.version,
                status.state.name,
                status.error.message if status.error else "",
                tuple(sorted(label for label, version in labels.items() if version == status.version)),
                _signatures(manager, name, status.version) if status.state is State.AVAILABLE else {},
            )
            for status in statuses
        )
        entries.append(ModelEntry(name, versions))
    return entries


def _signatures(manager: ServableManager, name: str, version: int) -> Mapping[str, Signature]:
    try:
        with manager.handle(ModelSpec(name, version)) as handle:
            return runnable(handle.servable.model.signatures)
    except ServingError:  # unloaded since its status was read
        return {}
