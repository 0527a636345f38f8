"""With `--reload_sink` a pod sends a reload on, as the event that landing reads, and goes on serving what it served."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
import pytest

import loader.protos as _protos

assert _protos
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest  # noqa: E402
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub  # noqa: E402

from events import config_event  # noqa: E402
from events.config_event import ModelWish  # noqa: E402
from events.envelope import envelopes  # noqa: E402
from functions import reload_sink  # noqa: E402
from loader.policy import Latest  # noqa: E402
from tests.functions.command import Command  # noqa: E402
from tests.functions.served import GOLDEN_MODELS  # noqa: E402


class Sink(HTTPServer):
    """Keeps what it is sent, and answers `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 202
        self.requests: list[tuple[dict[str, str], bytes]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Sink

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.server.status)
        self.send_header("content-length", "9")
        self.end_headers()
        self.wfile.write(b"the sink.")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name is http.server's
        """Says nothing."""


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def reload(command: Command) -> None:
    request = ReloadConfigRequest()
    request.config.model_config_list.config.add(name="other", base_path="s3://b/other", model_platform="tensorflow")
    with grpc.insecure_channel(f"127.0.0.1:{command.port}") as channel:
        ModelServiceStub(channel).HandleReloadConfigRequest(request, timeout=60)


def test_a_reload_is_sent_on_and_changes_nothing_here(sink, tmp_path):
    flags = ["--model_name=m", f"--model_base_path={GOLDEN_MODELS / 'half_plus_two'}"]
    flags.append(f"--reload_sink=http://127.0.0.1:{sink.server_port}/models/default")
    with Command(tmp_path, *flags, environ={"K_SERVICE": "m-service"}) as command:
        command.until_ready()
        reload(command)
        (received,) = sink.requests
        (event,) = envelopes(*received)
        assert event.type == config_event.TYPE == reload_sink.TYPE
        assert event.attributes["service"] == "m-service"
        assert config_event.model_wishes(event.data) == (ModelWish("other", "s3://b/other", Latest(1), {}),)
        assert command.predict().json() == {"predictions": [2.5]}
        for status, code in ((400, grpc.StatusCode.INVALID_ARGUMENT), (503, grpc.StatusCode.UNAVAILABLE)):
            sink.status = status
            with pytest.raises(grpc.RpcError) as refused:
                reload(command)
            assert refused.value.code() is code
            assert "the sink." in refused.value.details()


def test_a_sink_that_does_not_answer_is_said(tmp_path):
    flags = [
        "--model_name=m",
        f"--model_base_path={GOLDEN_MODELS / 'half_plus_two'}",
        "--reload_sink=http://127.0.0.1:1",
    ]
    with Command(tmp_path, *flags) as command:
        command.until_ready()
        with pytest.raises(grpc.RpcError) as refused:
            reload(command)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "--reload_sink" in refused.value.details()
