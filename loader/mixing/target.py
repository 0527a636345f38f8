"""A model that a step of a mix asks, as `mix.json` says it."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from loader.mixing.field import read_object, wrong

MAX_DEADLINE_MS = 3_600_000


PROTOCOLS = ("oip", "rest", "grpc")
"""How another service is asked; the first one is the default."""

TARGET_FIELDS = ("model", "url", "protocol", "version", "label", "signature", "deadline_ms")
"""The fields of a target in `mix.json`."""


@dataclass(frozen=True, slots=True)
class Target:
    """A model that a step asks.

    Attributes:
        url: where another service answers; empty for a model of this process.
        version: 0 for the one that the label, or nothing, chooses.
        deadline_seconds: of one try; None leaves it to the request.
    """

    model: str
    url: str = ""
    protocol: str = PROTOCOLS[0]
    version: int = 0
    label: str = ""
    signature: str = ""
    deadline_seconds: float | None = None


def parse_target(where: str, found: Any) -> Target:
    """Reads a target; `where` is its place in the file. Raises ServingError: INVALID_ARGUMENT."""
    content = read_object(where, found, required=("model",), optional=TARGET_FIELDS)
    texts = {key: content.get(key, "") for key in ("model", "url", "protocol", "label", "signature")}
    for key, value in texts.items():
        if not isinstance(value, str) or len(value) > 1000 or not value.isprintable():
            raise wrong(f"{where}.{key}", f"found {str(value)[:80]!r}, wanted a text")
    if not texts["model"]:
        raise wrong(f"{where}.model", "wanted the name of a model")
    version = content.get("version", 0)
    if isinstance(version, bool) or not isinstance(version, int) or not 0 <= version < 1 << 63:
        raise wrong(f"{where}.version", f"found {version!r}, wanted a version's number")
    if "version" in content and texts["label"]:
        raise wrong(f"{where}.label", "there is a version too: wanted one of both")
    if texts["url"]:
        _check_url(where, texts["url"])
    elif texts["protocol"]:
        raise wrong(f"{where}.protocol", "there is no url: a model of this process is not asked over a network")
    protocol = texts["protocol"] or PROTOCOLS[0]
    if protocol not in PROTOCOLS:
        raise wrong(f"{where}.protocol", f"found {protocol!r}, wanted one of {', '.join(PROTOCOLS)}")
    deadline = content.get("deadline_ms")
    if deadline is not None and (
        isinstance(deadline, bool) or not isinstance(deadline, int | float) or not 0 < deadline <= MAX_DEADLINE_MS
    ):
        raise wrong(f"{where}.deadline_ms", f"found {deadline!r}, wanted milliseconds up to {MAX_DEADLINE_MS}")
    seconds = None if deadline is None else deadline / 1000
    return Target(texts["model"], texts["url"], protocol, version, texts["label"], texts["signature"], seconds)


def _check_url(where: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good or parts.username is not None or parts.query or parts.fragment:
        raise wrong(f"{where}.url", f"found {url[:80]!r}, wanted http://host:port or https://host")
