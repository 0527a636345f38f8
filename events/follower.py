"""Follows revisions that are to become ready, so that a rollout goes on at once and not with the next sweep.

A follow-up is a convenience: it lives in this process only, asks for one object at a time, and gives up after a while.
What it would have done, the sweep does; a process that ends tells what is `unfinished`, so that another one goes on.
"""

import logging
import threading
import time
from collections.abc import Callable

from events.clients import Clients
from events.landing import Landing
from events.looks import BusyError, Looks
from events.outcome import Outcome, State
from knative.condition import condition, is_ready
from knative.error import DeployError

POLL_SECONDS = 0.3
"""Between two looks at a revision that was created just now."""

SLOW_POLL_SECONDS = 3.0
"""Between two looks once it has taken longer than most do."""

PROMPT_SECONDS = 60.0
"""After which a follow-up slows down."""

FOLLOW_SECONDS = 900.0
"""After which it ends: the sweep looks at what takes longer."""

MAX_FOLLOWED = 1000
"""Revisions that are followed at a time."""

TRY_SECONDS = 1.0
"""Before a look that failed is tried again; doubled for each further one. Nobody else would: who asked for it may be a
follow-up, which no broker delivers again."""

TRIES = 6
"""Looks in a row that fail before only events and the sweep look."""

_log = logging.getLogger("zeroserve.landing")


class Follower:
    """Takes steps, and further ones when what they wait for has come. Safe from any thread.

    Args:
        landing: takes the steps.
        threads: how many models are looked at at a time.
        looked: told what each look found, and None where it failed; must not block.
    """

    def __init__(
        self,
        landing: Landing,
        threads: int,
        looked: Callable[[str, Outcome | None], None] = lambda service, found: None,
    ) -> None:
        self._clients: Clients = landing.clients
        self._namespace = landing.namespace
        self._landing = landing
        self._looked = looked
        self._lock = threading.Lock()
        self._since: dict[str, float] = {}
        self._failed: dict[str, int] = {}
        self._unfinished: set[str] = set()
        self.looks: Looks[Outcome] = Looks(self._step, threads)
        self._waits: Looks[None] = Looks(self._wait, 2)

    @property
    def unfinished(self) -> frozenset[str]:
        """Services with a rollout under way, or whose last look failed: somebody has to go on with them."""
        with self._lock:
            return frozenset(self._unfinished)

    def close(self) -> None:
        """Takes no more steps, and waits for those that run."""
        self._waits.close()
        self.looks.close()

    def _step(self, service: str) -> Outcome:
        try:
            outcome = self._landing.advance(service)
        except BaseException:
            self._looked(service, None)
            self._try_again(service)
            raise
        self._looked(service, outcome)
        with self._lock:
            self._failed.pop(service, None)
            (self._unfinished.add if outcome.state is State.WORKING else self._unfinished.discard)(service)
        for revision in outcome.awaits:
            self._follow(service, revision)
        if outcome.again is not None:
            self.looks.ask_later(service, outcome.again)
        return outcome

    def _try_again(self, service: str) -> None:
        with self._lock:
            self._unfinished.add(service)
            tries = self._failed[service] = self._failed.get(service, 0) + 1
        if tries <= TRIES:
            self.looks.ask_later(service, TRY_SECONDS * 2 ** (tries - 1))

    def _follow(self, service: str, revision: str) -> None:
        key = f"{service}/{revision}"
        with self._lock:
            if key in self._since or len(self._since) >= MAX_FOLLOWED:
                return
            self._since[key] = time.monotonic()
        self._waits.ask_later(key, POLL_SECONDS)

    def _wait(self, key: str) -> None:
        service, _, revision = key.partition("/")
        with self._lock:
            age = time.monotonic() - self._since.get(key, 0.0)
        if age > FOLLOW_SECONDS:
            self._forget(key)
            _log.warning("%s is not ready after %.0f s: the sweep looks at it from now on", revision, age)
            return
        try:
            with self._clients.use() as client:
                found = client.revision(self._namespace, revision)
        except DeployError as error:
            _log.info("%s cannot be looked at now: %s", revision, error)
            found = None
        if found is None or not (is_ready(found) or condition(found)[0] == "False"):
            self._waits.ask_later(key, POLL_SECONDS if age < PROMPT_SECONDS else SLOW_POLL_SECONDS)
            return
        self._forget(key)
        try:
            self.looks.ask(service)
        except BusyError:
            self.looks.ask_later(service, SLOW_POLL_SECONDS)

    def _forget(self, key: str) -> None:
        with self._lock:
            self._since.pop(key, None)
