"""What is no SavedModel: which format a version has, whether it is all there, and formats of other packages."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader.completeness import missing
from loader.format import format_file, format_named
from loader.format_onnx import OnnxFormat
from loader.format_tflite import TfliteFormat
from loader.status import Code, ServingError
from loader.storage import open_storage
from tests.formats.models import TFLITE, onnx_linear, tflite, version


def lacks(base: Path) -> list[str]:
    storage = open_storage(str(base))
    return missing(storage, storage.list_versions()[1])


def test_a_saved_model_and_a_mix_come_before_other_files() -> None:
    assert format_file({"model.onnx", "note.txt"}) == "model.onnx"
    assert format_file({"model.tflite"}) == "model.tflite"
    assert [format_file({"model.onnx", one}) for one in ("saved_model.pb", "saved_model.pbtxt", "mix.json")] == [""] * 3
    assert format_file({"other.onnx", "deep/model.onnx"}) == ""


def test_whole_models_are_complete(tmp_path: Path) -> None:
    for make in (onnx_linear, tflite):
        base = tmp_path / make.__name__
        make(version(base))
        assert lacks(base) == []


def test_onnx_weights_beside_the_model_are_missed_by_name_and_size(tmp_path: Path) -> None:
    onnx_linear(version(tmp_path), external=True)
    weights = tmp_path / "1" / "weights.bin"
    data = weights.read_bytes()
    assert lacks(tmp_path) == []
    weights.write_bytes(data[:-1])
    assert lacks(tmp_path) == [f"weights.bin: {len(data) - 1} of {len(data)} bytes"]
    weights.unlink()
    assert lacks(tmp_path) == ["weights.bin: not there, but model.onnx names it"]


def test_every_cut_through_the_weights_of_a_tflite_model_is_seen() -> None:
    data = TFLITE.read_bytes()
    whole = list(TfliteFormat().faults(lambda start, end: data[start:end], len(data), {}))
    assert whole == []
    for size in range(0, 500, 7):
        cut = data[:size]
        (fault,) = TfliteFormat().faults(lambda start, end, cut=cut: cut[start:end], size, {})  # type: ignore[misc]
        assert fault.startswith(f"model.tflite: {size} bytes that are not a whole TensorFlow Lite model")


def test_every_cut_through_an_onnx_model_is_seen(tmp_path: Path) -> None:
    data = onnx_linear(tmp_path).read_bytes()
    tail = data.rindex(b"\x42")  # the opset behind the graph is a message of its own: its absence cannot be seen
    for size in range(tail):
        cut = data[:size]
        assert list(OnnxFormat().faults(lambda start, end, cut=cut: cut[start:end], size, {})), size  # type: ignore[misc]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_get_a_verdict(data: bytes, as_tflite: bool) -> None:
    data = b"\x10\x00\x00\x00TFL3" + data if as_tflite else data
    for one in (TfliteFormat(), OnnxFormat()):
        assert all(isinstance(fault, str) for fault in one.faults(lambda start, end: data[start:end], len(data), {}))


def test_a_proof_imports_no_runtime_and_no_numpy(tmp_path: Path) -> None:
    onnx_linear(version(tmp_path / "o"))
    tflite(version(tmp_path / "t"))
    code = (
        "import sys\nfrom loader.completeness import missing\nfrom loader.storage import open_storage\n"
        "for base in sys.argv[1:]:\n storage = open_storage(base)\n"
        " assert not missing(storage, storage.list_versions()[1])\n"
        "assert not {'numpy', 'onnxruntime', 'ai_edge_litert', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "o"), str(tmp_path / "t")], check=True)


def test_a_format_whose_package_is_gone_says_so() -> None:
    with pytest.raises(ServingError, match=r"the format of model\.gone cannot be used") as refused:
        format_named("model.gone")
    assert refused.value.code is Code.FAILED_PRECONDITION
