"""Where do the microseconds of one half_plus_two request go?

    python -m perf.overhead [--seconds 4] [--connections 1] [--flags --enable_batching]

The server runs in this process, its parts wrapped with clocks of CPU time; the load comes from another process. A
part's time is its own, without the parts that it calls. What the clocks cost is measured and taken off. `outside` is
the rest of the process's CPU time: the event loop, the kernel's reading and waiting, what did not run inline.
The same load runs first without clocks: `undisturbed` is what a request costs then. `straight` is the same path without
sockets: the bytes of a request are handed to the connection's protocol, the bytes of the answer taken from it, nothing
else in between, and what TensorFlow's run takes of it is told apart. The difference to `undisturbed` is the kernel, the
event loop, and a core that sleeps between two requests and shares its caches with the load generator.
"""

import argparse
import asyncio
import contextlib
import json
import resource
import socket
import statistics
import sys
import tempfile
import time
import types
from collections import defaultdict
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import uvloop

from functions.asgi import Application
from functions.config import load_settings
from functions.observing import metrics
from functions.rest import verbs as rest_verbs
from functions.rest.api import RestApi
from functions.rest.verbs import RestVerbs
from functions.server import Server
from functions.web import http1
from functions.web.server import HttpServer
from functions.web.service import HttpService
from perf.models import body
from perf.server import ROOT, models_root

CASE = "half_plus_two"


