"""HTTP/1.1 connections to one server, kept alive, with a deadline for each whole exchange.

The standard library's client is enough and imports in 15 ms.
"""

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import SplitResult

from loader.status import Code, ServingError

MAX_ANSWER_BYTES = 1 << 31
"""A longer answer is refused."""

MAX_IDLE = 64
"""Connections that are kept while nobody uses them."""

TIMEOUT = "x-request-timeout-ms"
"""Tells the server how long the caller waits: it need not go on for nobody."""

_CHUNK = 1 << 20
_CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    409: Code.ABORTED,
    413: Code.INVALID_ARGUMENT,
    429: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELLED,
    500: Code.INTERNAL,
    501: Code.UNIMPLEMENTED,
    # What gateways say while no instance answers.
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}


class HttpConnections:
    """Connections to one server. Safe from any thread: no two use a connection at the same time.

    Args:
        url: `http://host:port/prefix`; the prefix stands before every path.
        headers: sent with every request.
        context: for https; None takes the system's certificates.
    """

    def __init__(self, url: SplitResult, headers: Mapping[str, str], context: ssl.SSLContext | None) -> None:
        if not url.hostname:
            raise ServingError(Code.INVALID_ARGUMENT, f"no host in {url.geturl()!r}: wanted http://host:port")
        self._host, self._port = url.hostname, url.port
        self._prefix = url.path.rstrip("/")
        self._headers = dict(headers)
        self._context = context or ssl.create_default_context() if url.scheme == "https" else None
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []
        self._closed = False

    def call(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], deadline: float
    ) -> tuple[Mapping[str, str], bytes]:
        """One exchange.

        Returns:
            The answer's headers (names in small letters) and body.

        Raises:
            ServingError: UNAVAILABLE when no answer came, DEADLINE_EXCEEDED, or the code that the status stands for
                with the server's own text.
        """
        while True:
            connection, reused = self._take(deadline)
            try:
                told = {TIMEOUT: str(max(1, int((deadline - time.monotonic()) * 1000)))}
                send = partial(
                    connection.request, method, self._prefix + path, body, {**told, **self._headers, **headers}
                )
                return self._exchange(connection, send, deadline)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
                connection.close()
                if not reused:
                    raise ServingError(Code.UNAVAILABLE, f"{self._host}:{self._port} closed the connection") from error
                # A kept connection that the server had closed while it was idle: the request was never read.
            except TimeoutError as error:
                connection.close()
                raise self._late() from error
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                raise ServingError(Code.UNAVAILABLE, f"{self._host}:{self._port}: {error}") from error

    def _exchange(
        self, connection: http.client.HTTPConnection, send: Callable[[], None], deadline: float
    ) -> tuple[Mapping[str, str], bytes]:
        _set_timeout(connection, deadline)
        send()
        _set_timeout(connection, deadline)
        answer = connection.getresponse()
        chunks: list[bytes] = []
        size = 0
        while chunk := answer.read1(_CHUNK):
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise http.client.HTTPException(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
            _set_timeout(connection, deadline)
        if answer.length:
            raise http.client.HTTPException(f"the answer ends {answer.length} bytes too soon")
        content = b"".join(chunks)
        # read1 leaves a finished answer open, and an open one blocks its connection
        answer.close()
        if answer.will_close:
            connection.close()
        else:
            self._give(connection)
        if answer.status >= 300:
            raise _failure(answer.status, answer.reason, content, answer.headers.get("Retry-After"))
        return {name.lower(): value for name, value in answer.headers.items()}, content

    def _take(self, deadline: float) -> tuple[http.client.HTTPConnection, bool]:
        """A connection, and whether it was used before. Raises ServingError."""
        with self._lock:
            if self._idle:
                return self._idle.pop(), True
        try:
            timeout = _remaining(deadline)
            connection = (
                http.client.HTTPConnection(self._host, self._port, timeout=timeout)
                if self._context is None
                else http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._context)
            )
            connection.connect()
        except TimeoutError as error:
            raise self._late() from error
        except OSError as error:
            raise ServingError(Code.UNAVAILABLE, f"{self._host}:{self._port}: {error}") from error
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, False

    def _give(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _late(self) -> ServingError:
        return ServingError(Code.DEADLINE_EXCEEDED, f"no answer from {self._host}:{self._port} in time")

    def close(self) -> None:
        """Closes what is idle, and what is in use as soon as its answer is there."""
        with self._lock:
            self._closed, idle, self._idle = True, self._idle, []
        for connection in idle:
            connection.close()


class RetryLaterError(ServingError):
    """A refusal that says when to come back: `seconds` from now."""

    def __init__(self, code: Code, message: str, seconds: float) -> None:
        super().__init__(code, message)
        self.seconds = seconds


def _failure(status: int, reason: str, content: bytes, retry_after: str | None) -> ServingError:
    code = _CODES.get(status, Code.UNKNOWN)
    try:
        parsed: Any = json.loads(content)
        message = str(parsed["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        message = f"HTTP {status} {reason}: {content[:200].decode('utf-8', 'replace')}".rstrip(": ")
    if retry_after is not None and retry_after.isdigit():
        return RetryLaterError(code, message, min(float(retry_after[:9]), 3600.0))
    return ServingError(code, message)


def _remaining(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _set_timeout(connection: http.client.HTTPConnection, deadline: float) -> None:
    if connection.sock is not None:
        connection.sock.settimeout(_remaining(deadline))
