"""What does the entry cost, as a share of throughput?

    uv run python -m perf.gateway [--seconds 5] [--rounds 3]

One server with half_plus_two and mlp; in front of it the gateway with keys, limits of clients and of models, its log
and its counts. Kept connections ask over REST and gRPC, directly and through the gateway in turns; answers are compared
before anything is timed. Both Envoy and the load generator are on the server's machine, so this is an upper bound: CPU
of Envoy is CPU that the server does not have. All samples are kept under perf/out/.
"""

import argparse
import contextlib
import http.client
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np

import loader.protos as _protos

assert _protos
from tensorflow_serving.apis import predict_pb2  # noqa: E402

from functions.commands.gateway_run import envoy_program, running, write_keys  # noqa: E402
from knative.gateway.settings import Gateway, parse_limit  # noqa: E402
from loader.tensor_proto import from_array  # noqa: E402
from tests.functions.served import ROOT, running_server  # noqa: E402

KEY = "a-key-for-the-benchmark"
METHOD = "/tensorflow.serving.PredictionService/Predict"
CONNECTIONS = 8
Ask = Callable[[], bytes]


def rest(port: int, model: str, body: bytes, stack: contextlib.ExitStack) -> Ask:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    stack.callback(connection.close)

    def ask() -> bytes:
        connection.request("POST", f"/v1/models/{model}:predict", body, {"x-api-key": KEY})
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        return content

    return ask


def call(port: int, message: bytes, stack: contextlib.ExitStack) -> Ask:
    options = [("grpc.use_local_subchannel_pool", 1)]
    method = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}", options)).unary_unary(METHOD)
    return lambda: bytes(method(message, timeout=30, metadata=(("x-api-key", KEY),)))


def rate(asks: list[Ask], seconds: float) -> tuple[float, float]:
    """Requests per second over all, and the median of one in milliseconds."""
    end, taken = time.perf_counter() + seconds, [list[float]() for _ in asks]

    def work(ask: Ask, mine: list[float]) -> None:
        while (begin := time.perf_counter()) < end:
            ask()
            mine.append(time.perf_counter() - begin)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(asks, taken, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = [one for mine in taken for one in mine]
    return len(every) / seconds, statistics.median(every) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    rows = np.random.default_rng(1).random((1, 784), np.float32)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "mlp"
    small = predict_pb2.PredictRequest()
    small.model_spec.name = "half_plus_two"
    small.inputs["x"].CopyFrom(from_array(np.array([1, 2, 5], np.float32)))
    results: dict[str, dict[str, list[tuple[float, float]]]] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(running_server(folder))
        port = int(server.rpartition(":")[2])
        names = ("half_plus_two", "mlp")
        limits = (parse_limit("1000000/s"), parse_limit("1000000000/d"))
        wanted = Gateway(backends=dict.fromkeys(names, server), client_limits=limits, model_limits=limits[:1])
        write_keys(folder / "keys", {KEY: "benchmark"})
        lines = stack.enter_context((folder / "lines").open("wb"))
        entry, _, _ = stack.enter_context(
            running(wanted, envoy_program(), address="127.0.0.1", port=0, keys_folder=folder / "keys", lines=lines)
        )
        signature = _input(port)
        request.inputs[signature].CopyFrom(from_array(rows))
        body = json.dumps({"instances": rows.tolist()}).encode()
        cases: dict[str, Callable[[int], Ask]] = {
            "REST, half_plus_two": lambda at: rest(at, "half_plus_two", b'{"instances": [1.0, 2.0, 5.0]}', stack),
            "gRPC, half_plus_two": lambda at: call(at, small.SerializeToString(), stack),
            "REST, mlp, 1 row": lambda at: rest(at, "mlp", body, stack),
            "gRPC, mlp, 1 row": lambda at: call(at, request.SerializeToString(), stack),
        }
        for case, make in cases.items():
            asks = {name: [make(at) for _ in range(CONNECTIONS)] for name, at in (("direct", port), ("entry", entry))}
            assert asks["direct"][0]() == asks["entry"][0]()
            for _ in range(asked.rounds):
                for name, those in asks.items():
                    results.setdefault(case, {}).setdefault(name, []).append(rate(those, asked.seconds))
            direct, through = (statistics.median(one[0] for one in results[case][name]) for name in ("direct", "entry"))
            slow, slower = (statistics.median(one[1] for one in results[case][name]) for name in ("direct", "entry"))
            share = 100 * through / direct
            print(f"{case:22} {direct:7.0f} -> {through:7.0f} /s, {share:5.1f} %; {slow:.2f} -> {slower:.2f} ms")
    out = ROOT / "perf" / "out" / "gateway.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(results, indent=1))


def _input(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/v1/models/mlp/metadata")
    found = json.loads(connection.getresponse().read())
    connection.close()
    return str(next(iter(found["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"])))


if __name__ == "__main__":
    main()
