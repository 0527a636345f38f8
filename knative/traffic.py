"""The traffic block of a service: who gets how many percent, under which tag. Pure values.

Source: knative/serving pkg/apis/serving/v1/route_validation.go: whole percents that sum to 100, unique tags.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from knative.error import DeployError

WHOLE = 100
"""What the percents of a block sum to."""


@dataclass(frozen=True, slots=True, order=True)
class TrafficTarget:
    """One entry of the block.

    Attributes:
        revision: its name; empty means the latest ready one, which only somebody else writes.
        percent: 0 to 100.
        tag: empty for none.
    """

    revision: str
    percent: int = 0
    tag: str = ""

    def as_json(self) -> dict[str, Any]:
        """As Knative spells it."""
        where = {"revisionName": self.revision} if self.revision else {"latestRevision": True}
        return where | {"percent": self.percent} | ({"tag": self.tag} if self.tag else {})


Traffic = tuple[TrafficTarget, ...]


def normal(targets: Iterable[TrafficTarget]) -> Traffic:
    """The same block in the one order we compare and write: by revision, then tag; without entries that say nothing."""
    return tuple(sorted((target for target in targets if target.percent or target.tag), key=_order))


def _order(target: TrafficTarget) -> tuple[str, str]:
    return target.revision, target.tag


def from_json(block: Sequence[Mapping[str, Any]]) -> Traffic:
    """Knative's `spec.traffic` as targets, in `normal` order. A service without one sends all to the latest."""
    if not block:
        return (TrafficTarget("", WHOLE),)
    return normal(
        TrafficTarget(entry.get("revisionName", ""), entry.get("percent") or 0, entry.get("tag", "")) for entry in block
    )


def shares(traffic: Traffic) -> dict[str, int]:
    """Revision -> percent, those above zero."""
    found: dict[str, int] = {}
    for target in traffic:
        if target.percent:
            found[target.revision] = found.get(target.revision, 0) + target.percent
    return found


def scaled(weights: Mapping[str, int], total: int) -> dict[str, int]:
    """Whole percents in the proportion of `weights` that sum to `total` (largest remainder; ties by name).

    Raises:
        DeployError: nothing to share out to.
    """
    weight = sum(weights.values())
    if weight <= 0:
        raise DeployError("no revision to give the traffic to")
    floors = {name: total * value // weight for name, value in weights.items()}
    by_remainder = sorted(weights, key=lambda name: (-(total * weights[name] % weight), name))
    for name in by_remainder[: total - sum(floors.values())]:
        floors[name] += 1
    return floors


def block(percents: Mapping[str, int], tags: Mapping[str, str]) -> Traffic:
    """The block in which each revision has its percent and each tag its revision.

    A revision with tags has its percent in the entry of its first tag, so that no entry is there twice.

    Args:
        percents: revision -> percent; sums to 100.
        tags: tag -> revision.

    Raises:
        DeployError: percents that do not sum to 100, or one outside 0 to 100.
    """
    if sum(percents.values()) != WHOLE or any(not 0 <= percent <= WHOLE for percent in percents.values()):
        raise DeployError(f"percents {dict(percents)} sum to {sum(percents.values())}: wanted {WHOLE}")
    rest = dict(percents)
    tagged = [TrafficTarget(revision, rest.pop(revision, 0), tag) for tag, revision in sorted(tags.items())]
    return normal([*tagged, *(TrafficTarget(revision, percent) for revision, percent in rest.items())])


def as_text(traffic: Traffic) -> str:
    """The block in one line, for an annotation; `from_text` reads it."""
    return json.dumps([target.as_json() for target in traffic], separators=(",", ":"))


def from_text(text: str) -> Traffic:
    """What `as_text` wrote."""
    return from_json(json.loads(text))


def in_words(traffic: Traffic) -> str:
    """For people: `m-v1-… 80% #stable, m-v2-… 20%`."""
    return ", ".join(
        f"{target.revision or 'latest'} {target.percent}%" + (f" #{target.tag}" if target.tag else "")
        for target in traffic
    )
