"""Builds the SavedModels that tests need, with the real TensorFlow: `python tests/models_builder.py OUT_DIR NAME...`.

Runs in a process of its own (`import tensorflow` costs seconds and its memory stays). Each model lands in
`OUT_DIR/NAME/1`; with no name, all are built except the large ones (`resnet50`).
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

HERE = Path(__file__).parent
VOCABULARY = ["apple", "banana", "a fruit whose name is longer than twenty-two bytes", "größe"]


def _spec(dtype: tf.DType, *shape: int | None) -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype, name="x")


def _save(module: tf.Module, path: Path, signatures: dict[str, Callable[..., object]]) -> None:
    tf.saved_model.save(module, str(path), signatures=signatures)


def counter(path: Path) -> None:
    """Resource variables: `add` changes one, `keep` makes the fed tensor itself the new value, `read` gives both."""
    module = tf.Module()
    module.total = tf.Variable(tf.zeros([], tf.float32), name="total")
    module.kept = tf.Variable(tf.zeros([0], tf.float32), shape=tf.TensorShape([None]), name="kept")
    module.texts = tf.Variable(tf.constant([], tf.string), shape=tf.TensorShape([None]), name="texts")

    @tf.function(input_signature=[_spec(tf.float32)])
    def add(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": module.total.assign_add(x)}

    @tf.function(input_signature=[_spec(tf.float32, None)])
    def keep(x: tf.Tensor) -> dict[str, tf.Tensor]:
        module.kept.assign(x)
        return {"size": tf.size(x)}

    @tf.function(input_signature=[_spec(tf.float32)])
    def add_to_kept(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"size": tf.size(module.kept.assign(module.kept + x))}

    @tf.function(input_signature=[_spec(tf.string, None)])
    def keep_texts(x: tf.Tensor) -> dict[str, tf.Tensor]:
        module.texts.assign(x)
        return {"size": tf.size(x)}

    @tf.function(input_signature=[])
    def read() -> dict[str, tf.Tensor]:
        return {
            "total": module.total.read_value(),
            "kept": module.kept.read_value(),
            "texts": module.texts.read_value(),
        }

    functions = {"add": add, "keep": keep, "add_to_kept": add_to_kept, "keep_texts": keep_texts, "read": read}
    for name, function in functions.items():
        setattr(module, name, function)
    _save(module, path, functions)


def vocabulary(path: Path) -> None:
    """A table with an asset file: texts to ids and back."""
    file = path.parent / "vocabulary.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(VOCABULARY) + "\n")
    module = tf.Module()
    module.ids = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            str(file),
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        default_value=-1,
    )
    module.words = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            str(file),
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
        ),
        default_value="",
    )

    @tf.function(input_signature=[_spec(tf.string, None)])
    def ids(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"ids": module.ids.lookup(x)}

    @tf.function(input_signature=[_spec(tf.int64, None)])
    def words(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"words": module.words.lookup(x)}

    module.lookup_ids, module.lookup_words = ids, words
    _save(module, path, {"serving_default": ids, "words": words})
    file.unlink()


def tf1(path: Path) -> None:
    """A TensorFlow 1 SavedModel: a reference variable, an initialiser, two meta graphs with different tags."""
    v1 = tf.compat.v1
    builder = v1.saved_model.Builder(str(path))
    for index, (tags, bias) in enumerate(((["serve"], 1.0), (["serve", "double"], 2.0))):
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float32, [None], name="x")
            weight = v1.Variable(3.0, name="weight", use_resource=False)
            y = tf.add(x * weight, bias, name="y")
            session.run(v1.global_variables_initializer())
            signature = v1.saved_model.predict_signature_def({"x": x}, {"y": y})
            if index == 0:
                builder.add_meta_graph_and_variables(session, tags, {"serving_default": signature})
            else:
                builder.add_meta_graph(tags, {"serving_default": signature})
    builder.save()


def loop(path: Path) -> None:
    """A while loop that turns as often as the caller says."""
    module = tf.Module()

    @tf.function(input_signature=[_spec(tf.int64)])
    def turns(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.while_loop(lambda i: i < x, lambda i: [i + 1], [tf.zeros([], tf.int64)])[0]}

    module.turns = turns
    _save(module, path, {"serving_default": turns})


def shapes(path: Path) -> None:
    """Dtypes and shapes that the recorded models lack: complex128, quantised, unknown rank, split texts, no input."""
    module = tf.Module()

    @tf.function(input_signature=[_spec(tf.complex128, None)])
    def complex128(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.math.conj(x)}

    @tf.function(input_signature=[_spec(tf.float32, None)])
    def quantised(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.quantization.quantize(x, 0.0, 1.0, tf.quint8).output}

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, name="x")])
    def any_rank(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.identity(x), "shape": tf.shape(x)}

    @tf.function(input_signature=[tf.TensorSpec(None, tf.string, name="x")])
    def texts(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"same": tf.identity(x), "copy": tf.strings.join([x, ""]), "length": tf.strings.length(x)}

    @tf.function(input_signature=[])
    def constant() -> dict[str, tf.Tensor]:
        return {"y": tf.range(100_000, dtype=tf.float32)}

    @tf.function(input_signature=[_spec(tf.bfloat16, None)])
    def bfloat16(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * 2}

    functions = {
        "complex128": complex128,
        "quantised": quantised,
        "any_rank": any_rank,
        "texts": texts,
        "constant": constant,
        "bfloat16": bfloat16,
    }
    for name, function in functions.items():
        setattr(module, name, function)
    _save(module, path, functions)


def defaults(path: Path) -> None:
    """A signature whose input `b` has a default value."""
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name=name) for name in ("a", "b")])
    def add(a: tf.Tensor, b: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": a + b}

    module.add = add
    _save(module, path, {"serving_default": add})
    file = path / "saved_model.pb"
    message = _parse(file)
    signature = message.meta_graphs[0].signature_def["serving_default"]
    signature.defaults["b"].CopyFrom(tf.make_tensor_proto([10.0], tf.float32))
    file.write_bytes(message.SerializeToString())


def _line(slope: float, offset: float) -> Callable[[Path], None]:
    """y = slope x + offset: versions of one model as it is trained again and again."""

    def build(path: Path) -> None:
        module = tf.Module()
        module.slope, module.offset = tf.Variable(slope), tf.Variable(offset)

        @tf.function(input_signature=[_spec(tf.float32, None)])
        def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": module.slope * x + module.offset}

        _save(module, path, {"serving_default": predict})

    return build


def _parse(file: Path) -> object:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel  # noqa: PLC0415

    return SavedModel.FromString(file.read_bytes())


def custom_op(path: Path) -> None:
    """An operation that the wheel does not have, compiled from custom_op.c; the library lies beside the version."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        print("the model custom_op is left out: no C compiler (cc) in PATH")
        return
    library = path.parent / "custom_op.so"
    library.parent.mkdir(parents=True, exist_ok=True)
    runtime = Path(tf.sysconfig.get_lib())
    arguments = ["-shared", "-fPIC", "-O1", str(HERE / "custom_op.c")]
    link = [f"-L{runtime}", "-l:libtensorflow_framework.so.2", "-o", str(library)]
    subprocess.run([compiler, *arguments, *link], check=True)
    operations = tf.load_op_library(str(library))
    module = tf.Module()

    @tf.function(input_signature=[_spec(tf.float32, None)])
    def triple(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": operations.zeroserve_triple(x)}

    module.triple = triple
    _save(module, path, {"serving_default": triple})


def resnet50(path: Path) -> None:
    """keras.applications.ResNet50 with random weights: float32[batch, 224, 224, 3] -> float32[batch, 1000]."""
    import keras  # noqa: PLC0415

    keras.utils.set_random_seed(1)
    model = keras.applications.ResNet50(weights=None)
    module = tf.Module()
    module.values = [variable.value for variable in model.variables]  # tf.Module does not look into Keras 3 models

    @tf.function(input_signature=[_spec(tf.float32, None, 224, 224, 3)])
    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": model(x, training=False)}

    module.predict = predict
    _save(module, path, {"serving_default": predict})


def wide(path: Path) -> None:
    """Eight independent towers of matrix products: where operations side by side could pay."""
    module = tf.Module()
    module.weights = [tf.Variable(tf.random.stateless_normal([256, 256], [1, tower])) for tower in range(8)]

    @tf.function(input_signature=[_spec(tf.float32, None, 256)])
    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        towers = []
        for weight in module.weights:
            tower = x
            for _ in range(8):
                tower = tf.tanh(tf.matmul(tower, weight))
            towers.append(tower)
        return {"y": tf.add_n(towers)}

    module.predict = predict
    _save(module, path, {"serving_default": predict})


SMALL = {each.__name__: each for each in (counter, vocabulary, tf1, loop, shapes, defaults, custom_op, wide)}
SMALL |= {"line": _line(0.5, 2.0), "line_again": _line(0.5001, 2.0), "line_otherwise": _line(0.5, 2.5)}
LARGE = {each.__name__: each for each in (resnet50,)}


def main(arguments: list[str]) -> None:
    out, *names = arguments
    builders = SMALL | LARGE
    for name in names or SMALL:
        builders[name](Path(out) / name / "1")


if __name__ == "__main__":
    main(sys.argv[1:])
