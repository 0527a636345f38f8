"""A revision that is asked over HTTP/1.1, with the standard library: JSON in, JSON out."""

import http.client
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

WAKE_SECONDS = 120.0
"""What a revision that sleeps gets to answer its first request."""

ASK_SECONDS = 60.0
"""What one answer may take once it is awake."""

MAX_ANSWER_BYTES = 64 << 20
"""Of one answer."""

PAUSE_SECONDS = 0.5
"""Between two tries of a revision that does not answer yet."""

_AGAIN = frozenset({404, 429, 502, 503, 504})
"""Statuses of an ingress that does not know a tag yet, and of a revision that wakes."""


class PeerError(Exception):
    """A revision does not answer, or not in JSON."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: its HTTP status, and the JSON value of its body (None where it is no JSON)."""

    status: int
    content: Any


@dataclass(frozen=True, slots=True)
class Peer:
    """A revision by its tag's address; safe from any thread, each request has a connection of its own.

    Attributes:
        url: `http://v7-resnet.models.svc.cluster.local`.
        headers: sent with each request; `Host` where the address is a gateway's.
        pods: what a pod of the revision that runs already answers to a GET, if it is 200, else empty: no address has to
            be known to the ingress for it, and nobody is woken.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    pods: Callable[[str], bytes] = field(default=lambda path: b"", repr=False, compare=False)

    def ask(self, path: str, body: Any = None, seconds: float = ASK_SECONDS) -> Answer:
        """One request: a POST of JSON where there is a body, else a GET.

        Raises:
            PeerError: no answer.
        """
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=seconds)
        # The answer must come from this revision, and must not be counted as a user's wish to be routed; nor is what is
        # asked again to be recorded again.
        headers = {"x-zeroserve-forwarded": "1", "x-zeroserve-copy": "1", "accept": "application/json", **self.headers}
        try:
            if body is None:
                connection.request("GET", parts.path.rstrip("/") + path, headers=headers)
            else:
                content = json.dumps(body).encode()
                headers["content-type"] = "application/json"
                connection.request("POST", parts.path.rstrip("/") + path, content, headers)
            response = connection.getresponse()
            text = response.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise PeerError(f"{self.url} does not answer: {error or type(error).__name__}") from None
        finally:
            connection.close()
        if len(text) > MAX_ANSWER_BYTES:
            raise PeerError(f"{self.url}: an answer of more than {MAX_ANSWER_BYTES} bytes")
        try:
            return Answer(response.status, json.loads(text))
        except (ValueError, RecursionError):
            return Answer(response.status, None)

    def read(self, path: str, seconds: float = WAKE_SECONDS) -> Answer:
        """A GET, of a pod that runs already, or else of the revision's address until it answers: see `wake`."""
        try:
            content = json.loads(self.pods(path))
        except (ValueError, RecursionError):
            content = None
        return self.wake(path, seconds) if content is None else Answer(200, content)

    def wake(self, path: str, seconds: float = WAKE_SECONDS) -> Answer:
        """Asks until the revision itself answers: from zero, or while its address is not known yet.

        Raises:
            PeerError: it does not within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            try:
                answer = self.ask(path, seconds=max(1.0, min(ASK_SECONDS, left)))
                if answer.status not in _AGAIN:
                    return answer
                problem = f"{self.url}{path} answers {answer.status}"
            except PeerError as error:
                problem = str(error)
            if time.monotonic() + PAUSE_SECONDS >= deadline:
                raise PeerError(problem)
            time.sleep(PAUSE_SECONDS)
