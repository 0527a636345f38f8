"""TFRecord: each record is a row, a serialised tf.Example or any bytes.

Source: tensorflow/core/lib/io/record_writer.h; tensorflow/core/example/feature.proto.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import loader.protos
from functions.batch_jobs.input_file import ByteStream, ExactStream, InputFile
from functions.batch_jobs.rows import VALUE, Gathering, Options, Position, Rows
from loader import tfrecord
from loader.status import Code, ServingError

assert loader.protos  # noqa: S101  imported for what it does to `tensorflow`


class TfrecordReader:
    """One file; see `Reader`. The column VALUE has a record's bytes; others are features of a tf.Example."""

    columns = None
    is_text = False
    types: Mapping[str, Any] = {}

    def __init__(self, file: InputFile, options: Options) -> None:
        self._file = file
        self._options = options
        self._share = 0.0

    def rows(self, start: Position, count: int, wanted: Sequence[str]) -> Iterator[Rows]:
        """See `Reader.rows`."""
        stream = ByteStream(self._file, start.offset)
        exact, row, at, batch = ExactStream(stream), start.row, start.offset, Gathering(wanted)
        while head := exact.read(tfrecord.HEAD_BYTES):
            size = self._size(head, at)
            if size > self._options.max_row_bytes:
                whole = exact.skip(size + tfrecord.TAIL_BYTES) == size + tfrecord.TAIL_BYTES
                batch.refuse(row, row + 1, f"the record has {size} bytes, at most {self._options.max_row_bytes}")
            else:
                data, tail = exact.read(size), exact.read(tfrecord.TAIL_BYTES)
                whole = len(tail) == tfrecord.TAIL_BYTES
                if whole:
                    self._add(batch, row, data, tail)
            if not whole:
                raise ServingError(Code.DATA_LOSS, f"{self._file.url}: truncated record at {at}")
            row += 1
            at += tfrecord.HEAD_BYTES + size + tfrecord.TAIL_BYTES
            if batch.count == count:
                self._share = stream.share
                yield batch.done(Position(row, at, row))
                batch = Gathering(wanted)
        if batch.count:
            yield batch.done(Position(row, at, row))

    def _size(self, head: bytes, at: int) -> int:
        try:
            return tfrecord.record_size(head, at)
        except ServingError as error:
            raise ServingError(error.code, f"{self._file.url}: {error.message}") from None

    def _add(self, batch: Gathering, row: int, data: bytes, tail: bytes) -> None:
        if not tfrecord.is_sound(data, tail):
            batch.refuse(row, row + 1, "corrupted record: the data fails its checksum")
            return
        values: dict[str, Any] = {VALUE: data}
        named = [name for name in batch.wanted if name != VALUE]
        if named:
            try:
                values |= _features(data, named)
            except ValueError as error:
                batch.refuse(row, row + 1, str(error))
                return
        batch.add(row, row + 1)
        batch.put(values)

    def share(self, end: Position) -> float:
        """See `Reader.share`."""
        size = self._file.info.size
        return self._share if self._file.is_compressed or not size else end.offset / size

    def close(self) -> None:
        """Nothing is held."""


def _features(data: bytes, names: Sequence[str]) -> dict[str, Any]:
    """The named features of a serialised tf.Example: each a flat list, or its one value.

    Raises:
        ValueError: it is none.
    """
    from google.protobuf.message import DecodeError  # noqa: PLC0415  what reads no examples does not need it
    from tensorflow.core.example.example_pb2 import Example  # noqa: PLC0415

    try:
        found = Example.FromString(data).features.feature
    except DecodeError as error:
        raise ValueError(f"not a tf.Example: {error}") from None
    values: dict[str, Any] = {}
    for name in names:
        kind = found[name].WhichOneof("kind") if name in found else None
        if kind is not None:
            listed = list(getattr(found[name], kind).value)
            values[name] = listed[0] if len(listed) == 1 else listed
    return values
