"""A real Envoy with the gateway's configuration, in front of real servers."""

import contextlib
import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from functions.commands.gateway_run import envoy_program, running, write_keys
from knative.gateway.settings import Gateway

ALICE = "alice-has-this-key-000"
BOB = "bob-has-this-other-key-1"
BODY = b'{"instances": [1.0, 2.0, 5.0]}'
PREDICT = "/v1/models/half_plus_two:predict"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Entry:
    """A gateway that runs.

    Attributes:
        port, metrics_port: on 127.0.0.1.
        keys: the folder of its keys.
    """

    port: int
    metrics_port: int
    keys: Path

    def ask(self, method: str, path: str, body: Any = None, key: str = ALICE, **headers: str) -> Answer:
        """One request on a connection of its own; underscores in names of headers are hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if key:
            named["x-api-key"] = key
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())

    def predict(self, key: str = ALICE, model: str = "half_plus_two", **headers: str) -> Answer:
        """One prediction."""
        return self.ask("POST", f"/v1/models/{model}:predict", BODY, key, **headers)

    def metrics(self) -> str:
        """Prometheus' text."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=60)) as connection:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()


@contextlib.contextmanager
def entry(folder: Path, gateway: Gateway) -> Iterator[Entry]:
    """A gateway in front of `gateway.backends`, with the keys of alice and bob."""
    keys = folder / "keys"
    write_keys(keys, {ALICE: "alice", BOB: "bob"})
    with running(gateway, envoy_program(), address="127.0.0.1", port=0, keys_folder=keys) as (port, metrics, _):
        yield Entry(port, metrics, keys)
