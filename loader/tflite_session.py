"""Runs TensorFlow Lite models with LiteRT, the package `ai-edge-litert` (extra `tflite`).

One interpreter runs one request at a time, so there are several, each with one thread, as in the stock server. They
share the weights: each maps the same file.

Source: ai.google.dev/edge/litert (Interpreter, SignatureRunner); tensorflow_serving tflite_session.cc.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from loader import dtypes
from loader.dtypes import STRING, Array
from loader.made_signature import made_signature
from loader.signature import DEFAULT_SIGNATURE, Signature, TensorSpec
from loader.status import Code, ServingError


def load(file: Path, threads: int) -> "tuple[Mapping[str, Signature], TfliteSession]":
    """Loads a model with the signatures that it holds; one without any has `serving_default`, with the tensors' names.

    Args:
        file: `model.tflite`.
        threads: requests that run at the same time.

    Raises:
        ServingError: FAILED_PRECONDITION without the package; UNIMPLEMENTED for a model that takes or gives strings;
            else what the runtime says.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415  an optional package
    except ModuleNotFoundError:
        raise ServingError(
            Code.FAILED_PRECONDITION, "model.tflite needs the package ai-edge-litert: install zeroserve[tflite]"
        ) from None

    def make() -> Any:
        try:
            return Interpreter(model_path=str(file), num_threads=1)
        except (ValueError, RuntimeError) as error:
            raise ServingError(Code.INVALID_ARGUMENT, f"model.tflite does not load: {error}") from error

    first = make()
    listed = first.get_signature_list()
    signatures = {key: _signature(key, _runner_details(first, key)) for key in listed}
    if not signatures:
        tensors = (first.get_input_details(), first.get_output_details())
        details = [{one["name"]: one for one in each} for each in tensors]
        signatures = {DEFAULT_SIGNATURE: _signature(DEFAULT_SIGNATURE, details)}
    return signatures, TfliteSession(first, make, max(1, threads), signatures, plain=not listed)


class TfliteSession:
    """A `loader.session.Session`; tensors are called `SIGNATURE/ALIAS`. Thread-safe.

    A run cannot be interrupted: one that has begun goes on to its end.

    Args:
        first: an interpreter.
        make: makes another one.
        most: interpreters at the most; they are made as they are needed.
        signatures: of the model.
        plain: the model itself has no signature.
    """

    may_block = False

    def __init__(
        self, first: Any, make: Callable[[], Any], most: int, signatures: Mapping[str, Signature], *, plain: bool
    ) -> None:
        self._free = [first]
        self._make = make
        self._left = most - 1
        self._plain = plain
        self._changed = threading.Condition()
        self._closed = False
        self._tensors = {
            spec.name: (key, alias)
            for key, signature in signatures.items()
            for alias, spec in (*signature.inputs.items(), *signature.outputs.items())
        }

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], *, timeout: float | None = None) -> list[Array]:
        """Runs one signature once; see `Session.run`."""
        if timeout is not None and timeout <= 0:
            raise ServingError(Code.DEADLINE_EXCEEDED, "the deadline had passed before the model could run")
        inputs = {self._tensor(name): array for name, array in feeds.items()}
        wanted = [self._tensor(name) for name in fetches]
        keys = {key for key, _ in (*inputs, *wanted)}
        if len(keys) != 1:
            raise ServingError(Code.INVALID_ARGUMENT, f"one run takes one signature, found {', '.join(sorted(keys))}")
        (key,) = keys
        given = {alias: np.ascontiguousarray(array) for (_, alias), array in inputs.items()}
        with self._interpreter(timeout) as interpreter:
            try:
                run = _run_plain if self._plain else _run_signature
                found = run(interpreter, key, given)
            except (ValueError, RuntimeError) as error:
                raise ServingError(Code.INVALID_ARGUMENT, " ".join(str(error).split())) from error
        outputs = [found[alias] for _, alias in wanted]
        for array in outputs:
            array.flags.writeable = False
        return outputs

    def close(self) -> None:
        """Frees the model; see `Session.close`."""
        with self._changed:
            self._closed = True
            self._free.clear()

    def _tensor(self, name: str) -> tuple[str, str]:
        try:
            return self._tensors[name]
        except KeyError:
            raise ServingError(Code.INVALID_ARGUMENT, f"Tensor {name!r} was not found in the model") from None

    @contextmanager
    def _interpreter(self, timeout: float | None) -> Iterator[Any]:
        with self._changed:
            if not self._changed.wait_for(lambda: self._closed or self._free or self._left, timeout):
                raise ServingError(Code.DEADLINE_EXCEEDED, "the deadline passed before an interpreter was free")
            if self._closed:
                raise ServingError(Code.FAILED_PRECONDITION, "the model is unloaded: its session is closed")
            mine = self._free.pop() if self._free else None
            self._left -= mine is None
        try:
            if mine is None:
                mine = self._make()
            yield mine
        finally:
            with self._changed:
                if mine is None:
                    self._left += 1
                elif not self._closed:
                    self._free.append(mine)
                self._changed.notify()


def _run_signature(interpreter: Any, key: str, given: Mapping[str, Array]) -> Mapping[str, Array]:
    found: Mapping[str, Array] = interpreter.get_signature_runner(key)(**given)
    return found


def _run_plain(interpreter: Any, _: str, given: Mapping[str, Array]) -> Mapping[str, Array]:
    places = {one["name"]: one for one in interpreter.get_input_details()}
    for name, array in given.items():
        if tuple(places[name]["shape"]) != array.shape:
            interpreter.resize_tensor_input(places[name]["index"], array.shape)
    interpreter.allocate_tensors()
    for name, array in given.items():
        interpreter.set_tensor(places[name]["index"], array)
    interpreter.invoke()
    return {one["name"]: interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()}


def _runner_details(interpreter: Any, key: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    runner = interpreter.get_signature_runner(key)
    return runner.get_input_details(), runner.get_output_details()


def _signature(key: str, details: Sequence[Mapping[str, Any]]) -> Signature:
    inputs, outputs = ([_spec(key, alias, one) for alias, one in each.items()] for each in details)
    return made_signature(key, inputs, outputs)


def _spec(key: str, alias: str, detail: Mapping[str, Any]) -> TensorSpec:
    dtype = dtypes.of_numpy(np.dtype(detail["dtype"]))
    if dtype is STRING:
        raise ServingError(Code.UNIMPLEMENTED, f"{alias!r} of model.tflite holds strings, and only numbers are served")
    known = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
    return TensorSpec(alias, f"{key}/{alias}", dtype.number, tuple(int(size) for size in known))
