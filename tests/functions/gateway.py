"""A cluster's ingress on one port: it tells revisions apart by the Host header, over HTTP/1.1 and gRPC.

A host that it does not know is answered 404, in gRPC's way UNIMPLEMENTED, without a word of ours; so does Envoy.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import aiohttp
import grpc

from functions.asgi import is_grpc
from functions.web.service import Receive, Scope, Send
from tests.functions.http_running import Running, running

_HOP = {b"connection", b"content-length", b"transfer-encoding", b"keep-alive", b"host"}


class Gateway:
    """The application.

    Attributes:
        backends: `host:port` of each host name; or a fault: `hang`, `busy`, `cut`, `lost` (once, then as usual).
        seen: host, method or status of HTTP, and headers of all requests.
    """

    def __init__(self) -> None:
        self.backends: dict[str, str] = {}
        self.faults: dict[str, str] = {}
        self.seen: list[tuple[str, str, dict[bytes, bytes]]] = []
        self.server: Running
        self._session: aiohttp.ClientSession | None = None
        self._channels: dict[str, Any] = {}

    @property
    def address(self) -> str:
        return self.server.address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode()
        path = scope["raw_path"].decode()
        self.seen.append((host, path, headers))
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        calls = is_grpc(headers.get(b"content-type", b""))
        fault = self.faults.get(host)
        if fault == "hang":
            await asyncio.sleep(3600)
        backend = self.backends.get(host)
        if backend is None or fault == "busy":
            status, code = (503, b"14") if fault else (404, b"12")
            if calls:
                trailers = [(b"content-type", b"application/grpc"), (b"grpc-status", code)]
                await send({"type": "http.response.start", "status": 200, "headers": trailers})
            else:
                await send({"type": "http.response.start", "status": status, "headers": [(b"server", b"envoy")]})
            await send({"type": "http.response.body", "body": b""})
        elif calls:
            await self._call(backend, path, scope["headers"], body, send)
        else:
            await self._request(backend, scope, path, body, send)

    async def _request(self, backend: str, scope: Scope, path: str, body: bytes, send: Send) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(auto_decompress=False)
        url = f"http://{backend}{path}" + (f"?{scope['query_string'].decode()}" if scope["query_string"] else "")
        kept = {name.decode(): value.decode() for name, value in scope["headers"] if name not in _HOP}
        await asyncio.sleep(0)  # into a task: see functions/web/eager.py
        kept["Host"] = dict(scope["headers"])[b"host"].decode()
        async with self._session.request(scope["method"], url, headers=kept, data=body or None) as answer:
            content = await answer.read()
            fields = [(name.lower(), value) for name, value in answer.raw_headers if name.lower() not in _HOP]
            await send(
                {
                    "type": "http.response.start",
                    "status": answer.status,
                    "headers": [*fields, (b"content-length", b"%d" % len(content)), (b"x-envoy-upstream", b"3")],
                }
            )
            await send({"type": "http.response.body", "body": content})

    async def _call(self, backend: str, path: str, headers: Any, body: bytes, send: Send) -> None:
        authority = dict(headers)[b"host"].decode()
        key = f"{backend} {authority}"
        if key not in self._channels:
            self._channels[key] = grpc.aio.insecure_channel(backend, (("grpc.default_authority", authority),))
        reserved = {b"content-type", b"te", b"host", b"user-agent", b"grpc-timeout", b"grpc-accept-encoding"}
        metadata = [(name.decode(), value.decode()) for name, value in headers if name not in reserved]
        call = self._channels[key].unary_unary(path, None, None)(body[5:], metadata=metadata)
        message = b""
        with contextlib.suppress(grpc.aio.AioRpcError):
            message = await call
        initial = [(key.encode(), value.encode()) for key, value in await call.initial_metadata() or ()]
        status = [(b"grpc-status", b"%d" % (await call.code()).value[0])]
        status.append((b"grpc-message", (await call.details() or "").encode()))
        status += [(key.encode(), value.encode()) for key, value in await call.trailing_metadata() or ()]
        start = [(b"content-type", b"application/grpc"), *initial]
        if (await call.code()) is not grpc.StatusCode.OK:
            await send({"type": "http.response.start", "status": 200, "headers": start + status})
            await send({"type": "http.response.body", "body": b""})
            return
        await send({"type": "http.response.start", "status": 200, "headers": start, "trailers": True})
        framed = b"\x00" + len(message).to_bytes(4, "big") + message
        await send({"type": "http.response.body", "body": framed, "more_body": False})
        await send({"type": "http.response.trailers", "headers": status, "more_trailers": False})

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
        for channel in self._channels.values():
            await channel.close()


@contextlib.contextmanager
def running_gateway() -> Iterator[Gateway]:
    """Runs a gateway for a test."""
    gateway = Gateway()
    with running(gateway) as server:
        gateway.server = server
        server.grace = 0.1
        yield gateway
        asyncio.run_coroutine_threadsafe(gateway.close(), server.loop).result(10)
