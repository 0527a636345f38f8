"""How fast is gRPC Predict beside grpcio's own server with the same servicer?

    uv run python -m perf.grpc [--seconds 5] [--clients 1,8,32] [--load PATH]

Three servers in processes of their own, one at a time and in turns: `zeroserve serve` (gRPC over our HTTP server), a
`grpc.aio` server and a threaded `grpc.server`, both with the same services on the same manager. The model is
half_plus_two, one row. The load comes from grpcio clients in processes of their own, which are the slower side: compare
ratios only. A faster generator of your own is given by `--load`: it is called with -url, -grpc, -body, -c, -warm and
-time, and prints JSON with rps, p50_ms, failed and error.
The answers of all three are compared before anything is timed. Each figure is the median of the rounds; CPU is what
the server's process uses for one request.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np

import loader.protos as _protos

assert _protos
from tensorflow_serving.apis import predict_pb2  # noqa: E402

from loader.tensor_proto import from_array  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
METHOD = "/tensorflow.serving.PredictionService/Predict"
MODEL = ROOT / "tests" / "golden" / "models" / "half_plus_two"
ROUNDS = 3


def message() -> bytes:
    """The request: one row."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half_plus_two"
    request.inputs["x"].CopyFrom(from_array(np.float32([1.0])))
    data: bytes = request.SerializeToString()
    return data


