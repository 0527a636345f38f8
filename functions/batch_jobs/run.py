"""One run of a job: reads, asks and writes until nothing is left.

Rows stay in their order: batches are read one after the other, several are with the model at the same time, and their
results are taken in the order of reading. Memory holds `window` batches, whatever the files have.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from functions.batch_jobs.answers import Answered, Asking, fixed_rows
from functions.batch_jobs.checkpoint import Checkpoint, part_name
from functions.batch_jobs.columns import Fed, Feeding
from functions.batch_jobs.formats import open_reader, output_format
from functions.batch_jobs.input_file import InputFile
from functions.batch_jobs.part_file import PartFile
from functions.batch_jobs.predictor import Predictor
from functions.batch_jobs.progress import Progress
from functions.batch_jobs.request import BatchRequest
from functions.batch_jobs.results import Schema
from functions.batch_jobs.rows import Fault, Options, Position, Reader, Rows
from functions.batch_jobs.workers import Outcome, Workers
from loader.signature import Signature
from loader.status import Code, ServingError

SHOWN_FAULTS = 5
"""Bad rows that are named on standard error; all are in the files of errors."""


class TooManyError(ServingError):
    """More rows are bad than may be."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch on its way."""

    file: int
    part: int
    share: float
    answered: Outcome[Answered]


@dataclass(frozen=True, slots=True)
class _End:
    """The end of a part."""

    file: int
    part: int
    end: Position
    last: bool


