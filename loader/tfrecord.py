"""TFRecord files: a sequence of byte strings, each guarded by checksums.

Source: tensorflow/core/lib/io/record_writer.h: uint64 length, masked crc32c of the length, data, masked crc32c of
the data; all little-endian.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

import google_crc32c

from loader.status import Code, ServingError

MAX_RECORD_BYTES = 1 << 31
"""What a protocol buffer can hold; a longer record is a damaged length or not a TFRecord."""

_LENGTH = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_MASK = 0xA282EAD8

HEAD_BYTES = _LENGTH.size
"""Before a record's data: its length and that one's checksum."""

TAIL_BYTES = _CRC.size
"""Behind a record's data: its checksum."""


def records(file: BinaryIO) -> Iterator[bytes]:
    """Yields the records of an open file.

    Raises:
        ServingError: DATA_LOSS at the first record that is cut off or fails its checksum.
    """
    at = 0
    while head := file.read(HEAD_BYTES):
        size = record_size(head, at)
        data = file.read(size)
        tail = file.read(TAIL_BYTES)
        if len(data) < size or len(tail) < TAIL_BYTES:
            raise ServingError(Code.DATA_LOSS, f"truncated record at {at}: {size} bytes announced, {len(data)} there")
        if not is_sound(data, tail):
            raise ServingError(Code.DATA_LOSS, f"corrupted record at {at}: the data fails its checksum")
        yield data
        at += HEAD_BYTES + size + TAIL_BYTES


def record_size(head: bytes, at: int) -> int:
    """The length of the data that follows a record's head.

    Args:
        head: `HEAD_BYTES`, or fewer where the file ends.
        at: where it stands, for messages.

    Raises:
        ServingError: DATA_LOSS: the head is cut off or fails its checksum.
    """
    if len(head) < HEAD_BYTES:
        raise ServingError(Code.DATA_LOSS, f"truncated record at {at}")
    size: int
    size, crc = _LENGTH.unpack(head)
    if _masked(head[:8]) != crc or size > MAX_RECORD_BYTES:
        raise ServingError(Code.DATA_LOSS, f"corrupted record at {at}: the length fails its checksum")
    return size


def is_sound(data: bytes, tail: bytes) -> bool:
    """Whether a record's data is what its tail says."""
    return bool(_masked(data) == _CRC.unpack(tail)[0])


def encode(data: bytes) -> bytes:
    """One record, ready to be appended to a file."""
    length = struct.pack("<Q", len(data))
    return length + _CRC.pack(_masked(length)) + data + _CRC.pack(_masked(data))


def _masked(data: bytes) -> int:
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF
