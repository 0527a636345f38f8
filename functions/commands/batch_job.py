"""What `zeroserve batch` does with one job: of a command line, or of an event."""

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from functions.batch_jobs import event as events
from functions.batch_jobs.job import Job, Summary
from functions.batch_jobs.limits import MODEL_CONCURRENCY, SERVER_CONCURRENCY
from functions.batch_jobs.predictor import ModelPredictor, Predictor, ServerPredictor, server_address
from functions.batch_jobs.progress import Progress
from functions.batch_jobs.request import BatchRequest
from functions.config import sink_environment
from functions.event_sink import event_sink
from loader.status import Code, ServingError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_FINAL = 3
"""Of `--event`: running the same again cannot help. A Job need not try."""

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

_WAIT = frozenset(
    {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.ABORTED, Code.INTERNAL, Code.UNKNOWN}
)
"""Codes of failures that another try may not meet."""


class _TerminatedError(BaseException):
    """SIGTERM."""


def run(asked: argparse.Namespace) -> int:
    """Does the job and gives the exit status; a failure is one line on standard error."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        return _event(asked) if asked.event else _batch(asked)
    except ServingError as error:
        print(f"zeroserve batch: {_line(error)}", file=sys.stderr)
        return EXIT_USAGE if error.code is Code.INVALID_ARGUMENT else EXIT_FAILED
    except OSError as error:
        print(f"zeroserve batch: {error}", file=sys.stderr)
        return EXIT_FAILED
    except (KeyboardInterrupt, _TerminatedError) as ended:
        print("zeroserve batch: interrupted; the same command goes on from here", file=sys.stderr)
        return EXIT_INTERRUPTED if isinstance(ended, KeyboardInterrupt) else EXIT_TERMINATED
    finally:
        signal.signal(signal.SIGTERM, before)


def _line(error: ServingError) -> str:
    return " ".join(error.message.split())


def _terminate(*_: object) -> NoReturn:
    raise _TerminatedError


def _batch(asked: argparse.Namespace) -> int:
    request = BatchRequest(inputs=tuple(asked.inputs), **_defaults(asked))
    if asked.dry_run:
        request, predictor = _who(asked, request)
        plan = Job(request, predictor, restart=asked.restart).plan()
        print(json.dumps(plan, indent=1))
        return 0
    summary = _run(asked, request, asked.max_errors, restart=asked.restart)
    print(json.dumps(summary.as_json()) if asked.json else _text(summary))
    return 0


def _event(asked: argparse.Namespace) -> int:
    """A job that an event asks for: what became of it goes to the sink, and into the exit status."""
    content = sys.stdin.buffer.read() if asked.event == "-" else Path(asked.event).read_bytes()
    if asked.inputs or len(content) > events.MAX_EVENT_BYTES:
        raise ServingError(
            Code.INVALID_ARGUMENT, f"--event names the inputs: leave out others; {events.MAX_EVENT_BYTES} bytes at most"
        )
    try:
        event = events.read_event(content)
    except ServingError as error:
        print(f"zeroserve batch: {_line(error)}", file=sys.stderr)
        return EXIT_FINAL
    output, status = "", 0
    try:
        request, max_errors, restart = events.request_of(
            event, {**_defaults(asked), "max_errors": asked.max_errors}, asked.allow
        )
        output = request.output
        summary = _run(asked, request, max_errors, restart=restart)
        kind, data, output = events.COMPLETED, summary.as_json(), summary.output
        print(json.dumps(data))
    except (ServingError, OSError) as failure:
        # What the machine lacks (room on its disk, a file that may be read) another try may find.
        known = failure if isinstance(failure, ServingError) else ServingError(Code.UNAVAILABLE, str(failure))
        print(f"zeroserve batch: {_line(known)}", file=sys.stderr)
        status = EXIT_FAILED if known.code in _WAIT else EXIT_FINAL
        kind, data = events.FAILED, {"code": known.code.name, "error": known.message, "final": status == EXIT_FINAL}
    undelivered = _tell(asked, events.told(event, kind, output or event.source, data))
    if undelivered:
        print(f"zeroserve batch: {kind} was not delivered: {undelivered}", file=sys.stderr)
        return status or EXIT_FAILED  # a retry finds the work done, and tells
    return status


def _tell(asked: argparse.Namespace, told: tuple[dict[str, str], bytes]) -> str:
    if not asked.sink and "K_SINK" not in sink_environment():
        return ""
    try:
        return events.tell(event_sink(asked.sink), *told)
    except ValueError as error:
        return str(error)


def _run(asked: argparse.Namespace, request: BatchRequest, max_errors: int, *, restart: bool) -> Summary:
    request, predictor = _who(asked, request)
    concurrency = asked.concurrency or (SERVER_CONCURRENCY if request.url else MODEL_CONCURRENCY)
    job = Job(request, predictor, max_errors=max_errors, concurrency=concurrency, restart=restart)
    progress = Progress(None if asked.quiet else sys.stderr, [one.info.size for one in job.files])
    if job.is_done:
        progress.say(f"zeroserve batch: {job.output} is done already; --restart does it anew")
    summary = job.run(progress)
    if len(summary.versions) > 1:
        progress.say(f"zeroserve batch: versions {summary.versions} have answered; --version=N keeps to one")
    return summary


def _who(asked: argparse.Namespace, request: BatchRequest) -> tuple[BatchRequest, Callable[[int | None], Predictor]]:
    """The request with the model's own names, and what opens the model."""
    if request.model:
        found = request

        def load(version: int | None) -> Predictor:
            wanted = found.version if found.version is not None else version
            return ModelPredictor(found.model, wanted, found.signature, tuple(found.select))

        return found, load
    address = server_address(request.url, request.name, request.version, request.label, grpc=asked.grpc)
    model = address.model
    named = replace(request, url=address.target, name=model.name, version=model.version, label=model.label)
    protocol = "grpc" if asked.grpc else "rest" if asked.rest else "oip" if asked.oip else None
    certificates = Path(asked.ca).read_bytes() if asked.ca else None

    def connect(_: int | None) -> Predictor:
        return ServerPredictor(
            address,
            named.signature,
            tuple(named.select),
            protocol=protocol,
            timeout=asked.timeout,
            headers=dict(_header(each) for each in asked.header),
            root_certificates=certificates,
        )

    return named, connect


