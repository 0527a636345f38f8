"""The universal client, on a real server over each protocol, and the command `zeroserve predict`."""

import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from functions.client import Client
from functions.client.values import cast, inputs_from_image, inputs_from_json, inputs_from_npy, to_json
from functions.commands.predict import main
from loader import dtypes
from loader.signature import PREDICT_METHOD, Signature, TensorSpec
from loader.status import Code, ServingError
from tests.functions.served import ROOT, server

__all__ = ["server"]
PROTOCOLS = ("grpc", "rest", "oip")


@pytest.fixture(scope="module", params=PROTOCOLS)
def client(request: pytest.FixtureRequest, server: str) -> Iterator[Client]:
    with Client(server, protocol=request.param) as made:
        yield made


def spec(dtype: dtypes.DType, *shape: int) -> TensorSpec:
    return TensorSpec("x", "x:0", dtype.number, shape)


def signature(*specs: TensorSpec) -> Signature:
    return Signature("serving_default", PREDICT_METHOD, {each.alias: each for each in specs}, {})


def test_values_are_cast_to_the_signature_and_answered_as_arrays(client: Client) -> None:
    for inputs in ([1, 2, 5], {"x": [1, 2, 5]}, {"instances": [1, 2, 5]}, {"inputs": {"x": [1, 2, 5]}}):
        answer = client.predict("half_plus_two", inputs)
        assert answer.outputs["y"].dtype == np.float32
        assert answer.outputs["y"].tolist() == [2.5, 3, 4.5]
        assert answer.version in (1, None)


def test_versions_labels_signatures_and_outputs_can_be_chosen(client: Client) -> None:
    two = client.predict("golden", {"a": [1], "b": [2]}, version=2, signature="two_one")
    assert list(two.outputs) == ["c"]
    names = sorted(client.signature("golden", label="canary", signature="mixed_out").outputs)
    answer = client.predict("golden", [1.0], label="canary", signature="mixed_out", outputs=names[:1])
    assert list(answer.outputs) == names[:1]


@pytest.mark.parametrize("name", ["int8", "int64", "uint64", "float64", "bool"])
def test_every_type_comes_back_as_it_went(client: Client, name: str) -> None:
    value = np.array([0, 1], name)
    found = client.predict("golden", value, signature=f"id_{name}").outputs["y"]
    assert found.dtype == value.dtype
    assert found.tolist() == value.tolist()


def test_texts_go_as_bytes(client: Client) -> None:
    outputs = client.predict("golden", ["é", b"x"], signature="strs").outputs
    assert next(iter(outputs.values())).tolist() == ["é!".encode(), b"x!"]


def test_the_servers_refusals_keep_their_codes(client: Client) -> None:
    with pytest.raises(ServingError) as caught:
        client.predict("nobody", [1.0])
    assert caught.value.code is Code.NOT_FOUND
    with pytest.raises(ServingError) as caught:
        client.predict("half_plus_two", [1.0], version=99)
    assert caught.value.code is Code.NOT_FOUND


def test_inputs_that_do_not_fit_are_refused_before_anything_is_sent(client: Client) -> None:
    for wrong in (["a"], [[1.0], [1.0, 2.0]], {"zz": [1.0]}):
        with pytest.raises(ServingError) as caught:
            client.predict("half_plus_two", wrong)
        assert caught.value.code is Code.INVALID_ARGUMENT


def test_one_client_serves_many_threads(client: Client) -> None:
    def ask(value: int) -> float:
        return float(client.predict("half_plus_two", [value]).outputs["y"][0])

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(ask, range(80))) == [value / 2 + 2 for value in range(80)]


CUT = 0


