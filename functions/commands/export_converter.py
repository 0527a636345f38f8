"""A process of its own that turns a SavedModel into TensorFlow Lite: it runs the whole of TensorFlow, which a server
never does. `functions.commands.export` starts it.

    python -m functions.commands.export_converter FOLDER OUT QUANTIZE SIGNATURE...
"""

import sys
from pathlib import Path


def main(words: list[str]) -> int:
    """Converts; the exit status says whether it worked, standard error why not."""
    folder, out, quantize, *signatures = words
    import tensorflow as tf  # noqa: PLC0415  seconds

    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=signatures)
    if quantize != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    Path(out).write_bytes(converter.convert())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
