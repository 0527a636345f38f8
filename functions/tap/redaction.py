"""What leaves with its dtype and shape only: inputs, outputs and features of examples, by name. Pure."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

import loader.protos as _protos  # before the messages: see there
from functions.tap.sample import PREDICT, Answered, Omitted, Sample, Value
from loader import dtypes

assert _protos  # noqa: S101
from google.protobuf.message import DecodeError  # noqa: E402
from tensorflow.core.example.example_pb2 import Example  # noqa: E402

ALL = "*"


def redacted(sample: Sample, names: frozenset[str]) -> Sample:
    """The sample without the values of these names; `*` is all.

    Of serialized tf.Examples the features of these names are taken out; what is no Example goes as a whole.
    """
    if not names:
        return sample
    inputs = _without(sample.inputs, names)
    if sample.kind != PREDICT and ALL not in names:
        inputs = {alias: _examples(value, names) for alias, value in inputs.items()}
    answers = tuple(
        Answered(one.kind, one.signature, _without(one.outputs, names), one.filtered) for one in sample.answers
    )
    return replace(sample, inputs=inputs, answers=answers)


def _without(values: Mapping[str, Value], names: frozenset[str]) -> dict[str, Value]:
    return {alias: _omitted(value) if ALL in names or alias in names else value for alias, value in values.items()}


def _omitted(value: Value) -> Omitted:
    if isinstance(value, Omitted):
        return replace(value, reason="redacted")
    return Omitted(dtypes.of_numpy(value.dtype).number, value.shape, "redacted")


def _examples(value: Value, names: frozenset[str]) -> Value:
    if isinstance(value, Omitted):
        return value
    rows = np.empty(value.shape, object)
    for index, text in enumerate(value.ravel().tolist()):
        try:
            example = Example.FromString(bytes(text))
        except DecodeError:
            return _omitted(value)
        for name in names:
            example.features.feature.pop(name, None)
        rows.flat[index] = example.SerializeToString()
    return rows
