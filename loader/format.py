"""Formats of models other than the SavedModel: ONNX, TensorFlow Lite, and whatever an installed package adds.

A version is in such a format when its folder holds the format's file (`model.onnx`) and no SavedModel. A package adds a
format with an entry point in the group `zeroserve.formats`, whose name is the file's name: docs/formats.md.

Importing this costs nothing: a format's own module is imported with the first version that needs it, and those that
are not installed here are asked for only where no file that we know is there.
"""

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from loader.status import Code, ServingError

if TYPE_CHECKING:
    from loader.session import Session
    from loader.signature import Signature

GROUP = "zeroserve.formats"
"""The entry points of formats."""

BUILT_IN = {"model.onnx": "loader.format_onnx:OnnxFormat", "model.tflite": "loader.format_tflite:TfliteFormat"}
"""File -> module and class of the formats that come with us."""

SAVED_MODELS = ("saved_model.pb", "saved_model.pbtxt", "mix.json")
"""Beside one of these the file of a format is a file of the model's own."""

Read = Callable[[int, int], bytes]
"""The bytes `[start, end)` of a file; fewer where it ends sooner."""


class Format(Protocol):
    """One format; it is made once, without arguments. Importing it must not import what runs the models."""

    def faults(self, read: Read, size: int, sizes: Mapping[str, int]) -> Iterable[str]:
        """What a version lacks, told from bytes alone, where no runtime is installed.

        Args:
            read: of the format's file.
            size: its bytes.
            sizes: bytes of all files of the version, by path.

        Returns:
            One text for each fault, for people; none for a version that is all there.
        """
        ...

    def load(self, file: Path, threads: int) -> "tuple[Mapping[str, Signature], Session]":
        """The signatures by name, and what runs them; blocks.

        Args:
            file: the format's file, in the version's folder.
            threads: CPUs that it should use.

        Raises:
            ServingError: it cannot be loaded, or the package that runs it is not installed.
        """
        ...


def format_file(files: Collection[str]) -> str:
    """Which of a version's files (paths) makes it one of a format; empty for none, and for a SavedModel."""
    if any(name in files for name in SAVED_MODELS):
        return ""
    found = next((name for name in BUILT_IN if name in files), "")
    return found or next((name for name in sorted(_installed()) if name in files), "")


def format_of(path: Path) -> str:
    """Like `format_file`, for a version's folder."""
    return format_file({one.name for one in path.iterdir()} if path.is_dir() else ())


@functools.cache
def format_named(file: str) -> Format:
    """The format of a file that `format_file` found.

    Raises:
        ServingError: FAILED_PRECONDITION: the package that adds it cannot be imported.
    """
    target = BUILT_IN.get(file)
    try:
        if target is not None:
            module, _, name = target.partition(":")
            made: Format = getattr(import_module(module), name)()
        else:
            made = _installed()[file].load()()
    except Exception as error:
        raise ServingError(
            Code.FAILED_PRECONDITION, f"the format of {file} cannot be used: {type(error).__name__}: {error}"
        ) from error
    return made


@functools.cache
def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
