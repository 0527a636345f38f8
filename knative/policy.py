"""Rollout policies: how a version comes to its traffic. Pure values, with the words that say them.

    ""                          a version that is new gets all traffic at once, anything else stays
    all                         the highest version gets all traffic
    canary=10                   the highest version gets 10 percent and stays there until somebody promotes it
    split=1:80,2:20             each version gets what is said
    steps=10,50,100:5m          the highest version gets 10, after 5 minutes 50, after 5 more 100 percent
    gradual=300                 the same in small steps: 1, 10, 20, ... 100 percent within 300 seconds

Knative's own gradual rollout (annotation `rollout-duration`) moves only targets that follow the latest revision: such a
target has no fixed version, cannot be held by a gate or taken back, and nobody can say which share it has just now.
Here `gradual` is steps.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from knative.error import DeployError
from knative.traffic import WHOLE

GRADUAL_STEPS = (1, *range(10, WHOLE + 1, 10))
"""Percents of a gradual rollout. Source: knative/serving rolls out 1 percent first, then equal steps."""

MAX_STEPS = WHOLE
MAX_PAUSE_SECONDS = 7 * 86400
"""Longest pause of a step: who waits longer wants `canary` and `promote`."""

WANTED = "wanted all, canary=PERCENT, split=VERSION:PERCENT,..., steps=PERCENT,...:PAUSE (60s, 5m, 1h), gradual=SECONDS"

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
_PAUSE = re.compile(r"([0-9]{1,9})([smh]?)")


@dataclass(frozen=True, slots=True)
class Keep:
    """A highest version that is new gets all traffic; otherwise traffic stays. What a repeated deploy wants."""


@dataclass(frozen=True, slots=True)
class AllAtOnce:
    """The highest version gets all traffic."""


@dataclass(frozen=True, slots=True)
class Canary:
    """The highest version gets `percent`, what served so far keeps the rest in its proportions."""

    percent: int

    def __post_init__(self) -> None:
        if not 0 <= self.percent <= WHOLE:
            raise DeployError(f"canary={self.percent}: wanted 0 to {WHOLE}")


@dataclass(frozen=True, slots=True)
class Split:
    """Each version gets what is said; sums to 100."""

    percents: Mapping[int, int]

    def __post_init__(self) -> None:
        if sum(self.percents.values()) != WHOLE or any(not 0 <= percent <= WHOLE for percent in self.percents.values()):
            said = ",".join(f"{version}:{percent}" for version, percent in self.percents.items())
            raise DeployError(f"split={said} sums to {sum(self.percents.values())}: wanted {WHOLE}")


@dataclass(frozen=True, slots=True)
class Steps:
    """The highest version gets one percentage after the other, a pause and a look at its health between them.

    Attributes:
        percents: ascending, 1 to 100, the last 100.
        pause_seconds: how long each but the last holds at least.
    """

    percents: tuple[int, ...]
    pause_seconds: int

    def __post_init__(self) -> None:
        rising = all(before < after for before, after in zip((0, *self.percents), self.percents, strict=False))
        if not self.percents or not rising or self.percents[-1] != WHOLE:
            said = ",".join(map(str, self.percents))
            raise DeployError(f"steps={said}: wanted percents that rise and end with {WHOLE}, such as 10,50,100")
        if not 0 <= self.pause_seconds <= MAX_PAUSE_SECONDS:
            raise DeployError(f"a pause of {self.pause_seconds} s: wanted 0 to {MAX_PAUSE_SECONDS} s")


Policy = Keep | AllAtOnce | Canary | Split | Steps


def parse_policy(text: str) -> Policy:
    """The policy that the words say.

    Raises:
        DeployError: they say none.
    """
    kind, equals, argument = text.partition("=")
    match kind:
        case "" if not equals:
            return Keep()
        case "all" if not equals:
            return AllAtOnce()
        case "canary" if _is_number(argument):
            return Canary(int(argument))
        case "split" if argument:
            return Split(parse_percents(argument.split(","), ":"))
        case "steps" if argument:
            return _steps(text, argument)
        case "gradual" if (seconds := _seconds(argument)) is not None:
            return Steps(GRADUAL_STEPS, seconds // (len(GRADUAL_STEPS) - 1))
    raise DeployError(f"rollout {text!r}: {WANTED}")


def policy_text(policy: Policy) -> str:
    """The words that `parse_policy` reads."""
    match policy:
        case Keep():
            return ""
        case AllAtOnce():
            return "all"
        case Canary(percent):
            return f"canary={percent}"
        case Split(percents):
            return "split=" + ",".join(f"{version}:{percent}" for version, percent in percents.items())
        case Steps(percents, pause):
            return f"steps={','.join(map(str, percents))}:{pause}s"


def parse_percents(words: Sequence[str], between: str) -> dict[int, int]:
    """Version -> percent of words such as `1=80`.

    Raises:
        DeployError: a word that is not two numbers, or a version that is named twice.
    """
    found: dict[int, int] = {}
    for word in words:
        version, _, percent = word.partition(between)
        if not _is_number(version) or not _is_number(percent):
            raise DeployError(f"{word!r}: wanted VERSION{between}PERCENT, such as 1{between}80")
        if int(version) in found:
            raise DeployError(f"{word!r}: version {version} is named twice")
        found[int(version)] = int(percent)
    return found


def _steps(text: str, argument: str) -> Steps:
    percents, _, pause = argument.partition(":")
    words = percents.split(",")
    seconds = _seconds(pause)
    if seconds is None or len(words) > MAX_STEPS or not all(map(_is_number, words)):
        raise DeployError(f"rollout {text!r}: {WANTED}")
    numbers = tuple(map(int, words))
    return Steps(numbers if numbers[-1] == WHOLE else (*numbers, WHOLE), seconds)


def _seconds(text: str) -> int | None:
    match = _PAUSE.fullmatch(text)
    return int(match[1]) * _UNITS[match[2]] if match else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 19