def _defaults(asked: argparse.Namespace) -> dict[str, Any]:
    """What the command line says of the job itself."""
    return {
        "output": asked.output,
        "model": asked.model,
        "url": asked.url,
        "name": asked.name,
        "version": asked.version,
        "label": asked.label,
        "signature": asked.signature,
        "columns": _columns(asked.column),
        "keep": tuple(name for text in asked.keep for name in text.split(",")),
        "select": dict(_selected(text) for text in asked.select),
        "format": asked.format,
        "output_format": asked.output_format,
        "names": tuple(asked.columns.split(",")) if asked.columns else None,
        "delimiter": "\t" if asked.delimiter == "\\t" else asked.delimiter,
        "compress": asked.gzip,
        "batch_rows": asked.batch_rows,
        "part_rows": asked.part_rows,
        "limit": asked.limit,
        "max_row_bytes": asked.max_row_bytes,
    }


def _columns(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        alias, equals, names = text.partition("=")
        if not equals or not alias or not names:
            raise ServingError(Code.INVALID_ARGUMENT, f"--column {text!r}: wanted INPUT=COLUMN[,COLUMN...]")
        found[alias] = (*found.get(alias, ()), *names.split(","))
    return found


def _selected(text: str) -> tuple[str, str]:
    alias, _, name = text.partition("=")
    return alias, name or alias


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ServingError(Code.INVALID_ARGUMENT, f"--header {text!r}: wanted 'name: value'")
    return name.strip().lower(), value.strip()


def _text(summary: Summary) -> str:
    done = summary.rows - summary.resumed
    speed = f", {done / summary.seconds:.0f} rows/s" if done and summary.seconds > 0 else ""
    before = f", {summary.resumed} of them before" if summary.resumed else ""
    return (
        f"{summary.output}: {summary.rows} rows{before}, {summary.rows - summary.errors} predicted, "
        f"{summary.errors} bad, {summary.parts} parts, {summary.seconds:.1f} s{speed}"
    )
