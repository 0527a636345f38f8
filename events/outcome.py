"""What became of one step of landing: a value."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class State(enum.Enum):
    """What a step found."""

    UNDECLARED = "nobody declared this service"
    DONE = "nothing is left to do"
    WORKING = "a rollout is under way"
    FAILED = "the version that is wanted does not come up"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a step.

    Attributes:
        state: see there.
        text: for people.
        lacking: version -> what it lacks, of versions that are wanted and not complete.
        awaits: revisions that are to become ready.
        again: seconds after which the next step is due; None where only an event or a revision brings news.
    """

    state: State
    text: str = ""
    lacking: Mapping[int, str] = field(default_factory=dict)
    awaits: tuple[str, ...] = ()
    again: float | None = None
