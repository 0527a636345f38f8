"""The versions of one server with several workers: what each says of its own, as one answer.

A version is AVAILABLE when every worker has it, so that whoever reads it may ask any of them. What the others have is
told by them whenever it changes, and every `HEARTBEAT_SECONDS` in any case.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from loader.servable import State, VersionStatus

HEARTBEAT_SECONDS = 2.0
"""How often a worker tells the others what it has, changed or not."""

SILENCE_SECONDS = 7.0
"""A worker that has told nothing for so long is taken for gone."""

_COMING = (State.START, State.LOADING)


@dataclass(frozen=True, slots=True)
class WorkerState:
    """What one worker tells.

    Attributes:
        missing: why it is not ready, in words; empty when it is.
        statuses: its versions by model.
    """

    missing: tuple[str, ...]
    statuses: Mapping[str, Sequence[VersionStatus]]


class CrewView:
    """What this worker knows of the others. Safe from any thread.

    Args:
        others: their numbers.
        accepts: whether a worker takes requests at this moment; the end of one shows here first.
    """

    def __init__(self, others: Iterable[int], accepts: Callable[[int], bool]) -> None:
        self._others = tuple(others)
        self._accepts = accepts
        self._lock = threading.Lock()
        self._told: dict[int, tuple[float, WorkerState]] = {}

    def note(self, worker: int, state: WorkerState) -> None:
        """A worker has told what it has."""
        with self._lock:
            self._told[worker] = (time.monotonic(), state)

    def forget(self, worker: int) -> None:
        """A worker is gone."""
        with self._lock:
            self._told.pop(worker, None)

    def states(self) -> dict[int, WorkerState | None]:
        """What each other worker has; None for one that takes no requests, or has told nothing."""
        heard_after = time.monotonic() - SILENCE_SECONDS
        with self._lock:
            told = {worker: state for worker, (moment, state) in self._told.items() if moment > heard_after}
        return {worker: told.get(worker) if self._accepts(worker) else None for worker in self._others}

    def missing(self) -> list[str]:
        """What the other workers wait for, in words; empty when all are ready."""
        lines = []
        for worker, state in self.states().items():
            reasons = ["it is starting"] if state is None else state.missing
            lines += [f"worker {worker}: {reason}" for reason in reasons]
        return lines

    def whole(self, name: str, own: Sequence[VersionStatus]) -> list[VersionStatus]:
        """The versions of a model in all workers, highest first; `own` are this worker's."""
        others = [state.statuses.get(name, ()) if state is not None else () for state in self.states().values()]
        each = [{status.version: status for status in statuses} for statuses in (own, *others)]
        versions = {version for worker in each for version in worker}
        return [
            whole_version(version, [worker.get(version) for worker in each])
            for version in sorted(versions, reverse=True)
        ]


def whole_version(version: int, statuses: Sequence[VersionStatus | None]) -> VersionStatus:
    """One version of several workers.

    Args:
        version: its number.
        statuses: what each worker says; None where it knows nothing of the version. One at least is not None.

    Returns:
        AVAILABLE when all have it. While one still has to get it: START or LOADING. When one could not: END with its
        error. Once one has given it up: UNLOADING, and END when the last has.
    """
    known = [status for status in statuses if status is not None]
    states = {status.state for status in known}
    if states == {State.AVAILABLE} and len(known) == len(statuses):
        return VersionStatus(version, State.AVAILABLE)
    coming = [status for status in known if status.state in _COMING]
    if coming:
        begun = states & {State.LOADING, State.AVAILABLE}
        error = next((status.error for status in coming if status.error is not None), None)
        return VersionStatus(version, State.LOADING if begun else State.START, error)
    failed = [status for status in known if status.state is State.END and status.error is not None]
    if failed:
        return failed[0]
    if states == {State.AVAILABLE}:  # and a worker that has just come does not know of it yet
        return VersionStatus(version, State.LOADING)
    return VersionStatus(version, State.END if states == {State.END} else State.UNLOADING)
