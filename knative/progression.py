"""How a rollout in steps goes on: a pure state machine whose state is a note on the Service.

    STEPPING --good, pause over--> next percent ... 100 -> PROMOTED
        |------bad----------------> ROLLED_BACK (all traffic back to what served before)
        '------traffic moved by somebody else--> STOPPED (left as it is)

Whoever looks drives it: `zeroserve deploy` while it follows, the sweep when nobody does. Both may at once: what
`advance` says is written together with the traffic under the Service's resourceVersion, so a step is taken once.
Unknown health neither advances nor goes back: a version that nobody calls is not proved by waiting.
"""

import enum
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from knative import keys
from knative.policy import Canary, Steps
from knative.rollout import Observed, Pin
from knative.traffic import WHOLE, scaled, shares

MAX_WHY = 500
"""Characters of a reason that is kept."""


class Phase(enum.Enum):
    """Where a rollout stands; all but STEPPING are ends."""

    STEPPING = "stepping"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    STOPPED = "stopped"


class Health(enum.Enum):
    """How the new revision does beside the old one."""

    UNKNOWN = "unknown"
    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Health, and why."""

    health: Health
    why: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """One rollout.

    Attributes:
        revision: the new one.
        before: revision -> percent, of those that had the traffic before.
        percents: of the new revision, one after the other; the last is 100.
        pause_seconds: how long each holds at least.
        step: which of `percents` is set.
        since: when it was set, in seconds since 1970.
        phase: where it stands.
        why: what ended it, or what it waits for.
    """

    revision: str
    before: Mapping[str, int]
    percents: tuple[int, ...]
    pause_seconds: int
    step: int
    since: float
    phase: Phase = Phase.STEPPING
    why: str = ""

    @property
    def percent(self) -> int:
        """What the new revision is to have."""
        return self.percents[self.step]

    def due(self, now: float) -> float:
        """Seconds until the pause is over; 0 when it is."""
        return max(0.0, self.since + self.pause_seconds - now)


def begin(policy: Steps, revision: str, observed: Observed, now: float) -> Progress:
    """The rollout of `revision` at its first step; at once promoted where nobody served before."""
    before = {name: share for name, share in shares(observed.traffic).items() if name and name != revision}
    serving = {name: share for name, share in before.items() if observed.revisions.get(name)}
    if not serving:
        return Progress(revision, {}, policy.percents, policy.pause_seconds, len(policy.percents) - 1, now, _ended(0))
    return Progress(revision, before, policy.percents, policy.pause_seconds, 0, now, _ended(len(policy.percents) - 1))


def _ended(steps_left: int) -> Phase:
    return Phase.STEPPING if steps_left else Phase.PROMOTED


def advance(progress: Progress, observed: Observed, now: float, verdict: Verdict) -> Progress:
    """What comes of a rollout; the same value where nothing changes.

    Args:
        progress: as it is noted.
        observed: the service.
        now: in seconds since 1970.
        verdict: on the new revision.
    """
    if progress.phase is not Phase.STEPPING:
        return progress
    if shares(observed.traffic).get(progress.revision, 0) != progress.percent or observed.changed_by_others:
        return _end(progress, now, Phase.STOPPED, "somebody else changed the traffic")
    if verdict.health is Health.BAD:
        return _end(progress, now, Phase.ROLLED_BACK, verdict.why or "the new revision does worse")
    if progress.due(now):
        return progress
    if verdict.health is Health.UNKNOWN:
        why = verdict.why[:MAX_WHY] or "nothing is known about the new revision yet"
        return progress if progress.why == why else replace(progress, why=why)
    step = progress.step + 1
    ended = step == len(progress.percents) - 1
    return replace(progress, step=step, since=now, phase=Phase.PROMOTED if ended else Phase.STEPPING, why="")


def policy_of(progress: Progress, observed: Observed) -> Canary | Pin | None:
    """The traffic that belongs to a state; None where it is left as it is."""
    match progress.phase:
        case Phase.STEPPING | Phase.PROMOTED:
            return Canary(progress.percent)
        case Phase.STOPPED:
            return None
        case Phase.ROLLED_BACK:
            there = {name: share for name, share in progress.before.items() if name in observed.revisions}
            return Pin(scaled(there, WHOLE)) if there else None


def note(progress: Progress) -> dict[str, str]:
    """The annotation that keeps the state; times in whole milliseconds."""
    content = asdict(progress) | {"phase": progress.phase.value, "since": round(progress.since, 3)}
    return {keys.ROLLOUT: json.dumps(content, sort_keys=True, separators=(",", ":"))}


def noted(service: Mapping[str, Any] | None) -> Progress | None:
    """The state that a Service carries; None where it has none, or one that cannot be read."""
    text = ((service or {}).get("metadata", {}).get("annotations") or {}).get(keys.ROLLOUT)
    if not text:
        return None
    try:
        content = json.loads(text)
        percents = tuple(int(percent) for percent in content["percents"])
        step = int(content["step"])
        if not 0 <= step < len(percents):
            return None
        return Progress(
            str(content["revision"]),
            {str(name): int(share) for name, share in content["before"].items()},
            percents,
            int(content["pause_seconds"]),
            step,
            float(content["since"]),
            Phase(content["phase"]),
            str(content["why"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None  # somebody wrote into our note: then there is no rollout to drive


def in_words(progress: Progress, now: float) -> str:
    """For people, in one line."""
    match progress.phase:
        case Phase.STEPPING:
            left = ", ".join(f"{percent}%" for percent in progress.percents[progress.step + 1 :])
            wait = f"next in {progress.due(now):.0f} s" if progress.due(now) else progress.why or "next is due"
            return f"{progress.revision} has {progress.percent}%, then {left}; {wait}"
        case Phase.PROMOTED:
            return f"{progress.revision} has all traffic"
        case Phase.ROLLED_BACK:
            how = f"was taken back at {progress.percent}%" if progress.percent else "was refused"
            return f"{progress.revision} {how}: {progress.why}"
        case Phase.STOPPED:
            return f"the rollout of {progress.revision} stopped at {progress.percent}%: {progress.why}"


def _end(progress: Progress, now: float, phase: Phase, why: str) -> Progress:
    return replace(progress, since=now, phase=phase, why=why[:MAX_WHY])
