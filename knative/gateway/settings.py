"""What a user wants of the gateway: pure, checked once, here.

Source: docs of Envoy 1.40 (jwt_authn, api_key_auth, local_ratelimit, cors, buffer).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from knative.error import DeployError
from knative.names import checked_namespace, checked_service

NAME = "zeroserve-gateway"
"""Of all that runs on a cluster. Services of models cannot be reached under names that begin with `zeroserve-`."""

RESERVED_PREFIX = "zeroserve-"
"""Begins the names of services that are no models: the gateway would call itself, or the deploy function."""

PORT = 8080
METRICS_PORT = 9902
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
"""Unit of a limit -> seconds."""

MAX_LIMIT = 2**31
MAX_BODY_BYTES = 1 << 30
MAX_RETRIES = 10
DEFAULT_BODY_BYTES = 32 << 20
DEFAULT_SECONDS = 300
"""Of one request, as of a revision: a cold start is in it."""

EVERYBODY = ""
"""The client, or the model, of a limit that holds for each one that has none of its own."""

_LIMIT = re.compile(r"(?:([A-Za-z0-9][A-Za-z0-9._@-]{0,62})=)?([1-9][0-9]{0,9})/([smhd])")
_CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
_ADDRESS = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]{0,252}):([0-9]{1,5})")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9*][A-Za-z0-9.*-]*(:[0-9]{1,5})?|\*")
_PATH = re.compile(r"[A-Za-z0-9/._~-]{0,256}")
_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Limit:
    """So many requests in so many seconds, all of which may come at once.

    Attributes:
        whose: the client or the model; `EVERYBODY` for each that has none of its own.
        requests: how many.
        seconds: 1, 60, 3600 or 86400.
    """

    whose: str
    requests: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Jwt:
    """Whose tokens are taken.

    Attributes:
        issuer: the claim `iss`.
        audiences: at least one of them is in the claim `aud`; empty for any.
        keys_url: where the issuer's keys are; empty where `keys` has them.
        keys: the issuer's keys as a JSON text, a JWKS.
        claim: that says who the client is.
    """

    issuer: str
    audiences: tuple[str, ...] = ()
    keys_url: str = ""
    keys: str = ""
    claim: str = "sub"

    def __post_init__(self) -> None:
        if not self.issuer or not self.claim:
            raise DeployError("JWT: wanted the issuer's name and the claim that says who the client is")
        if bool(self.keys_url) == bool(self.keys):
            raise DeployError(f"JWT of {self.issuer}: wanted --jwks=URL or --jwks=FILE")
        parts = urlsplit(self.keys_url or "https://here")
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
            raise DeployError(f"JWT of {self.issuer}: {self.keys_url!r} is no https:// URL")


@dataclass(frozen=True, slots=True)
class Gateway:
    """The gateway as it is wanted.

    Attributes:
        namespace: whose services it reaches, and where it runs.
        keys: whether a request needs one of the keys in the Secret; with `jwt`, the one or the other.
        jwt: whose tokens are taken; None for nobody's.
        models: names that may be called; empty for all.
        backends: model -> host:port of what serves it, where that is no Knative service of the namespace.
        client_limits, model_limits: how much of each is let through, by every replica.
        rate_limit_service: host:port of the standard rate-limit service, which counts over all replicas; or empty.
        rate_limit_required: whether requests are refused while that service does not answer.
        cors_origins: that browsers may call from; a `*` in one stands for anything.
        max_body_bytes: of a request.
        timeout_seconds: of a request, a cold start included.
        retries: after a connection that failed before the model saw the request.
        ejection_seconds: a model that fails five times in a row is left alone for; 0 for never.
        trusted_hops: proxies before this one whose `x-forwarded-for` is believed.
        cluster_domain: of the cluster's DNS.
        traces: URL of the collector that spans go to, over OTLP/HTTP; empty for none.
        trace_percent: of the requests whose callers do not say whether they keep the trace.
    """

    namespace: str = "default"
    keys: bool = True
    jwt: Jwt | None = None
    models: tuple[str, ...] = ()
    backends: Mapping[str, str] = field(default_factory=dict)
    client_limits: tuple[Limit, ...] = ()
    model_limits: tuple[Limit, ...] = ()
    rate_limit_service: str = ""
    rate_limit_required: bool = False
    cors_origins: tuple[str, ...] = ()
    max_body_bytes: int = DEFAULT_BODY_BYTES
    timeout_seconds: int = DEFAULT_SECONDS
    retries: int = 2
    ejection_seconds: int = 10
    trusted_hops: int = 0
    cluster_domain: str = "cluster.local"
    traces: str = ""
    trace_percent: float = 100.0

    def __post_init__(self) -> None:
        checked_namespace(self.namespace)
        for model in (*self.models, *self.backends):
            _checked_model(model)
        for limit in self.model_limits:
            if limit.whose:
                _checked_model(limit.whose)
        for address in (*self.backends.values(), *filter(None, [self.rate_limit_service])):
            split_address(address)
        for origin in self.cors_origins:
            if not _ORIGIN.fullmatch(origin):
                raise DeployError(f"CORS origin {origin!r}: wanted https://app.example, https://*.example or *")
        if not _DOMAIN.fullmatch(self.cluster_domain):
            raise DeployError(f"cluster domain {self.cluster_domain!r}: wanted such as cluster.local")
        if not 1 <= self.max_body_bytes <= MAX_BODY_BYTES:
            raise DeployError(f"body of {self.max_body_bytes} bytes: wanted 1 to {MAX_BODY_BYTES}")
        if self.timeout_seconds < 1 or self.ejection_seconds < 0 or not 0 <= self.trusted_hops <= 10:
            raise DeployError("timeout: wanted 1 or more; ejection: 0 or more seconds; trusted hops: 0 to 10")
        if self.traces:
            collector_url(self.traces)
        if not 0 <= self.trace_percent <= 100:
            raise DeployError(f"{self.trace_percent:g} % of the requests traced: wanted 0 to 100")
        if not 0 <= self.retries <= MAX_RETRIES:
            raise DeployError(f"{self.retries} retries: wanted 0 to {MAX_RETRIES}")

    @property
    def is_open(self) -> bool:
        """Whether anybody may call."""
        return not self.keys and self.jwt is None


def parse_limit(text: str) -> Limit:
    """`100/s` for each, or `alice=5/m` for one; units s, m, h and d.

    Raises:
        DeployError: no such form.
    """
    match = _LIMIT.fullmatch(text)
    if match is None or int(match[2]) > MAX_LIMIT:
        raise DeployError(f"limit {text!r}: wanted REQUESTS/UNIT or NAME=REQUESTS/UNIT with unit s, m, h or d")
    return Limit(match[1] or EVERYBODY, int(match[2]), UNITS[match[3]])


def checked_client(name: str) -> str:
    """`name`, if a client can have it: it stands in headers and logs.

    Raises:
        DeployError: it cannot.
    """
    if not _CLIENT.fullmatch(name):
        raise DeployError(f"client {name!r}: wanted letters, digits and . _ @ -, 63 characters at most")
    return name


def split_address(text: str) -> tuple[str, int]:
    """Host and port.

    Raises:
        DeployError: not `host:port`.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or not 0 < int(match[2]) < 1 << 16:
        raise DeployError(f"address {text!r}: wanted HOST:PORT")
    return match[1], int(match[2])


def collector_url(text: str) -> tuple[str, int, bool, str]:
    """Host, port, whether it speaks TLS, and the whole URL of a collector: `http://collector:4318`, or with a path.

    Raises:
        DeployError: no such form.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    tls = parts.scheme == "https"
    host = parts.hostname or ""
    address = f"{host}:{(443 if tls else 80) if port is None else port}"
    strange = parts.username is not None or parts.query or parts.fragment or not _PATH.fullmatch(parts.path)
    if parts.scheme not in {"http", "https"} or strange or not _ADDRESS.fullmatch(address):
        raise DeployError(f"collector {text!r}: wanted http://HOST:4318 or https://HOST/PATH")
    path = parts.path if parts.path.strip("/") else "/v1/traces"
    return *split_address(address), tls, f"{parts.scheme}://{address}{path}"


def service_name(model: str) -> str:
    """The service of a model that a request names, as the gateway's script has it too."""
    return model.lower().replace("_", "-")


def _checked_model(model: str) -> None:
    if checked_service(service_name(model)).startswith(RESERVED_PREFIX):
        raise DeployError(f"model {model!r}: names that begin with {RESERVED_PREFIX!r} are kept for zeroserve itself")
