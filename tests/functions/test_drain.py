"""The end of a server under load: whoever moves on when told so loses no request."""

import http.client
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import grpc
import httpx
import pytest

import loader.protos as _protos  # before the messages: see there
from tests.functions.command import SECONDS, Command
from tests.functions.served import GOLDEN_MODELS

assert _protos
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc  # noqa: E402

BODY = b'{"instances": [1.0]}'
FLAGS = (f"--model_base_path={GOLDEN_MODELS / 'half_plus_two'}", "--model_name=m")
LAG_SECONDS = 0.5
"""How long clients go on choosing a server that has begun to end: endpoints and proxies learn late."""


class Load:
    """Clients that ask all the time, each over a connection that it keeps, until they are told to stop.

    Attributes:
        failed: what went wrong, as text.
        answered: good answers by port.
    """

    def __init__(self, first: int, second: int) -> None:
        self.ports = [first, second]
        self.failed: list[str] = []
        self.answered: Counter[int] = Counter()
        self._stop = threading.Event()
        clients: list[Callable[[], None]] = [*[self._http1] * 4, self._http1_now_and_then, *[self._http2] * 2]
        self._threads = [threading.Thread(target=self._guarded, args=(each,)) for each in [*clients, *[self._grpc] * 2]]
        for thread in self._threads:
            thread.start()

    def move(self) -> None:
        """From now on new connections go to the second server."""
        self.ports[0] = self.ports[1]

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _guarded(self, client: Callable[[], None]) -> None:
        try:
            client()
        except Exception as error:  # noqa: BLE001  a lost request is what is counted here
            self.failed.append(f"{client.__name__}: {error!r}")

    def _http1(self, pause: float = 0.0) -> None:
        while not self._stop.is_set():
            port = self.ports[0]
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.connect()
            while not self._stop.is_set():
                connection.request("POST", "/v1/models/m:predict", BODY)
                answer = connection.getresponse()
                assert (answer.status, answer.read()) == (200, b'{\n    "predictions": [2.5\n    ]\n}')
                self.answered[port] += 1
                if answer.will_close:
                    break
                self._stop.wait(pause)
            connection.close()

    def _http1_now_and_then(self) -> None:
        self._http1(0.3)

    def _http2(self) -> None:
        with httpx.Client(http1=False, http2=True, timeout=10) as client:
            while not self._stop.is_set():
                port = self.ports[0]
                answer = client.post(f"http://127.0.0.1:{port}/v1/models/m:predict", content=BODY)
                assert (answer.status_code, answer.json()) == (200, {"predictions": [2.5]})
                self.answered[port] += 1

    def _grpc(self) -> None:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "m"
        request.inputs["x"].dtype = 1
        request.inputs["x"].tensor_shape.dim.add(size=1)
        request.inputs["x"].float_val.append(1.0)
        # As a client with two addresses does: it keeps to the first while that takes connections.
        target = f"ipv4:127.0.0.1:{self.ports[0]},127.0.0.1:{self.ports[1]}"
        with grpc.insecure_channel(target) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while not self._stop.is_set():
                assert list(stub.Predict(request, timeout=10).outputs["y"].float_val) == [2.5]
                self.answered[0] += 1


@pytest.mark.parametrize("flags", [(), ("--workers=2",)])
def test_no_request_is_lost_when_a_server_ends_under_load(tmp_path: Path, flags: tuple[str, ...]) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with Command(tmp_path / "a", *FLAGS, *flags) as leaving, Command(tmp_path / "b", *FLAGS) as staying:
        leaving.until_ready()
        staying.until_ready()
        load = Load(leaving.port, staying.port)
        try:
            leaving.until(lambda: load.failed or (load.answered[leaving.port] > 200 and load.answered[0] > 20))
            leaving.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            leaving.until_line("draining")
            before = load.answered[leaving.port]
            assert leaving.get("/readyz").status_code == 503
            time.sleep(LAG_SECONDS - (time.monotonic() - began))
            assert load.answered[leaving.port] > before, "it is still asked, and still answers"
            load.move()
            assert leaving.process.wait(SECONDS) == 0
            assert time.monotonic() - began < 10
            after = load.answered.copy()
            leaving.until(
                lambda: load.answered[staying.port] > after[staying.port] + 100 and load.answered[0] > after[0]
            )
        finally:
            load.stop()
        assert load.failed == []
        assert "cut" not in leaving.log.read_text()


def test_somebody_at_a_terminal_does_not_wait(tmp_path: Path) -> None:
    with Command(tmp_path, *FLAGS, "--drain_delay_seconds=30") as command:
        command.until_ready()
        command.process.send_signal(signal.SIGINT)
        assert command.process.wait(15) == 0
