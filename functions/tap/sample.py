"""One answered prediction, as it leaves the request: who, when, what was asked, what was answered.

It holds the arrays themselves, which nobody writes to any more. An array that is a small part of something large (the
row of a batch) is copied, so that what waits holds what it is counted as.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from functions.observing.access import Access
from loader import dtypes
from loader.dtypes import Array
from loader.inference import Classifications, Predictions, Regressions
from loader.servable import Servable

PREDICT, CLASSIFY, REGRESS, MULTI = "predict", "classify", "regress", "multi_inference"

EXAMPLES = "inputs"
"""The name of the input of serialized tf.Examples."""

POINTER_BYTES = 64
"""What a text in an object array costs beside its own bytes."""


@dataclass(frozen=True, slots=True)
class Omitted:
    """What is left of an array that does not leave the process.

    Attributes:
        dtype: TensorFlow's number of it.
        shape: of it.
        reason: `size` or `redacted`.
    """

    dtype: int
    shape: tuple[int, ...]
    reason: str


Value = Array | Omitted


@dataclass(frozen=True, slots=True)
class Answered:
    """What one signature gave.

    Attributes:
        kind: `classify`, `regress` or `predict`.
        signature: its name.
        outputs: by alias. Of `classify`: `classes`, `scores`, or one of them; of `regress`: `outputs`.
        filtered: whether the request asked for these outputs only.
    """

    kind: str
    signature: str
    outputs: Mapping[str, Value]
    filtered: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One answered prediction.

    Attributes:
        kind: `predict`, `classify`, `regress` or `multi_inference`.
        model, version: that answered.
        request_id: see `functions.observing.access`.
        protocol: `REST` or `GRPC`.
        api: as the door calls it: `predict`, `ModelInfer`...
        traceparent: of the request's span, or of the caller's; empty for none.
        unix_ns: when it came.
        seconds: from then to the end of the run.
        inputs: by alias; of the other kinds `inputs` alone, the serialized tf.Examples.
        answers: one, but for `multi_inference`.
        size: bytes that it holds.
        share: of the predictions that samples are taken of.
    """

    kind: str
    model: str
    version: int
    request_id: str
    protocol: str
    api: str
    traceparent: str
    unix_ns: int
    seconds: float
    inputs: Mapping[str, Value]
    answers: tuple[Answered, ...]
    size: int
    share: float

    @property
    def whole(self) -> bool:
        """Whether nothing is omitted."""
        values = [*self.inputs.values(), *(value for one in self.answers for value in one.outputs.values())]
        return not any(isinstance(value, Omitted) for value in values)


def take(
    access: Access, servable: Servable, feeds: Mapping[str, Array], result: Any, *, max_value_bytes: int, share: float
) -> Sample:
    """The sample of a run.

    Args:
        access: the request.
        servable: that ran it.
        feeds: what it was fed, by tensor.
        result: of `Call.finish`.
        max_value_bytes: of one array; of a larger one only dtype and shape are kept.
        share: that it was chosen by.
    """
    keeper = _Keeper(max_value_bytes)
    if isinstance(result, Predictions):
        kind, signature = PREDICT, result.signature
        given = {
            alias: feeds[spec.name]
            for alias, spec in signature.inputs.items()
            if feeds[spec.name] is not signature.defaults.get(alias)
        }
    else:
        kind = MULTI if isinstance(result, list) else CLASSIFY if isinstance(result, Classifications) else REGRESS
        given = {EXAMPLES: next(iter(feeds.values()))}
    inputs = {alias: keeper.keep(array) for alias, array in given.items()}
    answers = tuple(_answered(one, keeper) for one in (result if isinstance(result, list) else [result]))
    span = access.span_id or access.parent_id
    return Sample(
        kind,
        servable.id.name,
        servable.id.version,
        access.request_id,
        access.protocol,
        access.api,
        f"00-{access.trace_id}-{span}-{'01' if access.trace is not None else '00'}" if access.trace_id and span else "",
        access.began_ns,
        time.monotonic() - access.began,
        inputs,
        answers,
        keeper.size,
        share,
    )


def _answered(result: "Predictions | Classifications | Regressions", keeper: "_Keeper") -> Answered:
    if isinstance(result, Predictions):
        filtered = len(result.outputs) < len(result.signature.outputs)
        outputs = {alias: keeper.keep(array) for alias, array in result.outputs.items()}
        return Answered(PREDICT, result.signature.name, outputs, filtered)
    if isinstance(result, Regressions):
        return Answered(REGRESS, result.signature.name, {"outputs": keeper.keep(result.values)})
    named = {"classes": result.classes, "scores": result.scores}
    outputs = {name: keeper.keep(array) for name, array in named.items() if array is not None}
    return Answered(CLASSIFY, result.signature.name, outputs)


class _Keeper:
    """Keeps arrays, and adds up what they hold."""

    def __init__(self, max_value_bytes: int) -> None:
        self._max = max_value_bytes
        self.size = 1024  # the names, and the sample itself

    def keep(self, array: Array) -> Value:
        size = array.nbytes
        if array.dtype == object:
            size = POINTER_BYTES * array.size
            if size <= self._max:
                size += sum(map(len, array.ravel().tolist()))
        if size > self._max:
            return Omitted(dtypes.of_numpy(array.dtype).number, array.shape, "size")
        self.size += size
        return array if _held(array) <= 2 * size + 4096 else np.array(array)


def _held(array: Array) -> int:
    """Bytes that stay because of `array`: those of what it is a view of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    base = array.base
    return len(base) if isinstance(base, bytes | bytearray | memoryview) else array.nbytes
