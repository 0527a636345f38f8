"""How evenly are connections dealt out to processes that answer on one port?

    python -m perf.accept [--processes 2] [--connections 32] [--rounds 6]

Three ways: all wait for one shared socket (`shared`), a socket each by SO_REUSEPORT (`reuseport`), and one shared
socket where whoever has more than another waits (`fair`, functions/crew/accept.py). A client opens its connections one
after the other, and in every second round sends a first byte on each at once. Prints how many each process got.
"""

import argparse
import asyncio
import os
import signal
import socket
import time
from pathlib import Path

import uvloop

from functions.crew.accept import FairListener
from functions.crew.board import Berth, Board

WAYS = ("shared", "reuseport", "fair")
SETTLE_SECONDS = 0.3


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    for way in WAYS:
        shares = measure(way, options.processes, options.connections, options.rounds)
        print(f"{way}: {' '.join('/'.join(map(str, one)) for one in shares)}")


def measure(way: str, processes: int, connections: int, rounds: int) -> list[list[int]]:
    """The share of each process in each round."""
    board = Board(processes)
    first = _socket(way)
    first.bind(("127.0.0.1", 0))
    port = first.getsockname()[1]
    if way != "reuseport":
        first.listen(1024)
    children = []
    for index in range(processes):
        child = os.fork()
        if not child:
            uvloop.run(_answer(way, first, port, Berth(index, processes, False, Path(), 0, board)))
            os._exit(0)
        children.append(child)
    time.sleep(SETTLE_SECONDS)
    first.close()
    shares = []
    for number in range(rounds):
        clients = []
        for _ in range(connections):
            clients.append(socket.create_connection(("127.0.0.1", port)))
            if number % 2:
                clients[-1].send(b"x")
        time.sleep(SETTLE_SECONDS)
        shares.append([board.connections(index) for index in range(processes)])
        for client in clients:
            client.close()
        time.sleep(SETTLE_SECONDS)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return shares


def _socket(way: str) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if way == "reuseport":
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return made


class _Counted(asyncio.Protocol):
    """A connection that is shown on the board, and works 50 us for each byte, as for a small request."""

    def __init__(self, berth: Berth, open_: set[object]) -> None:
        self._berth = berth
        self._open = open_

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._open.add(self)
        self._berth.board.accepting(self._berth.index, len(self._open))

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        self._berth.board.accepting(self._berth.index, len(self._open))

    def data_received(self, data: bytes) -> None:
        end = time.perf_counter() + 50e-6 * len(data)
        while time.perf_counter() < end:
            pass


async def _answer(way: str, first: socket.socket, port: int, berth: Berth) -> None:
    loop = asyncio.get_running_loop()
    open_: set[object] = set()
    berth.board.accepting(berth.index, 0)
    listening = first
    if way == "reuseport":
        listening = _socket(way)
        listening.bind(("127.0.0.1", port))
        listening.listen(1024)
    listening.setblocking(False)
    if way == "fair":
        FairListener(
            berth,
            listening,
            lambda: _Counted(berth, open_),
            connections=lambda: len(open_),
            tls=None,
            handshake_seconds=0,
        )
    else:
        await loop.create_server(lambda: _Counted(berth, open_), sock=listening)
    await asyncio.Event().wait()


if __name__ == "__main__":
    main()
