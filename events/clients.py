"""Clients of the cluster, one for each thread, made anew now and then: tokens of pods change every hour."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from knative.client import ApiError, Client

MAX_AGE_SECONDS = 300.0
"""After which a client, and what it knows of who we are, is made again."""

_UNAUTHORIZED = 401


class Clients:
    """Gives each thread a client of its own.

    Args:
        make: a new client; raises DeployError where there is no cluster.
    """

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self._local = threading.local()

    @contextlib.contextmanager
    def use(self) -> Iterator[Client]:
        """The client of this thread. One that the cluster does not know any more is made again for the next use."""
        kept: tuple[float, Client] | None = getattr(self._local, "kept", None)
        if kept is None or time.monotonic() - kept[0] > MAX_AGE_SECONDS:
            if kept is not None:
                kept[1].close()
            kept = self._local.kept = (time.monotonic(), self._make())
        try:
            yield kept[1]
        except ApiError as error:
            if error.status == _UNAUTHORIZED:
                kept[1].close()
                self._local.kept = None
            raise
