"""Where a watcher's events go: an HTTP address that takes CloudEvents, and what its answers mean.

Source: Knative's delivery rules (no answer, 5xx, 404, 408, 409 and 429 are tried again; other answers but 2xx are
final); RFC 9110, 10.2.3 (`Retry-After`).
"""

import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from events.watch_event import Landed, encode
from loader.store import first_line, shown

SEND_SECONDS = 60.0
"""How long one answer is waited for: a function that scales from zero takes some seconds."""

MAX_RETRY_AFTER_SECONDS = 300.0
"""A longer `Retry-After` is shortened to this."""

MAX_ANSWER_BYTES = 4096
"""Of an answer's body that are read, to say why an event was refused."""

_SAFE = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"%')
_AGAIN = frozenset(
    {HTTPStatus.NOT_FOUND, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one try to deliver.

    Attributes:
        delivered: the sink has it.
        again: not delivered, and worth another try.
        after: seconds that the sink asks to wait before it; None where it does not say.
        text: why it was not delivered.
    """

    delivered: bool
    again: bool = False
    after: float | None = None
    text: str = ""


class Sink:
    """One address. Safe from several threads.

    Args:
        url: http or https.
        extensions: attributes that every event gets; see `encode`.
        token_file: holds the bearer token to send, read anew for each event: Kubernetes renews such files. None for
            no token.
        authorities: PEM text of the certificate authorities to trust beside the system's.

    Raises:
        ValueError: no such URL, or no certificates.
    """

    def __init__(
        self, url: str, extensions: Mapping[str, str], token_file: Path | None = None, authorities: str = ""
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is no sink: wanted http://HOST/PATH or https://")
        self.url = url
        self._extensions = dict(extensions)
        self._token_file = token_file
        context = ssl.create_default_context()
        if authorities:
            context.load_verify_locations(cadata=authorities)
        self._opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirect)

    def __str__(self) -> str:
        return shown(self.url)

    def send(self, landed: Landed) -> Answer:
        """Tries once to deliver; blocks for `SEND_SECONDS` at most."""
        return self.post(*encode(landed, datetime.now(UTC), self._extensions))

    def post(self, headers: dict[str, str], body: bytes) -> Answer:
        """Tries once to deliver any event in binary mode; blocks for `SEND_SECONDS` at most."""
        headers = {f"ce-{name}": quote(value, safe=_SAFE) for name, value in self._extensions.items()} | headers
        try:
            if self._token_file is not None:
                headers["authorization"] = f"Bearer {self._token_file.read_text().strip()}"
            request = urllib.request.Request(self.url, body, headers, method="POST")  # noqa: S310  checked above
            with self._opener.open(request, timeout=SEND_SECONDS) as response:
                return _answer(response.status, response.headers, b"")
        except urllib.error.HTTPError as error:
            with error:
                return _answer(error.code, error.headers, error.read(MAX_ANSWER_BYTES))
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            text = first_line(reason) if isinstance(reason, BaseException) else str(reason)
            return Answer(delivered=False, again=True, text=f"{self} does not answer: {text}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would turn the POST into a GET: it is a refusal, as it is for Knative."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _answer(status: int, headers: Any, body: bytes) -> Answer:
    if 200 <= status < 300:
        return Answer(delivered=True)
    words = " ".join(body.decode(errors="replace").split())
    text = f"{status} {''.join(c for c in words if c.isprintable())[:300]}".strip()
    after = retry_after(headers.get("retry-after"), datetime.now(UTC))
    return Answer(delivered=False, again=status >= 500 or status in _AGAIN, after=after, text=text)


def retry_after(value: str | None, now: datetime) -> float | None:
    """The seconds that a `Retry-After` header means, `MAX_RETRY_AFTER_SECONDS` at most; None for none or nonsense."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdecimal():
        return min(float(text[:10]), MAX_RETRY_AFTER_SECONDS)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - now).total_seconds()), MAX_RETRY_AFTER_SECONDS)
