"""What became of one request between its door and its session, told to whoever asks for it (`loader.run_observer`)."""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(slots=True, eq=False)
class Batch:
    """One batch; its requests share it.

    Attributes:
        rows: of requests, whole and parts, without padding.
        padded: rows that were run, those for nobody included.
        tasks: requests, and slices of large ones.
        observers: who asked, of all requests in it, in the order of the queue.
        runs: session calls that came to a good end: beginning and length in seconds of `time.monotonic()`. More than
            one where a fault was looked for; none where all failed.
        mark: for the first observer who wants to note something that the others shall find.
    """

    rows: int
    padded: int
    tasks: int
    observers: "list[RunObserver]"
    runs: list[tuple[float, float]] = field(default_factory=list)
    mark: object = None


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of one request, or of one slice of it. Times are those of `time.monotonic()`.

    Attributes:
        since: when the scheduler got it.
        started: when its run or its batch began.
        ended: when the run or the batch was over.
        batch: what it shared; None for a run of its own.
    """

    since: float
    started: float
    ended: float
    batch: Batch | None = None


class RunObserver(Protocol):
    """Is told of runs on the threads that do them: it must be quick and thread-safe."""

    def ran(self, run: Ran) -> None:
        """A run is over, well or not."""
