"""A real HTTP server that takes events: keeps what it was sent, and answers as it is told."""

import contextlib
import http.server
import json
import queue
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

EVENT_SECONDS = 60


@dataclass(frozen=True)
class Received:
    """One request: names of headers in small letters."""

    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.body)


@dataclass
class SinkServer:
    """Where it listens, what came, and what is answered next: (status, headers); 202 once the list is used up."""

    url: str
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    received: "queue.Queue[Received]" = field(default_factory=queue.Queue)

    def next(self) -> Received:
        """The next request, as soon as it came."""
        return self.received.get(timeout=EVENT_SECONDS)

    def next_urls(self, count: int) -> list[str]:
        """The `url` of the data of the next requests, sorted."""
        return sorted(self.next().data["url"] for _ in range(count))


@contextlib.contextmanager
def sink_server(
    *answers: tuple[int, dict[str, str]], host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[SinkServer]:
    """A sink on any free port of `host`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status, headers = sink.answers.pop(0) if sink.answers else (202, {})
            sink.received.put(Received({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(status)
            for name, value in {"content-length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((host, 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    scheme = "http" if tls is None else "https"
    sink = SinkServer(f"{scheme}://{host}:{server.server_address[1]}/", list(answers))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield sink
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
