"""What all connections of one HTTP server share: the application, the limits, the clock, the list of connections."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Protocol

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApplication = Callable[[Scope, Receive, Send], Awaitable[None]]

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""How a client that speaks HTTP/2 begins (RFC 9113, 3.4). Here, so that HTTP/1.1 alone does not import HTTP/2."""

SWEEP_SECONDS = 1.0
"""How often connections are looked at for an expired wait. One timer for all costs a request nothing."""

log = logging.getLogger("zeroserve.http")


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one client may take. A client over a limit is answered where HTTP has an answer, else disconnected.

    Attributes:
        connections: open connections; more are closed as they come.
        head_bytes: request line and headers together (431; HTTP/2: the stream or the connection ends).
        head_seconds: from the first byte of a request to the end of its headers, and for a TLS handshake.
        idle_seconds: without a request on an open connection. Longer than the idle times of the proxies in front
            (Envoy's and Go's are 90-600 s): who closes first must be the one who would send the next request.
        stall_seconds: without a byte of a body that is due, or without a byte taken by a client that does not read.
        body_buffer_bytes: body that has come and was not yet asked for; beyond it the client is not read from.
        discard_bytes: body that is read and dropped after an early answer, so that the client gets to read it.
        streams: requests in flight on one HTTP/2 connection (SETTINGS_MAX_CONCURRENT_STREAMS).
        stream_window_bytes, connection_window_bytes: HTTP/2 flow control: body that a client may send ahead.
        frame_bytes: largest HTTP/2 frame taken (SETTINGS_MAX_FRAME_SIZE), 16384 or more.
        nuisances: HTTP/2 frames that carry no data (PING, SETTINGS, PRIORITY, RST_STREAM, empty DATA...) a client may
            send at once; `nuisances_per_second` more come with time, `nuisances_per_answer` with each answer.
    """

    connections: int = 10_000
    head_bytes: int = 64 << 10
    head_seconds: float = 20.0
    idle_seconds: float = 620.0
    stall_seconds: float = 60.0
    body_buffer_bytes: int = 1 << 20
    discard_bytes: int = 16 << 20
    streams: int = 256
    stream_window_bytes: int = 4 << 20
    connection_window_bytes: int = 16 << 20
    frame_bytes: int = 256 << 10
    nuisances: float = 2000.0
    nuisances_per_second: float = 100.0
    nuisances_per_answer: float = 16.0


class Connection(Protocol):
    """One client's connection, as the server sees it."""

    def sweep(self, now: float) -> None:
        """Ends whatever has waited too long; `now` as of `loop.time()`."""

    def drain(self) -> None:
        """The server will end: tells a client to go elsewhere that no answer tells."""

    def close_idle(self) -> None:
        """Takes no further request: closes at once when idle, else after the answers in flight."""

    def abort(self) -> None:
        """Closes at once."""


@dataclass(slots=True, eq=False)
class HttpService:
    """Shared by all connections of a server. Used on the event loop's thread only.

    Attributes:
        date: the `date` header's value, not older than a second or two.
        draining: the server will end; requests are still taken, and answers say that the connection closes.
        closing: no further request is taken.
    """

    application: AsgiApplication
    loop: asyncio.AbstractEventLoop
    limits: HttpLimits = field(default_factory=HttpLimits)
    connections: set[Connection] = field(default_factory=set)
    tasks: "set[asyncio.Task[None]]" = field(default_factory=set)
    date: bytes = b""
    draining: bool = False
    closing: bool = False
    _timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Starts the clock."""
        self._sweep()

    def stop(self) -> None:
        """Stops the clock and cuts every connection."""
        if self._timer is not None:
            self._timer.cancel()
        for connection in list(self.connections):
            connection.abort()

    def drain(self) -> None:
        """The server will end: clients are told with their next answer, and are still answered."""
        self.draining = True

    def announce(self) -> None:
        """Tells the clients that no answer has told yet."""
        for connection in list(self.connections):
            connection.drain()

    def close_idle(self) -> None:
        """Takes no further request; connections close as their answers are sent."""
        self.closing = True
        for connection in list(self.connections):
            connection.close_idle()

    def keep(self, task: "asyncio.Task[None]") -> None:
        """Holds a request's task until it ends: the event loop itself holds tasks only weakly."""
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _sweep(self) -> None:
        self.date = formatdate(time.time(), usegmt=True).encode()
        now = self.loop.time()
        for connection in list(self.connections):
            connection.sweep(now)
        self._timer = self.loop.call_later(SWEEP_SECONDS, self._sweep)
