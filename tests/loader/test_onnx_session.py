"""ONNX models run like any session: own rows, strings, deadlines, many threads."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from loader.onnx_session import load
from loader.status import Code, ServingError
from tests.formats.models import WEIGHTS, onnx_endless, onnx_linear, onnx_texts


def test_the_signature_is_the_graphs(tmp_path: Path) -> None:
    signatures, session = load(onnx_linear(tmp_path), 1)
    session.close()
    (signature,) = signatures.values()
    assert (signature.inputs["x"].dtype, signature.inputs["x"].shape) == (1, (-1, 2))
    assert [dim.name for dim in signature.proto.outputs["y"].tensor_shape.dim] == ["n", ""]
    assert signature.proto.method_name == "tensorflow/serving/predict"


@pytest.mark.parametrize("external", [False, True])
def test_it_computes_what_the_model_says_from_many_threads(tmp_path: Path, *, external: bool) -> None:
    _, session = load(onnx_linear(tmp_path, external=external), 2)

    def once(n: int) -> None:
        x = np.random.default_rng(n).random((1 + n % 5, 2), np.float32)
        (y,) = session.run({"x": x}, ["y"], timeout=30)
        np.testing.assert_allclose(y, x @ WEIGHTS + 1, rtol=1e-6)
        assert not y.flags.writeable

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(once, range(200)))
    session.close()
    with pytest.raises(ServingError, match="unloaded"):
        session.run({"x": np.zeros((1, 2), np.float32)}, ["y"])


def test_strings_go_in_and_out_as_bytes(tmp_path: Path) -> None:
    _, session = load(onnx_texts(tmp_path), 1)
    given = np.array(["grüße".encode(), b""], object)
    (found,) = session.run({"s": given}, ["t"])
    assert found.tolist() == given.tolist()
    with pytest.raises(ServingError, match="UTF-8") as refused:
        session.run({"s": np.array([b"\xff"], object)}, ["t"])
    assert refused.value.code is Code.INVALID_ARGUMENT
    session.close()


def test_a_run_ends_at_its_deadline_and_the_next_one_works(tmp_path: Path) -> None:
    _, session = load(onnx_endless(tmp_path), 1)
    for seconds in (0.2, 0.05):
        began = time.monotonic()
        with pytest.raises(ServingError, match="deadline") as refused:
            session.run({"x": np.zeros(1, np.float32)}, ["y"], timeout=seconds)
        assert refused.value.code is Code.DEADLINE_EXCEEDED
        assert time.monotonic() - began < 20
    session.close()


def test_what_does_not_fit_is_the_callers_fault_and_what_is_no_model_the_files(tmp_path: Path) -> None:
    _, session = load(onnx_linear(tmp_path), 1)
    with pytest.raises(ServingError) as refused:
        session.run({"x": np.zeros((1, 3), np.float32)}, ["y"])
    assert refused.value.code is Code.INVALID_ARGUMENT
    session.close()
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(ServingError):
        load(tmp_path / "model.onnx", 1)
