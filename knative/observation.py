"""A service on a cluster as a value: what was read, in the words of `rollout`. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from knative import keys
from knative.condition import condition, is_ready
from knative.names import version_of
from knative.rollout import Observed
from knative.traffic import from_json, from_text


def observed(service: Mapping[str, Any] | None, revisions: Sequence[Mapping[str, Any]]) -> Observed:
    """What a plan starts from.

    Args:
        service: Knative's Service, or None where there is none.
        revisions: its Revisions.
    """
    if service is None:
        return Observed({})
    written = service["metadata"].get("annotations", {}).get(keys.TRAFFIC)
    return Observed(
        {entry["metadata"]["name"]: is_ready(entry) for entry in revisions},
        from_json(service["spec"].get("traffic") or ()),
        from_text(written) if written else None,
    )


@dataclass(frozen=True, slots=True)
class RevisionStatus:
    """One revision for people.

    Attributes:
        version: None for one that we did not name.
        tags: tag -> URL.
        reasons: why it is not ready; empty when it is.
    """

    name: str
    version: int | None
    ready: bool
    percent: int
    tags: Mapping[str, str]
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One service for people.

    Attributes:
        url: of the service; empty while it has none.
        model, source: name of the model, and where its versions lie.
        revisions: those that get traffic or have a tag, and the one made last; highest version first.
        changed_by_others: somebody else wrote the traffic.
    """

    name: str
    namespace: str
    url: str
    model: str
    source: str
    ready: bool
    changed_by_others: bool
    revisions: tuple[RevisionStatus, ...]


def service_status(service: Mapping[str, Any], revisions: Sequence[Mapping[str, Any]]) -> ServiceStatus:
    """What a Service and its Revisions say about themselves."""
    meta, status = service["metadata"], service.get("status", {})
    annotations = meta.get("annotations", {})
    latest = status.get("latestCreatedRevisionName", "")
    targets = status.get("traffic") or ()
    rows = []
    for entry in revisions:
        name = entry["metadata"]["name"]
        mine = [target for target in targets if target.get("revisionName") == name]
        if not mine and name != latest:
            continue
        ready = is_ready(entry)
        _, reason, message = condition(entry)
        rows.append(
            RevisionStatus(
                name,
                version_of(meta["name"], name),
                ready,
                sum(target.get("percent") or 0 for target in mine),
                {target["tag"]: target.get("url", "") for target in mine if target.get("tag")},
                () if ready or not reason else (f"{reason}: {message}",),
            )
        )
    rows.sort(key=lambda row: (row.version if row.version is not None else -1, row.name), reverse=True)
    return ServiceStatus(
        meta["name"],
        meta["namespace"],
        status.get("url", ""),
        annotations.get(keys.MODEL, ""),
        annotations.get(keys.URL, ""),
        is_ready(service),
        observed(service, revisions).changed_by_others,
        tuple(rows),
    )
