"""One part on its way out: written on this machine first, then put into storage whole."""

import gzip
import json
from pathlib import Path
from typing import BinaryIO, cast

from functions.batch_jobs.answers import Answered
from functions.batch_jobs.checkpoint import Checkpoint, PartState, sha256_of
from functions.batch_jobs.formats import open_writer
from functions.batch_jobs.request import COMPRESSIBLE
from functions.batch_jobs.results import Schema, Writer
from functions.batch_jobs.rows import Position


class PartFile:
    """One part. One thread at a time.

    Args:
        name: without ending.
        folder: on this machine, for as long as the part is written.
        format: of the results.
        compress: with gzip, where the format can be.
        schema: of the results.
        url: of the input, for the file of bad rows.
    """

    def __init__(self, name: str, folder: Path, format_name: str, schema: Schema, url: str, *, compress: bool) -> None:
        self._name, self._format, self._schema, self._url = name, format_name, schema, url
        self._compress = compress and format_name in COMPRESSIBLE
        ending = f".{format_name}" + (".gz" if self._compress else "")
        self._results, self._errors = folder / f"{name}{ending}", folder / f"{name.replace('part', 'errors', 1)}.jsonl"
        self._raw: BinaryIO | None = None
        self._file: BinaryIO | None = None
        self._writer: Writer | None = None
        self._rows = self._bad = 0
        self._versions: set[int] = set()

    def add(self, answered: Answered) -> None:
        """More rows, in order. Raises ServingError where the format cannot hold them."""
        self._rows += answered.count
        self._bad += len(answered.faults)
        self._versions |= answered.versions
        if answered.faults:
            with self._errors.open("a") as errors:
                for fault in answered.faults:
                    line = {"input": self._url, "row": fault.row + 1, "line": fault.line, "reason": fault.reason}
                    errors.write(json.dumps(line) + "\n")
        if answered.good:
            self._open().write(answered.columns, answered.good)

    def _open(self) -> Writer:
        if self._writer is None:
            self._raw = self._file = self._results.open("wb")
            if self._compress:
                # No name and no time inside: the same rows are the same bytes.
                self._file = cast("BinaryIO", gzip.GzipFile("", "wb", fileobj=self._raw, mtime=0))
            self._writer = open_writer(self._file, self._format, self._schema)
        return self._writer

    def finish(self, checkpoint: Checkpoint, end: Position, *, last: bool) -> PartState:
        """Puts what is written into storage, and notes it."""
        self.close()
        file, errors_file, size, digest = "", "", 0, ""
        if self._results.exists():
            file, size, digest = self._results.name, self._results.stat().st_size, sha256_of(self._results)
            checkpoint.put(file, self._results)
        if self._errors.exists():
            errors_file = self._errors.name
            checkpoint.put(errors_file, self._errors)
        state = PartState(
            end, self._rows, self._bad, last, file, size, digest, errors_file, tuple(sorted(self._versions))
        )
        checkpoint.note(self._name, state)
        for path in (self._results, self._errors):
            path.unlink(missing_ok=True)
        return state

    def close(self) -> None:
        """Ends the file on this machine."""
        if self._writer is not None and self._raw is not None and self._file is not None:
            self._writer.close()
            self._file.close()
            self._raw.close()
            self._writer = None
