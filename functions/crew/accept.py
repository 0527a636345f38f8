"""Accepts connections on a socket that several processes share, so that each gets its share of them.

The kernel wakes all processes that wait for one socket, and whoever comes first accepts: of 32 connections opened one
after the other, one of two workers got between 0 and 32. A client keeps its connections for long, so that matters. With
a socket for each process (SO_REUSEPORT) the kernel deals them out by a hash, 32 as 12 and 20; but what it has dealt to
a process that ends before it accepts is lost. Here a process that has more connections than another waits a moment
first: 32 come out as 16 and 16, and a connection that nobody has accepted is anybody's.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

from functions.crew.board import Berth

DEFER_SECONDS = 0.001
"""How long one process leaves a connection to the others."""

MAX_DEFERS = 5
"""How often it does so in a row: the one with the fewest connections may be at work, or stuck."""

_log = logging.getLogger("zeroserve.crew")


class FairListener:
    """Accepts on one shared socket. Used on the event loop's thread only.

    Args:
        shared: listens already; this process's copy of it is closed by `close`.
        make: the protocol of a connection.
        connections: how many connections this process has.
        tls: None means clear text.
        handshake_seconds: how long a TLS handshake may take.
    """

    def __init__(
        self,
        berth: Berth,
        shared: socket.socket,
        make: Callable[[], asyncio.Protocol],
        *,
        connections: Callable[[], int],
        tls: ssl.SSLContext | None,
        handshake_seconds: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._berth = berth
        self._socket = shared
        self._make = make
        self._connections = connections
        self._tls = tls
        self._handshake_seconds = handshake_seconds
        self._arriving: set[asyncio.Task[None]] = set()
        self._defers = 0
        self._timer: asyncio.TimerHandle | None = None
        self._berth.board.accepting(berth.index, connections())
        self._loop.add_reader(shared, self._ready)

    def close(self) -> None:
        """Accepts no further connection."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._socket)
        self._berth.board.ended(self._berth.index)
        self._socket.close()

    def _ready(self) -> None:
        board, mine = self._berth.board, self._connections() + len(self._arriving)
        board.accepting(self._berth.index, mine)
        if mine > board.fewest() and self._defers < MAX_DEFERS:
            self._defers += 1
            # The socket stays readable until somebody accepts: not to be asked again at once, look away meanwhile.
            self._loop.remove_reader(self._socket)
            self._timer = self._loop.call_later(DEFER_SECONDS, self._look_again)
            return
        self._defers = 0
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            # Out of file descriptors, as a rule. The other workers may have some.
            _log.error("a connection could not be accepted: %s", error)
            self._loop.remove_reader(self._socket)
            self._timer = self._loop.call_later(1.0, self._look_again)
            return
        connection.setblocking(False)
        board.accepting(self._berth.index, mine + 1)
        task = self._loop.create_task(self._take(connection))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    def _look_again(self) -> None:
        self._timer = None
        self._loop.add_reader(self._socket, self._ready)

    async def _take(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._make,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=self._handshake_seconds if self._tls is not None else None,
            )
        except OSError as error:  # a client that left, or that speaks no TLS
            _log.debug("a connection ended before it began: %s", error)
            connection.close()