class Run:
    """One run of a job. One thread at a time.

    Args:
        request: what is to be done.
        files: of which format.
        format_name: of the files.
        checkpoint: what is done already; is told of what is done.
        predictor: who answers.
        workers: ask it.
        progress: is told how far it is.
        folder: on this machine, for parts on their way.
        max_errors: bad rows that the job may have.
        window: batches that are read ahead of the one that is written.
    """

    def __init__(
        self,
        *,
        request: BatchRequest,
        files: Sequence[InputFile],
        format_name: str,
        checkpoint: Checkpoint,
        predictor: Predictor,
        workers: Workers,
        progress: Progress,
        folder: Path,
        max_errors: int,
        window: int,
    ) -> None:
        self._request, self._files, self._input_format = request, files, format_name
        self._checkpoint = checkpoint
        self._max_errors, self._window = max_errors, window
        self._signature = predictor.signature
        self._predictor = predictor
        self._workers = workers
        self._progress = progress
        self._folder = folder
        self._batch_rows = fixed_rows(predictor.signature) or self._request.batch_rows
        self._part_rows = max(1, self._request.part_rows // self._batch_rows) * self._batch_rows
        self._errors = sum(state.errors for state in self._checkpoint.parts.values())
        self._left = self._request.limit or None
        self._schema: Schema | None = None
        self._format = ""
        self._part: PartFile | None = None

    def run(self) -> None:
        """Reads, asks and writes, each as far ahead of the next as the window lets it."""
        waiting: deque[_Batch | _End] = deque()
        batches = 0
        try:
            for item in self._items():
                waiting.append(item)
                batches += isinstance(item, _Batch)
                while batches >= self._window:
                    batches -= isinstance(waiting[0], _Batch)
                    self._take(waiting.popleft())
            while waiting:
                self._take(waiting.popleft())
        finally:
            if self._part is not None:
                self._part.close()
            self._progress.end()

    def _items(self) -> Iterator[_Batch | _End]:
        for index, file in enumerate(self._files):
            part, start, ended = self._done(index)
            if ended or self._left == 0:
                continue
            reader = open_reader(file, self._input_format, read_options(self._request))
            try:
                self._settle(reader)
                self._progress.skip(index, reader.share(start))
                yield from self._file_items(index, reader, part, start)
            finally:
                reader.close()

    def _done(self, index: int) -> tuple[int, Position, bool]:
        """The first part of a file that is not done, where it begins, and whether there is none."""
        part, start = 0, Position()
        while (state := self._checkpoint.parts.get(part_name(index, len(self._files), part))) is not None:
            self._spend(state.rows)
            if state.last:
                return part, state.end, True
            part, start = part + 1, state.end
        return part, start, False

    def _settle(self, reader: Reader) -> None:
        """The columns of the results, by the first file that is read; they hold for all."""
        if self._schema is None:
            self._schema = results_schema(self._request, self._signature, reader.types)
            self._format = self._request.output_format or output_format(
                self._input_format, self._signature, self._schema
            )

    def _file_items(self, index: int, reader: Reader, part: int, start: Position) -> Iterator[_Batch | _End]:
        assert self._schema is not None  # noqa: S101  settled before
        feeding = feeding_of(self._request, self._signature, reader, self._input_format)
        asking = Asking(self._predictor, self._schema, self._max_errors)
        end, rows = start, 0
        for batch in self._batches(reader, start, feeding.wanted):
            if rows == self._part_rows:
                yield _End(index, part, end, last=False)
                part, rows = part + 1, 0
            fed = feeding.feed(batch)
            yield _Batch(index, part, reader.share(batch.end), self._workers.call(_call(asking, fed)))
            end, rows = batch.end, rows + batch.count
        yield _End(index, part, end, last=True)

    def _batches(self, reader: Reader, start: Position, wanted: Sequence[str]) -> Iterator[Rows]:
        """The rows that the job wants of a file."""
        whole = None if self._left is None else self._left // self._batch_rows
        if whole != 0:
            for number, batch in enumerate(reader.rows(start, self._batch_rows, wanted), 1):
                self._spend(batch.count)
                start = batch.end
                yield batch
                if number == whole:
                    break
            else:
                return
        if self._left:
            for batch in reader.rows(start, self._left, wanted):
                self._spend(batch.count)
                yield batch
                return

    def _spend(self, rows: int) -> None:
        if self._left is not None:
            self._left -= rows

    def _take(self, item: _Batch | _End) -> None:
        file = self._files[item.file]
        name = part_name(item.file, len(self._files), item.part)
        if self._part is None:
            assert self._schema is not None  # noqa: S101  settled before
            self._part = PartFile(
                name, self._folder, self._format, self._schema, file.url, compress=self._request.compress
            )
        if isinstance(item, _End):
            file.check()
            self._part.finish(self._checkpoint, item.end, last=item.last)
            self._part = None
            return
        answered = item.answered.result()
        self._count(file, answered.faults)
        self._part.add(answered)
        self._progress.add(item.file, item.share, answered.count, len(answered.faults))

    def _count(self, file: InputFile, faults: Sequence[Fault]) -> None:
        allowed = self._max_errors
        for fault in faults:
            self._errors += 1
            place = f"{file.url}, line {fault.line}: {fault.reason}"
            if self._errors > allowed:
                raise TooManyError(
                    Code.FAILED_PRECONDITION,
                    f"{place}; {self._errors} bad {'row' if self._errors == 1 else 'rows'}, at most {allowed} may be "
                    "(--max-errors=N passes over N, and lists them beside the results)",
                )
            if self._errors <= SHOWN_FAULTS:
                self._progress.say(f"zeroserve batch: {place}")


def read_options(request: BatchRequest) -> Options:
    """How files are to be read."""
    return Options(request.names, request.delimiter, request.max_row_bytes)


def feeding_of(request: BatchRequest, signature: Signature, reader: Reader, format_name: str) -> Feeding:
    """Which columns of a file feed which inputs. Raises ServingError INVALID_ARGUMENT."""
    return Feeding(
        signature,
        request.columns,
        request.keep,
        reader.columns,
        is_text=reader.is_text,
        records=format_name == "tfrecord",
    )


def results_schema(request: BatchRequest, signature: Signature, types: Mapping[str, Any]) -> Schema:
    """The columns of the results. Raises ServingError INVALID_ARGUMENT."""
    select = dict(request.select) or {alias: alias for alias in sorted(signature.outputs)}
    unknown = sorted(set(select) - set(signature.outputs))
    if unknown:
        raise _invalid(f"--select: no output is named {unknown[0]!r}: found {sorted(signature.outputs)}")
    twice = sorted(set(request.keep) & set(select.values()))
    if twice:
        raise _invalid(f"a kept column and an output are named {twice[0]!r}: --select {twice[0]}=ANOTHER_NAME")
    return Schema(request.keep, select, types)


def _call(asking: Asking, fed: Fed) -> Callable[[], Answered]:
    return lambda: asking.answer(fed)


def _invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)
