"""What a gRPC servicer sees of its call, where the server is ours: the part of `grpc.aio.ServicerContext` it needs."""

import base64
import binascii
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import grpc

from functions.rpc.status import percent_encode

Metadatum = tuple[str, str | bytes]

_RESERVED = frozenset({b"content-type", b"te", b"host", b"grpc-timeout", b"grpc-encoding", b"content-length"})
MAX_TIMEOUT_DIGITS = 8
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


class CallAborted(Exception):  # noqa: N818  not an error of ours: the servicer ends its call this way
    """Unwinds a servicer that has called `abort`."""


class CallContext:
    """One call. Used on the event loop's thread only.

    Attributes:
        status: the code the call ends with.
        text: the error text it ends with.
        compression: what the servicer has chosen for its answers, or None for the caller's own choice.
    """

    def __init__(self, scope: Mapping[str, Any], deadline: float | None) -> None:
        self._scope = scope
        self._deadline = deadline
        self._initial: list[Metadatum] = []
        self._trailing: list[Metadatum] = []
        self._send_initial: Callable[[], Any] | None = None
        self._callbacks: list[Callable[[Any], None]] = []
        self._done = False
        self._cancelled = False
        self.status = grpc.StatusCode.OK
        self.text = ""
        self.compression: grpc.Compression | None = None

    # What servicers call; names and meaning are grpcio's.

    def invocation_metadata(self) -> tuple[Metadatum, ...]:
        """The caller's metadata; values of names that end in `-bin` are bytes."""
        return tuple(
            _from_header(name, value)
            for name, value in self._scope["headers"]
            if name not in _RESERVED and not name.startswith(b":")
        )

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline, not negative; None without one."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def peer(self) -> str:
        """The caller's address."""
        client = self._scope.get("client")
        if client is None:
            return "unix:"
        family = "ipv6:[%s]:%d" if ":" in client[0] else "ipv4:%s:%d"
        return family % (client[0], client[1])

    def host(self) -> str:
        """The `:authority` that the caller has named; empty where there is none."""
        hosts: list[bytes] = [value for name, value in self._scope["headers"] if name == b"host"]
        return hosts[-1].decode("latin-1") if hosts else ""

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Iterable[Metadatum] = ()
    ) -> NoReturn:
        """Ends the call with an error."""
        if code is grpc.StatusCode.OK:
            code, details = grpc.StatusCode.UNKNOWN, "abort() was called with OK"
        self.status = code
        self.text = details
        self._trailing.extend(trailing_metadata)
        raise CallAborted(code, details)

    async def send_initial_metadata(self, initial_metadata: Sequence[Metadatum]) -> None:
        """Metadata that goes out before the first message."""
        self._initial.extend(initial_metadata)

    def set_trailing_metadata(self, trailing_metadata: Sequence[Metadatum]) -> None:
        """Metadata that goes out with the status."""
        self._trailing = list(trailing_metadata)

    def trailing_metadata(self) -> tuple[Metadatum, ...]:
        """What `set_trailing_metadata` was given."""
        return tuple(self._trailing)

    def set_code(self, code: grpc.StatusCode) -> None:
        """The code that the call ends with when the servicer returns."""
        self.status = code

    def code(self) -> grpc.StatusCode:
        """What `set_code` was given."""
        return self.status

    def set_details(self, details: str) -> None:
        """The error text that the call ends with when the servicer returns."""
        self.text = details

    def details(self) -> str:
        """What `set_details` was given."""
        return self.text

    def set_compression(self, compression: grpc.Compression) -> None:
        """How answers are compressed, whatever the caller's own messages are."""
        self.compression = compression

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """`callback` is called with this context when the call is over."""
        self._callbacks.append(callback)

    def cancelled(self) -> bool:
        """Whether the caller has gone or its deadline has passed."""
        return self._cancelled

    def done(self) -> bool:
        """Whether the call is over."""
        return self._done

    # What the server calls.

    def finish(self, *, cancelled: bool = False) -> None:
        """The call is over."""
        self._done = True
        self._cancelled = cancelled
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def initial_headers(self) -> list[tuple[bytes, bytes]]:
        """Initial metadata as headers."""
        return [_to_header(*each) for each in self._initial]

    def status_headers(self) -> list[tuple[bytes, bytes]]:
        """The status and the trailing metadata as headers or trailers."""
        headers = [(b"grpc-status", b"%d" % self.status.value[0])]
        if self.text:
            headers.append((b"grpc-message", percent_encode(self.text)))
        headers.extend(_to_header(*each) for each in self._trailing)
        return headers


def parse_timeout(value: bytes) -> float | None:
    """Seconds of a `grpc-timeout` header (`100m`); None when it is malformed."""
    digits, unit = value[:-1], value[-1:]
    if not digits.isdigit() or len(digits) > MAX_TIMEOUT_DIGITS or unit not in _UNITS:
        return None
    return int(digits) * _UNITS[unit]


def _from_header(name: bytes, value: bytes) -> Metadatum:
    key = name.decode("latin-1")
    if not key.endswith("-bin"):
        return key, value.decode("latin-1")
    try:
        return key, base64.b64decode(value + b"=" * (-len(value) % 4))
    except binascii.Error:
        return key, value


def _to_header(key: str, value: str | bytes) -> tuple[bytes, bytes]:
    name = key.lower().encode("ascii")
    raw = value.encode() if isinstance(value, str) else bytes(value)
    return name, base64.b64encode(raw).rstrip(b"=") if key.endswith("-bin") else raw
