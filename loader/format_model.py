"""Loads a version whose format is not the SavedModel, see `loader.format`."""

from pathlib import Path

from loader.format import format_named
from loader.saved_model import SavedModel
from loader.status import Code, ServingError

_PLATFORMS = {"model.onnx": "onnxruntime_onnx", "model.tflite": "tensorflow_tflite"}
"""Source: Open Inference Protocol, "Platforms": names of the form `<project>_<format>`."""


def platform_of(file: str) -> str:
    """What the Open Inference Protocol calls a format; one that a package adds is named by the end of its file."""
    return _PLATFORMS.get(file, f"zeroserve_{file.rpartition('.')[2]}")


def load(path: Path, file: str, threads: int) -> SavedModel:
    """The model in the folder `path`, whose format has the file `file`; see `Format.load`.

    Raises:
        ServingError: what the format raises; INTERNAL for what it should not raise.
    """
    try:
        signatures, session = format_named(file).load(path / file, threads)
    except ServingError:
        raise
    except Exception as error:
        raise ServingError(Code.INTERNAL, f"{file} does not load: {type(error).__name__}: {error}") from error
    return SavedModel(signatures, session, path, platform_of(file))
