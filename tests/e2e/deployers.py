"""What the tests of landing stand on: a namespace of their own, declarations in it, deploy functions as processes."""

import contextlib
import http.client
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from events.own_event import CREATED
from knative import keys, kubeconfig
from knative.client import Client, ConflictError
from knative.condition import condition
from knative.declaration import DECLARATION_KEY, Declaration, config_map, declaration_text
from knative.observation import observed
from knative.policy import parse_policy
from knative.service import Deployment, traffic_patch
from knative.traffic import Traffic, shares

IMAGE = os.environ.get("ZEROSERVE_E2E_LANDING_IMAGE", "dev.local/demo:1")
"""Answers every GET on $PORT: how models are loaded is other tests' business."""

HOST = os.environ.get("ZEROSERVE_E2E_HOST", "10.95.0.1")
"""This machine, as pods see it."""

SECRET = "a secret of the tests"
SECONDS = 60.0


@dataclass(frozen=True)
class Deployer:
    """One deploy function, a process of its own."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def send(self, event_type: str, data: Mapping[str, Any], token: str = SECRET) -> tuple[int, str]:
        """Status and text of the answer to one event; 0 where the function is gone."""
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "ce-specversion": "1.0",
            "ce-id": secrets.token_hex(4),
            "ce-source": "//tests",
            "ce-type": event_type,
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=40)
        try:
            connection.request("POST", "/", json.dumps(data), headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def answered(self, status: int) -> bool:
        """Whether it has answered an event so."""
        return f"answered {status}" in self.log.read_text()

    def created(self, path: Path | str) -> tuple[int, str]:
        """Sends the event of a file that was written."""
        return self.send(CREATED, {"url": str(path)})

    def sweep(self) -> int:
        """Sends a sweep."""
        return self.send("com.zeroserve.sweep.v1", {})[0]

    def kill(self) -> None:
        """Ends it at once, whatever it does."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def deployer(folder: Path, namespace: str, senders: str = "", **environ: str) -> Iterator[Deployer]:
    """A deploy function for the services of a namespace.

    Args:
        senders: a flag that says who may send; empty means who has the secret.
    """
    secret, port = folder / "secret", folder / f"port-{secrets.token_hex(4)}"
    secret.write_text(SECRET)
    log = port.with_suffix(".log")
    # A Trigger reaches it from a pod, where it is anonymous.
    command = [Path(sys.executable).with_name("zeroserve"), "deployer", "--host=0.0.0.0", "--port=0"]
    command += ["--log_level=debug", f"--namespace={namespace}", f"--port_file={port}"]
    command += [senders or f"--event_secret_file={secret}"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | environ)
    try:
        eventually(lambda: port.exists() or process.poll() is not None)
        yield Deployer(process, int(port.read_text()), log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@dataclass
class Cluster:
    """One namespace of the cluster."""

    client: Client
    namespace: str
    declared: dict[str, Declaration] = field(default_factory=dict)

    def declare(
        self,
        name: str,
        url: Path | str,
        *,
        image: str = IMAGE,
        rollout: str = "",
        environment: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        """Writes a declaration."""
        deployment = Deployment(
            name, str(url), image, namespace=self.namespace, cpu="10m", environment=dict(environment or {})
        )
        if image == IMAGE:
            more.setdefault("gates", {"signatures": "ignore"})  # it has none
        declaration = Declaration(deployment, rollout=parse_policy(rollout), **more)
        self.declared[name] = declaration
        manifest = config_map(name, self.namespace, {DECLARATION_KEY: declaration_text(declaration)})
        self.client.apply_config_map(manifest, keys.FIELD_MANAGER)

    def redeclare(self, name: str, **changes: Any) -> None:
        """Changes the deployment of a declaration."""
        declaration = self.declared[name]
        declaration = replace(declaration, deployment=replace(declaration.deployment, **changes))
        self.declared[name] = declaration
        manifest = config_map(name, self.namespace, {DECLARATION_KEY: declaration_text(declaration)})
        self.client.apply_config_map(manifest, keys.FIELD_MANAGER)

    def service(self, name: str) -> dict[str, Any]:
        """The Service; empty where there is none."""
        return self.client.service(self.namespace, name) or {}

    def revisions(self, name: str) -> list[str]:
        """Names of its revisions."""
        return sorted(entry["metadata"]["name"] for entry in self.client.revisions(self.namespace, name))

    def versions(self, name: str) -> list[int]:
        """The versions of its revisions, one number for each."""
        return sorted(int(each.removeprefix(f"{name}-v").partition("-")[0]) for each in self.revisions(name))

    def shares(self, name: str) -> dict[int, int]:
        """Version -> percent, as the Service's traffic is written now."""
        service = self.service(name)
        if not service:
            return {}
        found: dict[int, int] = {}
        for each, percent in shares(observed(service, ()).traffic).items():
            version = int(each.removeprefix(f"{name}-v").partition("-")[0])
            found[version] = found.get(version, 0) + percent
        return found

    def tags(self, name: str) -> dict[str, str]:
        """Tag -> revision."""
        service = self.service(name)
        return (
            {target.tag: target.revision for target in observed(service, ()).traffic if target.tag} if service else {}
        )

    def retarget(self, name: str, traffic: Traffic) -> None:
        """Writes the traffic as kn would, whatever we noted; Knative writes the same object all the time."""

        def written() -> bool:
            service = self.service(name)
            body = {"metadata": {}, "spec": traffic_patch(traffic)["spec"]}
            version = service["metadata"]["resourceVersion"]
            try:
                self.client.patch(self.namespace, name, body, resource_version=version)
            except ConflictError:
                return False
            return True

        eventually(written)

    def broker(self, subscriber: str) -> str:
        """Address of a new Broker that sends all its events to a URL, and again what is answered 5xx."""
        path = f"/apis/eventing.knative.dev/v1/namespaces/{self.namespace}"
        delivery = {"retry": 20, "backoffPolicy": "linear", "backoffDelay": "PT0.2S"}
        trigger = {"broker": "b", "subscriber": {"uri": subscriber}, "delivery": delivery}
        made = {"brokers": ("Broker", {}), "triggers": ("Trigger", trigger)}
        for plural, (kind, spec) in made.items():
            body = {"apiVersion": "eventing.knative.dev/v1", "kind": kind, "metadata": {"name": "b"}, "spec": spec}
            self.client.json("POST", f"{path}/{plural}", None, body)
        for plural in made:
            eventually(lambda plural=plural: condition(self.client.json("GET", f"{path}/{plural}/b"))[0] == "True")
        return f"{os.environ['KNATIVE_BROKER']}/{self.namespace}/b"

    def note(self, name: str) -> str:
        """What landing says is wrong."""
        found: str = self.service(name)["metadata"]["annotations"].get("zeroserve.dev/landing", "")
        return found

    def ready(self, name: str) -> bool:
        """Whether the Service is ready."""
        return condition(self.service(name))[0] == "True"


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """A namespace that lives as long as the test."""
    client = Client(kubeconfig.read(os.environ["KUBECONFIG"], {}))
    name = f"landing-{secrets.token_hex(3)}"
    client.json("POST", "/api/v1/namespaces", None, {"metadata": {"name": name}})
    try:
        yield Cluster(client, name)
    finally:
        client.json("DELETE", f"/api/v1/namespaces/{name}")
        client.close()


def post(address: str, event_type: str, data: Mapping[str, Any]) -> int:
    """Sends an event to a broker; the status of its answer."""
    host, _, path = address.partition("/")
    headers = {
        "Content-Type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": secrets.token_hex(4),
        "ce-source": "//tests",
        "ce-type": event_type,
    }
    connection = http.client.HTTPConnection(host, timeout=40)
    try:
        connection.request("POST", f"/{path}", json.dumps(data), headers)
        return connection.getresponse().status
    finally:
        connection.close()


def upload(model: Path, version: Path, sent: Callable[[Path], object], order: random.Random) -> None:
    """Copies a version file by file, in any order, and tells of each file once it is there."""
    files = [file for file in model.rglob("*") if file.is_file()]
    order.shuffle(files)
    for file in files:
        target = version / file.relative_to(model)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".part")
        shutil.copyfile(file, partial)
        partial.rename(target)
        sent(target)


def eventually(is_so: Callable[[], object], seconds: float = SECONDS) -> None:
    """Returns once it is so."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not so after {seconds:.0f} s"
        time.sleep(0.1)
