"""What has to be done so that a cluster serves what is wanted: `plan` and `apply`, pure functions.

`plan(apply(observed, plan(observed, wanted)), wanted)` is empty: doing it twice changes nothing.

A version becomes a revision, and traffic moves to it only once it is ready. Traffic that somebody else changed (it
differs from what we wrote last) is left as it is, apart from tags that make new versions addressable, unless the
caller adopts it. Every revision of ours that gets traffic has a tag, so that it can be addressed.

Of our own revisions those stay that are wanted, routed, tagged, or served all traffic before (what `rollback` goes back
to); the others are deleted. Somebody else's never are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from knative.error import DeployError
from knative.names import label_tags, revision_tag, version_of, version_tag
from knative.policy import AllAtOnce, Canary, Keep, Policy, Split, Steps
from knative.traffic import WHOLE, Traffic, TrafficTarget, block, normal, scaled, shares


@dataclass(frozen=True, slots=True)
class Observed:
    """A service as it is.

    Attributes:
        revisions: name -> whether it is ready.
        traffic: its block, in normal order; empty where there is no service.
        written: the block we wrote last; None where we wrote none.
        previous: the revision that had all traffic before the one that has it, or is getting it, now; empty for none.
        ours: those of `revisions` that we made.
        template: the revision that the service's template makes: Knative would make it again if it were deleted.
    """

    revisions: Mapping[str, bool]
    traffic: Traffic = ()
    written: Traffic | None = None
    previous: str = ""
    ours: frozenset[str] = frozenset()
    template: str = ""

    @property
    def exists(self) -> bool:
        """Whether there is a service at all."""
        return bool(self.traffic)

    @property
    def changed_by_others(self) -> bool:
        """Whether somebody else wrote its traffic."""
        return self.exists and self.written != self.traffic


@dataclass(frozen=True, slots=True)
class Pin:
    """Revisions get what is said, whatever their versions: the way back."""

    percents: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Stay:
    """Whoever has a share keeps it, wanted or not: what becomes of it is decided elsewhere, step by step."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A service as it is to be.

    Attributes:
        service: its name.
        revisions: version -> the name of its revision.
        labels: label -> version, of `revisions` or of another that is deployed.
        policy: who gets the traffic.
        adopt: take over traffic that somebody else changed.
        tags: further tags that stay where they are.
    """

    service: str
    revisions: Mapping[int, str]
    labels: Mapping[str, int]
    policy: Policy | Pin | Stay = field(default_factory=Keep)
    adopt: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CreateRevision:
    """Make the revision of `version`; meanwhile traffic stays as `traffic` says."""

    name: str
    version: int
    traffic: Traffic


@dataclass(frozen=True, slots=True)
class AwaitReady:
    """Wait until the revision is ready. A failure ends the plan here, and traffic stays where it was."""

    name: str


@dataclass(frozen=True, slots=True)
class SetTraffic:
    """Write the block, and note who had all traffic before."""

    traffic: Traffic
    previous: str = ""


@dataclass(frozen=True, slots=True)
class DeleteRevision:
    """Delete a revision of ours that nobody needs."""

    name: str


Step = CreateRevision | AwaitReady | SetTraffic | DeleteRevision


def plan(observed: Observed, wanted: Wanted) -> list[Step]:
    """The steps from `observed` to `wanted`, in order; empty when nothing is to be done.

    Raises:
        DeployError: no versions, or labels and percents that do not fit them.
    """
    if not wanted.revisions:
        raise DeployError("no version to deploy")
    traffic = aspired_traffic(observed, wanted)
    steps: list[Step] = []
    now, written, template = observed.traffic, observed.written, observed.template
    for version, name in sorted(wanted.revisions.items()):
        if name not in observed.revisions:
            # The first revision of a service has nobody to leave the traffic with.
            now, template = now or (TrafficTarget(name, WHOLE),), name
            written = written if foreign(observed, wanted) else now
            steps.append(CreateRevision(name, version, now))
        if not observed.revisions.get(name, False):
            steps.append(AwaitReady(name))
    previous = _previous(observed, wanted, traffic)
    if traffic != now:
        steps.append(SetTraffic(traffic, previous))
    elif not foreign(observed, wanted) and written != traffic:
        steps.append(SetTraffic(traffic, previous))  # the block is right already, and from now on it is ours
    needed = {*wanted.revisions.values(), *(target.revision for target in traffic), previous, template}
    steps += [DeleteRevision(name) for name in sorted(observed.ours - needed)]
    return steps


def apply(observed: Observed, steps: Sequence[Step], wanted: Wanted) -> Observed:
    """What `observed` is after `steps`, all of which succeeded."""
    kept = foreign(observed, wanted)
    for step in steps:
        match step:
            case CreateRevision(name, _, traffic):
                observed = replace(
                    observed,
                    revisions={**observed.revisions, name: False},
                    traffic=traffic,
                    written=observed.written if kept else traffic,
                    ours=observed.ours | {name},
                    template=name,
                )
            case AwaitReady(name):
                observed = replace(observed, revisions={**observed.revisions, name: True})
            case SetTraffic(traffic, previous):
                written = observed.written if kept else traffic
                observed = replace(observed, traffic=traffic, written=written, previous=previous)
            case DeleteRevision(name):
                rest = {other: ready for other, ready in observed.revisions.items() if other != name}
                observed = replace(observed, revisions=rest, ours=observed.ours - {name})
    return observed


def foreign(observed: Observed, wanted: Wanted) -> bool:
    """Whether the traffic is somebody else's and stays so."""
    return observed.changed_by_others and not wanted.adopt


