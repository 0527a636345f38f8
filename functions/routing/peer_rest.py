"""Requests to other revisions over HTTP/1.1.

The client is aiohttp's: pooled connections, no proxy from the environment, no redirect followed, nothing decompressed.
It is imported by the first request that is forwarded. A prediction changes nothing, so one that was cut with its
connection is sent once more.
"""

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from functions.observing.outgoing import Outgoing, outgoing
from functions.routing.peer_address import PeerAddress
from functions.routing.peer_headers import FORWARDED, REVISION, TIMEOUT, answer_headers, request_headers
from functions.web.message import Request, Response
from loader.status import Code, ServingError

if TYPE_CHECKING:
    import aiohttp

MAX_CONNECTIONS = 256
"""Open connections to other revisions; a request beyond them waits for one, as long as its deadline allows."""

MAX_WAITING = 1024
"""Forwarded requests in flight, those that wait for a connection among them."""

MAX_ANSWER_BYTES = 256 << 20
"""Of one answer."""

CONNECT_SECONDS = 5.0
"""What a connection may take to be made: peers are in the same cluster."""

KEEP_SECONDS = 15.0
"""How long an idle connection is kept."""

SLACK_SECONDS = 0.25
"""What the other revision gets beyond the deadline that it is told: its own words are better than ours."""

BUSY = frozenset({502, 503, 504})
"""What the proxies on the way say where nobody answers behind them."""

_PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '#"<>\\^`{|}')
_GONE = tuple(getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA") if hasattr(socket, name))


class RestPeers:
    """Asks other revisions. Used on one event loop's thread."""

    def __init__(self, address: PeerAddress) -> None:
        self._address = address
        self._session: aiohttp.ClientSession | None = None
        self._opening: asyncio.Lock = asyncio.Lock()
        self._in_flight = 0
        self._draining = False
        self._closing: asyncio.Future[None] | None = None

    async def ask(self, tag: str, request: Request, deadline: float) -> Response | None:
        """The answer of the revision of `tag`; None where there is no such revision.

        Args:
            deadline: in `time.monotonic()` seconds; what is left of it is told to the other revision.

        Raises:
            ServingError: UNAVAILABLE where it cannot be reached, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED where too many
                requests are on their way already.
        """
        if self._in_flight >= MAX_WAITING:
            raise ServingError(
                Code.RESOURCE_EXHAUSTED, f"{MAX_WAITING} requests are on their way to other revisions", retry_after=1.0
            )
        self._in_flight += 1
        try:
            return await self._ask(tag, request, deadline)
        finally:
            self._in_flight -= 1
            if self._draining and not self._in_flight:
                await self._close()

    def drain(self) -> None:
        """No connection outlives the requests in flight. On the event loop's thread."""
        self._draining = True
        if self._session is not None and not self._in_flight:
            self._closing = asyncio.ensure_future(self._close())

    async def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ask(self, tag: str, request: Request, deadline: float) -> Response | None:
        session = self._session or await self._open()
        await asyncio.sleep(0)  # into a task, where timeouts work: see functions/web/eager.py
        import aiohttp  # noqa: PLC0415  imported by _open

        again = True
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise _late(tag)
            try:
                return await self._send(session, tag, request, left)
            except aiohttp.ConnectionTimeoutError:
                raise _unreachable(tag, f"no connection in {CONNECT_SECONDS:g} s") from None
            except TimeoutError:
                raise _late(tag) from None
            except aiohttp.ClientConnectorError as error:
                if isinstance(error.os_error, socket.gaierror) and error.os_error.errno in _GONE:
                    return None
                raise _unreachable(tag, str(error.os_error)) from None
            except (aiohttp.ClientError, OSError) as error:
                if not again:
                    raise _unreachable(tag, str(error) or type(error).__name__) from None
                again = False

    async def _send(self, session: "aiohttp.ClientSession", tag: str, request: Request, left: float) -> Response | None:
        import aiohttp  # noqa: PLC0415  as above
        import yarl  # noqa: PLC0415

        url = f"http://{self._address.target(tag)}{quote(request.path, safe=_PRINTABLE)}"
        if request.query:
            url += f"?{quote(request.query, safe=_PRINTABLE)}"
        attributes = {
            "http.request.method": request.method,
            "server.address": self._address.authority(tag),
            "zeroserve.tag": tag,
        }
        headers = self._headers(tag, request, left)
        with outgoing(request.method, attributes) as call:
            call.put_into(headers)
            asked = session.request(
                request.method,
                yarl.URL(url, encoded=True),
                headers=headers,
                data=request.body or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=left + SLACK_SECONDS, sock_connect=CONNECT_SECONDS),
            )
            return await self._answer(asked, tag, call)

    async def _answer(self, asked: Any, tag: str, call: Outgoing) -> Response | None:
        async with asked as answer:
            body = await _limited(answer, tag)
            failed = str(answer.status) if answer.status >= 400 else ""
            call.answered("http.response.status_code", answer.status, failed)
            ours = REVISION in answer.headers
            if answer.status == 404 and not ours:
                return None  # the ingress has no such host
            if answer.status in BUSY and not ours:
                raise _unreachable(tag, f"its ingress answers {answer.status}")
            return Response(answer.status, tuple(answer_headers(answer.raw_headers)), body)

    def _headers(self, tag: str, request: Request, left: float) -> dict[str, str]:
        inflated = b"gzip" in request.headers.get(b"content-encoding", b"").lower()
        headers = dict(request_headers(request.headers, inflated=inflated))
        headers["Host"] = self._address.authority(tag)
        headers[FORWARDED] = "1"
        headers[TIMEOUT] = str(max(1, int(left * 1000)))
        return headers

    async def _open(self) -> "aiohttp.ClientSession":
        async with self._opening:
            if self._session is None:
                await asyncio.to_thread(_import_client)
                self._session = _new_session()
            return self._session


def _import_client() -> None:
    import aiohttp  # noqa: PLC0415  some hundred milliseconds, off the event loop

    assert aiohttp  # noqa: S101


def _new_session() -> "aiohttp.ClientSession":
    import aiohttp  # noqa: PLC0415  imported already

    connector = aiohttp.TCPConnector(
        limit=MAX_CONNECTIONS, keepalive_timeout=KEEP_SECONDS, ttl_dns_cache=10, resolver=aiohttp.ThreadedResolver()
    )
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        max_line_size=64 << 10,
        max_field_size=64 << 10,
    )


async def _limited(answer: Any, tag: str) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in answer.content.iter_any():
        size += len(piece)
        if size > MAX_ANSWER_BYTES:
            raise ServingError(Code.RESOURCE_EXHAUSTED, f"the answer of {tag} is over {MAX_ANSWER_BYTES} bytes")
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _late(tag: str) -> ServingError:
    return ServingError(Code.DEADLINE_EXCEEDED, f"Timed out waiting for the revision of {tag}")


def _unreachable(tag: str, why: str) -> ServingError:
    return ServingError(Code.UNAVAILABLE, f"the revision of {tag} does not answer: {why}", retry_after=1.0)
