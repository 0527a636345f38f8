"""ONNX models: what a version needs, proved from `model.onnx` itself. `loader.onnx_session` runs them.

Source: onnx/onnx.proto (ModelProto, GraphProto, TensorProto), docs/ExternalData.md.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from loader import object_name
from loader.file_window import FileWindow
from loader.format import Read
from loader.wire import WireError, fields, text

if TYPE_CHECKING:
    from loader.session import Session
    from loader.signature import Signature

_GRAPH, _INITIALIZER = 7, 5
_EXTERNAL_DATA = 13


class OnnxFormat:
    """The format of `model.onnx`; see `loader.format.Format`."""

    def faults(self, read: Read, size: int, sizes: Mapping[str, int]) -> Iterator[str]:
        """A file that is cut off, and files of weights that are missing or too short."""
        window = FileWindow(read, size)
        try:
            graphs = [(start, end) for number, start, end in window.fields(0, size) if number == _GRAPH]
            if not graphs:
                raise WireError("it holds no graph")
            wanted: dict[str, int] = {}
            for start, end in graphs:
                for file, least in _external(window, start, end):
                    wanted[file] = max(least, wanted.get(file, 0))
        except WireError as error:
            yield f"model.onnx: {size} bytes that are not a whole ONNX model ({error})"
            return
        for file, least in sorted(wanted.items()):
            if file not in sizes:
                yield f"{object_name.shown(file)}: not there, but model.onnx names it"
            elif sizes[file] < least:
                yield f"{object_name.shown(file)}: {sizes[file]} of {least} bytes"

    def load(self, file: Path, threads: int) -> "tuple[Mapping[str, Signature], Session]":
        """See `loader.onnx_session.load`."""
        from loader.onnx_session import load  # noqa: PLC0415  a proof needs no runtime

        return load(file, threads)


def _external(window: FileWindow, start: int, end: int) -> Iterator[tuple[str, int]]:
    """Files that hold the weights of a graph, and how many bytes each must have at least."""
    for number, at, stop in window.fields(start, end):
        if number != _INITIALIZER:
            continue
        entries: dict[str, str] = {}
        for inner, first, last in window.fields(at, stop):
            if inner == _EXTERNAL_DATA:
                entry = dict(fields(window.view(first, last)))
                entries[text(entry.get(1, memoryview(b"")))] = text(entry.get(2, memoryview(b"")))
        if entries.get("location"):
            yield entries["location"], _number(entries, "offset") + _number(entries, "length")


def _number(entries: Mapping[str, str], name: str) -> int:
    value = entries.get(name, "0")
    if not (value.isascii() and value.isdecimal()):
        raise WireError(f"{name} of external data is {value!r}")
    return int(value)