def aspired_traffic(observed: Observed, wanted: Wanted) -> Traffic:
    """The block at the end of the plan."""
    if foreign(observed, wanted):
        taken = {target.tag for target in observed.traffic}
        tags = _tags(observed, wanted, {})
        added = [TrafficTarget(name, 0, tag) for tag, name in tags.items() if tag not in taken]
        return normal([*observed.traffic, *added])
    percents = _percents(observed, wanted)
    return block(percents, _tags(observed, wanted, percents))


def deployed(service: str, traffic: Traffic) -> dict[int, str]:
    """Version -> revision of the versions that a block of ours addresses by their own tags."""
    found: dict[int, str] = {}
    for target in traffic:
        version = version_of(service, target.revision)
        if version is not None and target.tag == version_tag(version):
            found[version] = target.revision
    return found


def is_known(observed: Observed, wanted: Wanted) -> bool:
    """Whether the revision of the highest version was addressed before: what happens next to it was decided then."""
    return wanted.revisions[max(wanted.revisions)] in deployed(wanted.service, observed.traffic).values()


def earlier(service: str, observed: Observed) -> str:
    """The revision that `rollback` goes back to: the one that had all traffic before, else one of a version below.

    Raises:
        DeployError: there is none.
    """
    serving = shares(observed.traffic)
    if observed.previous in observed.revisions and serving.get(observed.previous) != WHOLE:
        return observed.previous
    there = deployed(service, observed.traffic)
    routed = [version for version, name in there.items() if serving.get(name)]
    below = [version for version in there if version < max(routed, default=0)]
    if not below:
        raise DeployError(
            f"nothing to go back to: no revision served before, and no version below {max(routed, default=0)} "
            f"is deployed; these are: {', '.join(map(str, sorted(there))) or 'none'}"
        )
    return there[max(below)]


def _previous(observed: Observed, wanted: Wanted, traffic: Traffic) -> str:
    """Who had all traffic before and was ready. Nobody after a way back: the next must not lead forward again."""
    before, after = shares(observed.traffic), shares(traffic)
    if before == after:
        return observed.previous
    if isinstance(wanted.policy, Pin):
        return ""
    whole = next((name for name, share in before.items() if share == WHOLE and observed.revisions.get(name)), "")
    return whole or observed.previous


