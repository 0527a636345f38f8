"""The declaration's `gates`: what a version has to pass before traffic, and what may stop it on the way. Pure.

    {"signatures": "compatible",
     "replay": {"records": "golden", "rtol": 1e-3, "atol": 1e-5, "share": 0.99},
     "health": {"min_requests": 100, "max_wait_seconds": 3600}}

Strict, like the whole declaration: half of a gate would let through what somebody meant to stop.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from knative.error import DeployError

SIGNATURES = ("compatible", "ignore")
AGAINST = ("serving", "recorded")
QUIET = ("advance", "roll_back", "wait")
MAX_REPLAYED = 10_000
MAX_TOP_K = 1000


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """Golden requests.

    Attributes:
        records: `golden` (the file `golden/requests.tfrecord` beside the versions), `warmup` (the new version's own
            warm-up file), the path of a file below the model's url, or a URL; one that ends in `/` is a folder, whose
            newest files are taken.
        against: whose answers are right: `serving` asks the revision that serves, `recorded` takes those of the file.
        rtol, atol: two numbers agree when `|new - old| <= atol + rtol * |old|`.
        top_k: above 0, what has to agree of an output is the set of its k highest places, not the numbers.
        share: of the records that have to agree, above 0, at most 1.
        limit: records that are replayed, from the first.
    """

    records: str = "golden"
    against: str = "serving"
    rtol: float = 1e-3
    atol: float = 1e-5
    top_k: int = 0
    share: float = 0.99
    limit: int = 1000

    def __post_init__(self) -> None:
        scheme, url, path = self.records.rpartition("://")
        parts = path.removesuffix("/").split("/")
        good = all(parts) and not {".", ".."} & set(parts) and self.records.isprintable() and (scheme or not url)
        if not good or set("?#\\") & set(self.records):
            raise DeployError(
                f"gates.replay.records {self.records!r:.200}: wanted golden, warmup, a path below url, or a URL"
            )
        _one_of(self.against, AGAINST, "replay.against")
        _within(self.rtol, 0, math.inf, "replay.rtol")
        _within(self.atol, 0, math.inf, "replay.atol")
        _within(self.top_k, 0, MAX_TOP_K, "replay.top_k")
        _within(self.share, 1e-9, 1, "replay.share")
        _within(self.limit, 1, MAX_REPLAYED, "replay.limit")


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """What the new revision's metrics have to say on the way to all traffic.

    Attributes:
        alpha: chance that a version which is no worse is taken back, over a whole rollout and however often it is
            looked at.
        error_margin: by how much the share of failed requests has to be higher, to be a breach; a difference that is
            certain but smaller is let through.
        slow_margin: the same for the share of slow requests.
        slow_ms: what is slow; 0 takes what 95 % of the old revision's requests stay below.
        min_requests: what the new revision has to answer within a step before the next.
        max_wait_seconds: how long a step waits for them.
        quiet: what happens then: `advance`, `roll_back` or `wait` on.
        max_restarts: of the new revision's containers; one more is a breach.
    """

    alpha: float = 0.01
    error_margin: float = 0.005
    slow_margin: float = 0.05
    slow_ms: float = 0.0
    min_requests: int = 100
    max_wait_seconds: int = 3600
    quiet: str = "advance"
    max_restarts: int = 2

    def __post_init__(self) -> None:
        _within(self.alpha, 1e-9, 0.5, "health.alpha")
        _within(self.error_margin, 0, 1, "health.error_margin")
        _within(self.slow_margin, 0, 1, "health.slow_margin")
        _within(self.slow_ms, 0, 1e9, "health.slow_ms")
        _within(self.min_requests, 0, 10**9, "health.min_requests")
        _within(self.max_wait_seconds, 0, 30 * 86400, "health.max_wait_seconds")
        _within(self.max_restarts, 0, 10**6, "health.max_restarts")
        _one_of(self.quiet, QUIET, "health.quiet")


@dataclass(frozen=True, slots=True)
class GateSettings:
    """All gates of one model.

    Attributes:
        signatures: `compatible`, or `ignore` where callers are known to follow.
        replay: None for none.
        health: of the rollout.
    """

    signatures: str = "compatible"
    replay: ReplaySettings | None = None
    health: HealthSettings = field(default_factory=HealthSettings)

    def __post_init__(self) -> None:
        _one_of(self.signatures, SIGNATURES, "signatures")


def gate_settings(gates: Mapping[str, Any]) -> GateSettings:
    """The declaration's `gates` as values; what is left out has its default.

    Raises:
        DeployError: in one line, what is wrong and where.
    """
    known = [one.name for one in fields(GateSettings)]
    read: dict[str, Any] = {}
    for name, value in gates.items():
        _known(name, known, "gates")
        if value is None:
            continue
        match name:
            case "replay":
                read[name] = _values(ReplaySettings, value, name)
            case "health":
                read[name] = _values(HealthSettings, value, name)
            case _:
                read[name] = value
    return GateSettings(**read)


def _values(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise DeployError(f"gates.{where}: wanted an object, found {type(value).__name__}")
    defaults = {one.name: one.default for one in fields(kind)}
    read = {}
    for name, found in value.items():
        _known(name, list(defaults), f"gates.{where}")
        wanted: Any = type(defaults[name])
        allowed = (int, float) if wanted is float else wanted
        if not isinstance(found, allowed) or isinstance(found, bool):
            raise DeployError(f"gates.{where}.{name}: wanted {wanted.__name__}, found {type(found).__name__}")
        read[name] = wanted(found)
    return kind(**read)


def _known(name: str, known: list[str], where: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        meant = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        raise DeployError(f"{where}: {name[:80]!r} is not known; {meant}")


def _one_of(value: Any, wanted: tuple[str, ...], where: str) -> None:
    if value not in wanted:
        raise DeployError(f"gates.{where} {value!r:.80}: wanted {' or '.join(wanted)}")


def _within(value: float, low: float, high: float, where: str) -> None:
    if not low <= value <= high or value == math.inf:
        raise DeployError(f"gates.{where} {value}: wanted {low:g} to {high:g}")
