"""Runs ONNX models with ONNX Runtime, the package `onnxruntime` (extra `onnx`).

Source: onnxruntime.ai/docs/api/python; onnx/onnx.proto (the element types).
"""

import functools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loader import dtypes
from loader.dtypes import Array
from loader.gpu import has_gpu
from loader.made_signature import made_signature
from loader.run_watch import RunWatch
from loader.signature import DEFAULT_SIGNATURE, Signature, TensorSpec
from loader.status import Code, ServingError

_CODES = {"InvalidArgument": Code.INVALID_ARGUMENT, "NoSuchFile": Code.NOT_FOUND, "NotImplemented": Code.UNIMPLEMENTED}
_NAMES = {"float16": "half"}
_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
_QUIET = 3
"""ONNX Runtime's log level for errors."""


def load(file: Path, threads: int) -> "tuple[Mapping[str, Signature], OnnxSession]":
    """Loads a model; its one signature is `serving_default`, with the graph's own names.

    Args:
        file: `model.onnx`.
        threads: that share one operation.

    Raises:
        ServingError: FAILED_PRECONDITION without the package; UNIMPLEMENTED for a model whose inputs or outputs are no
            tensors; else what the runtime says.
    """
    try:
        import onnxruntime  # noqa: PLC0415  an optional package
    except ModuleNotFoundError:
        raise ServingError(
            Code.FAILED_PRECONDITION, "model.onnx needs the package onnxruntime: install zeroserve[onnx]"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _QUIET
    available = onnxruntime.get_available_providers()
    wanted = [one for one in _PROVIDERS if one in available and (has_gpu() or one == _PROVIDERS[-1])]
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=wanted)
    except Exception as error:
        raise _serving_error(error) from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    names = {
        one.name: [size if isinstance(size, str) else "" for size in one.shape or ()] for one in (*inputs, *outputs)
    }
    signature = made_signature(DEFAULT_SIGNATURE, map(_spec, inputs), map(_spec, outputs), names)
    return {DEFAULT_SIGNATURE: signature}, OnnxSession(session, onnxruntime.RunOptions)


class OnnxSession:
    """A `loader.session.Session`: feeds and fetches by the graph's names. Thread-safe.

    Args:
        session: an `onnxruntime.InferenceSession`; closed by `close`.
        make_options: makes `onnxruntime.RunOptions`.
    """

    may_block = False

    def __init__(self, session: Any, make_options: Any) -> None:
        self._session = session
        self._make_options = make_options
        self._watch = RunWatch()

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], *, timeout: float | None = None) -> list[Array]:
        """Runs the graph once; see `Session.run`. A run is ended between two operations."""
        session = self._session
        if session is None:
            raise ServingError(Code.FAILED_PRECONDITION, "the model is unloaded: its session is closed")
        given = {name: _texts(array) if array.dtype.hasobject else array for name, array in feeds.items()}
        if timeout is not None and timeout <= 0:
            raise ServingError(Code.DEADLINE_EXCEEDED, "the deadline had passed before the model could run")
        late = False

        def stop() -> None:
            nonlocal late
            late = True
            options.terminate = True

        options = self._make_options()
        try:
            if timeout is None:
                found = session.run(list(fetches), given, options)
            else:
                with self._watch.until(time.monotonic() + timeout, stop):
                    found = session.run(list(fetches), given, options)
        except Exception as error:
            if late:
                raise ServingError(Code.DEADLINE_EXCEEDED, "the deadline passed while the model was running") from error
            raise _serving_error(error) from error
        return [_own(array) for array in found]

    def close(self) -> None:
        """Frees the model; see `Session.close`."""
        self._session = None
        self._watch.close()


def _spec(tensor: Any) -> TensorSpec:
    kind = str(tensor.type)
    if not kind.startswith("tensor("):
        raise ServingError(
            Code.UNIMPLEMENTED,
            f"{tensor.name!r} of model.onnx is a {kind}, and only tensors can be served (scikit-learn's converter: "
            "options={'zipmap': False})",
        )
    name = kind[len("tensor(") : -1]
    dtype = dtypes.of_name(_NAMES.get(name, name))
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in tensor.shape)
    return TensorSpec(tensor.name, tensor.name, dtype.number, shape)


@functools.cache
def _vectorized_decode() -> Any:
    return np.frompyfunc(lambda one: one.decode("utf-8") if isinstance(one, bytes) else one, 1, 1)


def _texts(array: Array) -> Array:
    try:
        return np.asarray(_vectorized_decode()(array), object).reshape(array.shape)
    except UnicodeDecodeError as error:
        raise ServingError(Code.INVALID_ARGUMENT, f"strings of an ONNX model are UTF-8: {error}") from None


def _own(array: Array) -> Array:
    if array.dtype.hasobject or array.dtype.kind == "U":
        made = np.empty(array.shape, object)
        made.ravel()[:] = [str(one).encode() for one in array.ravel().tolist()]
        array = made
    array.flags.writeable = False
    return array


def _serving_error(error: Exception) -> ServingError:
    text = " ".join(str(error).split())
    return ServingError(_CODES.get(type(error).__name__, Code.INTERNAL), text)
