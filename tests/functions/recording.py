"""Models that only note that they were reached, and what they got."""

import contextlib
import http.server
import threading
from collections.abc import Iterator


class Recorder(http.server.BaseHTTPRequestHandler):
    """A model that only notes that it was reached, and what it got."""

    protocol_version = "HTTP/1.1"
    seen: list[dict[str, str]]
    statuses: list[int]
    """Of the next answers; the last one stays."""

    def do_POST(self) -> None:
        size = int(self.headers.get("content-length", 0))
        body = self.rfile.read(size)
        while not size and self.headers.get("transfer-encoding") == "chunked":
            length = int(self.rfile.readline(), 16)
            body += self.rfile.read(length)
            self.rfile.readline()
            if not length:
                break
        noted = {name.lower(): value for name, value in self.headers.items()}
        self.seen.append(noted | {"path": self.path, "size": str(len(body))})
        self.send_response(self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0])
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST  # noqa: N815  http.server's names

    def log_message(self, *_: object) -> None: ...


@contextlib.contextmanager
def recorder(*statuses: int) -> Iterator[tuple[str, list[dict[str, str]]]]:
    seen: list[dict[str, str]] = []
    handler = type("Handler", (Recorder,), {"seen": seen, "statuses": [*(statuses or (200,))]})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.server_port}", seen
        finally:
            listening.shutdown()
            thread.join()
