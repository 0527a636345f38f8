"""TFRecord: a serialised tf.Example a row, each column a feature, tensors flat, floats as float32."""

import json
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

import loader.protos
from functions.batch_jobs.results import Schema, plain, text_bytes
from functions.batch_jobs.rows import Column
from loader.dtypes import Array
from loader.status import Code, ServingError
from loader.tfrecord import encode

assert loader.protos  # noqa: S101  imported for what it does to `tensorflow`
from tensorflow.core.example.example_pb2 import Example  # noqa: E402

_NESTED = (dict, list, type(None))
_INT64_MAX = (1 << 63) - 1


class TfrecordWriter:
    """One part; see `Writer`."""

    def __init__(self, file: BinaryIO, schema: Schema) -> None:
        self._file = file
        self._names = schema.names

    def write(self, columns: Mapping[str, Column], count: int) -> None:
        """See `Writer.write`."""
        for row in range(count):
            example = Example()
            for name in self._names:
                _add(example.features.feature[name], columns[name][row])
            self._file.write(encode(example.SerializeToString(deterministic=True)))

    def close(self) -> None:
        """Nothing is left to write."""


def _add(feature: Any, value: Any) -> None:
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(each, _NESTED) for each in value)):
        value = json.dumps(plain(value), ensure_ascii=False)
    values: Array = np.asarray(value if value is not None else []).ravel()
    if isinstance(value, bytes | str):
        feature.bytes_list.value.append(_bytes(value))
    elif values.dtype.kind in "biu" and values.size:
        if values.dtype.kind == "u" and values.max() > _INT64_MAX:
            raise ServingError(
                Code.INVALID_ARGUMENT, f"a tf.Example holds no {values.max()}: --output-format=jsonl does"
            )
        feature.int64_list.value.extend(values.astype(np.int64).tolist())
    elif values.dtype.kind in "OSU":
        feature.bytes_list.value.extend(map(_bytes, values.tolist()))
    else:
        feature.float_list.value.extend(values.astype(np.float32).tolist())


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else text_bytes(str(value))
