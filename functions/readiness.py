"""What the probes say: `/healthz` (the process lives) and `/readyz` (send it requests).

Ready means: every version that was wanted at the start is available and warmed up, and the process is not draining.
Once reached it stays so until the drain: a bad version that arrives later must not take the good one from its users.
"""

import json
from collections.abc import Callable, Sequence

from functions.web.message import JSON_HEADERS, TEXT_HEADERS, Response

PROBES = frozenset({"healthz", "readyz"})
"""Paths of the probes, without the slash."""


class Readiness:
    """Why a server is not ready, if it is not. Safe for any thread.

    Args:
        missing: what the server still waits for, in words; empty when it waits for nothing.
    """

    def __init__(self, missing: Callable[[], Sequence[str]]) -> None:
        self._missing = missing
        self._reached = False
        self._draining = False
        self._callbacks: list[Callable[[], None]] = []

    def on_drain(self, callback: Callable[[], None]) -> None:
        """`callback` is called when the drain begins, on the thread that begins it."""
        self._callbacks.append(callback)

    def drain(self) -> None:
        """From now on: not ready, for good."""
        self._draining = True
        for callback in self._callbacks:
            callback()

    def reasons(self) -> Sequence[str]:
        """Why the server is not ready; empty when it is."""
        if self._draining:
            return ["the server is draining and will exit"]
        if self._reached:
            return []
        reasons = self._missing()
        self._reached = not reasons
        return reasons

    def probe(self, name: str) -> Response:
        """The answer of the probe `name`, one of `PROBES`."""
        if name == "healthz":
            return Response(200, TEXT_HEADERS, b"ok\n")
        reasons = self.reasons()
        body = json.dumps({"ready": not reasons, "reasons": list(reasons)}).encode() + b"\n"
        return Response(503 if reasons else 200, JSON_HEADERS, body)
