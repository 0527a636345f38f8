"""The command `zeroserve batch`: files in storage run through a model, and the results lie beside them."""

import argparse
from collections.abc import Sequence

from functions.batch_jobs.limits import (
    BATCH_ROWS,
    MAX_ROW_BYTES,
    MODEL_CONCURRENCY,
    PART_ROWS,
    SERVER_CONCURRENCY,
    TIMEOUT,
)


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The command lines that `zeroserve completion` is told of, by their second word; empty for none."""
    from functions.commands.batch_install import install_parser, uninstall_parser  # noqa: PLC0415  as below

    return {
        "": batch_parser(),
        "install": install_parser(),
        "render": install_parser("render"),
        "uninstall": uninstall_parser(),
    }


def main(words: Sequence[str]) -> int:
    """Runs the command and gives its exit status; a failure is one line on standard error."""
    if words and words[0] in {"install", "render", "uninstall"}:
        from functions.commands.batch_install import main as install  # noqa: PLC0415  a job does not need a cluster

        return install(words)
    asked = batch_parser().parse_args(words)
    from functions.commands.batch_job import run  # noqa: PLC0415  where no job runs numpy need not be installed

    return run(asked)


def batch_parser() -> argparse.ArgumentParser:
    """Of `zeroserve batch`."""
    parser = argparse.ArgumentParser(
        prog="zeroserve batch",
        description="Runs files in storage (CSV, JSONL, TFRecord, Parquet, NPY) through a model, and writes the "
        "results beside them. A job that was interrupted goes on when the same command is given again.",
        epilog="zeroserve batch install|render|uninstall: the same on Knative, asked for by CloudEvents",
    )
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="a file, a folder, or a pattern: s3://b/in/*.csv")
    parser.add_argument("--model", default="", metavar="URL", help="a model in storage, loaded in this process")
    parser.add_argument("--url", default="", metavar="TARGET", help="a server: host:port, http://host/v1/models/NAME")
    parser.add_argument("--name", default="", help="the model's name on the server")
    parser.add_argument("--version", type=int, help="a version; default: the newest")
    parser.add_argument("--label", help="a version's label on the server")
    parser.add_argument("--output", default="", metavar="URL", help="folder of the results; default: INPUT.predictions")
    parser.add_argument("--signature", default="", help="default: serving_default, or the model's only one")
    parser.add_argument(
        "--column", action="append", default=[], metavar="INPUT=COLUMN,...", help="columns that feed an input"
    )
    parser.add_argument("--keep", action="append", default=[], metavar="COLUMN,...", help="write beside the results")
    parser.add_argument("--select", action="append", default=[], metavar="OUTPUT[=NAME]", help="default: all outputs")
    parser.add_argument("--format", default="", help="of the inputs: csv, jsonl, tfrecord, parquet, npy")
    parser.add_argument("--output-format", default="", metavar="FORMAT", help="default: as the inputs")
    parser.add_argument("--columns", default="", metavar="NAME,...", help="of CSV files without a line of names")
    parser.add_argument("--delimiter", default="", help="of CSV files; default: a comma, in .tsv files a tab")
    parser.add_argument("--gzip", action="store_true", help="compress the results (csv, jsonl, tfrecord)")
    parser.add_argument("--batch-rows", type=int, default=BATCH_ROWS, metavar="N", help="rows at once (%(default)s)")
    parser.add_argument("--part-rows", type=int, default=PART_ROWS, metavar="N", help="rows of a part (%(default)s)")
    parser.add_argument("--concurrency", type=int, default=0, metavar="N", help="batches at the same time; default: "
                        f"{SERVER_CONCURRENCY} for a server, {MODEL_CONCURRENCY} here")  # fmt: skip
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="only the first N rows")
    parser.add_argument("--max-errors", type=int, default=0, metavar="N", help="bad rows to pass over (%(default)s)")
    parser.add_argument(
        "--max-row-bytes", type=int, default=MAX_ROW_BYTES, metavar="N", help="a longer row is bad (%(default)s)"
    )
    parser.add_argument("--restart", action="store_true", help="do anew what is done; without it a job goes on")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, write nothing")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    protocol = parser.add_mutually_exclusive_group()
    protocol.add_argument("--grpc", action="store_true", help="speak TensorFlow Serving's gRPC; host:port means it")
    protocol.add_argument("--rest", action="store_true", help="speak TensorFlow Serving's REST; http:// means it")
    protocol.add_argument("--oip", action="store_true", help="speak the Open Inference Protocol over HTTP")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds of a batch, all tries (%(default)s)")
    parser.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'", help="may be repeated")
    parser.add_argument("--ca", metavar="FILE", help="PEM of the authorities to trust")
    parser.add_argument("--event", default="", metavar="FILE|-", help="a CloudEvent that asks for the job")
    parser.add_argument("--allow", action="append", default=[], metavar="PREFIX", help="URLs that an event may name")
    parser.add_argument("--sink", default="", metavar="URL", help="is told what became of it; default: $K_SINK")
    return parser
