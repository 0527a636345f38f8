"""A bare HTTP/2 client that does exactly what a test tells it, wrong things too."""

import socket
from collections.abc import Iterable
from typing import NamedTuple, Self

import hpack

from functions.web import http2_frames as h2

POST = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/echo"), (b":authority", b"test")]
GET = [(b":method", b"GET"), *POST[1:]]


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


class Http2Client:
    """One connection. Raises ConnectionError when the server closes it while frames are awaited."""

    def __init__(self, port: int, *, settings: bytes = h2.settings({})) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self._rest = b""
        self.send(h2.PREFACE + settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def headers(self, stream: int, fields: Iterable[tuple[bytes, bytes]], *, end: bool) -> bytes:
        return h2.header_frames(stream, self.encoder.encode(fields), end=end, limit=16384)

    def request(self, stream: int, fields: Iterable[tuple[bytes, bytes]], body: bytes = b"") -> None:
        frames = [self.headers(stream, fields, end=not body)]
        for at in range(0, len(body), 16384):
            end = h2.END_STREAM if at + 16384 >= len(body) else 0
            frames.append(h2.frame(h2.DATA, end, stream, body[at : at + 16384]))
        self.send(b"".join(frames))

    def frame(self) -> Frame:
        while len(self._rest) < 9 or len(self._rest) < 9 + int.from_bytes(self._rest[:3], "big"):
            data = self.socket.recv(1 << 16)
            if not data:
                raise ConnectionError("closed")
            self._rest += data
        size = int.from_bytes(self._rest[:3], "big")
        found = Frame(
            self._rest[3],
            self._rest[4],
            int.from_bytes(self._rest[5:9], "big") & h2.MAX_WINDOW,
            self._rest[9 : 9 + size],
        )
        self._rest = self._rest[9 + size :]
        return found

    def until(self, kind: int) -> Frame:
        while (found := self.frame()).kind != kind:
            pass
        return found

    def goaway(self) -> int:
        """The error code that the connection ends with."""
        return int.from_bytes(self.until(h2.GOAWAY).payload[4:8], "big")

    def answer(self, stream: int, *, window: bool = True) -> tuple[dict[bytes, bytes], bytes, dict[bytes, bytes]]:
        """Headers, body and trailers of one answer; `window` gives the server its windows back."""
        headers: list[dict[bytes, bytes]] = []
        body = b""
        while True:
            found = self.frame()
            if found.kind == h2.GOAWAY:
                raise ConnectionError(found.payload)
            if found.stream != stream:
                continue
            if found.kind == h2.HEADERS:
                headers.append(dict(self.decoder.decode(found.payload, raw=True)))
            elif found.kind == h2.RST_STREAM:
                raise ConnectionResetError(int.from_bytes(found.payload, "big"))
            elif found.kind == h2.DATA:
                body += found.payload
                if window and found.payload:
                    self.send(h2.window_update(0, len(found.payload)) + h2.window_update(stream, len(found.payload)))
            if found.kind in (h2.HEADERS, h2.DATA) and found.flags & h2.END_STREAM:
                return headers[0], body, headers[1] if len(headers) > 1 else {}
