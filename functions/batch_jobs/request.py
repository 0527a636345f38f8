"""What a job is: the words of a command line or the data of an event, checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from functions.batch_jobs.formats import FORMATS
from functions.batch_jobs.limits import BATCH_ROWS, MAX_BATCH_ROWS, MAX_ROW_BYTES, PART_ROWS
from loader.status import Code, ServingError

COMPRESSIBLE = ("csv", "jsonl", "tfrecord")


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """One job. What is here decides every byte of its results; how fast it runs is said elsewhere.

    Attributes:
        inputs: URLs of files, folders or patterns.
        output: URL of the folder of results; empty: beside the input.
        model: URL in storage of a model that runs in this process; or
        url: a server, `name` and `version` or `label` the model there.
        version: of the model; None: the newest, and for `model` the one that the job began with.
        signature: its name; empty for the default one.
        columns: input -> the columns that feed it, where names do not say it.
        keep: columns that are written beside the results.
        select: output -> the name of its column; empty for all.
        format, output_format: one of FORMATS; empty: the input's name says it, and the output is like the input.
        names: columns of CSV files without a first line of names.
        delimiter: of CSV files.
        compress: whether parts are compressed with gzip.
        batch_rows: rows that the model gets at once.
        part_rows: rows of a part of the results.
        limit: rows of all inputs together; 0 for all.
        max_row_bytes: a longer row is a bad one.
        event: source and id of the event that asked for it; empty for a command line.
    """

    inputs: tuple[str, ...]
    output: str = ""
    model: str = ""
    url: str = ""
    name: str = ""
    version: int | None = None
    label: str | None = None
    signature: str = ""
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    keep: tuple[str, ...] = ()
    select: Mapping[str, str] = field(default_factory=dict)
    format: str = ""
    output_format: str = ""
    names: tuple[str, ...] | None = None
    delimiter: str = ""
    compress: bool = False
    batch_rows: int = BATCH_ROWS
    part_rows: int = PART_ROWS
    limit: int = 0
    max_row_bytes: int = MAX_ROW_BYTES
    event: str = ""

    def __post_init__(self) -> None:
        if not self.inputs:
            raise _invalid("no input: wanted URLs of files, folders or patterns such as s3://bucket/in/*.csv")
        if bool(self.model) == bool(self.url):
            raise _invalid("wanted --model=URL (a model in storage) or --url=HOST:PORT (a server), one of them")
        if self.model and (self.name or self.label):
            raise _invalid("a name and a label are a server's: wanted --url=HOST:PORT, or --model=URL without them")
        if not 1 <= self.batch_rows <= MAX_BATCH_ROWS:
            raise _invalid(f"--batch-rows={self.batch_rows}: wanted 1 to {MAX_BATCH_ROWS}")
        if self.part_rows < self.batch_rows:
            raise _invalid(f"--part-rows={self.part_rows}: wanted --batch-rows={self.batch_rows} or more")
        if self.limit < 0:
            raise _invalid(f"--limit={self.limit}: wanted 0 (all rows) or more")
        if self.max_row_bytes < 1:
            raise _invalid(f"--max-row-bytes={self.max_row_bytes}: wanted 1 or more")
        for found in (self.format, self.output_format):
            if found not in ("", *FORMATS):
                raise _invalid(f"format {found!r}: wanted one of {', '.join(FORMATS)}")
        if len(self.delimiter) > 1:
            raise _invalid(f"--delimiter={self.delimiter!r}: wanted one character")
        names = [*self.keep, *self.select.values()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise _invalid(f"two columns of the results are named {twice[0]!r}: --select OUTPUT={twice[0]}_2 names one")

    def as_json(self) -> dict[str, Any]:
        """What decides the bytes of the results, for a checkpoint: two equal ones are one job."""
        return {
            "signature": self.signature,
            "version": self.version,
            "columns": {name: list(columns) for name, columns in sorted(self.columns.items())},
            "keep": list(self.keep),
            "select": dict(sorted(self.select.items())),
            "format": self.format,
            "output_format": self.output_format,
            "names": None if self.names is None else list(self.names),
            "delimiter": self.delimiter,
            "compress": self.compress,
            "batch_rows": self.batch_rows,
            "part_rows": self.part_rows,
            "limit": self.limit,
            "max_row_bytes": self.max_row_bytes,
        }


def _invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)
