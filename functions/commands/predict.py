"""The command `zeroserve predict`: one prediction by any server, from JSON, a picture or a .npy file."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from functions.client import DEFAULT_TIMEOUT, Client
from functions.client.values import inputs_from_image, inputs_from_json, inputs_from_npy, to_json
from loader.status import Code, ServingError

EXIT_FAILED = 1


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The command lines that `zeroserve completion` is told of, by their second word; empty for none."""
    return {"": _parser()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit status; a failure is one line on standard error."""
    asked = _parser().parse_args(arguments)
    try:
        print(json.dumps(_predict(asked), ensure_ascii=False))
    except ServingError as error:
        print(f"zeroserve predict: {error}", file=sys.stderr)
        return EXIT_FAILED
    except OSError as error:
        print(f"zeroserve predict: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def _predict(asked: argparse.Namespace) -> dict[str, object]:
    protocol = "grpc" if asked.grpc else "rest" if asked.rest else "oip" if asked.oip else None
    headers = dict(_header(each) for each in asked.header)
    certificates = Path(asked.ca).read_bytes() if asked.ca else None
    with Client(
        asked.target, protocol=protocol, timeout=asked.timeout, headers=headers, root_certificates=certificates
    ) as client:
        where = {"version": asked.version, "label": asked.label}
        signature = client.signature(asked.model, signature=asked.signature, **where)
        if asked.image:
            inputs = inputs_from_image(signature, Path(asked.image).read_bytes())
        elif asked.npy:
            inputs = inputs_from_npy(signature, Path(asked.npy).read_bytes())
        else:
            text = sys.stdin.buffer.read() if asked.json == "-" else Path(asked.json).read_bytes()
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise ServingError(Code.INVALID_ARGUMENT, f"{asked.json} is not JSON: {error}") from error
            inputs = inputs_from_json(signature, value)
        answer = client.predict(asked.model, inputs, signature=asked.signature, outputs=asked.output, **where)
    return {
        "model": answer.model,
        "version": answer.version,
        "outputs": {name: to_json(array) for name, array in sorted(answer.outputs.items())},
    }


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ServingError(Code.INVALID_ARGUMENT, f"--header {text!r}: wanted 'name: value'")
    return name.strip().lower(), value.strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zeroserve predict", description="One prediction by TensorFlow Serving or zeroserve; prints JSON."
    )
    parser.add_argument("target", help="host:port (gRPC), or http://host:port (REST)")
    parser.add_argument("--model", required=True, help="the model's name")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--version", type=int, help="a version; without it the latest")
    which.add_argument("--label", help="a version's label")
    parser.add_argument("--signature", default="", help="default: serving_default, or the model's only one")
    parser.add_argument("--output", action="append", default=[], help="an output wanted; may be repeated; default: all")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--json", metavar="FILE|-", help="inputs as JSON; - is standard input")
    given.add_argument("--image", metavar="FILE", help="a picture")
    given.add_argument("--npy", metavar="FILE", help="a .npy file, or a .npz file with arrays by input name")
    protocol = parser.add_mutually_exclusive_group()
    protocol.add_argument("--grpc", action="store_true", help="speak TensorFlow Serving's gRPC")
    protocol.add_argument("--rest", action="store_true", help="speak TensorFlow Serving's REST")
    protocol.add_argument("--oip", action="store_true", help="speak the Open Inference Protocol over HTTP")
    parser.add_argument(
        "--timeout", type=float, default=DEFAULT_TIMEOUT, help="seconds with all tries, default %(default)s"
    )
    parser.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'", help="may be repeated")
    parser.add_argument("--ca", metavar="FILE", help="PEM of the authorities to trust")
    return parser


if __name__ == "__main__":
    sys.exit(main())
