"""What does it cost to see what happens: gateway, traces, logs and metrics, each as a share of throughput?

    python -m perf.observability [--cases half_plus_two mlp] [--connections 8] [--rounds 5] [--seconds 3] [--only NAME]

Each way to run the same server is a process of its own; all run, and take turns, so that only one works at a time. A
share is that of a round's rate and of the plain server's rate in the same round; its median over the rounds is shown
with the least and the most. All samples are kept under perf/out/. The load generator, Envoy and the collector are on
the server's machine: shares are lower bounds where CPUs are few. The collector takes what comes and reads none of it.

    plain             as `zeroserve serve` runs
    plain again       the same once more: what the difference between two equal servers is
    no metrics        nothing is counted (perf/targets/without_metrics.py)
    scraped           plain, and its metrics are read once a second
    log, text|json    a canonical line for each request
    log, 1 %          for one of a hundred
    traces, all       each request with its spans, exported
    traces, 1 %       one of a hundred
    record, 1 %       one of a hundred is written to files (all are alike here, so it is one record)
    sink, all|1 %     each prediction, or one of a hundred, is an event to a sink
    feedback          each answer has a sealed id
    gateway           Envoy before the plain one: keys, limits of clients and models, its log
    gateway, traces   Envoy and the server both trace all
"""

import argparse
import contextlib
import http.server
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from functions.commands.gateway_run import envoy_program, running, write_keys
from knative.gateway.settings import Gateway, parse_limit
from perf.models import CASES, body
from perf.server import ROOT, Server, keep, model_of

KEY = "a-key-for-the-benchmark"
PLAIN = "plain"
ALL = ("OTEL_TRACES_SAMPLER", "always_on")
FEW = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}


@dataclass(frozen=True)
class Way:
    """One way to run the server.

    Attributes:
        url: where predictions go.
        headers: of each.
        server: whose CPU time counts.
        scraped: its metrics are read meanwhile.
    """

    url: str
    headers: tuple[str, ...]
    server: Server
    scraped: bool = False


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=["half_plus_two", "mlp"], choices=list(CASES))
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--only", nargs="+", default=[], help="these ways, beside the plain one")
    options = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {}
    for case in options.cases:
        with contextlib.ExitStack() as stack:
            every = ways(stack, case)
            chosen = {name: way for name, way in every.items() if name in {PLAIN, *(options.only or every)}}
            for number in range(options.rounds):
                # Every other round backwards: what drifts over a round falls on all alike.
                for name in sorted(chosen, key=list(chosen).index, reverse=bool(number % 2)):
                    found = loaded(chosen[name], case, options.connections, options.seconds)
                    runs.setdefault(f"{case}, {name}", []).append(found)
        print(table(runs, case), flush=True)
    print(f"all samples: {keep('observability', runs)}")


def ways(stack: contextlib.ExitStack, case: str) -> dict[str, Way]:
    """All of them, running; ended by the stack."""
    collector = stack.enter_context(black_hole())
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector}
    model = model_of(case)
    metricless = (sys.executable, str(ROOT / "perf" / "targets" / "without_metrics.py"))
    json_lines = ("--request_log=all", "--log_format=json")
    started = {
        PLAIN: Server("zeroserve", model),
        "plain again": Server("zeroserve", model),
        "no metrics": Server("zeroserve", model, environ={"PYTHONPATH": str(ROOT)}, program=metricless),
        "log, text": Server("zeroserve", model, ("--request_log=all",)),
        "log, json": Server("zeroserve", model, json_lines),
        "log, 1 %": Server("zeroserve", model, (*json_lines, "--request_log_share=0.01")),
        "traces, all": Server("zeroserve", model, ("--traces",), dict([ALL]) | traced),
        "traces, 1 %": Server("zeroserve", model, ("--traces",), FEW | traced),
    }
    sink, kept = f"--prediction_log_sink={collector}", stack.enter_context(tempfile.TemporaryDirectory())
    started |= {
        "record, 1 %": Server("zeroserve", model, (f"--record_to={kept}",)),
        "sink, all": Server("zeroserve", model, (sink, "--prediction_log_share=1")),
        "sink, 1 %": Server("zeroserve", model, (sink, "--prediction_log_share=0.01")),
        "feedback": Server("zeroserve", model, ("--feedback", "--feedback_secret=of-the-benchmark")),
    }
    for server in started.values():
        stack.enter_context(server)
        server.first_prediction(case)
    found = {name: Way(server.url, (), server) for name, server in started.items()}
    found["scraped"] = Way(started[PLAIN].url, (), started[PLAIN], scraped=True)
    for name, server, traces in (
        ("gateway", started[PLAIN], ""),
        ("gateway, traces", started["traces, all"], collector),
    ):
        port = stack.enter_context(gateway(model, server.address, traces))
        url = f"http://127.0.0.1:{port}/v1/models/{model}:predict"
        found[name] = Way(url, ("Content-Type: application/json", f"x-api-key: {KEY}"), server)
    return found


