"""`inference.GRPCInferenceService` in a plain `grpc.aio` server: with real clients, and with hostile messages."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.config import load_settings
from functions.models import Models
from functions.observing.metrics import Metrics
from functions.oip.calls import OipModels
from functions.oip.grpc_service import OipServicer
from functions.oip.repository import ConfigRepository
from functions.proto import open_inference_pb2 as pb
from functions.proto import open_inference_pb2_grpc as pb_grpc
from tests.clients.isolated import KSERVE, TRITON, run_isolated
from tests.functions.served import model_config

LABELS = 'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }'


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    folder: Path = tmp_path_factory.mktemp("models")
    (folder / "models.config").write_text(model_config(LABELS))
    made = Models(
        load_settings(
            [
                f"--model_config_file={folder / 'models.config'}",
                "--allow_version_labels_for_unavailable_models=true",
                "--port=0",
                f"--port_file={folder / 'port'}",
            ]
        ),
        Metrics(),
    )
    made.start()
    made.manager.wait_until_available(timeout=60)
    yield made
    made.close(5)


@pytest.fixture(scope="module")
def address(models: Models) -> Iterator[str]:
    loop = asyncio.new_event_loop()
    port: Future[int] = Future()

    async def serve() -> grpc.aio.Server:
        server = grpc.aio.server(
            options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        )
        oip = OipModels(models.manager, Metrics(), repository=ConfigRepository(models.source, models.manager))
        pb_grpc.add_GRPCInferenceServiceServicer_to_server(OipServicer(oip, Metrics()), server)
        bound = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        port.set_result(bound)
        return server

    def run() -> None:
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(serve())
        loop.run_forever()
        loop.run_until_complete(server.stop(1))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield f"127.0.0.1:{port.result(20)}"
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture(scope="module")
def stub(address: str) -> Iterator[pb_grpc.GRPCInferenceServiceStub]:
    with grpc.insecure_channel(address) as channel:
        yield pb_grpc.GRPCInferenceServiceStub(channel)


def half_plus_two(**fields: object) -> pb.ModelInferRequest:
    return pb.ModelInferRequest(model_name="half_plus_two", **fields)


def tensor(**fields: object) -> pb.ModelInferRequest.InferInputTensor:
    return pb.ModelInferRequest.InferInputTensor(**({"name": "x", "datatype": "FP32", "shape": [2]} | fields))


FLOATS = np.array([1, 2], np.float32).tobytes()
TYPED = pb.InferTensorContents(fp32_contents=[1, 2])


def test_nvidias_client_works_unmodified(address: str) -> None:
    assert run_isolated(TRITON, "triton_client.py", "grpc", address) == "ok\n"


def test_kserves_client_works_unmodified(address: str) -> None:
    assert run_isolated(KSERVE, "kserve_client.py", "grpc", address).endswith("ok\n")


def test_a_raw_request_is_answered_raw_and_a_typed_one_typed(stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    raw = stub.ModelInfer(half_plus_two(id="a", inputs=[tensor()], raw_input_contents=[FLOATS]))
    assert np.frombuffer(raw.raw_output_contents[0], np.float32).tolist() == [2.5, 3]
    assert not raw.outputs[0].HasField("contents")
    assert raw.id == "a"
    typed = stub.ModelInfer(half_plus_two(inputs=[tensor(contents=TYPED)]))
    assert list(typed.outputs[0].contents.fp32_contents) == [2.5, 3]
    assert not typed.raw_output_contents


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (half_plus_two(inputs=[tensor(contents=TYPED)], raw_input_contents=[FLOATS]), "both"),
        (half_plus_two(inputs=[tensor()], raw_input_contents=[FLOATS, FLOATS]), "2 entries for 1 inputs"),
        (half_plus_two(inputs=[tensor()], raw_input_contents=[FLOATS[:-1]]), "found 7 bytes"),
        (half_plus_two(inputs=[tensor(), tensor()], raw_input_contents=[FLOATS, FLOATS]), "given twice"),
        (half_plus_two(inputs=[tensor(shape=[-2])], raw_input_contents=[FLOATS]), "negative"),
        (
            half_plus_two(inputs=[tensor(shape=[1 << 40, 1 << 40])], raw_input_contents=[FLOATS]),
            "more than the allowed",
        ),
        (half_plus_two(inputs=[tensor(shape=[1 << 29])], raw_input_contents=[FLOATS]), "takes 2147483648"),
        (half_plus_two(inputs=[tensor(datatype="FP12")], raw_input_contents=[FLOATS]), "unknown datatype"),
        (half_plus_two(inputs=[tensor(name="z")], raw_input_contents=[FLOATS]), "not in the signature"),
        (half_plus_two(inputs=[tensor(shape=[1, 2])], raw_input_contents=[FLOATS]), "found shape [1, 2], wanted [-1]"),
        (half_plus_two(inputs=[tensor(datatype="INT32")], raw_input_contents=[FLOATS]), "found datatype INT32"),
        (half_plus_two(), "input size does not match signature"),
        (half_plus_two(model_version="9" * 30, inputs=[tensor()], raw_input_contents=[FLOATS]), "is over"),
        (pb.ModelInferRequest(inputs=[tensor()], raw_input_contents=[FLOATS]), "names no model"),
    ],
)
def test_a_wrong_request_is_refused_with_invalid_argument(
    stub: pb_grpc.GRPCInferenceServiceStub, request_: pb.ModelInferRequest, text: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert text in caught.value.details()


def test_an_unknown_model_version_or_label_is_not_found(stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    for name, version in (("nobody", ""), ("golden", "99"), ("golden", "no_label")):
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelReady(pb.ModelReadyRequest(name=name, version=version))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_16_bit_floats_are_answered_raw_even_where_the_request_was_typed(
    stub: pb_grpc.GRPCInferenceServiceStub,
) -> None:
    bits = np.array([0.5, 2], np.float16).tobytes()
    request = pb.ModelInferRequest(
        model_name="golden",
        inputs=[tensor(datatype="FP16")],
        raw_input_contents=[bits],
        parameters={"signature_name": pb.InferParameter(string_param="id_float16")},
    )
    assert stub.ModelInfer(request).raw_output_contents == [bits]


def test_a_model_is_unloaded_and_loaded_under_either_clients_field(stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    for field in ("model_name", "repository_name"):
        assert stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(**{field: "golden_ex"})).unloaded
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelReady(pb.ModelReadyRequest(name="golden_ex"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(**{field: "golden_ex"})).loaded
        assert stub.ModelReady(pb.ModelReadyRequest(name="golden_ex")).ready
    with pytest.raises(grpc.RpcError) as caught:
        stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="nobody"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


names = st.sampled_from(["half_plus_two", "golden", "", "nobody"])
tensors = st.builds(
    pb.ModelInferRequest.InferInputTensor,
    name=st.sampled_from(["x", "y", "", "s"]),
    datatype=st.sampled_from(["FP32", "BYTES", "BOOL", "INT64", "FP16", "", "nonsense"]),
    shape=st.lists(st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-1, 3), max_size=4),
    contents=st.none()
    | st.builds(
        pb.InferTensorContents,
        fp32_contents=st.lists(st.floats(width=32), max_size=4),
        bytes_contents=st.lists(st.binary(max_size=4), max_size=2),
    ),
)


@settings(max_examples=150, deadline=None)
@given(
    st.builds(
        pb.ModelInferRequest,
        model_name=names,
        model_version=st.text(max_size=4),
        inputs=st.lists(tensors, max_size=3),
        raw_input_contents=st.lists(st.binary(max_size=16), max_size=3),
    )
)
def test_any_message_is_answered_or_refused_with_a_callers_error(address: str, request: pb.ModelInferRequest) -> None:
    with grpc.insecure_channel(address) as channel:
        call = pb_grpc.GRPCInferenceServiceStub(channel).ModelInfer.future(request, timeout=20)
        assert call.code() in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
