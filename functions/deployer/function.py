"""The deploy function, put together: a cluster, storage, who may send, and the door that they stand behind."""

import json
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from events.clients import Clients
from events.declared import Declared
from events.door import Door
from events.follower import Follower
from events.gate_bench import Bench
from events.landing import Landing
from events.looks import Looks
from events.model_configs import ModelConfigs
from events.oidc import Issuer, Oidc
from events.rollout_event import RolloutEvents
from events.sender import Senders, parse_secrets
from events.stores import Stores
from functions.config import cluster_environment, sink_environment
from functions.deployer.gated_rollout import gated_rollout
from functions.deployer.settings import DeployerSettings, words
from functions.event_sink import OIDC_TOKEN, sink_extensions
from functions.observing.landing_metrics import LandingMetrics
from knative import kubeconfig
from knative.client import Client
from knative.kubeconfig import Access

FETCH_SECONDS = 10.0
"""What an issuer outside the cluster, or Amazon's confirmation, may take."""

MAX_FETCHED_BYTES = 1 << 20

DISCOVERY = "/.well-known/openid-configuration"
"""Source: OpenID Connect Discovery 1.0, section 4."""

CLUSTER_KEYS = "/openid/v1/jwks"
"""Where the API server has its keys, whatever address its discovery document gives for those outside."""


@dataclass(frozen=True, slots=True)
class DeployFunction:
    """What answers events, and what works behind it.

    Attributes:
        door: answers.
        namespace: of the services.
        counts: what it did, as metrics.
    """

    door: Door
    namespace: str
    counts: LandingMetrics
    _ends: tuple[Callable[[], None], ...]

    def close(self) -> None:
        """Takes no more steps, and waits for those that run."""
        for end in self._ends:
            end()


def deploy_function(settings: DeployerSettings) -> DeployFunction:
    """Puts it together; the cluster's address is read, nothing is contacted, and no thread is started.

    Raises:
        DeployError: there is no cluster.
        ValueError, OSError: the secrets cannot be read, or what is said of the sink of rollout events makes no sense.
    """
    environment = cluster_environment()

    def access() -> Access:
        return kubeconfig.read(settings.kubeconfig or environment.get("KUBECONFIG", ""), environment)

    namespace = settings.namespace or access().namespace
    clients = Clients(lambda: Client(access()))
    bench = Bench()
    variables = sink_environment()
    sink = settings.rollout_sink or variables.get("K_SINK", "")
    # Knative's token is for Knative's sink.
    token = OIDC_TOKEN if not settings.rollout_sink and OIDC_TOKEN.exists() else None
    tell = RolloutEvents(sink, namespace, sink_extensions(variables), token) if sink else None
    rollout = gated_rollout(settings, clients, bench)
    counts = LandingMetrics()
    emit = counts.telling(tell or _nobody)
    landing = Landing(clients, namespace, Stores(settings.storage_driver), rollout, emit=emit)
    follower = Follower(landing, settings.look_threads, counts.looked)
    declared: Looks[tuple[Declared, ...]] = Looks(lambda _: landing.declared(), 1)
    door = Door(
        follower,
        declared,
        configs=ModelConfigs(clients, namespace),
        senders=_senders(settings, clients, namespace),
        sns_topics=words(settings.sns_topics),
        open_url=_fetch,
    )

    def hand_over() -> None:
        """A function that is scaled to zero or replaced in the middle of a rollout leaves it to another copy."""
        if tell and (left := follower.unfinished):
            tell.sweep(f"a deploy function ended while rollouts were under way: {', '.join(sorted(left))}")

    ends = (declared.close, follower.close, hand_over, bench.close, *([tell.close] if tell else []))
    return DeployFunction(door, namespace, counts, ends)


def _nobody(kind: str, service: str, data: Mapping[str, Any]) -> None:
    """Without a sink nobody is told."""


def _senders(settings: DeployerSettings, clients: Clients, namespace: str) -> Senders:
    path = Path(settings.event_secret_file) if settings.event_secret_file else None

    def secrets() -> Sequence[str]:
        return parse_secrets(path.read_text()) if path is not None else ()

    secrets()  # what is wrong with them is said at the start
    oidc = None
    if settings.event_audience:
        subjects = words(settings.event_subjects) or (f"system:serviceaccount:{namespace}:*",)
        others = words(settings.event_issuers)
        oidc = Oidc(lambda: [_of_cluster(clients), *map(_issuer, others)], settings.event_audience, subjects)
    return Senders(secrets, oidc, anonymous=settings.anonymous_events)


def _of_cluster(clients: Clients) -> Issuer:
    def keys() -> Mapping[str, Any]:
        with clients.use() as client:
            return client.json("GET", CLUSTER_KEYS)

    with clients.use() as client:
        return Issuer(str(client.json("GET", DISCOVERY).get("issuer", "")), keys)


def _issuer(url: str) -> Issuer:
    def keys() -> Mapping[str, Any]:
        address = str(_json(f"{url.rstrip('/')}{DISCOVERY}").get("jwks_uri", ""))
        if not address.startswith("https://"):
            raise ValueError(f"{url} names no https address for its keys")
        return _json(address)

    return Issuer(url, keys)


def _json(url: str) -> Mapping[str, Any]:
    found = json.loads(_fetch(url))
    if not isinstance(found, dict):
        raise ValueError(f"{url} is no JSON object")
    return found


def _fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=FETCH_SECONDS) as response:  # noqa: S310  https only: checked by callers
        content: bytes = response.read(MAX_FETCHED_BYTES)
    return content
