"""Watches one place in storage, and tells a sink of every complete version that comes or changes.

Level-triggered: each look lists everything, and what the sink has not been told of goes to the outbox. A look that
fails says nothing; the next one heals it. A version that is not complete is not told of: it is looked at again until it
is, so that the receiver gets one event for each version and not one for each of its files.
"""

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

from events.watch_event import Landed, version_url
from events.watch_models import Sight, WatchedPlace
from events.watch_outbox import Outbox
from events.watch_told import Told
from loader.status import ServingError
from loader.store import first_line, shown_host

JITTER = 0.2
"""Share of the interval by which a wait is longer or shorter, by chance, so that watchers do not look in step."""

MAX_FAILURE_SECONDS = 60.0
"""The longest wait between two looks that fail, where the interval is not longer."""

_log = logging.getLogger("zeroserve.watch")


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look found out.

    Attributes:
        versions: how many there are.
        waiting: those that the sink has not taken yet.
        incomplete: URL -> what it lacks.
        gone: URLs of those that are not there any more.
    """

    versions: int
    waiting: list[Landed]
    incomplete: dict[str, str]
    gone: list[str]


class Watcher:
    """One place that is watched. `run` belongs to one thread; `look_now` is safe from any.

    Args:
        place: what is looked at.
        outbox, told: may be shared with other watchers.
        interval: seconds between two looks that nobody asked for.
        looked: told of each look that found something out.
        failed: told in words of each look that did not, when the words are new.
    """

    def __init__(
        self,
        place: WatchedPlace,
        outbox: Outbox,
        told: Told,
        interval: float,
        *,
        looked: Callable[[Looked], None],
        failed: Callable[[str], None],
    ) -> None:
        self._place = place
        self._outbox = outbox
        self._told = told
        self._interval = interval
        self._looked = looked
        self._failed = failed
        self._wake = threading.Event()
        self._stopped = False
        self._absent = False

    def look_now(self) -> None:
        """Something is known to have changed: looks without waiting for the interval."""
        self._wake.set()

    def stop(self) -> None:
        """Ends `run` after the look that is under way."""
        self._stopped = True
        self._wake.set()

    def run(self) -> None:
        """Looks again and again until `stop`."""
        failures, said = 0, ""
        while not self._stopped:
            self._wake.clear()
            failure = self.look()
            if failure and failure != said:
                self._failed(failure)
            # A place that is not there yet is looked at as often as any other: nothing is wrong with it.
            said, failures = failure, failures + 1 if failure and not self._absent else 0
            wait = self._interval
            if failures:
                wait = max(self._interval, min(self._interval * 2 ** min(failures, 30), MAX_FAILURE_SECONDS))
            self._wake.wait(wait * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311  no secret

    def look(self) -> str:
        """Looks once. Returns why that was not possible, in words; empty when it was."""
        place, self._absent = shown_host(self._place.storage.url), False
        try:
            sights = self._place.look()
        except FileNotFoundError:
            self._absent = True
            return f"{place}: nothing there yet; a version is a folder with a number for a name"
        except ServingError as error:
            return error.message
        except OSError as error:
            return f"{place}: {first_line(error)}"
        except Exception as error:  # noqa: BLE001  a defect in a storage driver must not end the watch
            _log.exception("a look at %s failed unexpectedly", place)
            return f"{place}: {type(error).__name__}: {first_line(error)}"
        self._looked(self._tell(sights))
        return ""

    def _tell(self, sights: list[Sight]) -> Looked:
        keys = {sight.landed.key for sight in sights}
        gone = self._told.keep(self._place.storage.url, keys)
        for key in gone:
            self._outbox.drop(key)
        new = [sight.landed for sight in sights if not sight.lacks and not self._told.knows(sight.landed)]
        waiting = [landed for landed in new if self._outbox.put(landed)]
        incomplete = {sight.landed.url: sight.lacks for sight in sights if sight.lacks}
        return Looked(len(sights), waiting, incomplete, [version_url(*key) for key in gone])