@contextlib.contextmanager
def gateway(model: str, server: str, traces: str) -> Iterator[int]:
    """The port of a gateway before one server."""
    limits = (parse_limit("1000000/s"), parse_limit("1000000000/d"))
    backends = {model.replace("_", "-"): server}
    wanted = Gateway(backends=backends, client_limits=limits, model_limits=limits[:1], traces=traces)
    with tempfile.TemporaryDirectory() as name:
        keys = Path(name) / "keys"
        write_keys(keys, {KEY: "benchmark"})
        with (
            (Path(name) / "lines").open("wb") as lines,
            running(wanted, envoy_program(), address="127.0.0.1", port=0, keys_folder=keys, lines=lines) as (port, *_),
        ):
            yield port


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """A collector that takes everything and reads nothing of it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            while self.headers.get("transfer-encoding") == "chunked":
                size = int(self.rfile.readline(), 16)
                self.rfile.read(size + 2)
                if not size:
                    break
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def loaded(way: Way, case: str, connections: int, seconds: float) -> dict[str, Any]:
    """One round of load, from a process of its own; with the CPU time of the server for each request."""
    over = threading.Event()
    scraper = threading.Thread(target=scrape, args=(way.server.address, over))
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(body(case))
        command = [sys.executable, str(ROOT / "perf" / "load.py"), way.url, file.name]
        command += ["--connections", str(connections), "--seconds", str(seconds), "--warm", "0.5"]
        command += [f"--header={header}" for header in way.headers]
        if way.scraped:
            scraper.start()
        before = way.server.cpu_seconds()
        try:
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        finally:
            over.set()
            if way.scraped:
                scraper.join()
        cpu = way.server.cpu_seconds() - before
    found: dict[str, Any] = json.loads(output)
    asked = found["requests_per_s"] * (seconds + 0.5)  # those of the warm-up took CPU, too
    return {**found, "server_cpu_us": 1e6 * cpu / asked}


def scrape(address: str, over: threading.Event) -> None:
    """Reads the metrics once a second."""
    while not over.wait(1):
        with urllib.request.urlopen(f"http://{address}/monitoring/prometheus/metrics") as answer:
            answer.read()


def table(runs: dict[str, list[dict[str, Any]]], case: str) -> str:
    """The lines of one case."""
    plain = [one["requests_per_s"] for one in runs[f"{case}, {PLAIN}"]]
    lines = ["", "| case, way | requests/s | share of plain | p50 ms | p99 ms | server's CPU us | failed |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|")
    for name, rounds in runs.items():
        if not name.startswith(f"{case}, "):
            continue
        rates = [one["requests_per_s"] for one in rounds]
        shares = [100 * rate / base for rate, base in zip(rates, plain, strict=True)]
        samples = sorted(sample for one in rounds for sample in one["samples_us"])
        p50, p99 = (quantile(samples, share) / 1000 for share in (0.5, 0.99))
        cpu = statistics.median(one["server_cpu_us"] for one in rounds)
        share = f"{statistics.median(shares):.1f} % ({min(shares):.1f}-{max(shares):.1f})"
        failed = sum(one["failed"] for one in rounds)
        lines.append(
            f"| {name} | {statistics.median(rates):.0f} | {share} | {p50:.2f} | {p99:.2f} | {cpu:.0f} | {failed} |"
        )
    return "\n".join(lines)


def quantile(samples: Sequence[int], share: float) -> int:
    """Of sorted samples."""
    return samples[min(len(samples) - 1, int(len(samples) * share))]


if __name__ == "__main__":
    main()
