"""Tells the world what becomes of rollouts: CloudEvents to the Broker, in binary mode over plain HTTP.

An event is a courtesy: it is sent after what it tells of was written to the cluster, tried a few times, and never holds
a rollout up. The state itself is on the Service.

Source: CloudEvents 1.0, HTTP protocol binding 3.1; Knative's SinkBinding (`K_SINK`, `K_CE_OVERRIDES`).
"""

import json
import logging
import queue
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from events import own_event

KINDS = ("started", "step", "promoted", "rolled_back", "failed")
ATTEMPTS = 4
PAUSE_SECONDS = 0.5
"""Before the second try; doubled for each further one."""

SEND_SECONDS = 10.0
"""What the sink gets for one answer."""

MAX_WAITING = 1000
"""Events that wait to be sent; what comes beyond is logged and dropped."""

_SAFE = " !#$&'()*+,-./:;<=>?@[]^_`{|}~"
"""What a header's value shows as it is; `quote` keeps letters and digits. Source: HTTP binding 3.1.3.2."""

_log = logging.getLogger("zeroserve.rollout")


def event_type(kind: str) -> str:
    """`com.zeroserve.rollout.promoted.v1` for `promoted`."""
    return f"com.zeroserve.rollout.{kind}.v1"


def encode(
    kind: str, namespace: str, service: str, data: Mapping[str, Any], *, extensions: Mapping[str, str], now: datetime
) -> tuple[dict[str, str], bytes]:
    """Headers and body of one event of a rollout.

    Args:
        kind: one of `KINDS`.
        extensions: further attributes; those of the event itself win.
        now: when it happened.
    """
    source = f"/apis/serving.knative.dev/v1/namespaces/{namespace}/services/{service}"
    headers = _more(extensions)
    headers |= _headers(event_type(kind), source, now) | {"ce-subject": service}
    return headers, json.dumps({"service": service, "namespace": namespace, **data}).encode()


def encode_sweep(
    namespace: str, reason: str, *, extensions: Mapping[str, str], now: datetime
) -> tuple[dict[str, str], bytes]:
    """Headers and body of an event that makes a deploy function look at everything; arguments as of `encode`."""
    headers = _more(extensions)
    headers |= _headers(own_event.SWEEP, f"/api/v1/namespaces/{namespace}", now)
    return headers, json.dumps({"namespace": namespace, "reason": reason}).encode()


def _more(extensions: Mapping[str, str]) -> dict[str, str]:
    return {f"ce-{name}": quote(value, safe=_SAFE) for name, value in extensions.items()}


def _headers(kind: str, source: str, now: datetime) -> dict[str, str]:
    return {
        "ce-specversion": "1.0",
        "ce-id": str(uuid.uuid4()),
        "ce-source": source,
        "ce-type": kind,
        "ce-time": now.isoformat().replace("+00:00", "Z"),
        "content-type": "application/json",
    }


class RolloutEvents:
    """Sends events from a thread of its own. Safe from any thread.

    Args:
        sink: where they go: the Broker's address.
        namespace: of the services.
        extensions: attributes that every event gets.
        token_file: holds the bearer token that the sink wants, read anew for each try: Kubernetes renews such files.
            None for none.

    Raises:
        ValueError: no such address.
    """

    def __init__(
        self,
        sink: str,
        namespace: str,
        extensions: Mapping[str, str] | None = None,
        token_file: Path | None = None,
    ) -> None:
        parts = urlsplit(sink)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{sink!r} is no sink: wanted http://HOST/PATH or https://")
        self._sink = sink
        self._namespace = namespace
        self._extensions = dict(extensions or {})
        self._token_file = token_file
        self._waiting: queue.Queue[tuple[dict[str, str], bytes] | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="zeroserve-rollout-events", daemon=True)
        self._started = False
        self._lock = threading.Lock()

    def __call__(self, kind: str, service: str, data: Mapping[str, Any]) -> None:
        """Sends one event soon; returns at once."""
        self._send(encode(kind, self._namespace, service, data, extensions=self._extensions, now=datetime.now(UTC)))

    def sweep(self, reason: str) -> None:
        """Asks whichever deploy function the sink reaches to look at everything; returns at once."""
        self._send(encode_sweep(self._namespace, reason, extensions=self._extensions, now=datetime.now(UTC)))

    def close(self, seconds: float = SEND_SECONDS) -> None:
        """Sends what waits, for so many seconds at most, and ends."""
        if self._started:
            self._waiting.put(None)
            self._thread.join(seconds)

    def _send(self, event: tuple[dict[str, str], bytes]) -> None:
        with self._lock:
            if not self._started:
                self._thread.start()
                self._started = True
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            _log.warning("event %s is dropped: %d wait already", event[0]["ce-type"], MAX_WAITING)

    def _run(self) -> None:
        while (event := self._waiting.get()) is not None:
            headers, body = event
            problem = self._delivered(headers, body)
            if problem:
                _log.warning("event %s is not delivered to %s: %s", headers["ce-type"], self._sink, problem)

    def _delivered(self, headers: Mapping[str, str], body: bytes) -> str:
        """Empty once the sink has it; else why not."""
        problem = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
            try:
                shown = dict(headers)
                if self._token_file is not None:
                    shown["authorization"] = f"Bearer {self._token_file.read_text().strip()}"
                request = urllib.request.Request(self._sink, body, shown, method="POST")  # noqa: S310  checked above
                with urllib.request.urlopen(request, timeout=SEND_SECONDS):  # noqa: S310
                    return ""
            except urllib.error.HTTPError as error:
                with error:
                    problem = f"{error.code} {error.reason}"
                if error.code < 500 and error.code not in {404, 408, 409, 429}:
                    return problem
            except OSError as error:
                problem = str(error)
        return problem
