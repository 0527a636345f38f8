"""The command `zeroserve record`: requests in JSON, and a server's answers to them, become a warm-up file; or what
servers have recorded of live traffic (`--record_to`) does.

The file is the stock one (TFRecord of PredictionLog). As `assets.extra/tf_serving_warmup_requests` of a version it
warms that up, here and on TensorFlow Serving; as `golden/requests.tfrecord` beside the versions it is what the replay
gate asks every new version. It holds what callers sent: keep it where the model's data may be, and take out what is
personal before it is recorded.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from functions.client import DEFAULT_TIMEOUT, Client
from functions.client.values import inputs_from_json
from functions.commands.record_log import predict_record
from functions.whole_file import is_special
from loader.status import Code, ServingError
from loader.storage import DRIVERS
from loader.warmup import MAX_RECORDS

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
MAX_LINE_BYTES = 64 << 20
"""Of one request."""


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The command lines that `zeroserve completion` is told of, by their second word; empty for none."""
    return {"": _parser()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit status; a failure is one line on standard error."""
    asked = _parser().parse_args(arguments)
    try:
        count = _record(asked)
    except KeyboardInterrupt:
        print("zeroserve record: interrupted, nothing is written", file=sys.stderr)
        return EXIT_INTERRUPTED
    except ServingError as error:
        print(f"zeroserve record: {error.message}", file=sys.stderr)
        return EXIT_FAILED
    except OSError as error:
        print(f"zeroserve record: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return EXIT_FAILED
    told: dict[str, Any] = {"records": count, "file": asked.to, "written": not asked.dry_run}
    verb = "would be written" if asked.dry_run else "written"
    print(json.dumps(told) if asked.json else f"{count} records {verb} to {asked.to}")
    return 0


def _record(asked: argparse.Namespace) -> int:
    given = asked.target and asked.model and asked.requests
    if bool(asked.source) == bool(asked.target or asked.requests) or not (asked.source or given):
        raise ServingError(
            Code.INVALID_ARGUMENT, "wanted either TARGET, --model and --requests, or --from with what servers recorded"
        )
    remote = "://" in asked.to
    target = Path(asked.to)
    if not remote and is_special(target):
        raise ServingError(Code.INVALID_ARGUMENT, f"--to={target} is no regular file: wanted the name of one")
    count = 0
    with ExitStack() as stack:
        found = _merged(asked) if asked.source else _asked(asked, stack)
        out = None
        if not asked.dry_run:
            if remote:
                target = Path(stack.enter_context(TemporaryDirectory(prefix="zeroserve-record-"))) / "records"
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.part")
            stack.callback(lambda: partial.unlink(missing_ok=True))
            out = stack.enter_context(partial.open("wb"))
        for record in found:
            if count == asked.limit:
                print(f"zeroserve record: {asked.limit} records are enough (--limit)", file=sys.stderr)
                break
            count += 1
            if out is not None:
                out.write(record)
        if not count:
            raise ServingError(Code.INVALID_ARGUMENT, f"{asked.source or asked.requests} holds no request")
        if out is not None:
            out.close()
            partial.replace(target)
            if remote:
                from functions.commands.record_merge import put  # noqa: PLC0415  only where a file goes to storage

                put(asked.to, target, asked.storage_driver)
    return count


def _merged(asked: argparse.Namespace) -> Iterator[bytes]:
    """The records of what servers have recorded."""
    from functions.commands.record_merge import merged  # noqa: PLC0415  only with --from

    return merged(asked.source, asked.storage_driver, answers=not asked.without_answers)


def _asked(asked: argparse.Namespace, stack: ExitStack) -> Iterator[bytes]:
    """The records of requests that a server is asked."""
    client = stack.enter_context(Client(asked.target, timeout=asked.timeout))
    for number, body in _requests(asked.requests):
        name = asked.signature or str(body.get("signature_name", ""))
        try:
            signature = client.signature(asked.model, signature=name)
            inputs = inputs_from_json(signature, {key: body[key] for key in body if key != "signature_name"})
            answer = client.predict(asked.model, inputs, signature=name)
        except ServingError as error:
            raise ServingError(error.code, f"{asked.requests}, line {number}: {error.message}") from None
        yield predict_record(asked.model, name, inputs, {} if asked.without_answers else answer.outputs)


def _requests(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and body of each line."""
    with ExitStack() as stack:
        lines = sys.stdin.buffer if path == "-" else stack.enter_context(Path(path).open("rb"))
        for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE_BYTES + 1), b""), 1):
            if len(line) > MAX_LINE_BYTES:
                raise ServingError(Code.INVALID_ARGUMENT, f"{path}, line {number}: more than {MAX_LINE_BYTES} bytes")
            if not line.strip():
                continue
            try:
                body = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ServingError(Code.INVALID_ARGUMENT, f"{path}, line {number}: not JSON: {error}") from None
            if not isinstance(body, dict):
                raise ServingError(
                    Code.INVALID_ARGUMENT, f'{path}, line {number}: wanted a body such as {{"instances": [...]}}'
                )
            yield number, body


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zeroserve record",
        description="Asks a server JSON requests, and writes them with its answers as a warm-up file; or makes one of "
        "what servers recorded. TensorFlow Serving's format: it warms versions up and is replayed on new ones "
        "(docs/gates.md).",
    )
    parser.add_argument("target", nargs="?", metavar="TARGET", help="host:port (gRPC), or http://host:port (REST)")
    parser.add_argument("--model", default="", help="the model's name")
    parser.add_argument("--requests", default="", metavar="FILE|-", help="one JSON body of a prediction on each line")
    parser.add_argument(
        "--from",
        dest="source",
        default="",
        metavar="URL",
        help="instead of TARGET: a folder that servers record to (--record_to) or one of it, each request once, the "
        "newest first",
    )
    parser.add_argument(
        "--to",
        required=True,
        metavar="FILE|URL",
        help="golden/requests.tfrecord, or s3://models/m/8/assets.extra/tf_serving_warmup_requests",
    )
    parser.add_argument("--storage-driver", default="auto", choices=DRIVERS, help="see zeroserve serve --help")
    parser.add_argument("--signature", default="", help="default: each body's signature_name, or serving_default")
    parser.add_argument("--limit", type=int, default=MAX_RECORDS, help="records at the most, default %(default)s")
    parser.add_argument("--without-answers", action="store_true", help="for warm-up alone")
    parser.add_argument("--timeout", type=float, default=DEFAULT_TIMEOUT, help="seconds of one request")
    parser.add_argument("--dry-run", action="store_true", help="ask, and write nothing")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser
