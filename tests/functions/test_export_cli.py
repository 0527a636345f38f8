"""`zeroserve export --tflite`: the file answers as the SavedModel does, or is not written."""

import json
from pathlib import Path

import numpy as np
import pytest

from functions.commands.export import main
from loader import saved_model, tflite_session
from loader.session import SessionOptions
from tests.functions.served import GOLDEN_MODELS


def test_the_file_answers_as_the_model_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mlp.tflite"
    assert main([str(GOLDEN_MODELS / "mlp"), "--tflite", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["file"], found["bytes"]) == (str(out), out.stat().st_size)
    assert found["differences"]["serving_default"] < 1e-4
    x = np.random.default_rng(0).random((5, 784), np.float32)
    signatures, small = tflite_session.load(out, 1)
    model = saved_model.load(GOLDEN_MODELS / "mlp" / "1", SessionOptions())
    answers = []
    for listed, session in ((signatures, small), (model.signatures, model.session)):
        signature = listed["serving_default"]
        answers += session.run({signature.inputs["x"].name: x}, [one.name for one in signature.outputs.values()])
        session.close()
    np.testing.assert_allclose(*answers, rtol=1e-4, atol=1e-6)


def test_what_answers_differently_is_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.tflite"
    flags = ["--tflite", str(out), "--quantize", "dynamic", "--tolerance", "0"]
    assert main([str(GOLDEN_MODELS / "mlp" / "1"), *flags]) == 1
    assert "answers differently" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--tflite", str(tmp_path / "x.tflite")]) == 1
    assert capsys.readouterr().err.startswith("zeroserve export: ")
