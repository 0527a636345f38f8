"""What does it cost that a request is forwarded to the revision it names?

    uv run python -m perf.forward [--count 400]

Two revisions of mlp (784-512-512-10) in processes of their own, and one process without routing. One client on kept
connections asks, a pair in turns and one request at a time: the version itself (`direct`) and the other revision for
that version (`forwarded`); a revision for its own (`routed`) and a process without routing (`plain`); a revision that
looks for a user's key without finding one, and with one at the end of the body. Answers are compared before anything
is timed. Figures are medians in microseconds; all samples are kept under perf/out/.
"""

import argparse
import contextlib
import http.client
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np

import loader.protos as _protos

assert _protos
from tensorflow_serving.apis import predict_pb2  # noqa: E402

from loader.tensor_proto import from_array  # noqa: E402
from tests.functions.command import Command  # noqa: E402
from tests.functions.served import GOLDEN_MODELS, ROOT  # noqa: E402

METHOD = "/tensorflow.serving.PredictionService/Predict"
WARM = 50
Ask = Callable[[], bytes]


def rest(port: int, path: str, body: bytes, stack: contextlib.ExitStack) -> Ask:
    """One REST request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    stack.callback(connection.close)

    def ask() -> bytes:
        connection.request("POST", path, body)
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        return content

    return ask


def call(port: int, message: bytes, stack: contextlib.ExitStack) -> Ask:
    """One gRPC call on a channel of its own."""
    channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}"))
    method = channel.unary_unary(METHOD)
    return lambda: bytes(method(message, timeout=30))


def message(rows: int, version: int | None) -> bytes:
    """A Predict request."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    if version:
        request.model_spec.version.value = version
    request.inputs["x"].CopyFrom(from_array(np.zeros((rows, 784), np.float32)))
    return bytes(request.SerializeToString())


def measure(asks: dict[str, Ask], count: int) -> dict[str, list[float]]:
    """Microseconds of each way, asked in turns."""
    samples: dict[str, list[float]] = {name: [] for name in asks}
    for number in range(WARM + count):
        for name, ask in asks.items():
            started = time.perf_counter()
            ask()
            if number >= WARM:
                samples[name].append((time.perf_counter() - started) * 1e6)
    return samples


def main() -> None:
    """Starts the servers, compares their answers, measures, prints a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=400)
    count = parser.parse_args().count
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "m").mkdir()
        for version in (1, 2):
            (folder / "m" / str(version)).symlink_to(GOLDEN_MODELS / "mlp" / "1")
        (folder / "routes.json").write_text('{"sticky": {"json": "user"}, "arms": [{"tag": "v1", "percent": 100}]}')

        def start(name: str, *flags: str) -> int:
            (folder / name).mkdir()
            model = ("--model_name=m", f"--model_base_path={folder / 'm'}", *flags)
            command = stack.enter_context(Command(folder / name, *model))
            command.until_ready()
            return command.port

        peer = "--peer_url=http://{tag}-m.test"
        second = start("second", "--model_version=2", peer)
        gateway = f"--peer_gateway=127.0.0.1:{second}"
        first = start("first", "--model_version=1", peer, gateway)
        users = start("users", "--model_version=1", peer, gateway, f"--routes_file={folder / 'routes.json'}")
        plain = start("plain", "--model_version=1")
        found: dict[str, dict[str, list[float]]] = {}
        for rows in (1, 16):
            instances = np.random.default_rng(1).random((rows, 784)).round(6).tolist()
            body = json.dumps({"instances": instances}).encode()
            with_user = body[:-1] + b', "user": "ada"}'
            named = "/v1/models/m/versions/2:predict"
            own = "/v1/models/m:predict"
            pairs: list[dict[str, Ask]] = [
                {"direct": rest(second, named, body, stack), "forwarded": rest(first, named, body, stack)},
                {"routed": rest(first, own, body, stack), "plain": rest(plain, own, body, stack)},
                {"no key": rest(users, own, body, stack), "user": rest(users, own, with_user, stack)},
            ]
            calls: list[dict[str, Ask]] = [
                {"direct": call(second, message(rows, 2), stack), "forwarded": call(first, message(rows, 2), stack)},
                {"routed": call(first, message(rows, None), stack), "plain": call(plain, message(rows, None), stack)},
            ]
            for protocol, size, ways in (("REST", len(body), pairs), ("gRPC", len(message(rows, 2)), calls)):
                samples: dict[str, list[float]] = {}
                for pair in ways:
                    assert protocol == "gRPC" or len({ask() for ask in pair.values()}) == 1
                    samples |= measure(pair, count)
                found[f"{protocol}, {rows} rows, {size / 1000:.0f} kB"] = samples
    out = ROOT / "perf" / "out" / "forward.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(found))
    print("| case | direct, forwarded | plain, routed | without a key, with |\n|---|---:|---:|---:|")
    for case, samples in found.items():
        middle = {name: f"{statistics.median(each):.0f}" for name, each in samples.items()}
        user = f"{middle['no key']}, {middle['user']}" if "user" in middle else ""
        print(
            f"| {case} | {middle['direct']}, {middle['forwarded']} | {middle['plain']}, {middle['routed']} | {user} |"
        )


if __name__ == "__main__":
    main()
