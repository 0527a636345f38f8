"""The rollout of the deploy function, put together: gates over the cluster's network and storage, metrics of pods."""

from urllib.parse import urlsplit

from events.clients import Clients
from events.gate_bench import Bench
from events.gate_http import Peer
from events.gate_rollout import Gated
from events.health_counts import Pods
from events.health_pods import ask_running, read_pods, restarts
from events.replay_gate import ReplayGate
from events.signature_gate import SignatureGate
from functions.deployer.settings import DeployerSettings
from knative.error import DeployError
from loader.record_files import read_records


def gated_rollout(settings: DeployerSettings, clients: Clients, bench: Bench) -> Gated:
    """Puts it together; nothing is contacted."""

    def address(namespace: str, service: str, tag: str, revision: str) -> Peer:
        def running(path: str) -> bytes:
            try:
                with clients.use() as client:
                    return ask_running(client, namespace, revision, path)
            except DeployError:
                return b""  # its address is left

        url = settings.peer_url.format(tag=tag, service=service, namespace=namespace)
        if not settings.peer_gateway:
            return Peer(url, pods=running)
        return Peer(f"http://{settings.peer_gateway}", {"host": urlsplit(url).netloc}, running)

    def pods(namespace: str, revision: str, model: str) -> Pods:
        with clients.use() as client:
            return read_pods(client, namespace, revision, model)

    def restarted(namespace: str, revision: str) -> int:
        with clients.use() as client:
            return restarts(client, namespace, revision)

    def read(url: str, limit: int) -> bytes:
        return read_records(url, limit, settings.storage_driver)

    return Gated([SignatureGate(), ReplayGate(read)], bench, address, pods=pods, restarts=restarted)
