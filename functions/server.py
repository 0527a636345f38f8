"""The composition root: settings become storage, models and doors.

What costs time (numpy, TensorFlow's library, storage clients) is imported and built in a thread, so that the port
answers probes meanwhile and requests wait for the model instead of failing.
"""

import gc
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING

from functions.asgi import Application, AsgiApplication, Doors
from functions.cold_start import TELLING_SECONDS, ColdAnswers, ColdStart
from functions.config import Settings
from functions.observing.metrics import Gauge, Metrics
from functions.observing.metrics_text import Labels
from functions.observing.observers import observers
from functions.process_age import process_age
from functions.readiness import Readiness
from functions.web.body_budget import BodyBudget
from loader.status import Code, ServingError

if TYPE_CHECKING:
    from functions.crew.board import Berth
    from functions.models import Models

OBSERVERS_SECONDS = 3.0
"""What logs and traces get to pass on what they still have."""

_log = logging.getLogger("zeroserve.server")


class Server:
    """One server in one process: models, and the ASGI application that answers for them.

    Order of use: `start`, then `application` on one event loop, `drain` when the end is near, `close`.

    Attributes:
        application: the ASGI application; it may be called at once.
        failure: why the server will never be ready, or empty: the start failed, or no model could be loaded.
    """

    def __init__(
        self,
        settings: Settings,
        on_failure: Callable[[str], None] = _log.error,
        on_loaded: Callable[[], None] = lambda: None,
        berth: "Berth | None" = None,
    ) -> None:
        """Args: at most one of the two is called, once, on a thread of the server: `on_failure` with `failure`,
        or `on_loaded` after the first loads. `berth` is this process's place among several workers.
        """
        self._cold_start = ColdStart()
        self._settings = settings
        self._on_failure = on_failure
        self._on_loaded = on_loaded
        self._berth = berth
        self._doors: Future[Doors] = Future()
        self._loaded: Future[None] = Future()
        self._models: Models | None = None
        self._built = threading.Event()
        self._started_in: dict[Labels, float] = {}
        self.failure = ""
        self._readiness = Readiness(self._missing)
        self._budget = BodyBudget(settings.max_pending_request_bytes)
        self._observers = observers(settings, None if berth is None else berth.index)
        self.application: AsgiApplication = Application(
            self._doors,
            self._readiness,
            settings.max_request_bytes,
            settings.max_inflated_bytes,
            self._budget,
            ColdAnswers(self._cold_start),
        )
        if self._observers is not None:
            self.application = self._observers.before(
                self.application, lambda: self._cold_start.is_over(TELLING_SECONDS)
            )

    def start(self) -> None:
        """Begins to import, build and load, and returns at once."""
        threading.Thread(target=self._run, name="zeroserve-start", daemon=True).start()

    def wait_loaded(self) -> None:
        """Returns when the first loads are over, well or not."""
        self._loaded.result()

    def drain(self) -> None:
        """The process will end: `/readyz` says so from now on."""
        _log.info("draining: requests in flight get %g s", self._settings.drain_timeout_seconds)
        self._readiness.drain()

    def look_now(self) -> None:
        """Looks at storage, in all workers, without waiting for the poll: something is known to have changed."""
        if self._models is not None:
            self._models.look_now()

    def base_paths(self) -> list[str]:
        """Where the versions of the models lie that are configured now; empty while there are none yet."""
        return [config.base_path for config in self._models.source.configs] if self._models is not None else []

    def close(self) -> None:
        """Unloads everything; waits for running requests as long as the settings allow."""
        self._built.wait(self._settings.drain_timeout_seconds)
        if self._models is not None:
            self._models.close(self._settings.drain_timeout_seconds)
        if self._observers is not None:
            self._observers.close(OBSERVERS_SECONDS)

    def _run(self) -> None:
        started = time.perf_counter()
        try:
            self._build()
            self._first_loads()
        except ServingError as error:
            self._fail(f"Failed to start server. Error: {error}", error)
        except Exception as error:  # noqa: BLE001  a thread must not end in silence
            _log.exception("the start failed unexpectedly")
            self._fail(f"Failed to start server. Error: {error!r}", ServingError(Code.INTERNAL, "the start failed"))
        else:
            self._cold_start.end()
            age = process_age()
            if age is not None and not self._missing():
                self._started_in = {(): age}
            # What lives from here on is never garbage: the collector need not look at it during a request.
            gc.collect()
            gc.freeze()
            _log.info("the first loads took %.3f s", time.perf_counter() - started)
            if self._observers is not None:
                self._observers.started(self._cold_start)
            if self._berth is not None:
                self._berth.board.loaded(self._berth.index)
            self._on_loaded()
        finally:
            self._built.set()
            if not self._loaded.done():
                self._loaded.set_result(None)

    def _build(self) -> None:
        from functions.models import Models  # noqa: PLC0415  the imports below it are what the thread is for

        metrics = Metrics()
        metrics.add_family(Gauge("zeroserve_start_to_ready_seconds", (), lambda: self._started_in, highest=True))
        self._cold_start.add_to(metrics)
        if self._observers is not None:
            self._observers.add_to(metrics)
        self._models = Models(self._settings, metrics, self._berth, self._cold_start)
        self._models.start()
        from functions.doors import open_doors  # noqa: PLC0415

        doors = open_doors(self._settings, self._models, metrics, self._loaded, self._readiness, budget=self._budget)
        if self._observers is not None:
            source = self._models.source
            self._observers.follow(lambda: source.configs)
            doors = replace(doors, handlers={**doors.handlers, "v1": self._observers.door(doors.handlers["v1"])})
        self._models.preload()
        self._cold_start.note("import", self._cold_start.born, time.perf_counter())
        self._built.set()
        self._doors.set_result(doors)

    def _first_loads(self) -> None:
        """Waits for them. Some models that fail leave the others serving; when all fail there is nothing to serve."""
        assert self._models is not None  # noqa: S101  _build comes first
        manager = self._models.manager
        try:
            manager.wait_until_available()
        except ServingError as error:
            if error.code is Code.UNAVAILABLE:
                return  # closed meanwhile
            if not manager.in_use():
                raise
            _log.error("%s", error.message)

    def _missing(self) -> list[str]:
        if self.failure:
            return [self.failure]
        if self._models is None or not self._built.is_set():
            return ["the server is starting"]
        return self._models.missing()

    def _fail(self, text: str, error: ServingError) -> None:
        self.failure = text
        if not self._doors.done():
            self._doors.set_exception(error)
        self._on_failure(text)
