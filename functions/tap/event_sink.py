"""Events to an address over HTTP, from threads of their own: bounded, tried again, counted, and never waited for.

An event that the sink does not take (no connection, a silence, 408, 425, 429, 5xx) is sent again after a pause that
grows and is drawn by chance, so that many pods do not come back at the same moment. What the sink refuses is given up
at once. Connections are kept open. Redirects are not followed and no proxy of the environment is used: what callers
sent goes where the operator said, or nowhere.

Source: CloudEvents 1.0, HTTP protocol binding 3.1 (binary mode); Knative's SinkBinding (`K_SINK`, `K_CE_OVERRIDES`,
`K_CA_CERTS`).
"""

import contextlib
import http.client
import logging
import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from functions.tap import counts
from functions.tap.counts import TapCounts
from functions.tap.outbox import Outbox

MAX_EVENTS = 1024
"""That wait."""

MAX_BYTES = 64 << 20
"""Of all that wait."""

SENDERS = 4
"""Events on their way at a time."""

TRIES = 5
"""How often one event is sent."""

PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.2, 10.0
"""The longest first pause, and the longest of all; each is drawn between zero and the longest."""

ANSWER_SECONDS = 10.0
"""What the sink may be silent for."""

MAX_ANSWER_BYTES = 64 << 10
"""Of the sink's answer, whose words nobody reads; a connection that brings more is closed."""

LOG_SECONDS = 10.0
"""Between two lines of the log about a sink in trouble."""

AGAIN = frozenset({408, 425, 429, *range(500, 600)})
"""Statuses after which the same event may be taken."""

_VALUE = " !#$&'()*+,-./:;<=>?@[]^_`{|}~"
"""What a header's value shows as it is; `quote` keeps letters and digits. Source: HTTP binding 3.1.3.2."""

