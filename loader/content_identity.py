"""Which two files have the same bytes, told without reading them: what a cache may reuse for another version.

| store says | same bytes where | because |
|---|---|---|
| a SHA-256 in the version's manifest | anywhere | the uploader promises it, and every download is held to it |
| an MD5 that the store calls one (`md5Hash` of Cloud Storage) | anywhere | it is a digest of the content |
| S3: an ETag of 32 hexadecimal digits | in the same bucket | of an object in one part it is the MD5. Under KMS it is \
not, but 128 bits that two contents do not share |
| S3: such an ETag with `-<parts>` | in the same bucket | it is the MD5 of the parts' MD5s, so two equal ones mean \
equal parts in equal order, which put together are equal bytes, wherever the parts were cut. The same bytes cut \
otherwise have another ETag, and are fetched again |
| Cloud Storage through its XML API: an ETag of 32 hexadecimal digits | in the same bucket | it is the MD5; that of a \
composed object has another form |

Nothing else is an identity across objects: a CRC-32C of 32 bits meets by chance, Azure's ETag is a time, a web
server's is made of time and size, which copies keep. The size always belongs to it.

Source: Amazon S3 "Checking object integrity", Cloud Storage "Hashes and ETags", Apache `FileETag`.
"""

import re
from urllib.parse import urlsplit

from loader import manifest
from loader.store import ObjectInfo

_WHOLE = re.compile(r"[0-9a-f]{32}")
_IN_PARTS = re.compile(r"[0-9a-f]{32}-[0-9]{1,5}")


def identity(url: str, info: ObjectInfo, entry: manifest.Entry | None) -> str | None:
    """What files with the same bytes share, and others do not; None where the store says nothing that would do.

    Args:
        url: where the file lies; its scheme and bucket count.
        info: the file as it was listed.
        entry: what the version's manifest says of it.
    """
    if entry is not None and entry.sha256 is not None:
        return f"sha256:{entry.sha256}:{info.size}"
    if info.md5 is not None and info.md5_certain:
        return f"md5:{info.md5}:{info.size}"
    where = urlsplit(url)
    etag = (info.etag or "").strip('"').lower()
    known = _WHOLE.fullmatch(etag) is not None or (where.scheme == "s3" and _IN_PARTS.fullmatch(etag) is not None)
    if where.scheme not in {"s3", "gs"} or not known:
        return None
    return f"etag:{where.scheme}://{where.netloc}:{etag}:{info.size}"
