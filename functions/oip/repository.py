"""Loading and unloading of models by the Open Inference Protocol's repository calls.

A model that is unloaded is taken out of the configuration; what it was is remembered, by all workers, so that it can be
loaded again.
A model config file that is read again (`--model_config_file_poll_wait_seconds`) has the last word.
"""

import asyncio
import threading
from dataclasses import replace

from functions.oip.unloaded_models import UnloadedModels
from loader.manager import ServableManager
from loader.source import StorageSource
from loader.status import Code, ServingError

LOAD_TIMEOUT = 600.0
"""Seconds that a `load` call waits for the model."""


class ConfigRepository:
    """Changes which of the configured models are served. Safe from any thread."""

    def __init__(self, source: StorageSource, manager: ServableManager, unloaded: UnloadedModels | None = None) -> None:
        self._source = source
        self._manager = manager
        self._lock = threading.Lock()
        self._unloaded = unloaded or UnloadedModels()

    async def load(self, name: str) -> None:
        """Serves the model again and returns when it answers.

        Raises:
            ServingError: NOT_FOUND when no configuration ever named it; what its load failed with.
        """
        await asyncio.to_thread(self._load, name)

    async def unload(self, name: str) -> None:
        """Serves the model no longer; requests under way finish, and this does not wait for them.

        Raises:
            ServingError: NOT_FOUND when it is not served.
        """
        await asyncio.to_thread(self._unload, name)

    def _load(self, name: str) -> None:
        with self._lock:
            configs = self._source.configs
            if all(config.name != name for config in configs):
                unloaded = self._unloaded.all()
                config = unloaded.get(name)
                if config is None:
                    known = sorted({*unloaded, *(each.name for each in configs)})
                    raise ServingError(Code.NOT_FOUND, f"no configuration names model '{name}': found {known}")
                # A label needs a version that answers, so labels come after the load.
                self._source.reload([*configs, replace(config, labels={})])
        self._source.poll_soon()
        self._manager.wait_until_available([name], LOAD_TIMEOUT)
        with self._lock:
            config = self._unloaded.forget(name)
            if config is not None and config.labels:
                self._source.reload([config if each.name == name else each for each in self._source.configs])

    def _unload(self, name: str) -> None:
        with self._lock:
            configs = self._source.configs
            kept = [config for config in configs if config.name != name]
            if len(kept) == len(configs):
                raise ServingError(Code.NOT_FOUND, f"model '{name}' is not served")
            self._unloaded.remember(next(config for config in configs if config.name == name))
            self._source.reload(kept)
