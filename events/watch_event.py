"""The event that `zeroserve watch` sends: a version of a model has landed in storage, or has changed there.

    ce-specversion: 1.0
    ce-type:    com.zeroserve.storage.object.created.v1
    ce-source:  hdfs://namenode/models          what is watched, without credentials, percent-encoded
    ce-subject: resnet/7                        the version's folder or archive below it, percent-encoded
    ce-id:      9f86d081884c7d659a2feaa0c55ad015  the listing's fingerprint: the same files give the same id
    ce-time:    2026-11-23T03:20:00.123456Z     when it was seen
    content-type: application/json

    {"url": "hdfs://namenode/models/resnet/7", "fingerprint": "9f86d0...", "files": 5, "size": 90210}

`url` is where to look, spelled as in the base path that is watched; all else is for people and logs. An event says
*look here* and no more: one that is lost, late or doubled changes nothing for long.

Source: CloudEvents 1.0, attributes and the binary mode of its HTTP protocol binding.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from loader.store import shown_host

TYPE = "com.zeroserve.storage.object.created.v1"

_SAFE_IN_URI = ":/@!$&'()*+,;=~[]"
_SAFE_IN_HEADER = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"%')


@dataclass(frozen=True, slots=True)
class Landed:
    """One version as it lies in storage now.

    Attributes:
        base: what is watched: a folder of versions, or a folder of such folders; a plain path or a URL.
        subject: the version's folder or archive below it: `7`, `resnet/7`, `resnet/7.tar.gz`.
        fingerprint: changes whenever any of its files does.
        files: how many it has.
        size: bytes of all of them.
    """

    base: str
    subject: str
    fingerprint: str
    files: int
    size: int

    @property
    def key(self) -> tuple[str, str]:
        """What two sights of the same version have in common."""
        return self.base, self.subject

    @property
    def url(self) -> str:
        """Where it lies, without credentials."""
        return version_url(self.base, self.subject)


def version_url(base: str, subject: str) -> str:
    """Where a version lies, without credentials."""
    return f"{shown_host(base).rstrip('/')}/{subject}"


def encode(landed: Landed, seen: datetime, extensions: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
    """The headers and the body of the HTTP request that carries the event.

    Args:
        landed: what it tells of.
        seen: with a time zone.
        extensions: more attributes, as `K_CE_OVERRIDES` asks for; none of them replaces one of the event's own.
    """
    attributes = {
        "specversion": "1.0",
        "type": TYPE,
        "source": quote(shown_host(landed.base), safe=_SAFE_IN_URI),
        "subject": quote(landed.subject, safe=_SAFE_IN_URI),
        "id": landed.fingerprint,
        "time": seen.astimezone(UTC).isoformat().replace("+00:00", "Z"),
    }
    headers = {f"ce-{name}": quote(value, safe=_SAFE_IN_HEADER) for name, value in {**extensions, **attributes}.items()}
    headers["content-type"] = "application/json"
    data = {
        "url": landed.url,
        "fingerprint": landed.fingerprint,
        "files": landed.files,
        "size": landed.size,
    }
    return headers, json.dumps(data).encode()
