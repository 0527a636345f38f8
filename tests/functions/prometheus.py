"""A real Prometheus on this machine, where there is one: Debian's package `prometheus` has it, and promtool."""

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.servers.process import free_port, running, wait_for_http

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
needs_prometheus = pytest.mark.skipif(PROMETHEUS is None, reason="no prometheus: apt-get install prometheus")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool: apt-get install prometheus")


def promtool(*words: str | Path) -> str:
    """What it says; fails where it finds a fault."""
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *map(str, words)], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Prometheus:
    """One that runs."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **query: str) -> Any:
        answer = requests.get(f"{self.url}/api/v1/{path}", params=query, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def query(self, expr: str) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = self.get("query", query=expr)["result"]
        return found

    def until(self, expr: str, seconds: float = 60.0) -> list[Mapping[str, Any]]:
        """The result of a query once there is one."""
        deadline = time.monotonic() + seconds
        while not (found := self.query(expr)):
            assert time.monotonic() < deadline, f"{expr}: nothing after {seconds} s"
            time.sleep(0.2)
        return found


@contextlib.contextmanager
def prometheus(folder: Path, config: Mapping[str, Any]) -> Iterator[Prometheus]:
    """Runs with this configuration."""
    assert PROMETHEUS is not None
    file, port = folder / "prometheus.json", free_port()
    file.write_text(json.dumps(config))  # JSON is YAML
    words = [
        PROMETHEUS,
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with running(words, environ={}, log=folder / "prometheus.log"):
        wait_for_http(f"http://127.0.0.1:{port}/-/ready")
        yield Prometheus(f"http://127.0.0.1:{port}")
