"""Where peers answer: the address of each tag, made from one template. Pure.

Nothing of a request becomes part of a host name but a tag, and a tag has no dot, slash, colon or at sign: a request
cannot choose another host.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from functions.routing.tag import MAX_LABEL, is_tag
from loader.status import Code, ServingError

PLACE = "{tag}"
_HOST = re.compile(r"\{tag\}(?P<service>(-[a-z0-9]+)*)(?P<domain>(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)")
_GATEWAY = re.compile(r"(?P<host>[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """The addresses of a service's revisions.

    Attributes:
        service: what follows the tag in the first part of the host name: `-m` of `{tag}-m.default.svc`.
        domain: the rest of the host name: `.default.svc`.
        port: of all of them.
        gateway: `host:port` that all are reached through; empty to ask DNS for each.
    """

    service: str
    domain: str
    port: int
    gateway: str

    def fits(self, tag: str) -> bool:
        """Whether there can be a host of this tag."""
        return is_tag(tag) and len(tag) + len(self.service) <= MAX_LABEL

    def host(self, tag: str) -> str:
        """The host name of a tag that `fits`."""
        assert self.fits(tag)  # noqa: S101  the only way from a request to a host name
        return f"{tag}{self.service}{self.domain}"

    def authority(self, tag: str) -> str:
        """What the `Host` header says: the host name, with the port unless it is HTTP's own."""
        host = self.host(tag)
        return host if self.port == 80 else f"{host}:{self.port}"

    def target(self, tag: str) -> str:
        """`host:port` to connect to."""
        return self.gateway or f"{self.host(tag)}:{self.port}"

    def tag_of(self, host: str) -> str | None:
        """The tag that a `Host` header addresses, inside the cluster or outside; None for any other name.

        A name outside differs from the one inside in what follows the namespace; a domain of the user's own has none.
        """
        first, _, rest = host.lower().partition(":")[0].partition(".")
        tag = first.removesuffix(self.service)
        namespace = self.domain[1:].partition(".")[0]
        if not self.service or tag == first or not is_tag(tag) or (rest and rest.partition(".")[0] != namespace):
            return None
        return tag


def parse_peer_address(url: str, gateway: str = "") -> PeerAddress:
    """Reads `--peer_url` and `--peer_gateway`.

    Raises:
        ServingError: INVALID_ARGUMENT for what is no such address.
    """
    parts = urlsplit(url.replace(PLACE, "tag-goes-here", 1))
    host = (parts.hostname or "").replace("tag-goes-here", PLACE)
    match = _HOST.fullmatch(host)
    try:
        port = parts.port or 80
    except ValueError:
        match = None
    extra = parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None
    if match is None or parts.scheme != "http" or extra:
        raise ServingError(
            Code.INVALID_ARGUMENT, f"--peer_url={url}: wanted http://{PLACE}-SERVICE.NAMESPACE.svc.cluster.local"
        )
    if gateway and not _GATEWAY.fullmatch(gateway):
        raise ServingError(Code.INVALID_ARGUMENT, f"--peer_gateway={gateway}: wanted host:port")
    return PeerAddress(match["service"], match["domain"], port, gateway)
