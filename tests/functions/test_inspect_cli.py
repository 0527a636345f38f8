"""`zeroserve inspect`: signatures from disk, without TensorFlow's runtime."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from functions.commands.inspect import main
from tests.formats.models import onnx_linear, version
from tests.functions.served import GOLDEN_MODELS, ROOT


def test_a_version_folder_and_the_folder_of_versions_are_shown_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    for path, shown in (("mlp", "mlp/1"), ("mlp/1", "mlp/1"), ("golden", "golden/2")):
        assert main([str(GOLDEN_MODELS / path)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == str(GOLDEN_MODELS / shown)
    assert any(line.split() == ["input", "a", "float", "[?]", "two_one_a:0"] for line in lines)
    assert not any("__saved_model_init_op" in line for line in lines)


def test_json_has_types_shapes_and_the_tensors_in_the_graph(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(GOLDEN_MODELS / "mlp"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["signatures"]["serving_default"]["inputs"] == [
        {"name": "x", "dtype": "float", "shape": [-1, 784], "tensor": "serving_default_x:0"}
    ]


@pytest.mark.parametrize("path", ["nowhere", "broken", "golden/1/variables"])
def test_what_is_no_model_is_one_line_on_standard_error(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(GOLDEN_MODELS / path)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("zeroserve inspect: ")
    assert shown.err.count("\n") == 1


def test_neither_tensorflow_nor_its_library_is_loaded() -> None:
    code = (
        "import sys\n"
        "from functions.commands.inspect import main\n"
        f"assert main([{str(GOLDEN_MODELS / 'mlp')!r}]) == 0\n"
        "from loader.protos import runtime_executed\n"
        "assert not runtime_executed()\n"
        "assert not any(name.startswith('tensorflow.python') for name in sys.modules)\n"
        "assert 'libtensorflow' not in open('/proc/self/maps').read()\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, timeout=60)


def test_models_of_other_formats_are_shown_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx_linear(version(tmp_path))
    assert main([str(tmp_path)]) == 0
    assert ["input", "x", "float", "[?,", "2]", "x"] in [line.split() for line in capsys.readouterr().out.splitlines()]