class Clocks:
    """Exclusive times of nested parts, all on one thread."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self.left_loop = 0
        self._inner: list[float] = []

    def enter(self) -> float:
        """A part begins."""
        self._inner.append(0.0)
        return time.thread_time()

    def leave(self, name: str, begun: float) -> None:
        """It ends."""
        whole = time.thread_time() - begun
        self.seconds[name] += whole - self._inner.pop()
        self.calls[name] += 1
        if self._inner:
            self._inner[-1] += whole

    def function(self, name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        """`inner`, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            begun = self.enter()
            try:
                return inner(*args, **kwargs)
            finally:
                self.leave(name, begun)

        return timed

    def coroutine(self, name: str, inner: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        """`inner`, timed up to where it first waits; what comes after that counts as `outside`."""

        async def timed(*args: Any, **kwargs: Any) -> Any:
            steps = inner(*args, **kwargs)
            begun = self.enter()
            try:
                awaited = steps.send(None)
            except StopIteration as stop:
                return stop.value
            finally:
                self.leave(name, begun)
            self.left_loop += 1
            return await _resumed(steps, awaited)

        return timed

    def own_cost(self) -> float:
        """Seconds that timing one call takes, as the call's caller sees it."""
        probe = Clocks()
        timed = probe.function("nothing", lambda: None)
        begun = time.thread_time()
        for _ in range(20_000):
            timed()
        return (time.thread_time() - begun) / 20_000


@types.coroutine
def _resumed(steps: Coroutine[Any, Any, Any], awaited: Any) -> Generator[Any, Any, Any]:
    while True:
        thrown: BaseException | None = None
        try:
            sent = yield awaited
        except BaseException as error:  # noqa: BLE001  cancellation too belongs to the coroutine
            thrown = error
        try:
            awaited = steps.send(sent) if thrown is None else steps.throw(thrown)
        except StopIteration as stop:
            return stop.value


def wrap(clocks: Clocks, server: Server) -> None:
    """Puts the clocks in."""

    def replace(owner: Any, attribute: str, name: str, kind: Any = clocks.function) -> None:
        setattr(owner, attribute, kind(name, getattr(owner, attribute)))

    replace(http1.Http1Protocol, "data_received", "HTTP: parse, exchange, frame")
    replace(http1.Http1Protocol, "write", "send")
    replace(Application, "__call__", "route", clocks.coroutine)
    replace(RestApi, "handle", "route", clocks.coroutine)
    replace(RestVerbs, "predict", "route", clocks.coroutine)
    replace(rest_verbs, "decode_predict", "decode JSON")
    replace(rest_verbs, "predict_call", "check inputs, choose outputs")
    replace(rest_verbs, "encode_predictions", "encode JSON")
    replace(metrics.Counter, "add", "metrics")
    replace(metrics.Histogram, "observe", "metrics")
    assert server._models is not None
    with server._models.manager.handle(_spec()) as handle:
        scheduler, session = handle.servable.scheduler, handle.servable.model.session
    replace(type(scheduler), "run", "queue", clocks.coroutine)
    replace(type(session), "run", "run: arrays to tensors and back")
    replace(session._library, "SessionRun", "run: TensorFlow")  # type: ignore[attr-defined]


def _spec() -> Any:
    from loader.servable import ModelSpec  # noqa: PLC0415  beside its only use

    return ModelSpec(CASE)


async def load(port: int, connections: int, seconds: float) -> tuple[float, float, float]:
    """Requests/s, and this process's CPU seconds in user and system mode per request."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(body(CASE))
        file.flush()
        url = f"http://127.0.0.1:{port}/v1/models/{CASE}:predict"
        command = [str(ROOT / "perf" / "load.py"), url, file.name, "--warm", "0"]
        command += ["--connections", str(connections), "--seconds", str(seconds)]
        before = resource.getrusage(resource.RUSAGE_SELF)
        process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        after = resource.getrusage(resource.RUSAGE_SELF)
    found = json.loads(out)
    count = len(found["samples_us"])
    assert not found["failed"]
    assert count
    return (
        found["requests_per_s"],
        (after.ru_utime - before.ru_utime) / count,
        (after.ru_stime - before.ru_stime) / count,
    )


class _Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.waiter: asyncio.Future[None] | None = None

    def write(self, data: Any) -> None:
        self.written.append(data)
        if self.waiter is not None:
            self.waiter.set_result(None)
            self.waiter = None

    def abort(self) -> None:
        pass

    async def until_written(self) -> None:
        """Waits for the next write."""
        self.waiter = asyncio.get_running_loop().create_future()
        await self.waiter

    def is_closing(self) -> bool:
        return False


STRAIGHT_ROUNDS, STRAIGHT_REQUESTS = 25, 2000


async def straight(server: Server) -> tuple[list[float], float]:
    """CPU seconds of a request handed over without a socket, by round; and the median of those inside TensorFlow."""
    service = HttpService(server.application, asyncio.get_running_loop())
    service.start()
    wire, connection = _Wire(), http1.Http1Protocol(service)
    connection.connection_made(wire)
    content = body(CASE)
    head = f"POST /v1/models/{CASE}:predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(content)}\r\n\r\n".encode() + content

    async def one_round() -> float:
        wire.written.clear()
        begun = time.thread_time()
        for count in range(STRAIGHT_REQUESTS):
            connection.data_received(request)
            if len(wire.written) == count:  # the run was given to another thread, as one that was slow is
                await wire.until_written()
        seconds = (time.thread_time() - begun) / STRAIGHT_REQUESTS
        assert wire.written[-1].startswith(b"HTTP/1.1 200 OK\r\n")
        return seconds

    await one_round()  # the first runs leave this thread too
    whole = [await one_round() for _ in range(STRAIGHT_ROUNDS)]
    library = _session(server)._library
    run, clocks = library.SessionRun, Clocks()
    library.SessionRun = clocks.function("run", run)
    inside = []
    for _ in range(STRAIGHT_ROUNDS):
        clocks.seconds.clear()
        await one_round()
        inside.append(clocks.seconds["run"] / STRAIGHT_REQUESTS)
    library.SessionRun = run
    service.stop()
    return whole, statistics.median(inside) - clocks.own_cost() / 2


def _session(server: Server) -> Any:
    assert server._models is not None
    with server._models.manager.handle(_spec()) as handle:
        return handle.servable.model.session


async def measure(options: argparse.Namespace) -> None:
    """Starts the server, loads it twice, prints."""
    root = models_root() / CASE
    settings = load_settings([f"--model_name={CASE}", f"--model_base_path={root}", "--log_level=error", *options.flags])
    server = Server(settings)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    server.start()
    await asyncio.to_thread(server.wait_loaded)
    if "--enable_batching" not in options.flags:  # a batch is another thread's, and waited for
        whole, inside = await straight(server)
        least, middle = min(whole) * 1e6, statistics.median(whole) * 1e6
        print(
            f"straight: {middle:.1f} us (least {least:.1f}), of them {inside * 1e6:.1f} in TensorFlow:"
            f" {middle - inside * 1e6:.1f} without (least {least - inside * 1e6:.1f})"
        )
    http_server = HttpServer(server.application)
    await http_server.start([listening])
    await load(port, options.connections, 1.0)
    rate, user, system = await load(port, options.connections, options.seconds)
    clocks = Clocks()
    wrap(clocks, server)
    timed_rate, timed_user, timed_system = await load(port, options.connections, options.seconds)
    await http_server.stop(1.0)
    requests = clocks.calls["decode JSON"]
    clock = clocks.own_cost()
    print(
        f"undisturbed: {rate:.0f} requests/s, {user * 1e6:.0f} us of CPU in user mode, {system * 1e6:.0f} in the kernel"
    )
    print(
        f"with clocks: {timed_rate:.0f} requests/s; {clocks.left_loop / requests:.1%} of the waits left the event loop"
    )
    print("| part | us a request |\n|---|---:|")
    accounted = 0.0
    for name, seconds in sorted(clocks.seconds.items(), key=lambda item: -item[1]):
        # Of the cost of a clock, about half falls between its two looks at the time.
        own = max(0.0, seconds - clocks.calls[name] * clock / 2) / requests
        accounted += own
        print(f"| {name} | {own * 1e6:.1f} |")
    clocks_cost = sum(clocks.calls.values()) * clock / requests
    outside = timed_user + timed_system - accounted - clocks_cost
    print(f"| outside | {max(0.0, outside) * 1e6:.1f} |")
    print(f"| all without TensorFlow | {(accounted + outside) * 1e6 - _us(clocks, requests):.1f} |")


def _us(clocks: Clocks, requests: int) -> float:
    return clocks.seconds["run: TensorFlow"] / requests * 1e6


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="further flags of the server")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure(options))


if __name__ == "__main__":
    main()
