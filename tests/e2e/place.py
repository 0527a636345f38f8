"""Where the tests stand: a namespace of a real cluster, a real S3 server that pods reach, `zeroserve` and `kn`.

Which cluster: `KUBECONFIG`; its ingress, as `host:port`: `KNATIVE_INGRESS`; the domain below which services have their
names: `KNATIVE_DOMAIN`; the two images: `ZEROSERVE_E2E_IMAGE`, `ZEROSERVE_E2E_DEPLOY_IMAGE`. `kn` and `kubectl` are on
the PATH. `ZEROSERVE_E2E_ENVOY_IMAGE`, for tests of the gateway: one with `envoy` on its PATH. `ZEROSERVE_E2E_HOST` is
this machine's address as pods see it, where the way to the cluster's node does not tell. `make e2e` needs the same.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ingress import Service
from tests.functions.served import GOLDEN_MODELS, ROOT
from tests.servers.s3 import BUCKET, S3Server, s3_server

NEEDED = ("KUBECONFIG", "KNATIVE_INGRESS", "KNATIVE_DOMAIN", "ZEROSERVE_E2E_IMAGE", "ZEROSERVE_E2E_DEPLOY_IMAGE")
MISSING = [name for name in NEEDED if not os.environ.get(name)]
needs_cluster = pytest.mark.skipif(bool(MISSING), reason=f"no cluster: {', '.join(MISSING)} not set")

MODEL = GOLDEN_MODELS / "half_plus_two" / "1"
SECRET = "s3"
COMMAND_SECONDS = 300


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Place:
    """One namespace, whose secret opens one bucket."""

    namespace: str
    store: S3Server

    def upload(self, model: str, version: int, folder: Path = MODEL) -> str:
        """Puts a version into the bucket; gives the model's URL, which is this namespace's alone."""
        self.store.put_tree(folder, f"{self.namespace}/{model}/{version}")
        return self.url(model)

    def url(self, model: str) -> str:
        """Where a model's versions lie."""
        return f"s3://{BUCKET}/{self.namespace}/{model}"

    def zeroserve(self, command: str, *words: str, fails: bool = False) -> Said:
        """Runs `zeroserve` on this machine, for this namespace."""
        said = run(
            sys.executable, "-m", "functions.cli", command, *words, f"--namespace={self.namespace}", store=self.store
        )
        assert bool(said.status) == fails, said.err + said.out
        return said

    def deploy(self, name: str, url: str, *words: str, fails: bool = False) -> Said:
        """`zeroserve deploy` with the image, small pods, and the way to the bucket."""
        image = f"--image={os.environ['ZEROSERVE_E2E_IMAGE']}"
        memory = () if any(word.startswith("--memory") for word in words) else ("--memory=400Mi",)
        given = (image, "--cpu=50m", *memory, f"--env-from-secret={SECRET}", "--ready-timeout=120", *words)
        return self.zeroserve("deploy", name, url, *given, fails=fails)

    def status(self, name: str) -> dict[str, Any]:
        """`zeroserve status --json`."""
        said = run(
            sys.executable,
            "-m",
            "functions.cli",
            "status",
            name,
            "--json",
            f"--namespace={self.namespace}",
            store=self.store,
        )
        found: dict[str, Any] = json.loads(said.out)
        return found

    def percents(self, name: str) -> dict[int, int]:
        """Version -> percent, for versions with any traffic."""
        return {row["version"]: row["percent"] for row in self.status(name)["revisions"] if row["percent"]}

    def kubectl(self, *words: str, feed: str = "") -> str:
        """What `kubectl` prints; fails with what it says."""
        said = run("kubectl", "--namespace", self.namespace, *words, feed=feed)
        assert said.status == 0, said.err
        return said.out

    def get(self, *words: str) -> Any:
        """`kubectl get -o json`."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def kn(self, *words: str) -> str:
        """What `kn` prints; fails with what it says."""
        said = run("kn", "--namespace", self.namespace, *words)
        assert said.status == 0, said.err
        return said.out

    def pods(self, service: str) -> list[str]:
        """Names of a service's pods that are not on their way out."""
        found = self.get("pods", "-l", f"serving.knative.dev/service={service}")["items"]
        return [pod["metadata"]["name"] for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def service(self, name: str, tag: str = "") -> Service:
        """A service as its callers see it, or one of its tags."""
        host = f"{tag}-{name}" if tag else name
        return Service(os.environ["KNATIVE_INGRESS"], f"{host}.{self.namespace}.{os.environ['KNATIVE_DOMAIN']}", name)


@contextmanager
def place(store: S3Server) -> Iterator[Place]:
    """A namespace that lives as long as the block."""
    found = Place(f"e2e-{secrets.token_hex(3)}", store)
    found.kubectl("create", "namespace", found.namespace)
    try:
        literals = [f"--from-literal={name}={value}" for name, value in store.environ.items()]
        found.kubectl("create", "secret", "generic", SECRET, *literals)
        yield found
    finally:
        found.kubectl("delete", "namespace", found.namespace, "--wait=false")


@contextmanager
def reachable_store() -> Iterator[S3Server]:
    """A store on the address of this machine that pods reach."""
    folder = Path(tempfile.mkdtemp(prefix="zeroserve-e2e-"))
    try:
        with s3_server(folder, os.environ.get("ZEROSERVE_E2E_HOST") or _own_address()) as store:
            yield store
    finally:
        shutil.rmtree(folder)


def run(*words: str, feed: str = "", store: S3Server | None = None) -> Said:
    """Runs a command to its end."""
    environ = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | (store.environ if store else {})
    done = subprocess.run(
        words, cwd=ROOT, env=environ, input=feed, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )
    return Said(done.returncode, done.stdout, done.stderr)


def _own_address() -> str:
    """This machine's address on the way to the first node."""
    nodes = json.loads(run("kubectl", "get", "nodes", "-o", "json").out)["items"]
    addresses = {entry["type"]: entry["address"] for entry in nodes[0]["status"]["addresses"]}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((addresses["InternalIP"], 9))
        address: str = probe.getsockname()[0]
        return address
