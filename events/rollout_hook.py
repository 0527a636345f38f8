"""What decides how a version that is ready gets its traffic: the interface between landing and rollout policies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from knative.declaration import Declaration
from knative.policy import Policy
from knative.rollout import Observed, Pin, deployed
from knative.traffic import shares

Told = tuple[str, Mapping[str, Any]]
"""An event: its kind (`step`, `promoted`, `rolled_back`, `failed`), and its data."""


@dataclass(frozen=True, slots=True)
class Situation:
    """A version that is deployed and ready, and does not have all traffic yet.

    Attributes:
        namespace: where.
        declaration: of the service: its name, its rollout policy, its gates.
        resource: Knative's Service as it was read.
        revisions: its Revisions.
        observed: the same for plans.
        old: the revision with most traffic beside the new one; None for the first version.
        new: the revision of the highest version that is wanted and ready.
        version: its version.
    """

    namespace: str
    declaration: Declaration
    resource: Mapping[str, Any]
    revisions: Sequence[Mapping[str, Any]]
    observed: Observed
    old: str | None
    new: str
    version: int


@dataclass(frozen=True, slots=True)
class Move:
    """Set the traffic as `policy` says; where that is how it is already, nothing is written.

    Attributes:
        annotations: written to the Service together with the traffic, all or nothing.
        again: seconds until the next decision; None leaves it to events and the sweep.
        told: what the world is told once that is written.
    """

    policy: Policy | Pin
    annotations: Mapping[str, str] = field(default_factory=dict)
    again: float | None = None
    told: Sequence[Told] = ()


@dataclass(frozen=True, slots=True)
class Hold:
    """Leave the traffic as it is for now, and ask again in so many seconds."""

    why: str
    again: float | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """This version gets no more traffic; the reason is written to the Service.

    Attributes:
        annotations: written too.
        told: what the world is told once they are.
        again: seconds until the next decision, where the reason may pass.
    """

    why: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    told: Sequence[Told] = ()
    again: float | None = None


Decision = Move | Hold | Stop


class Rollout(Protocol):
    """Decides; called again and again, possibly by two processes at once: all it knows must be in the situation, and
    what it learns goes into annotations. Quick: a look waits for it."""

    def decide(self, situation: Situation) -> Decision:
        """What is to be done now."""
        ...


class AtOnce:
    """The declaration's policy as soon as a version is ready; then what somebody chose by hand stays."""

    def decide(self, situation: Situation) -> Decision:
        """Moves to the policy of the declaration once. A version with a tag was decided on before: what it has, or was
        taken from it by hand, stays.
        """
        observed, declaration = situation.observed, situation.declaration
        known = situation.new in deployed(declaration.deployment.name, observed.traffic).values()
        return Move(Pin(shares(observed.traffic)) if known else declaration.rollout)
