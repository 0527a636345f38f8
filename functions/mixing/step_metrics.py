"""What becomes of the rows of mixes, as metrics."""

from functions.observing.metrics import Counter, Histogram, Metrics
from loader.servable import ServableId
from loader.status import Code

_SECONDS: tuple[float, ...] = tuple(1e-4 * 2.0**power for power in range(18))


class MixMetrics:
    """The families of mixes. Thread-safe.

    Attributes:
        rows: by branch: `run` (and `run_2`, the second target), `otherwise` (no call was made), `fallback`.
        seconds: of each call of a model, good or not.
        failures: calls that failed, by canonical status.
    """

    def __init__(self, metrics: Metrics) -> None:
        labels = ("model_name", "version", "step", "branch")
        self.rows = Counter("zeroserve_mix_rows_total", labels)
        self.seconds = Histogram("zeroserve_mix_step_seconds", labels, _SECONDS)
        self.failures = Counter("zeroserve_mix_step_failures_total", (*labels, "status"))
        for family in (self.rows, self.seconds, self.failures):
            metrics.add_family(family)


class MixObserver:
    """The steps of one version of a mix; a `loader.mixing.mixer.StepObserver`."""

    def __init__(self, metrics: MixMetrics, servable: ServableId) -> None:
        self._metrics = metrics
        self._labels = (servable.name, str(servable.version))

    def rows(self, step: str, branch: str, count: int) -> None:
        """See `StepObserver`."""
        self._metrics.rows.add((*self._labels, step, branch), count)

    def asked(self, step: str, branch: str, seconds: float, code: Code) -> None:
        """See `StepObserver`."""
        self._metrics.seconds.observe((*self._labels, step, branch), seconds)
        if code is not Code.OK:
            self._metrics.failures.add((*self._labels, step, branch, code.name))
