"""TensorFlow's C API, bound through ctypes: the runtime of the installed wheel without its Python half.

`import tensorflow` costs seconds; `libtensorflow_cc.so.2` of the same wheel holds the same runtime and loads in a
fraction of one. Nothing is loaded at import: the runtime starts threads, and a process that forks after that (a
gunicorn arbiter) hangs in its children. `library()` loads it, once per process; `preload()` begins that in a
background thread.

Thread safety: everything here may be called from any thread.
Source: tensorflow/c/c_api.h, tf_tensor.h, tf_status.h, tf_buffer.h of the wheel.
"""

import ctypes
import functools
import importlib.util
import os
import threading
import time
from pathlib import Path
from typing import Any

from loader.status import Code, ServingError

LIBRARY_NAME = "libtensorflow_cc.so.2"
LOG_LEVEL = "2"
"""Least severity that the C++ side prints, unless TF_CPP_MIN_LOG_LEVEL is set: errors. Our own log says the rest."""

_RTLD_LAZY = 1


class TFOutput(ctypes.Structure):
    """TF_Output: one output of one operation."""

    _fields_ = (("oper", ctypes.c_void_p), ("index", ctypes.c_int))


class TFBuffer(ctypes.Structure):
    """TF_Buffer: bytes that belong to this object, which must outlive the call it is given to."""

    _fields_ = (("data", ctypes.c_char_p), ("length", ctypes.c_size_t), ("data_deallocator", ctypes.c_void_p))

    @classmethod
    def of(cls, content: bytes) -> "TFBuffer":
        """A buffer that shows these bytes; ctypes keeps them alive with it."""
        return cls(content, len(content), None)


DEALLOCATOR = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
"""void (*)(void* data, size_t len, void* arg)"""

_pointer = ctypes.c_void_p
_size = ctypes.c_size_t
_int = ctypes.c_int
_int64 = ctypes.c_int64
_text = ctypes.c_char_p

# Calls that load, run or free big things. They release the GIL.
_LONG_CALLS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "TF_LoadSessionFromSavedModel": (
        _pointer,
        (_pointer, _pointer, _text, ctypes.POINTER(_text), _int, _pointer, _pointer, _pointer),
    ),
    "TF_SessionRun": (
        None,
        (_pointer, _pointer, _pointer, _pointer, _int, _pointer, _pointer, _int, _pointer, _int, _pointer, _pointer),
    ),
    "TF_CloseSession": (None, (_pointer, _pointer)),
    "TF_DeleteSession": (None, (_pointer, _pointer)),
    "TF_DeleteGraph": (None, (_pointer,)),
    "TF_LoadLibrary": (_pointer, (_text, _pointer)),
}

# Calls that take less time than giving the GIL away and getting it back under load. None of them waits for a lock that
# a thread could hold while it waits for the GIL (only tensor deallocators do that), so they cannot deadlock.
_SHORT_CALLS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "TF_Version": (_text, ()),
    "TF_NewStatus": (_pointer, ()),
    "TF_DeleteStatus": (None, (_pointer,)),
    "TF_GetCode": (_int, (_pointer,)),
    "TF_Message": (_text, (_pointer,)),
    "TF_NewGraph": (_pointer, ()),
    "TF_GraphOperationByName": (_pointer, (_pointer, _text)),
    "TF_OperationNumOutputs": (_int, (_pointer,)),
    "TF_NewSessionOptions": (_pointer, ()),
    "TF_SetConfig": (None, (_pointer, _text, _size, _pointer)),
    "TF_DeleteSessionOptions": (None, (_pointer,)),
    "TF_NewBuffer": (_pointer, ()),
    "TF_DeleteBuffer": (None, (_pointer,)),
    "TF_AllocateTensor": (_pointer, (_int, _pointer, _int, _size)),
    "TF_NewTensor": (_pointer, (_int, _pointer, _int, _pointer, _size, DEALLOCATOR, _pointer)),
    "TF_DeleteTensor": (None, (_pointer,)),
    "TF_TensorType": (_int, (_pointer,)),
    "TF_NumDims": (_int, (_pointer,)),
    "TF_Dim": (_int64, (_pointer, _int)),
    "TF_TensorByteSize": (_size, (_pointer,)),
    "TF_TensorData": (_pointer, (_pointer,)),
    "TF_TensorDefaultAlignment": (_size, ()),
}


