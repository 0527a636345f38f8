"""Looks at storage and tells the manager which versions are wanted.

Each look is complete in itself: it lists, asks the policy, and states the whole wish. A look that fails states
nothing, so what is served stays; the next one heals it.

Source: tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc; ServerCore::ReloadConfig in
tensorflow_serving/model_servers/server_core.cc. There a base path that cannot be read ends the look for every model;
here it concerns its own model only.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loader.manager import ServableManager
from loader.model_config import ModelConfig, check_models, check_platforms
from loader.status import Code, ServingError
from loader.watched_model import Missing, WatchedModel

if TYPE_CHECKING:
    from loader.storage import Storage

MAX_PARALLEL_LOOKS = 8
"""Models whose storage is looked at in parallel: a look at an object store is mostly waiting."""

_log = logging.getLogger("zeroserve.source")

FIRST_PAUSE_SECONDS = 0.5
"""Before the second look, where looking ends with success; twice as long before each further one."""

LONGEST_PAUSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How storage is watched.

    Attributes:
        file_system_poll_wait_seconds: seconds between two looks; 0 looks until all that is wanted was found, then no
            more until a reload; a negative number never looks by itself.
        servable_versions_always_present: a model keeps its versions when its base path holds none.
        allow_version_labels_for_unavailable_models: see `loader.labels.check_labels`.
    """

    file_system_poll_wait_seconds: float = 1.0
    servable_versions_always_present: bool = False
    allow_version_labels_for_unavailable_models: bool = False


