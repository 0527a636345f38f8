"""SavedModels: a directory becomes signatures and a session.

Source: tensorflow/cc/saved_model/loader.cc, reader.cc; docs/reference: tensorflow_serving SavedModelBundleFactory.
"""

import ctypes
import functools
import logging
import mmap
import os
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from loader import meta_graph
from loader.gpu import has_gpu
from loader.session import Session, SessionOptions, TensorFlowSession
from loader.signature import Signature, parse_signature
from loader.status import Code, ServingError
from loader.tensorflow_c import Library, Status, library
from loader.wire import WireError, length_field, varint_field

_log = logging.getLogger("zeroserve.saved_model")

SAVED_MODEL_PB = "saved_model.pb"
SAVED_MODEL_PBTXT = "saved_model.pbtxt"

# ConfigProto.device_count {"GPU": 0}. Where no driver shows a device TensorFlow would still look for one, and print an
# error that worries people.
_NO_GPU = length_field(1, length_field(1, b"GPU") + varint_field(2, 0))

# Operations whose time depends on data or on others: loops, and all that waits. A name that happens to occur in other
# bytes of the file costs 30 us a run, no more. The search takes 0.4 s for each GB of graph.
_BLOCKING_OPERATION = re.compile(
    rb"\x12.(?:Stateless)?While(?=[^A-Za-z])|\x12.Ref(?:Enter|Merge)|\x12.(?:Enter|LoopCond)(?=[^A-Za-z])|"
    rb"\x12.QueueDequeue|\x12.QueueEnqueue|\x12.Barrier|\x12.BatchFunction|\x12.Batch(?=[^A-Za-z])|\x12.Stage|"
    rb"\x12.Unstage|\x12.PyFunc|\x12.EagerPyFunc|\x12.Recv|\x12.TakeManySparse|\x12.Accumulator|\x12.IteratorGetNext",
    re.DOTALL,
)


Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A loaded model. It owns its session: whoever unloads the model calls `session.close()`.

    Attributes:
        signatures: by key ("serving_default").
        session: runs any of them.
        path: the directory that it came from.
        platform: what the Open Inference Protocol calls it: `<project>_<format>`.
    """

    signatures: Mapping[str, Signature]
    session: Session
    path: Path
    platform: str = "tensorflow_savedmodel"


def load(path: Path, options: SessionOptions) -> SavedModel:
    """Loads a SavedModel: graph, variables, assets, tables. Blocks; the GIL is free meanwhile.

    Args:
        path: the version's directory, which holds `saved_model.pb` (or `.pbtxt`) and `variables/`.
        options: tags, threads, GPU memory, custom operations.

    Raises:
        ServingError: the runtime's own code and text.
    """
    start = time.perf_counter()
    runtime = library()
    for custom in options.custom_op_libraries:
        _load_custom_ops(runtime, custom)
    session, graph = _load_session(runtime, path, options)
    try:
        signatures, may_block = _scan(path, options.saved_model_tags, _signatures_and_blocking)
    except BaseException:
        TensorFlowSession(runtime, session, graph, may_block=False).close()
        raise
    _log.info("loaded %s in %.3f s, signatures %s", path, time.perf_counter() - start, sorted(signatures))
    return SavedModel(signatures, TensorFlowSession(runtime, session, graph, may_block=may_block), path)


def read_signatures(path: Path, tags: Collection[str] = ("serve",)) -> Mapping[str, Signature]:
    """The signatures of a SavedModel on disk, without TensorFlow's runtime.

    Reads only the parts of `saved_model.pb` that matter, whatever the size of the graph.

    Raises:
        ServingError: NOT_FOUND when there is no SavedModel or no meta graph with these tags; DATA_LOSS when the file
            is damaged.
    """
    return _scan(path, tags, _signatures)


def _scan(path: Path, tags: Collection[str], read: Callable[[memoryview, Collection[str], Path], Result]) -> Result:
    """Gives `read` the serialised SavedModel of a directory, without copying it into memory."""
    file = path / SAVED_MODEL_PB
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        return read(memoryview(_from_text(path)), tags, path)
    try:
        if os.fstat(descriptor).st_size == 0:
            raise _damaged(file, "it is empty")
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
            return read(view, tags, file)
    finally:
        os.close(descriptor)


def _signatures(view: memoryview, tags: Collection[str], file: Path) -> Mapping[str, Signature]:
    try:
        chosen = meta_graph.choose(meta_graph.scan(view), tags)
        signatures = {name: parse_signature(name, each) for name, each in chosen.signatures.items()}
    except WireError as error:
        raise _damaged(file, str(error)) from error
    return MappingProxyType(signatures)


def _signatures_and_blocking(
    view: memoryview, tags: Collection[str], file: Path
) -> tuple[Mapping[str, Signature], bool]:
    return _signatures(view, tags, file), _BLOCKING_OPERATION.search(view) is not None


def _from_text(path: Path) -> bytes:
    file = path / SAVED_MODEL_PBTXT
    if not file.exists():
        raise ServingError(
            Code.NOT_FOUND,
            f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}. Check that the "
            "directory exists and that you have the right permissions for accessing it.",
        )
    import loader.protos  # noqa: PLC0415  models in text form are rare; they pay for the generated classes

    assert loader.protos  # noqa: S101  imported for what it does to `tensorflow`
    from google.protobuf import text_format  # noqa: PLC0415
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel as SavedModelProto  # noqa: PLC0415

    try:
        message = text_format.Parse(file.read_text(), SavedModelProto())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise _damaged(file, str(error)) from error
    return bytes(message.SerializeToString())


def _damaged(file: Path, why: str) -> ServingError:
    return ServingError(Code.DATA_LOSS, f"Can't parse {file} as binary proto: {why}")


def _load_session(runtime: Library, path: Path, options: SessionOptions) -> tuple[int, int]:
    status = Status(runtime)
    # First, so that a device count of the user's own wins: messages merge in the order of their bytes.
    config = b"" if has_gpu() else _NO_GPU
    config += options.serialized_config()
    session_options = runtime.NewSessionOptions()
    graph = runtime.NewGraph()
    session = None
    try:
        if config:
            runtime.SetConfig(session_options, config, len(config), status.pointer)
            status.check()
        tags = [tag.encode() for tag in options.saved_model_tags]
        session = runtime.LoadSessionFromSavedModel(
            session_options,
            None,
            os.fsencode(path),
            (ctypes.c_char_p * len(tags))(*tags),
            len(tags),
            graph,
            None,  # the MetaGraphDef as bytes: it would be copied whole, and we need a few of its fields
            status.pointer,
        )
        status.check()
    finally:
        runtime.DeleteSessionOptions(session_options)
        if not session:
            runtime.DeleteGraph(graph)
    return int(session), int(graph)


@functools.cache
def _load_custom_ops(runtime: Library, path: Path) -> None:
    """Once for each library and process: TensorFlow cannot unload one. A failure is not cached."""
    status = Status(runtime)
    runtime.LoadLibrary(os.fsencode(path), status.pointer)
    status.check()
    _log.info("loaded custom operations from %s", path)