def grpcio_server(kind: str) -> None:
    """Runs a grpcio server with our servicers until it is killed; prints its port."""
    from functions.config import load_settings  # noqa: PLC0415
    from functions.first_load import FirstLoad  # noqa: PLC0415
    from functions.models import Models  # noqa: PLC0415
    from functions.observing.metrics import Metrics  # noqa: PLC0415
    from functions.readiness import Readiness  # noqa: PLC0415
    from functions.rpc.door import GrpcServices  # noqa: PLC0415

    metrics = Metrics()
    models = Models(load_settings(["--model_name=half_plus_two", f"--model_base_path={MODEL}"]), metrics)
    models.start()
    models.manager.wait_until_available(timeout=60)
    done: Future[None] = Future()
    done.set_result(None)
    services = GrpcServices(
        models.manager, models.source, FirstLoad(models.manager, done), metrics, Readiness(list), lambda _: ()
    )

    async def aio() -> None:
        server = grpc.aio.server()
        services.add_to(server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(port, flush=True)
        await server.wait_for_termination()

    if kind == "aio":
        asyncio.run(aio())
        return
    # Threads cannot await: each call's coroutine is run to its end by its thread's own event loop.
    server = grpc.server(ThreadPoolExecutor(4 * (os.cpu_count() or 1)))
    services.add_to(_Threaded(server))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


class _Threaded:
    """Adds services with async methods to a threaded server: only unary ones are called here."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self._server.add_generic_rpc_handlers(tuple(_ThreadedHandler(each) for each in handlers))

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """Not needed: every service comes as generic handlers too."""


_local = threading.local()


class _ThreadedHandler(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def service(self, details: Any) -> Any:
        handler = self._inner.service(details)
        if handler is None or handler.unary_unary is None:
            return handler
        method = handler.unary_unary

        def call(request: Any, context: Any) -> Any:
            if not hasattr(_local, "loop"):
                _local.loop = asyncio.new_event_loop()
            return _local.loop.run_until_complete(method(request, context))

        return grpc.unary_unary_rpc_method_handler(call, handler.request_deserializer, handler.response_serializer)


@contextlib.contextmanager
def ours() -> Iterator[tuple[str, int]]:
    """`zeroserve serve`."""
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder, "port")
        flags = ["--model_name=half_plus_two", f"--model_base_path={MODEL}", "--port=0", f"--port_file={port_file}"]
        command = [sys.executable, "-m", "functions.cli", "serve", "--host=127.0.0.1", *flags]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
            while not port_file.exists():
                time.sleep(0.02)
            yield f"127.0.0.1:{port_file.read_text().strip()}", process.pid
            process.kill()


@contextlib.contextmanager
def grpcio(kind: str) -> Iterator[tuple[str, int]]:
    """One of grpcio's own servers."""
    command = [sys.executable, "-m", "perf.grpc", "--grpcio", kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        yield f"127.0.0.1:{process.stdout.readline().strip()}", process.pid
        process.kill()


SERVERS = {"zeroserve": ours, "grpc.aio": lambda: grpcio("aio"), "grpc threads": lambda: grpcio("threads")}


def ask(address: str, body: bytes) -> bytes:
    """One call, its answer as bytes that compare."""
    with grpc.insecure_channel(address) as channel:
        answer = channel.unary_unary(METHOD)(body, timeout=60, wait_for_ready=True)
    data: bytes = predict_pb2.PredictResponse.FromString(answer).SerializeToString(deterministic=True)
    return data


def client(address: str, seconds: float) -> None:
    """One grpcio client; prints its latencies in ms as JSON."""
    body, latencies = message(), []
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.unary_unary(METHOD)
        call(body, timeout=60, wait_for_ready=True)
        end = time.perf_counter() + seconds
        while (started := time.perf_counter()) < end:
            call(body, timeout=60)
            latencies.append((time.perf_counter() - started) * 1e3)
    print(json.dumps(latencies))


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used: on a shared machine steadier than any rate."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(address: str, clients: int, seconds: float, load: str) -> tuple[float, float]:
    """Requests/s and the median latency in ms."""
    if load:
        with tempfile.NamedTemporaryFile() as body:
            Path(body.name).write_bytes(message())
            command = [load, "-url", address, "-grpc", METHOD, "-body", body.name, "-c", str(clients)]
            command += ["-warm", "0s", "-time", f"{seconds}s"]
            found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        assert not found["failed"], found["error"]
        return found["rps"], found["p50_ms"]
    command = [sys.executable, "-m", "perf.grpc", "--client", address, "--seconds", str(seconds)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) for _ in range(clients)]
    latencies = [each for process in processes for each in json.loads(process.communicate()[0])]
    return len(latencies) / seconds, statistics.median(latencies)


def main() -> None:
    """Prints one line per server and number of clients."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--load", default="", help="a faster load generator than grpcio's client")
    parser.add_argument("--grpcio", default="", help=argparse.SUPPRESS)
    parser.add_argument("--client", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.grpcio:
        grpcio_server(options.grpcio)
        return
    if options.client:
        client(options.client, options.seconds)
        return
    answers = {}
    for name, start in SERVERS.items():
        with start() as (address, _):
            answers[name] = ask(address, message())
    assert len(set(answers.values())) == 1, answers
    counts = [int(each) for each in options.clients.split(",")]
    found: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    for _ in range(ROUNDS):
        for name, start in SERVERS.items():
            with start() as (address, pid):
                ask(address, message())
                measure(address, 8, 1, options.load)  # warm-up
                for count in counts:
                    before = cpu_seconds(pid)
                    rate, latency = measure(address, count, options.seconds, options.load)
                    cpu = (cpu_seconds(pid) - before) / (rate * options.seconds) * 1e6
                    found.setdefault((name, count), []).append((rate, latency, cpu))
    for (name, count), rounds in found.items():
        rate, latency, cpu = (statistics.median(each[column] for each in rounds) for column in range(3))
        aio_rate, _, aio_cpu = (
            statistics.median(each[column] for each in found["grpc.aio", count]) for column in range(3)
        )
        samples = " ".join(f"{each[0]:.0f}" for each in rounds)
        print(
            f"{name:13} {count:3} clients {rate:8.0f}/s ({rate / aio_rate:4.2f}x grpc.aio)  p50 {latency:7.3f} ms  "
            f"CPU {cpu:5.0f} us ({cpu / aio_cpu:4.2f}x)  rates [{samples}]"
        )


if __name__ == "__main__":
    main()
