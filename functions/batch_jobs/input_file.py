"""One input in storage: its bytes in order, in bounded memory, from any place."""

import io
import zlib
from dataclasses import dataclass

from loader.status import Code, ServingError
from loader.storage import Storage
from loader.store import ObjectInfo, shown_host

BLOCK_BYTES = 4 << 20
"""Read at once from storage."""

INFLATE_BYTES = 1 << 20
"""Decompressed at once: a bomb is read like any other file, piece by piece."""

_GZIP = ".gz"


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file.

    Attributes:
        storage: of its folder.
        name: below that folder.
        info: as storage showed it when the job was planned.
    """

    storage: Storage
    name: str
    info: ObjectInfo

    @property
    def url(self) -> str:
        """Where it is, without credentials."""
        return f"{shown_host(self.storage.url).rstrip('/')}/{self.name}"

    @property
    def identity(self) -> str:
        """Changes when the file does."""
        if self.storage.local is None and self.info.etag:
            return self.info.etag
        return f"{self.info.size}-{self.info.mtime}"

    @property
    def is_compressed(self) -> bool:
        """Whether its bytes are gzip's."""
        return self.name.endswith(_GZIP)

    @property
    def plain_name(self) -> str:
        """The name without the ending of compression."""
        return self.name.removesuffix(_GZIP)

    def read(self, start: int, end: int) -> memoryview:
        """Bytes as they lie in storage.

        Raises:
            ServingError: ABORTED where the file is no longer the one that was planned; what storage raises.
        """
        try:
            found = self.storage.view(self.name, start, min(end, self.info.size), self.info.etag)
        except FileNotFoundError:
            raise ServingError(Code.ABORTED, f"{self.url} is gone since the job was planned") from None
        if len(found) < min(end, self.info.size) - start:
            raise ServingError(Code.ABORTED, f"{self.url} became shorter while it was read")
        return found

    def check(self) -> None:
        """Raises ServingError ABORTED where the file is no longer the one that was planned."""
        try:
            now = InputFile(self.storage, self.name, self.storage.info(self.name)).identity
        except FileNotFoundError:
            now = ""
        if now != self.identity:
            raise ServingError(Code.ABORTED, f"{self.url} was changed while it was read: run the job anew (--restart)")


class ByteStream:
    """The decompressed bytes of a file in order, from any place. One thread at a time.

    Args:
        file: what is read.
        start: decompressed bytes to skip; of a compressed file all before is decompressed again.

    Raises:
        ServingError: what `InputFile.read` raises; DATA_LOSS for what is no gzip.
    """

    def __init__(self, file: InputFile, start: int = 0) -> None:
        self._file = file
        self._at = 0 if file.is_compressed else start
        self._inflate = zlib.decompressobj(wbits=31) if file.is_compressed else None
        self._input: memoryview | bytes = b""
        self._rest = b""
        left = start if file.is_compressed else 0
        while left and (data := self.block()):
            if len(data) > left:
                self._rest = data[left:]
            left -= min(left, len(data))

    def block(self) -> bytes:
        """The next bytes, as many as are at hand; none at the end."""
        if self._rest:
            rest, self._rest = self._rest, b""
            return rest
        if self._inflate is None:
            return bytes(self._stored())
        while True:
            if self._inflate.eof:
                # Several streams one after the other are one file, as gunzip reads them.
                self._input = self._inflate.unused_data.lstrip(b"\0") or self._stored()
                if not self._input:
                    return b""
                self._inflate = zlib.decompressobj(wbits=31)
            if not self._input:
                self._input = self._stored()
                if not self._input:
                    if self._at:
                        raise ServingError(Code.DATA_LOSS, f"{self._file.url} ends in the middle of a gzip stream")
                    return b""
            try:
                data = self._inflate.decompress(self._input, INFLATE_BYTES)
            except zlib.error as error:
                raise ServingError(Code.DATA_LOSS, f"{self._file.url} is damaged gzip: {error}") from None
            self._input = self._inflate.unconsumed_tail
            if data:
                return data

    @property
    def share(self) -> float:
        """How much of the stored bytes was read, 0 to 1."""
        return self._at / self._file.info.size if self._file.info.size else 1.0

    def _stored(self) -> memoryview:
        data = self._file.read(self._at, self._at + BLOCK_BYTES)
        self._at += len(data)
        return data


class ExactStream:
    """Reads exact numbers of bytes of a `ByteStream`, without holding more than is asked for and one block."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._held = b""

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer only at the end."""
        parts, found = [], 0
        while found < size:
            data = self._held or self._stream.block()
            if not data:
                break
            taken, self._held = data[: size - found], data[size - found :]
            parts.append(taken)
            found += len(taken)
        return b"".join(parts)

    def skip(self, size: int) -> int:
        """Passes over `size` bytes; gives how many there were."""
        left = size
        while left:
            data = self._held or self._stream.block()
            if not data:
                break
            passed, self._held = min(left, len(data)), data[left:]
            left -= passed
        return size - left


class SeekableFile(io.RawIOBase):
    """A stored file as Python's libraries want one that they may seek in. One thread at a time."""

    def __init__(self, file: InputFile) -> None:
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As files do."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.info.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """As files do."""
        return self._at

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]  # what callers really give
        """As files do."""
        data = self._file.read(self._at, self._at + min(len(buffer), BLOCK_BYTES))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
