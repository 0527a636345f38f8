"""A version's files become a servable: loaded, warmed up, with its scheduler. Imports numpy and TensorFlow's bindings,
so it is imported while storage is being listed and read."""

import functools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from functions.cold_start import ColdStart
from functions.config import Settings
from functions.observing.metrics import Metrics
from functions.scheduling import Scheduling
from functions.session_settings import session_options, worker_cpus
from loader import saved_model, tensorflow_c, warmup
from loader.format import format_of
from loader.format_model import load as load_format
from loader.manager import ServableManager
from loader.method_name import checked
from loader.mixing import mix_file
from loader.servable import Servable, ServableId
from loader.status import Code, ServingError

if TYPE_CHECKING:
    from functions.mixing.mix_loader import MixLoader

THREADS_PER_CPU = 4
"""Threads that run models where the settings do not say. Source: the stock server's `rest_api_num_threads`."""

_log = logging.getLogger("zeroserve.models")


class ModelLoader:
    """Loads versions. Safe from any thread.

    Args:
        settings: the settings.
        metrics: where loads are counted.
        cold_start: is told of the phases.
        release: takes the folder of a version that is no longer used.
        manager: the models that a mix may ask.

    Raises:
        ServingError: INVALID_ARGUMENT: the settings' files cannot be read, or what they say cannot be.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        cold_start: ColdStart,
        release: Callable[[Path], None],
        manager: ServableManager,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._cold_start = cold_start
        self._release = release
        self._manager = manager
        self._mixing = threading.Lock()
        self._session_options = session_options(settings)
        self._executor = ThreadPoolExecutor(
            settings.rest_api_num_threads or THREADS_PER_CPU * worker_cpus(settings), thread_name_prefix="zeroserve-run"
        )
        self._scheduling = Scheduling(settings, self._executor, metrics)

    def preload(self) -> None:
        """Begins to open TensorFlow's library, in a thread of its own; the first load waits for what is left.

        Not before the extension modules are imported: the dynamic linker opens one library at a time.
        """
        tensorflow_c.preload()

    def load(self, servable: ServableId, path: Path, url: str) -> Servable:
        """The version in the folder `path`, ready to answer; `url` is where it came from. Blocks.

        Raises:
            ServingError: it does not load or does not warm up; the folder is released then.
        """
        if mix_file.is_mix(path):
            return self._load_mix(servable, path)
        try:
            model = self._load_model(servable, path)
            if self._settings.enable_signature_method_name_check:
                model = replace(model, signatures=checked(model.signatures))
        except BaseException:
            self._release(path)
            raise
        try:
            if self._settings.enable_model_warmup:
                self._warm_up(servable, url, model)
            scheduler = self._scheduling.scheduler(servable, model, path)
        except BaseException:
            model.session.close()
            self._release(path)
            raise
        return Servable(servable, model, scheduler, partial(self._release, path))

    def _load_model(self, servable: ServableId, path: Path) -> saved_model.SavedModel:
        file = format_of(path)
        if not file:
            self._cold_start.note("library", *tensorflow_c.library().opening)
        began = time.perf_counter()
        if file:
            model = load_format(path, file, worker_cpus(self._settings))
        else:
            model = saved_model.load(path, self._session_options)
        self._note(servable, "load", began)
        return model

    @functools.cached_property
    def _mixes(self) -> "MixLoader":
        from functions.mixing.mix_loader import MixLoader  # noqa: PLC0415  by the first mix
        from functions.mixing.step_span import step_span  # noqa: PLC0415

        return MixLoader(self._manager, self._metrics, self._release, step_span)

    def _load_mix(self, servable: ServableId, path: Path) -> Servable:
        try:
            with self._mixing:
                mixes = self._mixes
            return mixes.load(servable, path)
        except BaseException:
            self._release(path)
            raise

    def close(self, timeout: float) -> None:
        """Ends the threads that run models; every servable is closed by now, or ends with the process."""
        self._scheduling.close(timeout)
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _warm_up(self, servable: ServableId, url: str, model: saved_model.SavedModel) -> None:
        records, status, began = 0, Code.OK.name, time.perf_counter()
        try:
            records = warmup.replay(model.path, model, self._settings.num_request_iterations_for_warmup)
        except ServingError as error:
            status = error.code.name
            raise
        finally:
            if records or status != Code.OK.name:
                self._note(servable, "warmup", began)
                self._metrics.warmup_latency.observe((url, status), (time.perf_counter() - began) * 1e6)
                self._metrics.warmup_records.add((url, status), records)

    def _note(self, servable: ServableId, phase: str, began: float) -> None:
        ended = time.perf_counter()
        self._metrics.load_seconds.observe((servable.name, phase), ended - began)
        self._cold_start.note(phase, began, ended)