class StorageSource:
    """Watches the storage of all configured models. Safe from any thread.

    Order of use: `reload` with the first models, `start`, and `close` at the end, before the manager's.
    """

    def __init__(
        self,
        manager: ServableManager,
        open_storage: Callable[[str], "Storage"],
        missing: Missing,
        options: SourceOptions | None = None,
        looked: Callable[[str, float], None] = lambda name, seconds: None,
    ) -> None:
        """Args: `open_storage` gives the storage of a base path, without touching it; see `missing` at its type;
        `looked` is told of each look that found something out: the model's name, and the seconds that it took.
        """
        self._manager = manager
        self._open_storage = open_storage
        self._missing = missing
        self._looked = looked
        self._options = options or SourceOptions()
        self._reloading = threading.Lock()
        self._polling = threading.Lock()
        self._lock = threading.Lock()
        self._watched: dict[str, WatchedModel] = {}
        self._said: dict[str, tuple[str, ...]] = {}
        self._wake = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def configs(self) -> list[ModelConfig]:
        """The models as they are configured now."""
        with self._lock:
            return [model.config for model in self._watched.values()]

    def reload(self, configs: Sequence[ModelConfig] | None, *, allow_unavailable: bool = False) -> list[str]:
        """Makes these the models to serve, all of them or none: models left out are unloaded.

        The next look, which comes at once where `start` was called, loads what is new. To wait for it:
        `manager.wait_until_available(source.reload(configs))`.

        Args:
            configs: None, which a config that sets nothing gives, changes nothing.
            allow_unavailable: labels may name versions that are not available yet, whatever the options say.

        Returns:
            The names of the models that are new.

        Raises:
            ServingError: the models or their labels cannot be; nothing has changed then.
        """
        if configs is None:
            _log.info("Taking no action for empty config.")
            return []
        with self._reloading:
            old = set(self._watched)
            watched = self._checked(configs)
            self._manager.set_labels(_labels(configs), allow_unavailable=allow_unavailable or self._allows_unavailable)
            with self._lock:
                for config in configs:
                    watched[config.name].config = config
                self._watched = watched
                self._said = {name: said for name, said in self._said.items() if name in watched}
                self._manager.set_models(watched)
        self.poll_soon()
        return [name for name in watched if name not in old]

    def check(self, configs: Sequence[ModelConfig], *, allow_unavailable: bool = False) -> None:
        """Raises what `reload` would raise now, and changes nothing."""
        with self._reloading:
            self._checked(configs)
            self._manager.check_labels(
                _labels(configs), allow_unavailable=allow_unavailable or self._allows_unavailable
            )

    def _checked(self, configs: Sequence[ModelConfig]) -> dict[str, WatchedModel]:
        """The models of a configuration that can be, labels aside; raises ServingError for one that cannot."""
        old = {model.config.name: model for model in self._watched.values()}
        check_models(configs)
        check_platforms([model.config for model in old.values()], configs)
        return {config.name: self._watch(config, old.get(config.name)) for config in configs}

    @property
    def _allows_unavailable(self) -> bool:
        return self._options.allow_version_labels_for_unavailable_models

    def _watch(self, config: ModelConfig, old: WatchedModel | None) -> WatchedModel:
        if old is not None and old.config.base_path == config.base_path:
            return old
        return WatchedModel(config, self._open_storage(config.base_path), self._missing)

    def start(self) -> None:
        """Begins to look, at once and then periodically, on its own thread."""
        if self._options.file_system_poll_wait_seconds >= 0 and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="storage-source", daemon=True)
            self._thread.start()

    def poll_soon(self) -> None:
        """Looks again without waiting for the next period: something is known to have changed."""
        self._wake.set()

    def close(self, timeout: float | None = None) -> None:
        """Stops looking; waits at most `timeout` seconds for a look that is under way, and ignores what it finds."""
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        period = self._options.file_system_poll_wait_seconds
        pause = FIRST_PAUSE_SECONDS
        while not self._closed:
            self._wake.clear()
            found = self.poll()
            if period:
                self._wake.wait(period)
            elif found:
                pause = FIRST_PAUSE_SECONDS
                self._wake.wait()
            else:
                # A store that failed for a moment must not leave an instance without its model for ever.
                self._wake.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def poll(self) -> bool:
        """Looks once at the storage of every model, and tells the manager. Blocks as long as storage does.

        Returns:
            Whether every model was found with all the versions that its policy wants.
        """
        with self._polling:
            with self._lock:
                models = list(self._watched.values())
            if len(models) < 2:
                return all(map(self._look, models))
            with ThreadPoolExecutor(min(MAX_PARALLEL_LOOKS, len(models)), "storage-look") as pool:
                return all(list(pool.map(self._look, models)))  # all of them, whatever the first one says

    def _look(self, model: WatchedModel) -> bool:
        name, base_path = model.config.name, model.config.base_path
        started = time.perf_counter()
        try:
            look = model.look()
        except FileNotFoundError as error:
            text = f"Could not find base path {base_path} for servable {name} with error NOT_FOUND: {error}"
            self._note(model, [text], ServingError(Code.NOT_FOUND, text))
            return False
        except ServingError as error:
            self._note(model, [f"Could not list base path {base_path} for servable {name}: {error}"], error)
            return False
        except OSError as error:
            text = f"Could not list base path {base_path} for servable {name}: {error}"
            self._note(model, [text], ServingError(Code.UNAVAILABLE, text))
            return False
        except Exception as error:  # noqa: BLE001  # a defect in one model's driver must not end the watch of all
            _log.exception("listing base path %s for servable %s failed unexpectedly", base_path, name)
            text = f"Could not list base path {base_path} for servable {name}: {type(error).__name__}"
            self._note(model, [text], ServingError(Code.INTERNAL, text))
            return False
        self._looked(name, time.perf_counter() - started)
        notes = look.notes + [error.message for error in look.awaited.values()]
        empty = not look.versions and not look.awaited
        refuses = empty and self._options.servable_versions_always_present
        if refuses:
            notes.append(f"Refusing to unload all versions for Servable: {name}")
        self._note(model, notes, ServingError(Code.NOT_FOUND, notes[0]) if empty else None)
        with self._lock:
            # A model that was taken out or moved during the look is not brought back by it.
            if not refuses and not self._closed and self._watched.get(name) is model:
                self._manager.set_aspired(name, look.versions, look.awaited)
        return not notes

    def _note(self, model: WatchedModel, notes: list[str], problem: ServingError | None) -> None:
        """Logs what is new since the last look, once; a state that lasts is not said every second."""
        name = model.config.name
        with self._lock:
            if self._closed or self._watched.get(name) is not model:
                return
            said, self._said[name] = self._said.get(name, ()), tuple(notes)
            self._manager.set_problem(name, problem)
        for note in notes:
            if note not in said:
                _log.warning("%s", note)


def _labels(configs: Sequence[ModelConfig]) -> dict[str, Mapping[str, int]]:
    return {config.name: config.labels for config in configs}
