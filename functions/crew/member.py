"""One worker's part in the crew: tells the others what it has, answers them, and asks them."""

import contextlib
import fcntl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from functions.crew.board import Berth
from functions.crew.ledger import Ledger
from functions.crew.mail import Mail, NoAnswerError
from functions.crew.models import CrewManager, CrewSource
from functions.crew.view import HEARTBEAT_SECONDS, CrewView, WorkerState
from functions.observing.metrics import Gauge, Metrics
from functions.observing.metrics_text import Samples, total
from functions.oip.unloaded_models import UnloadedModels
from loader.model_config import ModelConfig
from loader.status import ServingError

ANSWER_SECONDS = 2.0
"""How long another worker's state or counts are waited for."""

RELOAD_SECONDS = 30.0
"""How long another worker may take to check and apply a reload; the loads come after that."""


class CrewMember:
    """A worker's exchange with the others. Safe from any thread.

    Args:
        berth: this worker's place.
        metrics: its counts.
        manager, source: its models.
        missing: why it is not ready, in words.
        unloaded: models that a repository call took out.
    """

    def __init__(
        self,
        berth: Berth,
        metrics: Metrics,
        manager: CrewManager,
        source: CrewSource,
        missing: Callable[[], Sequence[str]],
        *,
        unloaded: UnloadedModels | None = None,
    ) -> None:
        self._berth = berth
        self._metrics = metrics
        self._manager = manager
        self._source = source
        self._missing = missing
        self._unloaded = unloaded or UnloadedModels()
        self._mail = Mail(berth.folder, berth.index, berth.count)
        self._ledger = Ledger(berth.folder, berth.index)
        self._closed = False
        self.view = CrewView(self._mail.others, berth.board.accepts)
        manager.view = self.view
        source.everywhere = self._reload_everywhere
        self._unloaded.everywhere = self._unloaded_everywhere
        metrics.add_family(Gauge("zeroserve_workers", (), lambda: {(): 1.0}))
        restarts = Gauge("zeroserve_worker_restarts", (), lambda: {(): float(berth.board.restarts)}, highest=True)
        metrics.add_family(restarts)

    def join(self, begin: Callable[[Sequence[ModelConfig] | None], None]) -> None:
        """Begins to answer and to tell, and to serve what the others serve.

        Args:
            begin: is given the models as another worker has them; None where there is nobody to ask yet.
        """
        self._ledger.inherit()
        self._mail.open(
            {
                "state": self._hear,
                "states": self._hear_all,
                "configs": lambda _: self._source.configs,
                "check": self._check,
                "reload": self._reload,
                "wait": self._wait,
                "counts": self._counts,
                "look": lambda _: self._source.poll_soon(),
                "unloaded": lambda change: self._unloaded.note(*change),
                "all unloaded": lambda _: self._unloaded.all(),
            }
        )
        with self._alone():  # a reload that is under way reaches this worker either by the question or by the answer
            answers = self._mail.ask_others("configs", None, ANSWER_SECONDS) if self._berth.again else {}
            if self._berth.again:
                known = self._mail.ask_others("all unloaded", None, ANSWER_SECONDS).values()
                self._unloaded.join(next((one for one in known if isinstance(one, dict)), {}))
            begin(next((one for one in answers.values() if isinstance(one, list)), None))
        threading.Thread(target=self._tell, name="crew-tell", daemon=True).start()

    @property
    def ready_here(self) -> bool:
        """Whether this worker is ready, whatever the others are."""
        return self._manager.ready_here

    def look_everywhere(self) -> None:
        """Makes all workers look at storage at once. Blocks for `ANSWER_SECONDS` at most."""
        self._source.poll_soon()
        self._mail.ask_others("look", None, ANSWER_SECONDS)

    def close(self) -> None:
        """Tells and answers no more; leaves the counts."""
        self._closed = True
        self._mail.close()
        self._ledger.keep(self._metrics.samples())

    def all_samples(self) -> list[Samples]:
        """The counts of all workers, those that have ended among them. Blocks for `ANSWER_SECONDS` at most."""
        own = self._counts(None)
        answers = [one for one in self._mail.ask_others("counts", None, ANSWER_SECONDS).values() if _is_counts(one)]
        living = [own, *answers]
        ended = self._ledger.others({key for key, _ in living})
        return total([*(samples for _, samples in living), *ended])

    # Answers.

    def _state(self) -> WorkerState:
        names = self._manager.names()
        return WorkerState(tuple(self._missing()), {name: self._manager.statuses_here(name) for name in names})

    def _hear(self, content: Any) -> WorkerState:
        self._note(*content)
        return self._state()

    def _hear_all(self, content: Any) -> None:
        for worker, state in content.items():
            if worker != self._berth.index:
                self._note(worker, state)

    def _note(self, worker: int, state: WorkerState) -> None:
        self.view.note(worker, state)
        _ = self._manager.ready

    def _counts(self, _: Any) -> tuple[str, list[Samples]]:
        samples = self._metrics.samples()
        self._ledger.keep(samples)
        return self._ledger.key, samples

    def _check(self, content: Any) -> None:
        configs, allow_unavailable = content
        self._source.check(configs, allow_unavailable=allow_unavailable)

    def _reload(self, configs: Any) -> None:
        self._source.reload_here(configs, allow_unavailable=True)  # its labels were checked by all

    def _wait(self, names: Any) -> WorkerState:
        self._manager.wait_until_available(names)
        return self._state()

    # Questions.

    def _tell(self) -> None:
        while not self._closed:
            state = self._state()
            answers = self._mail.ask_others("state", (self._berth.index, state), ANSWER_SECONDS)
            for other, answer in answers.items():
                if isinstance(answer, WorkerState):
                    self._note(other, answer)
                elif isinstance(answer, NoAnswerError):
                    self.view.forget(other)
            self._wait_for_news(state)

    def _wait_for_news(self, told: WorkerState) -> None:
        """Returns when this worker has something else to tell, or has told nothing for a while."""
        end = time.monotonic() + HEARTBEAT_SECONDS
        self._manager.wait_until(lambda: self._closed or self._state() != told, max(0.0, end - time.monotonic()))

    def _reload_everywhere(self, configs: Sequence[ModelConfig], allow_unavailable: bool) -> list[str]:
        with self._alone():
            # Nobody begins before all have agreed: taking a model out and putting it back would cost its requests.
            self._source.check(configs, allow_unavailable=allow_unavailable)
            change = (list(configs), allow_unavailable)
            _raise_first(self._mail.ask_others("check", change, RELOAD_SECONDS))
            new = self._source.reload_here(configs, allow_unavailable=True)
            _raise_first(self._mail.ask_others("reload", list(configs), RELOAD_SECONDS))
        if new:
            self._wait_everywhere(new)
        return new

    def _unloaded_everywhere(self, name: str, config: ModelConfig | None) -> None:
        self._mail.ask_others("unloaded", (name, config), ANSWER_SECONDS)

    def _wait_everywhere(self, new: list[str]) -> None:
        answers = self._mail.ask_others("wait", new)
        self._manager.wait_until_available(new)
        # Whichever worker is asked next for the state of these models knows that all have them.
        states = {other: one for other, one in answers.items() if isinstance(one, WorkerState)}
        self._hear_all(states)
        self._mail.ask_others("states", states | {self._berth.index: self._state()}, ANSWER_SECONDS)
        _raise_first(answers)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While no other worker changes the models."""
        with (self._berth.folder / "reload-lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _raise_first(answers: Mapping[int, Any]) -> None:
    """Raises the first error that a worker answered; one that gave no answer is replaced by one that asks."""
    for answer in answers.values():
        if isinstance(answer, ServingError):
            raise answer


def _is_counts(answer: Any) -> bool:
    return isinstance(answer, tuple)
