"""One process that serves until it is told to end: alone, or as one of several workers."""

import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from functions.config import Settings

if TYPE_CHECKING:
    import ssl

    from functions.asgi import AsgiApplication
    from functions.crew.board import Berth
    from functions.server import Server


class Beside(Protocol):
    """What runs beside a server for as long as it serves; see `functions.watch_serving`."""

    @property
    def application(self) -> "AsgiApplication":
        """Answers in the place of the server's own."""

    def close(self) -> None:
        """Ends it, before the server unloads."""


def serve_process(
    settings: Settings,
    sockets: Sequence[socket.socket],
    tls: "ssl.SSLContext | None",
    *,
    fail: Callable[[str], int],
    on_listen: Callable[[], None] = lambda: None,
    on_loaded: Callable[[], None] = lambda: None,
    berth: "Berth | None" = None,
    beside: "Callable[[Server], Beside] | None" = None,
) -> int:
    """Answers on `sockets` until SIGTERM or SIGINT, then drains and unloads. On the main thread.

    Args:
        settings: what to serve.
        sockets: listen already.
        tls: None means clear text.
        fail: is told why the start failed, and gives the exit status for it.
        on_listen: called once imports and loads are under way.
        on_loaded: called after the first loads, on another thread.
        berth: this worker's place among several; None for a server of one process.
        beside: makes what runs beside the server; None for nothing.

    Returns:
        The exit status.
    """
    from functions.server import Server  # noqa: PLC0415  after the port is open: requests may queue

    # A failed start ends the process the way a stop does: by the signal that the HTTP server drains for.
    server = Server(settings, lambda _: os.kill(os.getpid(), signal.SIGTERM), on_loaded, berth)

    def end_at_once(*_: object) -> None:
        """Before the HTTP server has its own handlers there is nothing to drain."""
        status = fail(server.failure) if server.failure else 0
        sys.stderr.flush()
        os._exit(status)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end_at_once)
    server.start()
    companion = beside(server) if beside is not None else None
    from functions.web.server import serve  # noqa: PLC0415  while the runtime loads in its thread

    on_listen()
    if berth is not None and berth.again:
        server.wait_loaded()  # until then the other workers answer
    serve(
        server.application if companion is None else companion.application,
        sockets,
        on_drain=server.drain,
        drain_timeout=settings.drain_timeout_seconds,
        drain_delay=lambda: 0.0 if server.failure else settings.drain_delay_seconds,
        tls=tls,
        berth=berth,
    )
    if companion is not None:
        companion.close()
    server.close()
    return fail(server.failure) if server.failure else 0
