"""Where an object lies, whatever the words of its store: so that events and base paths can be compared. Pure.

One thing has many names: `s3a://b/k` and `s3://b/k`; `abfs://c@account.dfs.core.windows.net/k` and `az://c/k`;
`hdfs://namenode:8020/k` and `webhdfs://namenode:9870/k`. A place has one form of each. Keys are compared as they are,
byte for byte: nothing is decoded here, and nothing is folded.
"""

from dataclasses import dataclass
from urllib.parse import unquote

from loader.storage import ARCHIVE_SUFFIXES, version_number

MAX_URL = 4096
"""Characters of a URL that is taken apart."""

_SCHEMES = {
    "s3a": "s3",
    "s3n": "s3",
    "gcs": "gs",
    "abfs": "az",
    "abfss": "az",
    "wasb": "az",
    "wasbs": "az",
    "webhdfs": "hdfs",
    "swebhdfs": "hdfs",
    "local": "file",
    "https": "http",
}


@dataclass(frozen=True, slots=True)
class Place:
    """One object, or one folder of objects.

    Attributes:
        scheme: `s3`, `gs`, `az`, `hdfs`, `file`, `http`, or what else the URL says.
        bucket: the bucket; `container@account` (or `container` where the account is not known) of Azure; the host of
            HDFS, empty where it is not known; the host and port of http; empty for files of this machine.
        key: the name in it; a folder's may end in `/`. Only of files and HDFS paths is the first `/` left out: an
            object's name that begins with one is another object.
    """

    scheme: str
    bucket: str
    key: str

    @property
    def url(self) -> str:
        """The place in one line."""
        return f"{self.scheme}://{self.bucket}/{self.key}"

    def below(self, base: "Place") -> str | None:
        """The name relative to the folder `base`; empty for the folder itself, None for a place outside it."""
        if self.scheme != base.scheme or not _same_bucket(self.scheme, self.bucket, base.bucket):
            return None
        folder = base.key.rstrip("/")
        if not folder:
            return self.key
        if self.key.rstrip("/") == folder:
            return ""
        return self.key[len(folder) + 1 :] if self.key.startswith(folder + "/") else None


def place_of(url: str) -> Place:
    """The place that a URL, or a plain path, names. Of a `file://` URL the path is percent-decoded; no other is."""
    scheme, found, rest = url[:MAX_URL].partition("://")
    if not found:
        return Place("file", "", url[:MAX_URL].lstrip("/"))
    scheme = _SCHEMES.get(scheme.lower(), scheme.lower())
    host, _, key = rest.partition("/")
    if scheme == "file":
        return Place(scheme, "", unquote(key).lstrip("/"))
    if scheme == "az":
        container, _, account = host.partition("@")
        return Place(scheme, azure_bucket(container, account), key)
    if scheme == "hdfs":
        return Place(scheme, host.rpartition("@")[2].partition(":")[0].lower(), key.lstrip("/"))
    return Place(scheme, host.rpartition("@")[2].lower() if scheme == "http" else host, key)


def azure_bucket(container: str, account: str) -> str:
    """`container@account`; the account is the first part of its host's name, and may be unknown."""
    return f"{container}@{account.partition('.')[0]}" if account else container


def version_below(name: str) -> int | None:
    """The version that an object below a base path belongs to, by the first part of its name; None for no version."""
    head, slash, _ = name.partition("/")
    if not slash:
        ending = next((suffix for suffix in ARCHIVE_SUFFIXES if head.endswith(suffix)), "")
        head = head.removesuffix(ending)
    return version_number(head)


def _same_bucket(scheme: str, one: str, other: str) -> bool:
    if one == other:
        return True
    if scheme == "hdfs":
        return not one or not other
    if scheme == "az":
        (container, _, account), (container2, _, account2) = one.partition("@"), other.partition("@")
        return container == container2 and (not account or not account2)
    return False
