"""The command `zeroserve export URL --tflite OUT`: a file for phones that answers as the SavedModel does.

Both models run the same random inputs, in several batch sizes; the file is written only where their answers agree.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from functions.client.signature_choice import runnable
from functions.whole_file import write_whole
from loader import dtypes, saved_model, tflite_session
from loader.cpu import cpu_count
from loader.dtypes import Array
from loader.session import Session, SessionOptions
from loader.signature import Signature
from loader.status import Code, ServingError
from loader.storage import open_storage

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
CONVERT_SECONDS = 1800
ROWS = (1, 3)
"""Batch sizes that are compared, where the model takes any."""

OPEN_SIZE = 8
"""What stands for any other dimension whose size is open."""

TOLERANCE = {"none": 1e-4, "float16": 1e-2, "dynamic": 0.1}
"""The largest difference of an output to the original, as a share of that output's largest value."""


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The command lines that `zeroserve completion` is told of, by their second word; empty for none."""
    return {"": _parser()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zeroserve export", description="Turns a SavedModel into a file for phones that answers alike."
    )
    parser.add_argument("url", help="a version's folder, or the folder of its versions (the highest is taken)")
    parser.add_argument("--tflite", required=True, metavar="OUT", type=Path, help="the file to write")
    parser.add_argument(
        "--quantize", choices=list(TOLERANCE), default="none", help="smaller and less exact weights (%(default)s)"
    )
    parser.add_argument("--tolerance", type=float, help="largest difference, as a share of the output's largest value")
    parser.add_argument("--dry-run", action="store_true", help="convert and compare, and write nothing")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit status; a failure is one line on standard error."""
    asked = _parser().parse_args(arguments)
    tolerance = TOLERANCE[asked.quantize] if asked.tolerance is None else asked.tolerance
    try:
        with tempfile.TemporaryDirectory(prefix="zeroserve-export-") as scratch:
            found = _export(asked.url, Path(scratch), asked.quantize, tolerance)
            if not asked.dry_run:
                write_whole(asked.tflite, (Path(scratch) / "model.tflite").read_bytes())
    except (ServingError, OSError) as error:
        print(f"zeroserve export: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    found |= {"file": None if asked.dry_run else str(asked.tflite)}
    if asked.json:
        print(json.dumps(found, indent=1))
    else:
        where = "not written (--dry-run)" if asked.dry_run else found["file"]
        print(f"{found['source']} -> {where}: {found['bytes']} bytes")
        for name, difference in found["differences"].items():
            print(f"  {name}: differs by {difference:.2g} of its largest value at most")
    return 0


def _export(url: str, scratch: Path, quantize: str, tolerance: float) -> dict[str, Any]:
    source, folder = _fetched(url, scratch)
    original = saved_model.load(folder, SessionOptions())
    try:
        signatures = runnable(original.signatures)
        print(f"converting {source} with TensorFlow, signatures {', '.join(signatures)}", file=sys.stderr)
        file = scratch / "model.tflite"
        _convert(folder, file, quantize, list(signatures))
        small_signatures, small = tflite_session.load(file, cpu_count())
        try:
            differences = {
                name: _difference(signature, original.session, small_signatures[name], small)
                for name, signature in signatures.items()
            }
        finally:
            small.close()
    finally:
        original.session.close()
    worst = max(differences, key=lambda name: differences[name])
    if not differences[worst] <= tolerance:
        raise ServingError(
            Code.FAILED_PRECONDITION,
            f"{worst} answers differently: by {differences[worst]:.2g} of its largest value, {tolerance:g} is allowed"
            " (--tolerance); nothing was written",
        )
    return {"source": source, "bytes": file.stat().st_size, "differences": differences, "tolerance": tolerance}


def _fetched(url: str, scratch: Path) -> tuple[str, Path]:
    """The version that is meant, and a local folder with its files."""
    url = url.rstrip("/") or "/"
    try:
        versions = open_storage(url).list_versions()
    except FileNotFoundError:
        versions = {}
    if versions:
        url = f"{url}/{versions[max(versions)].name}"
    storage = open_storage(url)
    if storage.local is not None:
        return url, storage.local
    base, _, name = url.rpartition("/")
    storage = open_storage(base)
    listing = next((one for one in storage.list_versions().values() if one.name == name), None)
    if listing is None or listing.archive is not None:
        raise ServingError(Code.NOT_FOUND, f"no folder of a version at {url}")
    for info in listing.files:
        target = scratch / "model" / info.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(storage.read(f"{name}/{info.path}", 0, info.size, info.etag))
    return url, scratch / "model"


def _convert(folder: Path, file: Path, quantize: str, signatures: list[str]) -> None:
    command = [
        sys.executable,
        "-m",
        "functions.commands.export_converter",
        str(folder),
        str(file),
        quantize,
        *signatures,
    ]
    # Its logs are long and worry people; where it fails, the last line says why.
    done = subprocess.run(command, capture_output=True, timeout=CONVERT_SECONDS, check=False)  # noqa: S603  our own words
    if done.returncode:
        lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        if any("No module named 'tensorflow" in line for line in lines):
            raise ServingError(
                Code.FAILED_PRECONDITION, "the converter needs the whole of TensorFlow: pip install tensorflow"
            )
        why = next((line for line in reversed(lines) if "Error" in line), lines[-1] if lines else "no reason given")
        raise ServingError(Code.FAILED_PRECONDITION, f"TensorFlow does not convert it: {why}")


def _difference(signature: Signature, original: Session, small_signature: Signature, small: Session) -> float:
    """The largest difference of any output, as a share of that output's largest value."""
    worst = 0.0
    for seed, rows in enumerate(ROWS if _takes_any_rows(signature) else ROWS[:1]):
        inputs = _inputs(signature, rows, np.random.default_rng(seed))
        wanted = _run(signature, original, inputs)
        found = _run(small_signature, small, inputs)
        for alias, array in wanted.items():
            a, b = array.astype(np.float64), found[alias].astype(np.float64)
            if a.shape != b.shape:
                return float("inf")
            scale = max(float(np.abs(a).max(initial=0.0)), 1e-12)
            worst = max(worst, float(np.abs(a - b).max(initial=0.0)) / scale)
    return worst


def _run(signature: Signature, session: Session, inputs: Mapping[str, Array]) -> dict[str, Array]:
    feeds = {signature.inputs[alias].name: array for alias, array in inputs.items()}
    arrays = session.run(feeds, [spec.name for spec in signature.outputs.values()])
    return dict(zip(signature.outputs, arrays, strict=True))


def _takes_any_rows(signature: Signature) -> bool:
    return all(spec.shape and spec.shape[0] == -1 for spec in signature.inputs.values())


def _inputs(signature: Signature, rows: int, random: np.random.Generator) -> dict[str, Array]:
    inputs: dict[str, Array] = {}
    for alias, spec in signature.inputs.items():
        sizes = [OPEN_SIZE if size == -1 else size for size in spec.shape or ()]
        if spec.shape and spec.shape[0] == -1:
            sizes[0] = rows
        dtype = dtypes.of_number(spec.dtype)
        if dtype is dtypes.STRING:
            raise ServingError(Code.UNIMPLEMENTED, f"input {alias} takes strings, which LiteRT does not parse")
        high = 2 if dtype is dtypes.BOOL else 10
        kind = dtype.numpy
        floating = dtype.name in {"float", "double", "half", "bfloat16"}
        inputs[alias] = (random.random(sizes) if floating else random.integers(0, high, sizes)).astype(kind)
    return inputs


if __name__ == "__main__":
    sys.exit(main())
