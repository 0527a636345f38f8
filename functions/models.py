"""The models of one server: storage, cache, source, manager and sessions, put together from the settings."""

import contextlib
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from functions.cold_start import ColdStart
from functions.config import Settings
from functions.demo.bundle import demo_model
from functions.observing.metrics import Counter, Gauge, Metrics
from functions.observing.metrics_text import Samples
from functions.observing.version_metrics import VersionMetrics
from functions.oip.unloaded_models import UnloadedModels
from loader import completeness
from loader.cache import ModelCache
from loader.config_file import MAX_CONFIG_BYTES, ConfigFile, Reload, read_local
from loader.lifecycle import LoadOptions
from loader.manager import ManagerOptions, ServableManager
from loader.model_config import DEFAULT_POLICY, ModelConfig
from loader.policy import Specific
from loader.servable import Servable, ServableId, VersionStatus
from loader.source import SourceOptions, StorageSource
from loader.status import Code, ServingError
from loader.storage import open_storage, read_object
from loader.stored_version import StoredVersion
from loader.transition import Transition

if TYPE_CHECKING:
    from functions.crew.board import Berth
    from functions.crew.member import CrewMember
    from functions.model_loader import ModelLoader
    from loader.signed_model import SigningKeys

CACHE_FOLDER = "zeroserve-cache"

_TRANSITIONS = {
    "availability": Transition.AVAILABILITY_PRESERVING,
    "resource": Transition.RESOURCE_PRESERVING,
}

_log = logging.getLogger("zeroserve.models")


