"""A door for whoever knows that storage has changed: a POST to it makes a watcher look at once.

HDFS tells of changes over its own RPC only, to its superuser; a Java program or a NiFi flow (GetHDFSEvents, InvokeHTTP)
that listens there can knock here. What is posted does not matter: the look finds out.
"""

import contextlib
import hmac
import http.server
import threading
from collections.abc import Callable
from typing import Any

MAX_BODY_BYTES = 1 << 20
"""Of a body that is read and thrown away; a longer one ends the connection."""

IDLE_SECONDS = 30.0
"""How long a connection may say nothing."""


class Door:
    """An HTTP server in a thread of its own.

    Args:
        host, port: where; port 0 takes any free one.
        secret: what `Authorization: Bearer` must say; empty lets everybody knock.
        knocked: called for each POST that may.

    Attributes:
        port: where it listens.

    Raises:
        OSError: it cannot listen there.
    """

    def __init__(self, host: str, port: int, secret: str, knocked: Callable[[], None]) -> None:
        expected = f"Bearer {secret}".encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = IDLE_SECONDS

            def do_GET(self) -> None:
                self._reply(200 if self.path == "/healthz" else 404)

            def do_POST(self) -> None:
                length = self.headers.get("content-length", "")
                if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
                    self.close_connection = True
                    self._reply(413 if length.isdecimal() else 411)
                    return
                self.rfile.read(int(length))
                given = self.headers.get("authorization", "").encode("latin-1", "replace")
                if secret and not hmac.compare_digest(given, expected):
                    self._reply(401)
                    return
                knocked()
                self._reply(204)

            def _reply(self, status: int) -> None:
                self.send_response(status)
                if status != 204:
                    self.send_header("content-length", "0")
                if self.close_connection:
                    self.send_header("connection", "close")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """What is logged is what a look finds."""

        self._server = http.server.ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="watch-door", daemon=True)

    def start(self) -> None:
        """Begins to listen."""
        self._thread.start()

    def close(self) -> None:
        """Listens no more."""
        with contextlib.suppress(OSError):
            if self._thread.ident is not None:
                self._server.shutdown()
            self._server.server_close()
