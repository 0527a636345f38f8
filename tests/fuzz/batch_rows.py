"""Targets: files of batch jobs, read to their end and cast to a signature's inputs."""

import io
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from functions.batch_jobs.columns import Feeding
from functions.batch_jobs.event import read_event, request_of
from functions.batch_jobs.formats import format_of, open_reader
from functions.batch_jobs.inputs import find_inputs
from functions.batch_jobs.rows import Options, Position
from loader.dtypes import FLOAT, INT8, STRING
from loader.signature import Signature, TensorSpec
from tests.functions.batch_files import write
from tests.fuzz.target import DefectError, Target

FOLDER = Path(tempfile.mkdtemp(prefix="zeroserve-fuzz-"))
OPTIONS = Options(max_row_bytes=4096)
SIGNATURE = Signature(
    "serving_default",
    "",
    {
        "x": TensorSpec("x", "x:0", FLOAT.number, (-1, 2)),
        "n": TensorSpec("n", "n:0", INT8.number, (-1,)),
        "s": TensorSpec("s", "s:0", STRING.number, (-1,)),
    },
    {},
)
ONE = Signature("one", "", {"x": TensorSpec("x", "x:0", FLOAT.number, (-1,))}, {})


def read(name: str, data: bytes) -> None:
    """Reads a file with two signatures; every row is good or bad, and none is lost."""
    path = FOLDER / name
    path.write_bytes(data)
    (file,) = find_inputs([str(path)])
    kind = format_of(file)
    for signature in (SIGNATURE, ONE):
        reader = open_reader(file, kind, OPTIONS)
        try:
            feeding = Feeding(signature, {}, (), reader.columns, is_text=reader.is_text, records=kind == "tfrecord")
            row = 0
            for rows in reader.rows(Position(), 3, feeding.wanted):
                fed = feeding.feed(rows)
                good = sorted(int(place) for group in fed.groups for place in group.places)
                row += rows.count
                if (
                    len(good) + len(fed.faults) != fed.count
                    or good != [*range(len(fed.numbers))]
                    or rows.end.row != row
                ):
                    raise DefectError(f"{rows.count} rows, {len(good)} good, {len(fed.faults)} bad, end {rows.end}")
        finally:
            reader.close()


def corpus(name: str) -> list[bytes]:
    """A good file."""
    columns = {"x": np.ones((4, 2), np.float32), "n": np.arange(4), "s": ["a", "b", "c", "ü"]}
    if name.endswith(("npy", "npz")):
        out = io.BytesIO()
        np.savez(out, x=columns["x"], n=columns["n"], s=np.array([b"a"] * 4)) if name.endswith("npz") else np.save(
            out, np.ones(4, np.float32)
        )
        return [out.getvalue()]
    return [write(FOLDER / f"good-{name}", columns).read_bytes()]


def event(data: bytes) -> None:
    """An event that asks for a job."""
    request, errors, restart = request_of(read_event(data), {"model": "/m", "max_errors": 0}, ["s3://data/"])
    places = [*request.inputs, request.output]
    if not all(place.startswith("s3://data/") for place in places) or not isinstance(errors, int) or restart is None:
        raise DefectError(f"an event may not name {places}")


EVENT = (
    b'{"specversion":"1.0","id":"1","source":"/s","type":"com.zeroserve.batch.requested.v1","data":{"inputs":'
    b'["s3://data/in/*.csv"],"output":"s3://data/out","keep":["id"],"columns":{"x":["a","b"]},"select":{"y":"z"},'
    b'"batch_rows":8,"max_errors":1,"restart":false,"version":3}}'
)
_WORDS = (b'"', b'{"x": ', b"[[", b"NaN", b"1e999", b"\\ud800", b"\n", b"\xff", b",", b"-129", b"null", b'{"b64": "')


def _target(name: str) -> Target:
    run: Callable[[bytes], None] = partial(read, name)
    return Target(f"batch_{name.replace('.', '_')}", run, partial(corpus, name), words=_WORDS)


TARGETS = (
    *map(_target, ("x.csv", "x.jsonl", "x.jsonl.gz", "x.tfrecord", "x.npy", "x.npz", "x.parquet")),
    Target("batch_event", event, lambda: [EVENT], words=(b"../", b"s3://data/", b"file:///", b"?", b"*", b'"inputs":')),
)
"""Every target."""
