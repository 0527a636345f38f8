"""What each version does: its runs, those that failed, loads that failed, and where it is in its life.

The stock server's families name no version. These count at the scheduler, so they hold for every protocol and for the
steps of mixes, which ask models of the same process.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from functions.observing.metrics import Counter, Gauge, Histogram, Metrics
from functions.observing.metrics_text import Labels
from loader.servable import Servable, ServableId, State, VersionStatus
from loader.status import Code, ServingError

if TYPE_CHECKING:  # numpy: a start lists storage before it imports that
    from loader.dtypes import Array
    from loader.scheduler import Scheduler

BOUNDS: tuple[float, ...] = tuple(1e-5 * 2.0**power for power in range(24))
"""Upper bounds of the buckets in seconds: 10 us to 84 s."""

CANCELLED = Code.CANCELLED.name


class VersionMetrics:
    """The families by version. Safe from any thread.

    Attributes:
        seconds: from the call of a run to its outputs, waiting for a batch included; of good ones.
        failures: runs that gave no outputs, by canonical status.
        load_failures: tries to fetch or to load that failed, by `phase`: `download` or `load`.

    Args:
        metrics: where they are shown.
        statuses: model -> its known versions.
    """

    def __init__(self, metrics: Metrics, statuses: Callable[[], Mapping[str, Iterable[VersionStatus]]]) -> None:
        labels = ("model_name", "version")
        self._statuses = statuses
        self.seconds = Histogram("zeroserve_run_seconds", labels, BOUNDS)
        self.failures = Counter("zeroserve_run_failures_total", (*labels, "status"))
        self.load_failures = Counter("zeroserve_load_failures_total", (*labels, "phase", "status"))
        state = Gauge("zeroserve_version_state", (*labels, "state"), self._states, highest=True)
        for family in (self.seconds, self.failures, self.load_failures, state):
            metrics.add_family(family)

    def counted(self, servable: Servable) -> Servable:
        """The same servable, whose runs are counted."""
        return replace(servable, scheduler=CountedScheduler(servable.scheduler, servable.id, self))

    def load_failed(self, servable: ServableId, phase: str, error: BaseException) -> None:
        """Counts a try that failed."""
        status = error.code if isinstance(error, ServingError) else Code.UNKNOWN
        self.load_failures.add((servable.name, str(servable.version), phase, status.name))

    def _states(self) -> dict[Labels, float]:
        """1 for the state of each version that is there, is wanted, or failed; one that was unloaded is history."""
        return {
            (name, str(one.version), one.state.name): 1.0
            for name, versions in self._statuses().items()
            for one in versions
            if one.state is not State.END or one.error is not None
        }


class CountedScheduler:
    """A `loader.scheduler.Scheduler` around another one."""

    def __init__(self, scheduler: "Scheduler", servable: ServableId, metrics: VersionMetrics) -> None:
        self._scheduler = scheduler
        self._labels = (servable.name, str(servable.version))
        self._metrics = metrics

    async def run(
        self, feeds: "Mapping[str, Array]", fetches: Sequence[str], *, deadline: float | None = None
    ) -> "list[Array]":
        """Runs once; see `Scheduler.run`."""
        started = time.perf_counter()
        status = CANCELLED
        try:
            outputs = await self._scheduler.run(feeds, fetches, deadline=deadline)
            status = ""
        except ServingError as error:
            status = error.code.name
            raise
        except Exception:
            status = Code.INTERNAL.name
            raise
        finally:
            if status:
                self._metrics.failures.add((*self._labels, status))
        self._metrics.seconds.observe(self._labels, time.perf_counter() - started)
        return outputs

    def close(self) -> None:
        """See `Scheduler.close`."""
        self._scheduler.close()
