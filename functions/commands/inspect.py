"""The command `zeroserve inspect URL`: a SavedModel's signatures, without TensorFlow's runtime."""

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from functions.client.signature_choice import runnable
from loader import dtypes
from loader.format import BUILT_IN, format_of
from loader.format_model import load as load_format
from loader.mixing.mix_file import NAME, is_mix
from loader.saved_model import SAVED_MODEL_PB, SAVED_MODEL_PBTXT, read_signatures
from loader.signature import Signature, TensorSpec
from loader.status import Code, ServingError
from loader.storage import open_storage, read_object

EXIT_FAILED = 1
MAX_SAVED_MODEL_BYTES = 1 << 31
"""A `saved_model.pb` is one message, and no message is longer."""


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The command lines that `zeroserve completion` is told of, by their second word; empty for none."""
    return {"": _parser()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zeroserve inspect",
        description="Shows the signatures of a model. A SavedModel or a mix is read without any runtime.",
    )
    parser.add_argument("url", help="a version's folder, or the folder of its versions (the highest is shown)")
    parser.add_argument("--tags", default="serve", help="comma-separated tags of the graph, default %(default)s")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit status; a failure is one line on standard error."""
    asked = _parser().parse_args(arguments)
    try:
        with _version_folder(asked.url) as (found, folder):
            signatures = runnable(_signatures(folder, asked.tags.split(",")))
    except ServingError as error:
        print(f"zeroserve inspect: {error}", file=sys.stderr)
        return EXIT_FAILED
    if asked.json:
        print(json.dumps({"path": found, "signatures": as_json(signatures)}, indent=1, ensure_ascii=False))
    else:
        print(f"{found}\n{as_table(signatures)}")
    return 0


def _signatures(folder: Path, tags: list[str]) -> Mapping[str, Signature]:
    file = format_of(folder)
    if file:
        model = load_format(folder, file, 1)  # its runtime knows them
        model.session.close()
        return model.signatures
    if not is_mix(folder):
        return read_signatures(folder, tags)
    from loader.mixing.declaration import parse_mix  # noqa: PLC0415  few versions are mixes
    from loader.mixing.mix_signature import mix_signature  # noqa: PLC0415

    signature = mix_signature(parse_mix((folder / NAME).read_bytes()))
    return {signature.name: signature}


@contextlib.contextmanager
def _version_folder(url: str) -> Iterator[tuple[str, Path]]:
    """What is looked at, and a local folder with its model's file; a remote one is fetched alone."""
    url = url.rstrip("/") or "/"
    try:
        versions = open_storage(url).list_versions()
    except FileNotFoundError:
        versions = {}
    if versions:
        listing = versions[max(versions)]
        if listing.archive is not None:
            raise ServingError(Code.UNIMPLEMENTED, f"{listing.url} is an archive: unpack it and inspect the folder")
        url = f"{url}/{listing.name}"
    local = open_storage(url).local
    if local is not None:
        yield str(local), local
        return
    with tempfile.TemporaryDirectory(prefix="zeroserve-inspect-") as folder:
        for name in (SAVED_MODEL_PB, SAVED_MODEL_PBTXT, NAME, *BUILT_IN):
            try:
                content = read_object(f"{url}/{name}", MAX_SAVED_MODEL_BYTES)
            except FileNotFoundError:
                continue
            (Path(folder) / name).write_bytes(content)
            yield url, Path(folder)
            return
        raise ServingError(Code.NOT_FOUND, f"no {SAVED_MODEL_PB} under {url}, and no folder there is named by a number")


def as_json(signatures: Mapping[str, Signature]) -> dict[str, Any]:
    """The signatures as plain values: dtypes by TensorFlow's names, -1 for a size that varies, null for any shape."""
    return {
        name: {
            "method_name": signature.method_name,
            "inputs": [_tensor(spec) for _, spec in sorted(signature.inputs.items())],
            "outputs": [_tensor(spec) for _, spec in sorted(signature.outputs.items())],
            "optional_inputs": sorted(signature.defaults),
        }
        for name, signature in sorted(signatures.items())
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    shape = None if spec.shape is None else list(spec.shape)
    return {"name": spec.alias, "dtype": dtypes.of_number(spec.dtype).name, "shape": shape, "tensor": spec.name}


def as_table(signatures: Mapping[str, Signature]) -> str:
    """The signatures for people, one tensor a line."""
    lines = [("", "tensor", "dtype", "shape", "in the graph")]
    for name, signature in sorted(signatures.items()):
        lines.append((f"{name}  ({signature.method_name or 'no method name'})", "", "", "", ""))
        for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
            for alias, spec in sorted(specs.items()):
                optional = "?" if kind == "input" and alias in signature.defaults else ""
                lines.append((f"  {kind}{optional}", alias, dtypes.of_number(spec.dtype).name, _shape(spec), spec.name))
    # A signature's own line may be as long as it likes; only the tensors' lines form columns.
    widths = [max(len(line[column]) for line in lines if line[1]) for column in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _shape(spec: TensorSpec) -> str:
    if spec.shape is None:
        return "any"
    return "[" + ", ".join("?" if size < 0 else str(size) for size in spec.shape) + "]"


if __name__ == "__main__":
    sys.exit(main())
