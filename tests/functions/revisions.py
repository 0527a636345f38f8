"""A service of three revisions on this machine: real servers, each with one version, behind a gateway."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.functions.command import Command
from tests.functions.gateway import Gateway, running_gateway
from tests.functions.served import GOLDEN_MODELS

MODELS = {1: GOLDEN_MODELS / "golden" / "1", 2: GOLDEN_MODELS / "golden" / "2", 3: GOLDEN_MODELS / "golden_ex" / "1"}
DOMAIN = "-m.test.svc.cluster.local"


class Revisions:
    """The revisions; `revisions[2]` is the process that serves version 2."""

    def __init__(self, folder: Path, gateway: Gateway) -> None:
        self.folder = folder
        self.gateway = gateway
        self.commands: dict[int, Command] = {}

    def __getitem__(self, version: int) -> Command:
        return self.commands[version]

    def host(self, tag: str) -> str:
        return f"{tag}{DOMAIN}"

    def start(self, stack: contextlib.ExitStack, *versions: int) -> None:
        for version in versions:
            home = self.folder / f"process{version}"
            home.mkdir()
            flags = (
                "--model_name=m",
                f"--model_base_path={self.folder / 'm'}",
                f"--model_version={version}",
                f"--peer_url=http://{{tag}}{DOMAIN}",
                f"--peer_gateway={self.gateway.address}",
                f"--routes_file={self.folder / 'routes.json'}",
                "--rest_api_timeout_in_ms=10000",
            )
            self.commands[version] = stack.enter_context(Command(home, *flags))
        for version in versions:
            command = self.commands[version]
            command.until_ready()
            self.gateway.backends[self.host(f"v{version}")] = f"127.0.0.1:{command.port}"

    def tag(self, name: str, version: int) -> None:
        """Gives a version one more tag."""
        self.gateway.backends[self.host(name)] = f"127.0.0.1:{self.commands[version].port}"

    def routes(self, **routes: Any) -> None:
        """Writes the routes file, as a ConfigMap's volume does: another file in its place."""
        path = self.folder / "routes.json"
        partial = path.with_suffix(".new")
        partial.write_text(json.dumps(routes))
        partial.replace(path)

    def metric(self, version: int, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels."""
        found = 0.0
        text = self.commands[version].get("/monitoring/prometheus/metrics").text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    found += sample.value
        return found


@contextlib.contextmanager
def running_revisions(folder: Path, *versions: int) -> Iterator[Revisions]:
    """Runs revisions of model `m` of these versions."""
    model = folder / "m"
    model.mkdir()
    for version, path in MODELS.items():
        (model / str(version)).symlink_to(path)
    with running_gateway() as gateway, contextlib.ExitStack() as stack:
        revisions = Revisions(folder, gateway)
        revisions.start(stack, *versions)
        yield revisions
