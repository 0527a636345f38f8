"""Our HTTP server on a free port, in a thread of the test's process, with an application of the test."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

import uvloop

from functions.web.server import HttpServer
from functions.web.service import AsgiApplication, HttpLimits


class Running:
    """A server that runs. `loop` is its event loop, `port` where it answers."""

    def __init__(self, application: AsgiApplication, limits: HttpLimits | None, tls: ssl.SSLContext | None) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._application, self._limits, self._tls = application, limits, tls
        self._started = threading.Event()
        self._ended = threading.Event()
        self._stop: asyncio.Event
        self.grace, self.delay = 5.0, 0.0
        self.loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.server = HttpServer(self._application, self._limits, self._tls)
        await self.server.start([self._socket])
        self._started.set()
        await self._stop.wait()
        await self.server.stop(self.grace, self.delay)

    def begin_stop(self) -> None:
        """Begins the drain."""
        self.loop.call_soon_threadsafe(self._stop.set)

    def stop(self) -> None:
        """Drains, and returns when the server has ended."""
        if self._thread.is_alive():
            self.begin_stop()
            self._thread.join(20)
            assert not self._thread.is_alive(), "the server did not end"

    def connect(self) -> socket.socket:
        """A connection whose reads time out."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)


@contextlib.contextmanager
def running(
    application: AsgiApplication, limits: HttpLimits | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[Running]:
    """Runs a server for a test."""
    server = Running(application, limits, tls)
    try:
        yield server
    finally:
        server.stop()


def read_answer(stream: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """One HTTP/1.1 answer with a content-length: status, headers, body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(stream)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    length = int(headers.get("content-length", "0"))
    while len(body) < length:
        body += _more(stream)
    assert len(body) == length, "bytes after the answer"
    return int(lines[0].split()[1]), headers, body


def _more(stream: socket.socket) -> bytes:
    data = stream.recv(65536)
    if not data:
        raise ConnectionError("closed by the server")
    return data


def read_to_end(stream: socket.socket) -> bytes:
    """Everything until the server closes; a reset counts as an end."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := stream.recv(65536):
            data += piece
    return data
