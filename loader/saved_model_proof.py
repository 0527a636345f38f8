"""What `saved_model.pb` needs beside it, and whether it is whole, from a few small reads.

The graph of a model may have gigabytes; its length is written before it. So the fields of the file are walked from
header to header, the graphs are skipped, and a file that was cut off shows at once: its last field would end past it.

Source: tensorflow/core/protobuf/saved_model.proto, meta_graph.proto, saver.proto (field numbers);
tensorflow/cc/saved_model/loader.cc and constants.h (`saved_model_assets`, where variables are restored from).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from loader.file_window import FileWindow
from loader.wire import WireError, fields, messages, text

_META_GRAPHS = 2
_SAVER, _COLLECTIONS, _ASSETS = 3, 4, 6
_RESTORE_OP = 3
_ASSET_FILENAME = 2
_LEGACY_ASSETS = "saved_model_assets"


@dataclass(frozen=True, slots=True)
class Needs:
    """What the meta graphs of a SavedModel name.

    Attributes:
        assets: file names below `assets/`.
        variables: whether any meta graph restores variables.
    """

    assets: frozenset[str]
    variables: bool


def needs(read: Callable[[int, int], bytes], size: int) -> Needs:
    """Walks a serialised SavedModel.

    Args:
        read: the bytes `[start, end)` of the file.
        size: bytes of the file.

    Raises:
        WireError: the file is cut off, empty, or not a SavedModel.
    """
    window = FileWindow(read, size)
    assets: set[str] = set()
    variables = False
    graphs = 0
    for number, start, end in window.fields(0, size):
        if number != _META_GRAPHS:
            continue
        graphs += 1
        for inner, at, stop in window.fields(start, end):
            if inner == _ASSETS:
                assets.update(_filename(window.view(at, stop)))
            elif inner == _COLLECTIONS:
                assets.update(_legacy_assets(window.view(at, stop)))
            elif inner == _SAVER:
                # A graph without variables has no saver; one with variables names the operation that restores them.
                variables |= any(True for _ in messages(window.view(at, stop), _RESTORE_OP))
    if not graphs:
        raise WireError("it holds no meta graph")
    return Needs(frozenset(assets), variables)


def _filename(asset: memoryview) -> Iterator[str]:
    return (text(value) for value in messages(asset, _ASSET_FILENAME))


def _legacy_assets(entry: memoryview) -> Iterator[str]:
    """Asset names of the collection that TensorFlow 1 wrote: CollectionDef.any_list of Any of AssetFileDef."""
    content = dict(fields(entry))
    key = content.get(1)
    if not isinstance(key, memoryview) or text(key) != _LEGACY_ASSETS:
        return
    collection = content.get(2, memoryview(b""))
    if isinstance(collection, memoryview):
        for any_list in messages(collection, 5):
            for value in messages(any_list, 1):
                for asset in messages(value, 2):
                    yield from _filename(asset)