class Library:
    """The bound functions, by their C names without the `TF_` prefix.

    Attributes:
        opening: when it began to be opened and when it was open, as of `time.perf_counter()`.
    """

    LoadSessionFromSavedModel: Any
    SessionRun: Any
    CloseSession: Any
    DeleteSession: Any
    DeleteGraph: Any
    LoadLibrary: Any
    Version: Any
    NewStatus: Any
    DeleteStatus: Any
    GetCode: Any
    Message: Any
    NewGraph: Any
    GraphOperationByName: Any
    OperationNumOutputs: Any
    NewSessionOptions: Any
    SetConfig: Any
    DeleteSessionOptions: Any
    NewBuffer: Any
    DeleteBuffer: Any
    AllocateTensor: Any
    NewTensor: Any
    DeleteTensor: Any
    TensorType: Any
    NumDims: Any
    Dim: Any
    TensorByteSize: Any
    TensorData: Any
    TensorDefaultAlignment: Any

    def __init__(self, path: Path) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", LOG_LEVEL)
        began = time.perf_counter()
        handle = _open(path)
        self.opening = (began, time.perf_counter())
        for calls, kind in ((_LONG_CALLS, ctypes.CDLL), (_SHORT_CALLS, ctypes.PyDLL)):
            bound = kind(str(path), handle=handle)
            for name, (result, arguments) in calls.items():
                function = bound[name]
                function.restype = result
                function.argtypes = arguments
                setattr(self, name.removeprefix("TF_"), function)

    @property
    def version(self) -> str:
        """The runtime's version, "2.21.0"."""
        return str(self.Version().decode())


class Status:
    """A TF_Status. One thread at a time."""

    __slots__ = ("_library", "pointer")

    def __init__(self, library: Library) -> None:
        self._library = library
        self.pointer: int = library.NewStatus()

    def __del__(self) -> None:
        self._library.DeleteStatus(self.pointer)

    def check(self) -> None:
        """Raises the runtime's own error, with its own code and text, when the last call failed."""
        code = self._library.GetCode(self.pointer)
        if code:
            message = self._library.Message(self.pointer).decode("utf-8", "replace")
            raise ServingError(Code(code), message)


def _open(path: Path) -> int:
    # Through libc and not ctypes.CDLL: CDLL always asks for RTLD_NOW, which binds 170,000 functions at once and takes
    # half as long again. RTLD_LOCAL (0): with RTLD_GLOBAL a later `import tensorflow` would crash.
    libc = ctypes.CDLL(None)
    libc.dlopen.restype = ctypes.c_void_p
    libc.dlopen.argtypes = (ctypes.c_char_p, ctypes.c_int)
    libc.dlerror.restype = ctypes.c_char_p
    handle = libc.dlopen(os.fsencode(path), _RTLD_LAZY)
    if not handle:
        why = (libc.dlerror() or b"unknown reason").decode("utf-8", "replace")
        raise ServingError(Code.FAILED_PRECONDITION, f"TensorFlow's runtime {path} does not load: {why}")
    return int(handle)


def _path() -> Path:
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.origin is None:
        raise ServingError(Code.FAILED_PRECONDITION, "the package tensorflow is not installed: `uv sync` installs it")
    path = Path(spec.origin).with_name(LIBRARY_NAME)
    if not path.exists():
        raise ServingError(
            Code.FAILED_PRECONDITION, f"the installed tensorflow has no {path}: install tensorflow 2.21 for Linux"
        )
    return path


_loading = threading.Lock()


@functools.cache
def _load() -> Library:
    return Library(_path())


def library() -> Library:
    """The runtime, loaded by the first call (about 0.2 s; other threads wait for it).

    Raises:
        ServingError: FAILED_PRECONDITION when tensorflow is not installed or its library does not load.
    """
    with _loading:
        return _load()


def loaded() -> bool:
    """Whether this process has loaded the runtime, or is just doing so. After that it must not fork."""
    return _load.cache_info().currsize > 0 or _loading.locked()


def preload() -> threading.Thread:
    """Begins to load the runtime in a background thread and returns it; `library()` then waits for what is left.

    Call it when the process will not fork any more, and after numpy and other extension modules are imported: the
    dynamic linker opens one library at a time, so an extension module imported meanwhile waits for this one. A failure
    is not raised here but by the next `library()`.
    """

    def load() -> None:
        try:
            library()
        except ServingError:
            return  # not cached: the caller of library() gets it

    thread = threading.Thread(target=load, name="zeroserve-preload", daemon=True)
    thread.start()
    return thread
