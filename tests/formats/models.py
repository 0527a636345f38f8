"""Models of other formats for tests, made here: ONNX with the format's own helpers; the file of a TensorFlow Lite model
that answers x / 2 + 2 lies beside this one, as `zeroserve export` wrote it.
"""

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TFLITE = Path(__file__).with_name("half_plus_two.tflite")
WEIGHTS = np.arange(6, dtype=np.float32).reshape(2, 3)


def version(base: Path, number: int = 1) -> Path:
    """The folder of a version, made."""
    folder = base / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def onnx_linear(folder: Path, *, external: bool = False) -> Path:
    """`model.onnx`: y = x @ WEIGHTS + 1, with any number of rows."""
    bias = numpy_helper.from_array(np.ones(3, np.float32), "b")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["xw"]), helper.make_node("Add", ["xw", "b"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(WEIGHTS, "w"), bias],
    )
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0} if external else {}
    return _saved(folder, graph, **options)


def onnx_texts(folder: Path) -> Path:
    """`model.onnx`: gives strings back."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["s"], ["t"])],
        "texts",
        [helper.make_tensor_value_info("s", TensorProto.STRING, [None])],
        [helper.make_tensor_value_info("t", TensorProto.STRING, [None])],
    )
    return _saved(folder, graph)


def onnx_endless(folder: Path) -> Path:
    """`model.onnx`: adds x to itself, hardly ever coming to an end."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["go_on"]),
            helper.make_node("Add", ["sum", "x"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, [None]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [None]),
        ],
    )
    turns = numpy_helper.from_array(np.array(1 << 40, np.int64), "turns")
    graph = helper.make_graph(
        [helper.make_node("Loop", ["turns", "", "x"], ["y"], body=body)],
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
        [turns],
    )
    return _saved(folder, graph)


def tflite(folder: Path) -> Path:
    """`model.tflite`: y = x / 2 + 2."""
    return Path(shutil.copy(TFLITE, folder / "model.tflite"))


def _saved(folder: Path, graph: onnx.GraphProto, **options: object) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    onnx.save_model(model, str(folder / "model.onnx"), **options)  # type: ignore[arg-type]
    return folder / "model.onnx"
