"""The HTTP server behind one function: sockets in, an ASGI application called for each request, a drain at the end.

One port answers HTTP/1.1 and HTTP/2, in clear text and under TLS: without TLS the first bytes of a connection tell
(HTTP/2 "with prior knowledge", which is what Knative and gRPC clients send), under TLS the handshake does (ALPN).
Why not one of the servers that exist: docs/adr/0002-http-server.md.
"""

import asyncio
import logging
import os
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import uvloop

from functions.web.http1 import Http1Protocol
from functions.web.service import HTTP2_PREFACE, AsgiApplication, HttpLimits, HttpService

if TYPE_CHECKING:
    from functions.crew.accept import FairListener
    from functions.crew.board import Berth

LISTEN_BACKLOG = 1024
"""Connections that the kernel holds until we accept them."""

_log = logging.getLogger("zeroserve.http_server")


class HttpServer:
    """Answers on sockets until it is stopped. Used on the event loop's thread only."""

    def __init__(
        self,
        application: AsgiApplication,
        limits: HttpLimits | None = None,
        tls: ssl.SSLContext | None = None,
        berth: "Berth | None" = None,
    ) -> None:
        """Args: with a `berth`, the sockets are shared with other processes."""
        loop = asyncio.get_running_loop()
        self._service = HttpService(application, loop, limits or HttpLimits())
        self._tls = tls
        self._berth = berth
        self._servers: list[asyncio.Server | FairListener] = []

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Begins to answer on sockets; they are closed by `stop`."""
        service = self._service
        service.start()
        for each in sockets:
            each.setblocking(False)
            if self._berth is not None:
                self._servers.append(self._share(self._berth, each))
                continue
            create = service.loop.create_unix_server if each.family == socket.AF_UNIX else service.loop.create_server
            server = await create(
                lambda: _Doorkeeper(service),
                sock=each,
                backlog=LISTEN_BACKLOG,
                ssl=self._tls,
                ssl_handshake_timeout=service.limits.head_seconds if self._tls is not None else None,
            )
            self._servers.append(server)

    def _share(self, berth: "Berth", shared: socket.socket) -> "FairListener":
        from functions.crew.accept import FairListener  # noqa: PLC0415  only with several workers

        service = self._service
        return FairListener(
            berth,
            shared,
            lambda: _Doorkeeper(service),
            connections=lambda: len(service.connections),
            tls=self._tls,
            handshake_seconds=service.limits.head_seconds,
        )

    async def stop(self, grace: float, delay: float = 0.0) -> None:
        """Tells the clients, then takes nothing any more and waits for answers in flight; those that take too long are
        cut.

        Clients and proxies hear late of a server that ends. During the delay their connections and requests are
        welcome: an HTTP/1.1 answer says `connection: close`, behind an HTTP/2 answer comes a GOAWAY that refuses
        nothing. So whoever moves on when told so loses no request.

        Args:
            grace: seconds until the last answer; the delay is a part of it.
            delay: seconds in which connections and requests are still taken.
        """
        end = self._service.loop.time() + grace
        self._service.drain()
        if delay:
            await asyncio.sleep(min(delay, grace) / 2)
            self._service.announce()
            await asyncio.sleep(min(delay, grace) / 2)
        for server in self._servers:
            server.close()
        self._service.close_idle()
        # Connections end by themselves, one by one; there is no single event to wait for.
        while (self._service.connections or self._service.tasks) and self._service.loop.time() < end:  # noqa: ASYNC110
            await asyncio.sleep(_DRAIN_POLL_SECONDS)
        if self._service.tasks:
            _log.warning("%d requests did not finish in %g s and are cut", len(self._service.tasks), grace)
        self._service.stop()
        for task in list(self._service.tasks):
            task.cancel()


_DRAIN_POLL_SECONDS = 0.01


class _Doorkeeper(asyncio.Protocol):
    """Hands a new connection to the protocol that it speaks."""

    def __init__(self, service: HttpService) -> None:
        self._service = service
        self._transport: asyncio.Transport
        self._seen = b""
        self._deadline = service.loop.time() + service.limits.head_seconds

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are not asyncio's subclasses
        if len(self._service.connections) >= self._service.limits.connections or self._service.closing:
            self._transport.abort()
            return
        tls = self._transport.get_extra_info("ssl_object")
        if tls is None:
            self._service.connections.add(self)
        else:
            self._hand_over(tls.selected_alpn_protocol() == "h2")

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if len(self._seen) >= len(HTTP2_PREFACE) or not HTTP2_PREFACE.startswith(self._seen):
            self._service.connections.discard(self)
            self._hand_over(self._seen.startswith(HTTP2_PREFACE))

    def connection_lost(self, exc: Exception | None) -> None:
        self._service.connections.discard(self)

    def _hand_over(self, is_http2: bool) -> None:
        if is_http2:
            from functions.web.http2 import Http2Protocol  # noqa: PLC0415  a cold start over HTTP/1.1 does not pay for it

            protocol: Http1Protocol | Http2Protocol = Http2Protocol(self._service)
        else:
            protocol = Http1Protocol(self._service)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        if self._seen:
            protocol.data_received(self._seen)

    def sweep(self, now: float) -> None:
        if now >= self._deadline:
            self._transport.close()

    def drain(self) -> None:
        """Nothing: a request may be on its way."""

    def close_idle(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()


def tls_context(key: str, certificate: str, client_ca: str = "", *, client_verify: bool = False) -> ssl.SSLContext:
    """TLS as `--ssl_config_file` describes it.

    Args:
        key: the private key, PEM text.
        certificate: the certificate chain, PEM text.
        client_ca: certificates that sign clients' ones, PEM text.
        client_verify: refuse clients without a certificate that `client_ca` has signed.

    Raises:
        ssl.SSLError: a text is not PEM, or key and certificate do not belong together.

    Source: tensorflow_serving/config/ssl_config.proto; RFC 9113 section 9.2 (TLS 1.2 or later).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2", "http/1.1"])
    # The ssl module reads keys from files only: one that only we can read, and not for long.
    with tempfile.TemporaryDirectory() as folder:
        chain = Path(folder) / "chain.pem"  # the folder is made with mode 0700
        chain.write_text(f"{key.strip()}\n{certificate.strip()}\n", encoding="ascii")
        context.load_cert_chain(chain)
    if client_ca:
        context.load_verify_locations(cadata=client_ca)
    if client_verify:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def serve(
    application: AsgiApplication,
    sockets: Sequence[socket.socket],
    *,
    on_drain: Callable[[], None],
    drain_timeout: float,
    drain_delay: Callable[[], float] = lambda: 0.0,
    limits: HttpLimits | None = None,
    tls: ssl.SSLContext | None = None,
    berth: "Berth | None" = None,
) -> None:
    """Answers on `sockets` (bound) until SIGTERM or SIGINT, then finishes what is in flight and returns.

    Args:
        on_drain: called once, before the first connection is closed.
        drain_timeout: seconds that requests in flight get; after them their connections are cut.
        drain_delay: gives the seconds of it in which connections and requests are still taken after SIGTERM. SIGINT
            comes from somebody at a terminal, who does not want to wait.
        limits: what one client may take.
        tls: None means clear text.
        berth: this process's place among several that share the sockets; None where there are no others.

    A second signal ends the process at once with 128 + its number.
    """

    async def until_signalled() -> None:
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()
        delay = 0.0

        def end(number: int) -> None:
            nonlocal delay
            if asked.is_set():
                sys.stderr.flush()
                os._exit(128 + number)
            delay = drain_delay() if number == signal.SIGTERM else 0.0
            asked.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end, number)
        server = HttpServer(application, limits, tls, berth)
        await server.start(sockets)
        await asked.wait()
        on_drain()
        await server.stop(drain_timeout, delay)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(until_signalled())
