"""What has to be done so that a cluster serves what is wanted: `plan` and `apply`, pure functions.

`plan(apply(observed, plan(observed, wanted)), wanted)` is empty: doing it twice changes nothing.

A version becomes a revision, and traffic moves to it only once it is ready. Traffic that somebody else changed (it
differs from what we wrote last) is left as it is, apart from tags that make new versions addressable, unless the
caller adopts it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from knative.error import DeployError
from knative.names import label_tags, version_of, version_tag
from knative.policy import AllAtOnce, Canary, Keep, Policy, Split, Steps
from knative.traffic import WHOLE, Traffic, TrafficTarget, block, normal, scaled, shares


@dataclass(frozen=True, slots=True)
class Observed:
    """A service as it is.

    Attributes:
        revisions: name -> whether it is ready.
        traffic: its block, in normal order; empty where there is no service.
        written: the block we wrote last; None where we wrote none.
    """

    revisions: Mapping[str, bool]
    traffic: Traffic = ()
    written: Traffic | None = None

    @property
    def exists(self) -> bool:
        """Whether there is a service at all."""
        return bool(self.traffic)

    @property
    def changed_by_others(self) -> bool:
        """Whether somebody else wrote its traffic."""
        return self.exists and self.written != self.traffic


@dataclass(frozen=True, slots=True)
class Wanted:
    """A service as it is to be.

    Attributes:
        service: its name.
        revisions: version -> the name of its revision.
        labels: label -> version.
        policy: who gets the traffic.
        adopt: take over traffic that somebody else changed.
    """

    service: str
    revisions: Mapping[int, str]
    labels: Mapping[str, int]
    policy: Policy = field(default_factory=Keep)
    adopt: bool = False


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
    """Write the block."""

    traffic: Traffic


Step = CreateRevision | AwaitReady | SetTraffic


def plan(observed: Observed, wanted: Wanted) -> list[Step]:
    """The steps from `observed` to `wanted`, in order; empty when nothing is to be done.

    Raises:
        DeployError: no versions, or labels and percents that do not fit them.
    """
    if not wanted.revisions:
        raise DeployError("no version to deploy")
    traffic = aspired_traffic(observed, wanted)
    steps: list[Step] = []
    now = observed.traffic
    for version, name in sorted(wanted.revisions.items()):
        if name not in observed.revisions:
            # The first revision of a service has nobody to leave the traffic with.
            now = now or (TrafficTarget(name, WHOLE),)
            steps.append(CreateRevision(name, version, now))
        if not observed.revisions.get(name, False):
            steps.append(AwaitReady(name))
    if traffic != now:
        steps.append(SetTraffic(traffic))
    elif not foreign(observed, wanted) and observed.exists and observed.written != traffic and not steps:
        steps.append(SetTraffic(traffic))  # the block is right already, and from now on it is ours
    return steps


def apply(observed: Observed, steps: Sequence[Step], wanted: Wanted) -> Observed:
    """What `observed` is after `steps`, all of which succeeded."""
    kept = foreign(observed, wanted)
    for step in steps:
        match step:
            case CreateRevision(name, _, traffic):
                written = observed.written if kept else traffic
                observed = Observed({**observed.revisions, name: False}, traffic, written)
            case AwaitReady(name):
                observed = replace(observed, revisions={**observed.revisions, name: True})
            case SetTraffic(traffic):
                observed = replace(observed, traffic=traffic, written=observed.written if kept else traffic)
    return observed


def foreign(observed: Observed, wanted: Wanted) -> bool:
    """Whether the traffic is somebody else's and stays so."""
    return observed.changed_by_others and not wanted.adopt


def aspired_traffic(observed: Observed, wanted: Wanted) -> Traffic:
    """The block at the end of the plan."""
    tags = _tags(wanted)
    if foreign(observed, wanted):
        taken = {target.tag for target in observed.traffic}
        added = [TrafficTarget(name, 0, tag) for tag, name in tags.items() if tag not in taken]
        return normal([*observed.traffic, *added])
    return block(_percents(observed, wanted), tags)


def _tags(wanted: Wanted) -> dict[str, str]:
    tags = {version_tag(version): name for version, name in wanted.revisions.items()}
    for label, tag in label_tags(wanted.labels, wanted.service).items():
        tags[tag] = _revision(wanted, wanted.labels[label], f"label {label}={wanted.labels[label]}")
    return tags


def _percents(observed: Observed, wanted: Wanted) -> dict[str, int]:
    highest = wanted.revisions[max(wanted.revisions)]
    match wanted.policy:
        case AllAtOnce():
            return {highest: WHOLE}
        case Keep():
            names = set(wanted.revisions.values())
            kept = {name: share for name, share in shares(observed.traffic).items() if name in names}
            known = highest in deployed(wanted.service, observed.traffic).values()
            return scaled(kept, WHOLE) if kept and known else {highest: WHOLE}
        case Split(percents):
            return {
                _revision(wanted, version, f"{version}={percent}"): percent for version, percent in percents.items()
            }
        case Canary() | Steps():
            percent = wanted.policy.percent if isinstance(wanted.policy, Canary) else wanted.policy.percents[0]
            before = {name: share for name, share in shares(observed.traffic).items() if observed.revisions.get(name)}
            before.pop(highest, None)
            others = {name: 1 for version, name in wanted.revisions.items() if name != highest}
            weights = before or others
            if not weights:
                return {highest: WHOLE}
            return {**scaled(weights, WHOLE - percent), highest: percent}


def _revision(wanted: Wanted, version: int, wish: str) -> str:
    try:
        return wanted.revisions[version]
    except KeyError:
        there = ", ".join(map(str, sorted(wanted.revisions)))
        raise DeployError(f"{wish}: version {version} is not deployed; these are: {there}") from None


def deployed(service: str, traffic: Traffic) -> dict[int, str]:
    """Version -> revision of the versions that a block of ours addresses by their own tags."""
    found: dict[int, str] = {}
    for target in traffic:
        version = version_of(service, target.revision)
        if version is not None and target.tag == version_tag(version):
            found[version] = target.revision
    return found
