"""ONNX, TensorFlow Lite and the documented example of a format in a real server, over every protocol."""

import http.client
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import loader.protos as _protos

assert _protos
from tensorflow_serving.apis import predict_pb2  # noqa: E402

from loader.tensor_proto import from_array, to_array  # noqa: E402
from tests.formats.models import WEIGHTS, onnx_linear, tflite, version  # noqa: E402
from tests.functions.served import ROOT, running_server  # noqa: E402

TIMEOUT = 60


def install_example(folder: Path) -> None:
    """The package of docs/formats.md, as an installer would leave it."""
    page = (ROOT / "docs" / "formats.md").read_text()
    (toml,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(code.splitlines()) + len(toml.splitlines()) <= 50
    (file, target) = re.findall(r'^"(.+)" = "(.+)"$', toml, re.MULTILINE)[0]
    (folder / "zeroserve_npz.py").write_text(code)
    info = folder / "zeroserve_npz-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zeroserve-npz\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[zeroserve.formats]\n{file} = {target}\n")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("formats")
    packages = root / "packages"
    packages.mkdir()
    install_example(packages)
    onnx_linear(version(root / "onnx"))
    tflite(version(root / "tflite"))
    np.savez(version(root / "npz") / "model.npz", w=np.array([1.0, 10.0], np.float32), b=np.float32(0.5))
    models = " ".join(
        f'config {{ name: "{name}" base_path: "{root / name}" model_platform: "tensorflow" }}'
        for name in ("onnx", "tflite", "npz")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(packages))
        with running_server(root, "--enable_batching", models=f"model_config_list {{ {models} }}") as found:
            yield found


def ask(address: str, method: str, path: str, body: object = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("model", "rows", "wanted"),
    [
        ("onnx", [[1.0, 2.0], [0.0, 0.0]], [[7.0, 10.0, 13.0], [1.0, 1.0, 1.0]]),
        ("tflite", [1.0, 2.0, 5.0], [2.5, 3.0, 4.5]),
        ("npz", [[1.0, 2.0], [0.0, 0.0]], [21.5, 0.5]),
    ],
)
def test_rest_answers_from_every_format(address: str, model: str, rows: list[Any], wanted: list[Any]) -> None:
    body = {"instances": rows}
    assert ask(address, "POST", f"/v1/models/{model}:predict", body) == (200, {"predictions": wanted})


def test_metadata_say_what_the_model_takes(address: str) -> None:
    status, found = ask(address, "GET", "/v1/models/onnx/metadata")
    signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert (status, signature["inputs"]["x"]["dtype"]) == (200, "DT_FLOAT")
    status, found = ask(address, "GET", "/v2/models/tflite")
    assert (status, [one["name"] for one in found["inputs"]]) == (200, ["x"])
    platforms = [ask(address, "GET", f"/v2/models/{model}")[1]["platform"] for model in ("onnx", "tflite", "npz")]
    assert platforms == ["onnxruntime_onnx", "tensorflow_tflite", "zeroserve_npz"]


def test_the_open_inference_protocol_answers_from_every_format(address: str) -> None:
    for model, shape, data, wanted in (
        ("onnx", [1, 2], [1.0, 2.0], [7.0, 10.0, 13.0]),
        ("tflite", [2], [1.0, 2.0], [2.5, 3.0]),
        ("npz", [1, 2], [1.0, 2.0], [21.5]),
    ):
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": shape, "data": data}]}
        status, found = ask(address, "POST", f"/v2/models/{model}/infer", body)
        assert (status, found["outputs"][0]["data"]) == (200, wanted)


def test_grpc_callers_at_once_get_their_own_rows(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            predict_pb2.PredictRequest.SerializeToString,
            predict_pb2.PredictResponse.FromString,
        )

        def once(n: int) -> None:
            name, shape = (("onnx", (1 + n % 3, 2)), ("tflite", (1 + n % 3,)))[n % 2]
            x = np.random.default_rng(n).random(shape, np.float32)
            request = predict_pb2.PredictRequest()
            request.model_spec.name = name
            request.inputs["x"].CopyFrom(from_array(x))
            y = to_array(call(request, timeout=TIMEOUT).outputs["y"])
            np.testing.assert_allclose(y, x @ WEIGHTS + 1 if name == "onnx" else x / 2 + 2, rtol=1e-5)

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(once, range(200)))


def test_a_wrong_shape_is_the_callers_fault_in_every_format(address: str) -> None:
    for model in ("onnx", "npz"):
        status, found = ask(address, "POST", f"/v1/models/{model}:predict", {"instances": [[1.0, 2.0, 3.0]]})
        assert status == 400, found