class Models:
    """What is served and how it gets here. Safe from any thread.

    Attributes:
        manager: the versions in memory.
        source: what is wanted; a reload goes to it.
        unloaded: models that a repository call took out.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        berth: "Berth | None" = None,
        cold_start: ColdStart | None = None,
    ) -> None:
        """With a `berth`, what the manager says and what the source changes concerns all workers. `cold_start` is
        told what each phase of the first loads takes.
        """
        self._settings = settings
        self._metrics = metrics
        self._urls: dict[Path, str] = {}
        self._fetched: set[str] = set()  # models
        self._cold_start = cold_start or ColdStart()
        missing = completeness.missing
        self._check: Callable[[Path], None] | None = None
        if settings.model_signing_keys:
            from loader import signed_files  # noqa: PLC0415  for those who trust keys

            missing = signed_files.missing
            self._check = partial(signed_files.check_folder, keys=_signing_keys(settings.model_signing_keys))
        self._loader: Future[ModelLoader] = Future()
        directory = settings.cache_directory or str(Path(tempfile.gettempdir()) / CACHE_FOLDER)
        fetched = Counter("zeroserve_cache_bytes_total", ("source",))
        metrics.add_family(fetched)
        self._cache = ModelCache(
            Path(directory),
            settings.cache_max_bytes,
            private=not settings.cache_directory,
            counted=lambda source, size: fetched.add((source,), size),
        )
        options = ManagerOptions(
            LoadOptions(
                settings.max_num_load_retries,
                settings.load_retry_interval_micros,
                settings.num_load_threads,
                settings.num_unload_threads,
            ),
            _TRANSITIONS[settings.transition],
            settings.ready_despite_failed_models,
        )
        storage = partial(open_storage, driver=settings.storage_driver)
        source_options = SourceOptions(
            settings.file_system_poll_wait_seconds,
            settings.servable_versions_always_present,
            # The demo's labels are there from the first moment.
            allow_version_labels_for_unavailable_models=settings.allow_version_labels_for_unavailable_models
            or settings.demo,
        )
        self.manager: ServableManager
        self.source: StorageSource
        self.unloaded = UnloadedModels()
        self._member: CrewMember | None = None
        self._reload_here: Reload
        if berth is None:
            self.manager = ServableManager(self._fetch, self._load, options)
            self.source = StorageSource(self.manager, storage, missing, source_options, self._looked)
            self._reload_here = self.source.reload
            self._statuses_here = self.manager.statuses
        else:
            from functions.crew import member as crew_member  # noqa: PLC0415  only with several workers
            from functions.crew import models as crew_models  # noqa: PLC0415  only with several workers

            self.manager = manager = crew_models.CrewManager(self._fetch, self._load, options)
            self.source = source = crew_models.CrewSource(manager, storage, missing, source_options, self._looked)
            self._reload_here = source.reload_here
            self._statuses_here = manager.statuses_here
            self._member = crew_member.CrewMember(
                berth, metrics, manager, source, self._missing_here, unloaded=self.unloaded
            )
        metrics.add_family(Gauge("zeroserve_open_handles", ("model_name", "version"), self._open_handles))
        self._versions = VersionMetrics(metrics, self._statuses)
        self._config_file = (
            ConfigFile(settings.model_config_file, self._reload_here, root=str(Path.cwd()), read=self._config_text)
            if settings.model_config_file
            else None
        )

    def start(self) -> None:
        """Begins to look at storage, to fetch and to load.

        What waits for the network comes first: what runs models is imported meanwhile, and loads wait for it.

        Raises:
            ServingError: the model config cannot be; the settings' files cannot be read or do not parse.
        """
        if self._member is None:
            self._configure()
        else:
            self._member.join(self._configure)
        self.source.start()
        try:
            from functions.model_loader import ModelLoader  # noqa: PLC0415  see above

            loader = ModelLoader(self._settings, self._metrics, self._cold_start, self._cache.release, self.manager)
        except BaseException as error:
            self._loader.set_exception(error)
            raise
        self._loader.set_result(loader)

    def preload(self) -> None:
        """Begins to open TensorFlow's library beside whatever else is done."""
        self._loader.result().preload()

    def _configure(self, of_others: Sequence[ModelConfig] | None = None) -> None:
        """Says which models to serve: those of the settings, or those that other workers serve."""
        if of_others is not None:
            self._reload_here(of_others, allow_unavailable=True)
        elif self._settings.demo:
            self._reload_here([demo_model()])
        elif self._config_file is None:
            version = self._settings.model_version
            policy = Specific(frozenset({version})) if version else DEFAULT_POLICY
            self._reload_here(
                [ModelConfig(self._settings.model_name, _absolute(self._settings.model_base_path), policy)]
            )
        if self._config_file is not None:
            if of_others is None:
                self._config_file.apply()
            else:
                self._config_file.skip()
            self._config_file.watch(self._settings.model_config_file_poll_wait_seconds)

    def look_now(self) -> None:
        """Looks at storage, in all workers, without waiting for the poll. May block."""
        if self._member is None:
            self.source.poll_soon()
        else:
            self._member.look_everywhere()

    def missing(self) -> list[str]:
        """What the server still waits for before it is ready, in words."""
        missing = self._missing_here()
        if self._member is None or self.manager.ready:
            return missing
        return missing + self._member.view.missing()

    def samples(self) -> list[Samples]:
        """All metrics, those of other workers among them. May block."""
        return self._metrics.samples() if self._member is None else self._member.all_samples()

    def _missing_here(self) -> list[str]:
        manager = self.manager
        ready = manager.ready if self._member is None else self._member.ready_here
        return [] if ready else manager.waiting_for() or ["a model failed to load; its status says why"]

    def close(self, timeout: float) -> None:
        """Stops looking, and unloads everything once nobody uses it; `timeout` in seconds."""
        if self._config_file is not None:
            self._config_file.close(timeout)
        self.source.close(timeout)
        if self._member is not None:
            self._member.close()
        if not self.manager.close(timeout):
            _log.warning("some versions are still in use after %s s and end with the process", timeout)
        if self._loader.done() and self._loader.exception() is None:
            self._loader.result().close(timeout)

    def _config_text(self, path: str) -> str:
        if not _is_url(path):
            return read_local(path)
        return read_object(path, MAX_CONFIG_BYTES, self._settings.storage_driver).decode()

    def _looked(self, name: str, seconds: float) -> None:
        ended = time.perf_counter()
        self._metrics.load_seconds.observe((name, "list"), seconds)
        if name not in self._fetched:  # later looks are nothing that a load waits for
            self._cold_start.note("list", ended - seconds, ended)

    def _open_handles(self) -> dict[tuple[str, ...], float]:
        return {(one.name, str(one.version)): count for one, count in self.manager.in_use().items()}

    def _fetch(self, servable: ServableId, stored: StoredVersion, cancel: threading.Event) -> Path:
        self._fetched.add(servable.name)
        began = time.perf_counter()
        try:
            path = self._cache.fetch(stored.storage, stored.listing, cancel)
        except BaseException as error:
            if not cancel.is_set():
                self._versions.load_failed(servable, "download", error)
            raise
        ended = time.perf_counter()
        self._metrics.load_seconds.observe((servable.name, "download"), ended - began)
        self._cold_start.note("download", began, ended)
        self._urls[path] = stored.url
        return path

    def _load(self, servable: ServableId, path: Path) -> Servable:
        url = self._urls.pop(path, str(path))
        try:
            loader = self._loader.result()
            if self._check is not None:
                self._check(path)
        except BaseException as error:
            self._cache.release(path)
            self._versions.load_failed(servable, "load", error)
            raise
        try:
            return self._versions.counted(loader.load(servable, path, url))
        except BaseException as error:
            self._versions.load_failed(servable, "load", error)
            raise

    def _statuses(self) -> dict[str, list[VersionStatus]]:
        found: dict[str, list[VersionStatus]] = {}
        for name in self.manager.names():
            with contextlib.suppress(ServingError):  # nothing was heard of its versions yet
                found[name] = self._statuses_here(name)
        return found


def _signing_keys(setting: str) -> "SigningKeys":
    """What `--model_signing_keys` says: PEM, or a file of it.

    Raises:
        ServingError: INVALID_ARGUMENT: it cannot be read, or is no key.
    """
    from loader.signed_model import SigningKeys  # noqa: PLC0415  as above

    try:
        return SigningKeys(setting if "-----BEGIN" in setting else Path(setting).read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise ServingError(Code.INVALID_ARGUMENT, f"--model_signing_keys: {error}") from None


def _is_url(path: str) -> bool:
    return "://" in path or "::" in path


def _absolute(base_path: str) -> str:
    """A relative folder on the command line stands on the working directory; a URL stays as it is."""
    return base_path if _is_url(base_path) else str(Path(base_path).absolute())
