"""A service as its callers see it: through the cluster's ingress, by the name of a host that no DNS knows."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

import loader.protos as _protos

assert _protos
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc  # noqa: E402

BODY = b'{"instances": [1.0, 2.0, 5.0]}'
ANSWER = [2.5, 3.0, 4.5]
"""What half_plus_two makes of BODY."""

SECONDS = 60.0
"""What one request may take, a cold start included."""


@dataclass(frozen=True)
class Answer:
    """What came back over HTTP.

    Attributes:
        headers: names in small letters.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def version(self) -> int:
        """The version whose revision answered; 0 where none says so."""
        return int(self.headers.get("x-zeroserve-revision", "v0").removeprefix("v"))


@dataclass(frozen=True)
class Service:
    """One host name behind the ingress.

    Attributes:
        model: the name that its requests call the model by.
    """

    ingress: str
    host: str
    model: str

    @contextmanager
    def connection(self) -> Iterator[Callable[..., Answer]]:
        """`ask(method, path, body, **headers)` on one connection that is kept."""
        connection = http.client.HTTPConnection(self.ingress, timeout=SECONDS)

        def ask(method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
            connection.request(method, path, body, {"Host": self.host, **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

        try:
            yield ask
        finally:
            connection.close()

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request on a connection of its own."""
        with self.connection() as ask:
            return ask(method, path, body, headers)

    def predict(self, at: str = "", **headers: str) -> Answer:
        """One prediction over TensorFlow Serving's REST API; `at` is such as `/versions/2`."""
        return self.ask("POST", f"/v1/models/{self.model}{at}:predict", BODY, **headers)

    def works(self) -> bool:
        """Whether a prediction is answered, and right."""
        answer = self.predict()
        return answer.status == 200 and answer.json == {"predictions": ANSWER}

    @contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """A gRPC channel to it."""
        with grpc.insecure_channel(self.ingress, [("grpc.default_authority", self.host)]) as channel:
            yield channel

    def grpc_predict(self, version: int | None = None, label: str = "") -> predict_pb2.PredictResponse:
        """One prediction over gRPC."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.model
        if version is not None:
            request.model_spec.version.value = version
        if label:
            request.model_spec.version_label = label
        request.inputs["x"].dtype = 1
        request.inputs["x"].tensor_shape.dim.add(size=3)
        request.inputs["x"].float_val.extend([1.0, 2.0, 5.0])
        with self.channel() as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            return stub.Predict(request, timeout=SECONDS)


@dataclass
class Load:
    """What constant load saw.

    Attributes:
        failures: everything that was not a right answer.
        versions: version -> answers.
    """

    failures: list[str] = field(default_factory=list)
    versions: Counter[int] = field(default_factory=Counter)

    @property
    def answered(self) -> int:
        return self.versions.total()

    def until(self, is_so: Callable[[], object], seconds: float = SECONDS) -> None:
        """Returns once it is so, while the load goes on."""
        eventually(is_so, seconds)


@contextmanager
def constant_load(call: Callable[[], Answer], clients: int = 4, pause: float = 0.02) -> Iterator[Load]:
    """`clients` threads that each call again `pause` seconds after an answer, as long as the block runs."""
    load, over, lock = Load(), threading.Event(), threading.Lock()

    def work() -> None:
        while not over.is_set():
            failure, version = "", 0
            try:
                answer = call()
                version = answer.version
                if answer.status != 200:
                    failure = f"{time.time():.2f} {answer.status} {answer.body[:200]!r}"
            except (OSError, http.client.HTTPException) as error:
                failure = f"{time.time():.2f} {error!r}"
            with lock:
                if failure:
                    load.failures.append(failure)
                else:
                    load.versions[version] += 1
            over.wait(pause)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: load.answered or load.failures)
        yield load
    finally:
        over.set()
        for thread in threads:
            thread.join()


def eventually(is_so: Callable[[], object], seconds: float = SECONDS) -> None:
    """Returns once it is so."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not so after {seconds:.0f} s"
        time.sleep(0.2)
