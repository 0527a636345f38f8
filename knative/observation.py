"""A service on a cluster as a value: what was read, in the words of `rollout`."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from knative import keys
from knative.condition import condition, is_ready
from knative.declaration import Declaration
from knative.names import version_of
from knative.policy import policy_text
from knative.progression import in_words as rollout_in_words
from knative.progression import noted
from knative.rollout import Observed
from knative.traffic import Traffic, from_json, from_text


def observed(service: Mapping[str, Any] | None, revisions: Sequence[Mapping[str, Any]]) -> Observed:
    """What a plan starts from.

    Args:
        service: Knative's Service, or None where there is none.
        revisions: its Revisions.
    """
    if service is None:
        return Observed({})
    annotations = service["metadata"].get("annotations", {})
    name = service["metadata"]["name"]
    return Observed(
        {entry["metadata"]["name"]: is_ready(entry) for entry in revisions},
        from_json(service["spec"].get("traffic") or ()),
        _written(annotations.get(keys.TRAFFIC)),
        annotations.get(keys.PREVIOUS, ""),
        frozenset(entry["metadata"]["name"] for entry in revisions if _is_ours(name, entry)),
        service["spec"].get("template", {}).get("metadata", {}).get("name", ""),
    )


def _written(note: str | None) -> Traffic | None:
    try:
        return from_text(note) if note else None
    except (ValueError, TypeError, AttributeError):
        return None  # somebody wrote into our note: then the traffic is nobody's


def _is_ours(service: str, revision: Mapping[str, Any]) -> bool:
    # kn copies a template with its annotations, so the name has to be ours as well.
    name = revision["metadata"]["name"]
    return version_of(service, name) is not None and keys.VERSION in revision["metadata"].get("annotations", {})


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
        traffic_owner: who wrote it last, by their name as field manager: `zeroserve`, `kn`, `kubectl-edit`.
        declared: which versions, how they roll out and who is sticky, in words.
        rollout: how far a rollout in steps has come, in words.
        landing: what keeps a version in storage from being served.
    """

    name: str
    namespace: str
    url: str
    model: str
    source: str
    ready: bool
    changed_by_others: bool
    revisions: tuple[RevisionStatus, ...]
    traffic_owner: str = ""
    declared: str = ""
    rollout: str = ""
    landing: str = ""


def service_status(
    service: Mapping[str, Any],
    revisions: Sequence[Mapping[str, Any]],
    declaration: Declaration | None = None,
) -> ServiceStatus:
    """What a Service and its Revisions say about themselves, beside what was declared."""
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
        traffic_owner(service),
        _in_words(declaration) if declaration else "",
        rollout_in_words(progress, time.time()) if (progress := noted(service)) else "",
        annotations.get(keys.LANDING, ""),
    )


def traffic_owner(service: Mapping[str, Any]) -> str:
    """Who set the traffic, as far as the cluster knows: the one who is noted, else who wrote it last.

    Source: kubernetes.io/docs/reference/using-api/server-side-apply (managedFields).
    """
    noted_owner: str = (service["metadata"].get("annotations") or {}).get(keys.OWNER, "")
    if noted_owner:
        return noted_owner
    owners = [
        (entry.get("time", ""), entry.get("manager", ""))
        for entry in service["metadata"].get("managedFields") or ()
        if "f:traffic" in (entry.get("fieldsV1") or {}).get("f:spec", {})
    ]
    return max(owners, default=("", ""))[1]


def _in_words(declaration: Declaration) -> str:
    words = [declaration.versions, policy_text(declaration.rollout) or "new versions get all traffic"]
    if declaration.sticky:
        words.append(f"sticky by {declaration.sticky.kind} {declaration.sticky.name}")
    if declaration.shadow:
        words.append(f"{declaration.shadow.percent:g}% shadowed to version {declaration.shadow.version}")
    words += [f"{label}={version}" for label, version in sorted(declaration.labels.items())]
    return ", ".join(words)