def _tags(observed: Observed, wanted: Wanted, percents: Mapping[str, int]) -> dict[str, str]:
    tags = dict(wanted.tags) | {version_tag(version): name for version, name in wanted.revisions.items()}
    for label, tag in label_tags(wanted.labels, wanted.service).items():
        version = wanted.labels[label]
        tags[tag] = _revision(observed, wanted, version, f"label {label}={version}")
    for name in [*tags.values(), *sorted(name for name, percent in percents.items() if percent)]:
        addressed = version_of(wanted.service, name)
        if addressed is not None and tags.setdefault(version_tag(addressed), name) != name:
            tags.setdefault(revision_tag(wanted.service, name), name)
    return tags


def _percents(observed: Observed, wanted: Wanted) -> dict[str, int]:
    newest = max(wanted.revisions)
    highest = wanted.revisions[newest]
    policy = wanted.policy
    if isinstance(policy, Steps):
        # What follows the first step is the progression's; a repeated deploy must not begin again.
        policy = Stay() if is_known(observed, wanted) else Canary(policy.percents[0])
    match policy:
        case Pin(pinned):
            return dict(pinned)
        case AllAtOnce():
            return {highest: WHOLE}
        case Stay():
            return scaled(_carried(observed, wanted, all_versions=True) or {highest: WHOLE}, WHOLE)
        case Keep():
            kept = _carried(observed, wanted, all_versions=False)
            if highest in shares(observed.traffic) or newest in deployed(wanted.service, observed.traffic):
                return scaled(kept, WHOLE) if kept else {highest: WHOLE}
            return {highest: WHOLE}
        case Split(percents):
            return {
                _revision(observed, wanted, version, f"{version}={percent}"): percent
                for version, percent in percents.items()
            }
        case Canary(percent):
            before = _others(observed, wanted, highest)
            weights = before or {name: 1 for name in wanted.revisions.values() if name != highest}
            if not weights:
                return {highest: WHOLE}
            return {**scaled(weights, WHOLE - percent), highest: percent}


def _carried(observed: Observed, wanted: Wanted, *, all_versions: bool) -> dict[str, int]:
    """What the wanted and lower versions (or all) have now, as far as they are, or are going to be, ready.

    A version whose revision is made anew takes its share along.
    """
    found: dict[str, int] = {}
    for name, share in shares(observed.traffic).items():
        version = version_of(wanted.service, name)
        if version is not None and version > max(wanted.revisions) and not all_versions:
            continue  # no longer wanted
        heir = _heir(observed, wanted, name)
        if observed.revisions.get(heir) or heir in wanted.revisions.values():
            found[heir] = found.get(heir, 0) + share
    return found


def _heir(observed: Observed, wanted: Wanted, name: str) -> str:
    """Who takes a revision's share over: the one its version is made anew as, unless that one was addressed before.

    Then each has its own share already: a canary of a new image, for instance, beside the old one.
    """
    version = version_of(wanted.service, name)
    heir = wanted.revisions.get(version, name) if version is not None else name
    return name if heir in deployed(wanted.service, observed.traffic).values() else heir


def _others(observed: Observed, wanted: Wanted, highest: str) -> dict[str, int]:
    """What the others have now, as far as they are ready. A canary of the same version leaves its old revision in."""
    same = version_of(wanted.service, highest)
    found: dict[str, int] = {}
    for name, share in shares(observed.traffic).items():
        version = version_of(wanted.service, name)
        heir = _heir(observed, wanted, name) if version != same else name
        if name != highest and observed.revisions.get(name):
            found[heir] = found.get(heir, 0) + share
    return found


def _revision(observed: Observed, wanted: Wanted, version: int, wish: str) -> str:
    there = deployed(wanted.service, observed.traffic) | dict(wanted.revisions)
    if version not in there:
        known = ", ".join(map(str, sorted(there)))
        raise DeployError(f"{wish}: version {version} is not deployed; these are: {known}")
    return there[version]
