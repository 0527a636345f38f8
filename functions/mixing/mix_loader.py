"""A version that holds `mix.json` becomes a servable like any other: signatures, and a scheduler that runs the mix.

Every door, labels, metadata and the life of versions know nothing of mixes. Imported by the first mix that is loaded.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType

from functions.mixing.local_target import LocalTarget
from functions.mixing.remote_target import RemoteTargets
from functions.mixing.step_metrics import MixMetrics, MixObserver
from functions.observing.metrics import Metrics
from loader.dtypes import Array
from loader.manager import ServableManager
from loader.mixing.declaration import Mix, parse_mix
from loader.mixing.mix_file import NAME
from loader.mixing.mix_signature import mix_signature
from loader.mixing.mixer import Around, Ask, Mixer, no_span
from loader.saved_model import SavedModel
from loader.servable import Servable, ServableId
from loader.status import Code, ServingError

_log = logging.getLogger("zeroserve.mixing")


class MixLoader:
    """Loads mixes. Thread-safe.

    Args:
        manager: the models of this process.
        metrics: where rows and steps are counted.
        release: takes the folder of a version that is no longer used.
        around: stands around the calls of each step, for traces.
    """

    def __init__(
        self,
        manager: ServableManager,
        metrics: Metrics,
        release: Callable[[Path], None],
        around: Around = no_span,
    ) -> None:
        self._manager = manager
        self._metrics = MixMetrics(metrics)
        self._release = release
        self._around = around

    def load(self, servable: ServableId, path: Path) -> Servable:
        """The mix in the folder `path`, ready to answer.

        Raises:
            ServingError: INVALID_ARGUMENT for a declaration that cannot be, FAILED_PRECONDITION where a step asks a
                model of this process that is not configured.
        """
        mix = parse_mix((path / NAME).read_bytes())
        self._check(mix)
        remote = RemoteTargets()
        targets: dict[str, list[Ask]] = {
            step.name: [
                remote.target(one).ask if one.url else LocalTarget(self._manager, one).ask for one in step.targets
            ]
            for step in mix.steps.values()
        }
        mixer = Mixer(mix, targets, MixObserver(self._metrics, servable), self._around)
        signature = mix_signature(mix)
        model = SavedModel(MappingProxyType({signature.name: signature}), _MixSession(), path, "zeroserve_mix")
        _log.info("loaded the mix %s from %s, steps %s", servable, path, list(mix.steps))
        return Servable(servable, model, MixScheduler(mixer, remote), partial(self._release, path))

    def _check(self, mix: Mix) -> None:
        configured = self._manager.names()
        for step in mix.steps.values():
            for target in step.targets:
                if not target.url and target.model not in configured:
                    raise ServingError(
                        Code.FAILED_PRECONDITION,
                        f"{NAME}: steps.{step.name}.model: no model {target.model!r} is configured here: found "
                        f"{', '.join(sorted(configured))}; another service needs a 'url'",
                    )


class MixScheduler:
    """Runs a mix for each request; a `loader.scheduler.Scheduler`. Its steps are batched by their own schedulers."""

    def __init__(self, mixer: Mixer, remote: RemoteTargets) -> None:
        self._mixer = mixer
        self._remote = remote

    async def run(
        self, feeds: Mapping[str, Array], fetches: Sequence[str], *, deadline: float | None = None
    ) -> list[Array]:
        """Runs once; see `Scheduler.run`. Inputs and outputs are fed and fetched under their own names."""
        await asyncio.sleep(0)  # into a task, whose context the steps and their spans share: see functions/web/eager.py
        return await self._mixer.run(feeds, fetches, deadline)

    def close(self) -> None:
        """Closes the connections to other services."""
        self._remote.close()


class _MixSession:
    """What stands in a mix's place for a session: it has none, its models have theirs."""

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], *, timeout: float | None = None) -> list[Array]:
        """UNIMPLEMENTED: a mix is run by its scheduler."""
        raise ServingError(Code.UNIMPLEMENTED, "a mix has no session: its scheduler runs it")

    def close(self) -> None:
        """Nothing to free."""