class Flaky(BaseHTTPRequestHandler):
    """A server that answers with the statuses it is told, then as half_plus_two would."""

    protocol_version = "HTTP/1.1"
    statuses: ClassVar[list[int]] = []
    asked: ClassVar[list[str]] = []
    connections: ClassVar[int] = 0

    def setup(self) -> None:
        Flaky.connections += 1
        super().setup()

    def do_GET(self) -> None:
        tensor = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}]}, "name": "t:0"}
        found = {"serving_default": {"inputs": {"x": tensor}, "outputs": {"y": tensor}, "method_name": "m"}}
        self.answer(200, {"metadata": {"signature_def": {"signature_def": found}}})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.asked.append(self.path)
        status = self.statuses.pop(0) if self.statuses else 200
        if status == CUT:
            self.send_response(200)
            self.send_header("content-length", "1000")
            self.end_headers()
            self.close_connection = True
            return
        self.answer(status, {"outputs": [2.5]} if status == 200 else {"error": f"told {status}"})

    def answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def flaky() -> Iterator[str]:
    Flaky.statuses, Flaky.asked, Flaky.connections = [], [], 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Flaky) as made:
        made.daemon_threads = True
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


def test_an_unavailable_server_is_asked_again(flaky: str) -> None:
    Flaky.statuses = [503, 429, 502]
    with Client(flaky) as client:
        assert client.predict("m", [1.0]).outputs["y"].tolist() == [2.5]
    assert len(Flaky.asked) == 4


@pytest.mark.parametrize(("status", "code"), [(400, Code.INVALID_ARGUMENT), (504, Code.DEADLINE_EXCEEDED)])
def test_a_wrong_or_late_request_is_not_asked_again(flaky: str, status: int, code: Code) -> None:
    Flaky.statuses = [status]
    with Client(flaky) as client, pytest.raises(ServingError) as caught:
        client.predict("m", [1.0])
    assert caught.value.code is code
    assert caught.value.message == f"told {status}"
    assert len(Flaky.asked) == 1


def test_an_answer_that_is_cut_off_is_never_taken_for_whole(flaky: str) -> None:
    Flaky.statuses = [CUT]
    with Client(flaky, attempts=1) as client, pytest.raises(ServingError) as caught:
        client.predict("m", [1.0])
    assert caught.value.code is Code.UNAVAILABLE
    assert "1000 bytes too soon" in caught.value.message


def test_one_connection_carries_all_calls_that_follow_each_other(flaky: str) -> None:
    Flaky.statuses = [200, 400, 200]
    with Client(flaky) as client:
        client.predict("m", [1.0])
        with pytest.raises(ServingError):
            client.predict("m", [1.0])
        client.predict("m", [1.0])
    assert Flaky.connections == 1


def test_all_tries_keep_to_one_timeout(flaky: str) -> None:
    Flaky.statuses = [503] * 100
    with Client(flaky, attempts=100) as client:
        client.signature("m")
        started = time.monotonic()
        with pytest.raises(ServingError) as caught:
            client.predict("m", [1.0], timeout=0.5)
    assert caught.value.code is Code.UNAVAILABLE
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("target", ["http://127.0.0.1:9", "127.0.0.1:9"])
def test_a_server_that_cannot_be_reached_is_unavailable(target: str) -> None:
    with Client(target, attempts=1, timeout=5) as client, pytest.raises(ServingError) as caught:
        client.predict("m", [1.0])
    assert caught.value.code is Code.UNAVAILABLE


@pytest.mark.parametrize("target", ["ftp://x", "http://", "x:1"])
def test_a_target_or_protocol_that_makes_no_sense_is_refused(target: str) -> None:
    with pytest.raises(ServingError) as caught:
        Client(target, protocol=None if "//" in target else "smoke")
    assert caught.value.code is Code.INVALID_ARGUMENT


@given(hnp.arrays(st.sampled_from([np.float32, np.int64, np.uint8, np.bool_]), hnp.array_shapes(max_dims=3)))
def test_an_array_becomes_json_and_the_same_array_again(array: Any) -> None:
    dtype = dtypes.of_numpy(array.dtype)
    back = cast(spec(dtype, *array.shape), json.loads(json.dumps(to_json(array))))
    assert back.dtype == array.dtype
    assert np.array_equal(back, array, equal_nan=array.dtype.kind == "f")


