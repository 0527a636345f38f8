"""The models of one worker among several: its own to answer with, everybody's to speak of.

Requests are answered from what this worker has loaded, exactly as in a server of one process. Where the state of
versions is asked for, and where the set of models is changed, all workers are meant.
"""

from collections.abc import Callable, Sequence

from functions.crew.view import CrewView
from loader.manager import ServableManager
from loader.model_config import ModelConfig
from loader.servable import VersionStatus
from loader.source import StorageSource
from loader.status import Code, ServingError


class CrewManager(ServableManager):
    """A manager whose states are those of all workers, once it was given a view of them.

    Attributes:
        view: what the other workers have; None means that there are none.
    """

    view: CrewView | None = None
    _all_were_ready = False

    def statuses_here(self, name: str) -> list[VersionStatus]:
        """The versions of a model in this worker; empty when it never heard of one."""
        try:
            return super().statuses(name)
        except ServingError:
            return []

    def statuses(self, name: str) -> list[VersionStatus]:
        """See `ServableManager.statuses`; see `whole_version` for what several workers' states make."""
        whole = self.view.whole(name, self.statuses_here(name)) if self.view is not None else []
        return whole or super().statuses(name)

    def status(self, name: str, version: int) -> VersionStatus:
        """See `ServableManager.status`."""
        found = [one for one in self.statuses(name) if one.version == version]
        if not found:
            raise ServingError(Code.NOT_FOUND, f"Could not find version {version} of model {name}")
        return found[0]

    @property
    def ready_here(self) -> bool:
        """Whether this worker is ready."""
        return super().ready

    @property
    def ready(self) -> bool:
        """Whether every worker was ready at one time, and this one still is; see `ServableManager.ready`.

        Asked whenever another worker tells something, so that the time is not missed.
        """
        if not self._all_were_ready and self.ready_here:
            self._all_were_ready = self.view is None or not self.view.missing()
        return self._all_were_ready and self.ready_here


class CrewSource(StorageSource):
    """A source whose reload reaches all workers, once it was told how.

    Looks at storage are each worker's own: they lead to the same, and one that is lost heals itself.

    Attributes:
        everywhere: does a reload in all workers, or in none; its second argument is `allow_unavailable`.
    """

    everywhere: Callable[[Sequence[ModelConfig], bool], list[str]] | None = None

    def reload_here(self, configs: Sequence[ModelConfig] | None, *, allow_unavailable: bool = False) -> list[str]:
        """The reload of this worker; see `StorageSource.reload`."""
        return super().reload(configs, allow_unavailable=allow_unavailable)

    def reload(self, configs: Sequence[ModelConfig] | None, *, allow_unavailable: bool = False) -> list[str]:
        """See `StorageSource.reload`. Returns when the new models are available in all workers.

        Raises:
            ServingError: one worker could not do it, and all are as before; or a new model did not load.
        """
        if configs is None or self.everywhere is None:
            return self.reload_here(configs, allow_unavailable=allow_unavailable)
        return self.everywhere(configs, allow_unavailable)
