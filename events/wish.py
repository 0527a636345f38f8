"""From what landed and what stands to the wish that a plan carries out: pure.

A version has landed once it has a revision, or is what the Service's template asks the cluster to make one of.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from knative import keys
from knative.condition import condition, is_ready
from knative.names import version_of, version_tag
from knative.policy import AllAtOnce, Policy
from knative.rollout import Observed, Pin, Wanted, deployed
from knative.traffic import shares


@dataclass(frozen=True, slots=True)
class Landed:
    """One version as the cluster has it.

    Attributes:
        revision: its name.
        fingerprint: of the bytes it was made for.
        ready: whether it is.
        failed: why it is not and, as things are, never will be; empty where it is ready or may become so.
    """

    revision: str
    fingerprint: str
    ready: bool = False
    failed: str = ""


def landed(
    service: str, resource: Mapping[str, Any] | None, revisions: Sequence[Mapping[str, Any]]
) -> dict[int, Landed]:
    """Version -> its revision; of several, the one that its own tag addresses, else the one that was made last.

    A version whose every revision failed, and has no traffic, has not landed: its files may be replaced.

    Args:
        service: its name.
        resource: Knative's Service, or None where there is none.
        revisions: its Revisions.
    """
    if resource is None:
        return {}
    tags = {entry.get("tag"): entry.get("revisionName") for entry in resource["spec"].get("traffic") or ()}
    serving = {entry.get("revisionName") for entry in resource["spec"].get("traffic") or () if entry.get("percent")}
    found: dict[int, Landed] = {}
    ordered = sorted(revisions, key=lambda entry: entry["metadata"].get("creationTimestamp", ""))
    known = {entry["metadata"]["name"] for entry in ordered}
    template = resource["spec"].get("template", {})
    if template.get("metadata", {}).get("name") not in known:
        ordered.append(template)
    for entry in ordered:
        name = entry.get("metadata", {}).get("name", "")
        version = version_of(service, name)
        if version is None:
            continue
        one = Landed(
            name, entry["metadata"].get("annotations", {}).get(keys.FINGERPRINT, ""), is_ready(entry), _failed(entry)
        )
        if one.failed and name not in serving:
            continue
        now = found.get(version)
        if now is None or tags.get(version_tag(version)) != now.revision:
            found[version] = one
    return found


def failures(service: str, revisions: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Revision -> why it failed, of those of ours that did."""
    found = {}
    for entry in revisions:
        name = entry["metadata"]["name"]
        if version_of(service, name) is not None and (text := _failed(entry)):
            found[name] = text
    return found


def usable(service: str, names: Mapping[int, str], observed: Observed) -> dict[int, str]:
    """Version -> revision, of those that may have traffic: they are ready, or have some and were ready once.

    A revision that stumbles while it serves keeps its traffic: moving it away is a decision, not an accident.

    Args:
        service: its name.
        names: version -> revision, of those that storage and policy choose.
        observed: what stands.
    """
    serving, addressed = shares(observed.traffic), deployed(service, observed.traffic)
    return {
        version: name
        for version, name in names.items()
        if observed.revisions.get(name) or (serving.get(name) and addressed.get(version) == name)
    }


def wish(
    service: str,
    chosen: Mapping[int, str],
    observed: Observed,
    listed: frozenset[int],
    *,
    labels: Mapping[str, int],
    policy: Policy | Pin,
) -> Wanted:
    """What a plan is to reach.

    Args:
        service: its name.
        chosen: version -> revision, of those that may have traffic.
        observed: what stands.
        listed: the versions in storage.
        labels: label -> version; those of versions that are not deployed are left out.
        policy: who gets the traffic. Where a version has some that is not in storage any more, the highest one that is
            gets all of it, whatever the policy says: a pod of the other could not start again.
    """
    if gone(service, observed, listed):
        policy = AllAtOnce()
    there = deployed(service, observed.traffic).keys() | chosen.keys()
    known = {label: version for label, version in labels.items() if version in there}
    return Wanted(service, chosen, known, policy)


def gone(service: str, observed: Observed, listed: frozenset[int]) -> bool:
    """Whether a version has traffic that is not in storage any more."""
    versions = {version_of(service, name) for name in shares(observed.traffic)}
    return bool(versions - {None} - listed)


def _failed(entry: Mapping[str, Any]) -> str:
    status, reason, message = condition(entry)
    return f"{reason}: {message}".strip(": ") or "it is not ready" if status == "False" else ""