_log = logging.getLogger("zeroserve.tap")


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Attributes:
        attributes: `id`, `type`, `source` and others, as texts.
        content_type: of the data.
        data: it.
    """

    attributes: Mapping[str, str]
    content_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Letter:
    """An event that waits.

    Attributes:
        exit: what it is counted as.
        model: of the stock server's count of logged requests; empty for what is none.
        render: makes the event; on a thread of the sink.
    """

    exit: str
    model: str
    render: Callable[[], Event]


@dataclass(slots=True)
class EventSink:
    """Sends events to `url`. Thread-safe.

    Attributes:
        url: http or https.
        counts: what became of them.
        extensions: more attributes for each event; none of them replaces one of its own.
        tls: for https; see `trusted`.
        tries: how often one event is sent.
    """

    url: str
    counts: TapCounts
    extensions: Mapping[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    tries: int = TRIES
    _outbox: Outbox[Letter] = field(default_factory=lambda: Outbox(MAX_EVENTS, MAX_BYTES))
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _end: threading.Event = field(default_factory=threading.Event)
    _on_way: int = 0
    _next_line: float = 0.0

    def offer(self, letter: Letter, size: int) -> bool:
        """Takes an event of about `size` bytes, or counts it as dropped and says no. Never blocks."""
        self.counts.sampled.add((letter.exit,))
        if not self._outbox.offer(letter, size):
            self._dropped(letter, counts.SHUTDOWN if self._outbox.closed else counts.QUEUE_FULL, "RESOURCE_EXHAUSTED")
            return False
        if len(self._threads) < SENDERS:
            self._start_one()
        return True

    def close(self, timeout: float) -> None:
        """Sends what waits, for so many seconds at the most; what is left is counted, and said in the log."""
        self._outbox.close()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._end.set()  # a sender that still tries gives up, and counts what it holds
        left = self._outbox.clear()
        for letter in left:
            self._dropped(letter, counts.SHUTDOWN, "UNAVAILABLE")
        if left or self._on_way:
            _log.warning("%d events were not taken by %s in time", len(left) + self._on_way, self._shown())

    def _start_one(self) -> None:
        with self._lock:
            if len(self._threads) < SENDERS:
                thread = threading.Thread(target=self._run, name="zeroserve-sink", daemon=True)
                thread.start()
                self._threads.append(thread)

    def _run(self) -> None:
        with contextlib.closing(_Line(self.url, self.tls)) as line:
            while (letter := self._outbox.take()) is not None:
                with self._lock:
                    self._on_way += 1
                try:
                    self._send(letter, line)
                except Exception:  # noqa: BLE001  one event must not take the others with it
                    _log.exception("an event could not be made")
                    self._dropped(letter, counts.UNREADABLE, "INTERNAL")
                finally:
                    with self._lock:
                        self._on_way -= 1

    def _send(self, letter: Letter, line: "_Line") -> None:
        event = letter.render()
        attributes = dict(self.extensions) | dict(event.attributes)
        headers = {f"ce-{name}": quote(text, safe=_VALUE) for name, text in attributes.items()}
        headers |= {"ce-specversion": "1.0", "content-type": event.content_type}
        for attempt in range(self.tries):
            longest = min(MAX_PAUSE_SECONDS, PAUSE_SECONDS * 2**attempt)
            if attempt and self._end.wait(random.uniform(0, longest)):  # noqa: S311  no secret
                break
            try:
                status, trouble = line.post(event.data, headers)
            except (OSError, http.client.HTTPException) as error:
                status, trouble = 0, f"{error or type(error).__name__}"
            if 200 <= status < 300:
                self.counts.passed.add((letter.exit,))
                if letter.model:
                    self.counts.logged.add((letter.model, "OK"))
                return
            self._say(status, trouble)
            if status and status not in AGAIN:
                self._dropped(letter, counts.REFUSED, "INVALID_ARGUMENT")
                return
        self._dropped(letter, counts.SHUTDOWN if self._end.is_set() else counts.FAILED, "UNAVAILABLE")

    def _dropped(self, letter: Letter, reason: str, status: str) -> None:
        self.counts.drop(letter.exit, reason)
        if letter.model:
            self.counts.logged.add((letter.model, status))

    def _say(self, status: int, trouble: str) -> None:
        now = time.monotonic()
        if now >= self._next_line:
            self._next_line = now + LOG_SECONDS
            _log.warning("%s does not take events: %s", self._shown(), f"{status} {trouble}".removeprefix("0 ").strip())

    def _shown(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


def trusted(url: str, ca_certs: str) -> ssl.SSLContext | None:
    """Whom an https sink is to be certified by; None for http.

    Args:
        url: of the sink.
        ca_certs: certificates in PEM that are trusted beside the usual ones; empty for none.

    Raises:
        ValueError: they are none.
    """
    if urlsplit(url).scheme != "https":
        return None
    context = ssl.create_default_context()
    if ca_certs:
        try:
            context.load_verify_locations(cadata=ca_certs)
        except ssl.SSLError as error:
            raise ValueError(f"K_CA_CERTS are no certificates in PEM: {error.reason}") from None
    return context


class _Line:
    """One connection, made anew after whatever went wrong. Used by one thread."""

    def __init__(self, url: str, tls: ssl.SSLContext | None) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._tls = tls
        self._connection: http.client.HTTPConnection | None = None

    def post(self, data: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
        """The sink's status and its reason.

        Raises:
            OSError, HTTPException: no answer.
        """
        kept = self._connection is not None
        try:
            return self._post(data, headers)
        except (ConnectionError, http.client.BadStatusLine):
            if not kept:
                raise
            return self._post(data, headers)  # the sink has closed the connection while it was idle

    def close(self) -> None:
        """Ends the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _post(self, data: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
        connection = self._connection
        if connection is None:
            if self._tls is None:
                connection = http.client.HTTPConnection(self._host, self._port, timeout=ANSWER_SECONDS)
            else:
                connection = http.client.HTTPSConnection(
                    self._host, self._port, timeout=ANSWER_SECONDS, context=self._tls
                )
            self._connection = connection
        try:
            connection.request("POST", self._target, data, dict(headers))
            answer = connection.getresponse()
            answer.read(MAX_ANSWER_BYTES)
            whole = answer.isclosed()
        except BaseException:
            self.close()
            raise
        if not whole or answer.will_close:
            self.close()
        return answer.status, answer.reason
