"""Gates: what a new version has to pass before it gets any traffic, and what they say.

A gate only looks: it asks the new revision (by its tag, where no user reaches it) and the one that serves, and gives a
verdict. That may take a while, so gates do not run while a look at the model waits (`events.gate_rollout`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from events.gate_http import Peer
from events.gate_settings import GateSettings

MAX_REASONS = 20
"""Reasons of one gate that are told; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate found.

    Attributes:
        passed: whether the version may get traffic.
        words: what was looked at, when it passed; else why not.
    """

    passed: bool
    words: str


@dataclass(frozen=True, slots=True)
class Subject:
    """A new version, and what serves beside it.

    Attributes:
        model: the name that requests call it by.
        version: its number.
        base: storage path of the model's versions.
        settings: the gates that were declared.
        new: the new revision.
        old: the one that serves; None for a first version.
        old_version: its number; None for a first version.
    """

    model: str
    version: int
    base: str
    settings: GateSettings
    new: Peer
    old: Peer | None = None
    old_version: int | None = None


class Gate(Protocol):
    """Looks at a version. Safe from any thread."""

    @property
    def name(self) -> str:
        """As it is declared: `signatures`."""

    def judge(self, subject: Subject) -> Verdict:
        """Blocks while it asks, for a bounded time.

        Raises:
            GateUnsureError: what it must ask did not answer; worth another try.
        """


class GateUnsureError(Exception):
    """A gate could not look: found, wanted, in one line."""


def judge_all(gates: Sequence[Gate], subject: Subject, told: Callable[[str], None] = lambda text: None) -> Verdict:
    """The verdict of all gates together: the first that does not pass is the last that is asked.

    Args:
        told: gets a line for each gate that passed.

    Raises:
        GateUnsureError: see `Gate.judge`.
    """
    for gate in gates:
        verdict = gate.judge(subject)
        if not verdict.passed:
            return Verdict(passed=False, words=f"gate {gate.name}: {verdict.words}")
        told(f"gate {gate.name}: {verdict.words}")
    return Verdict(passed=True, words=f"{len(gates)} gates passed" if gates else "no gates")


def reasons_text(reasons: Sequence[str]) -> str:
    """Reasons in one line."""
    shown = "; ".join(reasons[:MAX_REASONS])
    return shown + (f"; and {len(reasons) - MAX_REASONS} more" if len(reasons) > MAX_REASONS else "")
