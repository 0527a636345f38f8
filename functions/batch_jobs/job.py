"""A job: its files, its model and its results put together, and run to its end.

reader -> columns -> workers (the model) -> writer -> part -> checkpoint
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from functions.batch_jobs.checkpoint import Checkpoint
from functions.batch_jobs.formats import format_of, open_reader, output_format
from functions.batch_jobs.inputs import absolute, check_output, checked_url, find_inputs, output_beside
from functions.batch_jobs.limits import MAX_CONCURRENCY
from functions.batch_jobs.predictor import Predictor
from functions.batch_jobs.progress import Progress
from functions.batch_jobs.request import BatchRequest
from functions.batch_jobs.run import Run, feeding_of, read_options, results_schema
from functions.batch_jobs.workers import Workers
from loader.status import Code, ServingError
from loader.store import shown_host

WINDOW = 2
"""Batches for each worker that are read ahead: one is with the model, one waits."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of a job.

    Attributes:
        output: the folder of results.
        rows: of all inputs.
        errors: bad ones of them; the others have results.
        parts: files with results.
        resumed: rows that earlier runs had done.
        versions: of the model that answered.
        seconds: of this run.
    """

    output: str
    rows: int
    errors: int
    parts: int
    resumed: int
    versions: tuple[int, ...]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """For `--json` and events."""
        return {
            "output": self.output,
            "rows": self.rows,
            "predicted": self.rows - self.errors,
            "errors": self.errors,
            "parts": self.parts,
            "resumed_rows": self.resumed,
            "versions": list(self.versions),
            "seconds": round(self.seconds, 3),
        }


class Job:
    """One job. One thread at a time.

    Args:
        request: what is to be done.
        predictor: opens the model; is given the version that the job began with, None for a new job.
        max_errors: bad rows that it may have; more end it.
        concurrency: batches that are with the model at the same time.
        restart: what is done already is done anew.

    Raises:
        ServingError: INVALID_ARGUMENT, NOT_FOUND or FAILED_PRECONDITION: the job makes no sense, or its output is
            another's; what storage and the model raise.
    """

    def __init__(
        self,
        request: BatchRequest,
        predictor: Callable[[int | None], Predictor],
        *,
        max_errors: int = 0,
        concurrency: int = 1,
        restart: bool = False,
    ) -> None:
        if not 1 <= concurrency <= MAX_CONCURRENCY or max_errors < 0:
            raise _invalid(f"--concurrency={concurrency}: wanted 1 to {MAX_CONCURRENCY}; --max-errors: 0 or more")
        self._request = request
        self._open_predictor = predictor
        self._max_errors, self._concurrency = max_errors, concurrency
        self.files = find_inputs(request.inputs)
        self.format = self._format()
        self.output = absolute(checked_url(request.output or output_beside(request.inputs))).rstrip("/")
        check_output(self.output, request.inputs, self.files)
        self._checkpoint = Checkpoint(self.output, self._identity(), request.event)
        self._checkpoint.read(restart=restart)

    def _format(self) -> str:
        found = {format_of(file, self._request.format): file.url for file in self.files}
        if len(found) > 1:
            raise _invalid(f"inputs of several formats: {found}; give each format a job of its own")
        return next(iter(found))

    def _identity(self) -> dict[str, Any]:
        inputs = [{"url": one.url, "bytes": one.info.size, "identity": one.identity} for one in self.files]
        request = self._request
        model = shown_host(absolute(request.model)) if request.model else request.name
        return {"inputs": inputs, "model": model, "label": request.label, **request.as_json()}

    @property
    def is_done(self) -> bool:
        """Whether an earlier run has done it all."""
        return self._checkpoint.success is not None

    def plan(self) -> dict[str, Any]:
        """What a run would do, without doing it: for `--dry-run`."""
        if self.is_done:
            return {"output": self.output, "done": True}
        predictor = self._open_predictor(self._checkpoint.version)
        try:
            reader = open_reader(self.files[0], self.format, read_options(self._request))
            try:
                schema = results_schema(self._request, predictor.signature, reader.types)
                feeding = feeding_of(self._request, predictor.signature, reader, self.format)
            finally:
                reader.close()
            return {
                "inputs": [{"url": one.url, "bytes": one.info.size} for one in self.files],
                "format": self.format,
                "output": self.output,
                "output_format": self._request.output_format or output_format(self.format, predictor.signature, schema),
                "signature": predictor.signature.name,
                "version": predictor.version,
                "feeds": {
                    alias: [name or "the row itself" for name in names] for alias, names in feeding.sources.items()
                },
                "columns": list(schema.names),
                "parts_done": len(self._checkpoint.parts),
                "done": False,
            }
        finally:
            predictor.close()

    def run(self, progress: Progress) -> Summary:
        """Does what is not done yet.

        Raises:
            ServingError: what ended it; the same job goes on from there.
            TooManyError: more than `max_errors` rows are bad.
        """
        done = sum(state.rows for state in self._checkpoint.parts.values())
        if self._checkpoint.success is not None:
            self._checkpoint.clean()
            return self._summary(progress, int(self._checkpoint.success["rows"]))
        predictor = self._open_predictor(self._checkpoint.version)
        workers = Workers(self._concurrency)
        try:
            self._checkpoint.begin(predictor.version)
            with tempfile.TemporaryDirectory(prefix="zeroserve-batch-") as folder:
                Run(
                    request=self._request,
                    files=self.files,
                    format_name=self.format,
                    checkpoint=self._checkpoint,
                    predictor=predictor,
                    workers=workers,
                    progress=progress,
                    folder=Path(folder),
                    max_errors=self._max_errors,
                    window=WINDOW * self._concurrency,
                ).run()
        finally:
            if workers.close():
                predictor.close()
        self._finish()
        return self._summary(progress, done)

    def _finish(self) -> None:
        states = {name: self._checkpoint.parts[name] for name in sorted(self._checkpoint.parts)}
        self._checkpoint.finish(
            {
                "rows": sum(state.rows for state in states.values()),
                "errors": sum(state.errors for state in states.values()),
                "versions": sorted({version for state in states.values() for version in state.versions}),
                "parts": [
                    {"file": one.file, "rows": one.rows - one.errors, "bytes": one.bytes, "sha256": one.sha256}
                    for one in states.values()
                    if one.file
                ],
                "errors_files": [one.errors_file for one in states.values() if one.errors_file],
            }
        )

    def _summary(self, progress: Progress, resumed: int) -> Summary:
        found = self._checkpoint.success or {}
        return Summary(
            self.output,
            int(found["rows"]),
            int(found["errors"]),
            len(found["parts"]),
            resumed,
            tuple(found["versions"]),
            progress.seconds,
        )


def _invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)