def test_a_missing_batch_dimension_is_added_and_a_flat_value_is_reshaped() -> None:
    assert cast(spec(dtypes.FLOAT, -1, 2), [1, 2]).shape == (1, 2)
    assert cast(spec(dtypes.FLOAT, -1, 2, 2), [1, 2, 3, 4]).shape == (1, 2, 2)
    assert cast(spec(dtypes.STRING, -1), "a").shape == (1,)
    with pytest.raises(ServingError):
        cast(spec(dtypes.FLOAT, -1, 3), [1, 2])


@pytest.mark.parametrize(("dtype", "value"), [(dtypes.INT8, [300]), (dtypes.INT32, [1.5]), (dtypes.UINT8, [-1])])
def test_a_number_that_does_not_fit_is_refused(dtype: dtypes.DType, value: list[float]) -> None:
    with pytest.raises(ServingError) as caught:
        cast(spec(dtype, -1), value)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_a_64_bit_integer_keeps_all_its_digits() -> None:
    assert cast(spec(dtypes.INT64, -1), [(1 << 63) - 1]).tolist() == [(1 << 63) - 1]


def test_rows_become_columns() -> None:
    both = signature(TensorSpec("a", "", 1, (-1,)), TensorSpec("b", "", 1, (-1,)))
    found = inputs_from_json(both, {"instances": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]})
    assert {name: array.tolist() for name, array in found.items()} == {"a": [1, 3], "b": [2, 4]}
    with pytest.raises(ServingError):
        inputs_from_json(both, {"instances": [{"a": 1, "b": 2}, {"a": 3}]})


def test_a_picture_becomes_bytes_or_pixels_as_the_signature_asks() -> None:
    picture = io.BytesIO()
    Image.new("RGB", (8, 4), (255, 0, 51)).save(picture, "PNG")
    content = picture.getvalue()
    assert inputs_from_image(signature(spec(dtypes.STRING, -1)), content)["x"].tolist() == [content]
    pixels = inputs_from_image(signature(spec(dtypes.FLOAT, -1, 2, 3, 3)), content)["x"]
    assert pixels.shape == (1, 2, 3, 3)
    assert np.allclose(pixels[0, 0, 0], [1, 0, 0.2])
    assert inputs_from_image(signature(spec(dtypes.UINT8, -1, -1, -1, 1)), content)["x"].shape == (1, 4, 8, 1)
    with pytest.raises(ServingError):
        inputs_from_image(signature(spec(dtypes.FLOAT, -1, 2, 3, 3)), b"no picture")


def test_a_pickle_in_an_npy_file_is_refused() -> None:
    file = io.BytesIO()
    np.save(file, np.array([{}], object), allow_pickle=True)
    with pytest.raises(ServingError) as caught:
        inputs_from_npy(signature(spec(dtypes.FLOAT, -1)), file.getvalue())
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_command_prints_the_answer_as_json(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], protocol: str
) -> None:
    file = tmp_path / "x.json"
    file.write_text('{"instances": [1, 2, 5]}')
    assert main([server, "--model=half_plus_two", f"--json={file}", f"--{protocol}"]) == 0
    assert json.loads(capsys.readouterr().out)["outputs"] == {"y": [2.5, 3.0, 4.5]}
    np.save(tmp_path / "x.npy", np.array([1.0, 2.0]))
    assert main([server, "--model=golden", "--label=stable", f"--npy={tmp_path / 'x.npy'}", f"--{protocol}"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "golden"
    assert main([server, "--model=nobody", f"--json={file}", f"--{protocol}"]) == 1
    assert capsys.readouterr().err.startswith("zeroserve predict: NOT_FOUND: ")
    assert main([server, "--model=half_plus_two", f"--json={tmp_path / 'none'}", f"--{protocol}"]) == 1


def test_the_command_reads_standard_input_and_never_runs_tensorflows_python_code(server: str) -> None:
    code = (
        "import sys\n"
        "from functions.cli import main\n"
        f"assert main(['predict', {server!r}, '--model=half_plus_two', '--json=-', '--grpc']) == 0\n"
        "from loader.protos import runtime_executed\n"
        "assert not runtime_executed()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=b"[4]", cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"model": "half_plus_two", "version": 1, "outputs": {"y": [4.0]}}
