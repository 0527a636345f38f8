"""Batching in a real server with real models: own rows, own faults, own deadlines, and nothing left behind."""

import asyncio
import http.client
import itertools
import json
import random
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import loader.protos as _protos

assert _protos
from tensorflow_serving.apis import predict_pb2  # noqa: E402

from loader.tensor_proto import from_array, to_array  # noqa: E402
from tests.functions.served import GOLDEN_MODELS, running_server  # noqa: E402

EXAMPLE = "Cg8KDQoBeBIIEgYKBAAAgD8="
"""A tf.Example with x = 1, in base64."""

METHOD = "/tensorflow.serving.PredictionService/Predict"
PAIRS = json.loads((Path(__file__).parents[1] / "golden" / "rest.json").read_text())
TIMEOUT = 60
AT_ONCE = 16
Answer = tuple[int, dict[str, str], Any]


@pytest.fixture(scope="module")
def batching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_server(tmp_path_factory.mktemp("batching"), "--enable_batching") as address:
        yield address


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_server(tmp_path_factory.mktemp("plain")) as address:
        yield address


def post(address: str, path: str, body: bytes, **headers: str) -> Answer:
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT)
    try:
        connection.request("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        text = response.read()
        found = {name.lower(): value for name, value in response.getheaders()}
        return response.status, found, json.loads(text) if text else None
    finally:
        connection.close()


def at_once(calls: "list[Callable[[], Any]]") -> list[Any]:
    """The results of calls that all start at the same moment, each in a thread of its own."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        start.wait(TIMEOUT)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def same(a: Any, b: Any) -> bool:
    """Equal; floats as nearly as the sums of another batch size give them."""
    if isinstance(a, float) and isinstance(b, float):
        return a == pytest.approx(b, rel=1e-5, abs=1e-6, nan_ok=True)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


def test_every_recorded_request_is_answered_as_without_batching_whoever_shares_the_batch(
    batching: str, plain: str
) -> None:
    requests = [
        (pair["request"]["path"], (pair["request"]["body"] or "").encode("utf-8", "surrogateescape"))
        for pair in PAIRS
        if pair["set"] in {"main", "formats"}
        and pair["request"]["method"] == "POST"
        and "/models/" in pair["request"]["path"]
    ]
    assert len(requests) > 80
    wanted = [post(plain, *request) for request in requests]
    order = [index for index in range(len(requests)) for _ in range(6)]
    random.Random(5).shuffle(order)
    # Copies of one request, and others between them, from many callers.
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = pool.map(lambda index: (index, post(batching, *requests[index])), sorted(order[:200]) + order[200:])
        for index, (status, _, body) in answers:
            assert (status, same(body, wanted[index][2])) == (wanted[index][0], True), (requests[index], body)


def mlp_row(marker: int) -> "np.ndarray[Any, np.dtype[np.float32]]":
    return np.random.default_rng(marker).random((1, 784), np.float32)


def rest_mlp(address: str, row: Any) -> Any:
    status, _, body = post(address, "/v1/models/mlp:predict", json.dumps({"instances": row.tolist()}).encode())
    return np.array(body["predictions"]) if status == 200 else body["error"]


def grpc_mlp(address: str, row: Any) -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "mlp"
    request.inputs["x"].CopyFrom(from_array(row))
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.unary_unary(
            METHOD, predict_pb2.PredictRequest.SerializeToString, predict_pb2.PredictResponse.FromString
        )
        try:
            return to_array(next(iter(call(request, timeout=TIMEOUT, wait_for_ready=True).outputs.values())))
        except grpc.RpcError as error:
            return error.details()  # type: ignore[attr-defined]


@pytest.mark.parametrize("ask", [rest_mlp, grpc_mlp], ids=["REST", "gRPC"])
def test_one_wrong_shape_among_sixteen_loses_none_of_the_others(
    batching: str, plain: str, ask: Callable[[str, Any], Any]
) -> None:
    rows = {n: mlp_row(n) for n in range(AT_ONCE)}
    wanted = {n: rest_mlp(plain, row) for n, row in rows.items()}
    for turn in range(10):
        bad = turn % AT_ONCE
        sent = {n: row[:, :783] if n == bad else row for n, row in rows.items()}
        found = at_once([lambda row=row: ask(batching, row) for row in sent.values()])
        for n, result in enumerate(found):
            if n == bad:
                assert isinstance(result, str)
                assert "incompatible" in result
            else:
                np.testing.assert_allclose(result, wanted[n], rtol=1e-5, atol=1e-6)


def test_an_example_that_cannot_be_parsed_fails_alone_though_it_shares_the_batch(batching: str, plain: str) -> None:
    good, bad = {"b64": EXAMPLE}, {"b64": "////"}

    def ask(address: str, example: dict[str, str]) -> Answer:
        body = {"signature_name": "predict", "instances": [example]}
        return post(address, "/v1/models/golden_ex:predict", json.dumps(body).encode())

    wanted_good, wanted_bad = ask(plain, good), ask(plain, bad)
    assert (wanted_good[0], wanted_bad[0]) == (200, 400)
    for turn in range(10):
        examples = [bad if n == turn else good for n in range(AT_ONCE)]
        found = at_once([lambda example=example: ask(batching, example) for example in examples])
        for example, (status, _, body) in zip(examples, found, strict=True):
            wanted = wanted_bad if example is bad else wanted_good
            assert (status, "error" in body) == (wanted[0], "error" in wanted[2])
            assert example is bad or same(body, wanted[2])


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory, built: Callable[[str], Path]) -> Iterator[str]:
    """A server with one batching thread and room for one waiting request; model `loop` runs as long as it is told."""
    base = built("loop").parent
    config = f'model_config_list {{ config {{ name: "loop" base_path: "{base}" model_platform: "tensorflow" }} }}'
    flags = ("--enable_batching", "--max_batch_size=1", "--max_enqueued_batches=1", "--num_batch_threads=1")
    with running_server(tmp_path_factory.mktemp("narrow"), *flags, models=config) as address:
        yield address


def test_a_full_queue_is_told_at_once_and_deadlines_hold_in_it_and_in_the_run(narrow: str) -> None:
    endless, short = json.dumps({"inputs": 10**15}).encode(), json.dumps({"inputs": 3}).encode()
    path = "/v1/models/loop:predict"
    assert post(narrow, path, short)[2] == {"outputs": 3}

    def timed(body: bytes, timeout_ms: int) -> tuple[float, Answer]:
        started = time.monotonic()
        answer = post(narrow, path, body, X_Request_Timeout_Ms=str(timeout_ms))
        return time.monotonic() - started, answer

    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(timed, endless, 4000)
        time.sleep(1.0)  # it runs now; nothing outside the server could tell
        waiting = pool.submit(timed, short, 1500)
        time.sleep(0.5)  # and this one waits
        seconds, (status, headers, body) = timed(short, 20_000)
        assert status == 429
        assert seconds < 1
        assert int(headers["retry-after"]) >= 1
        assert "currently 1 batches enqueued and max_enqueued_batches is 1" in body["error"]
        seconds, (status, headers, body) = waiting.result()
        assert (status, "Run() timeout exceeded while waiting in batching queue" in body["error"]) == (429, True)
        assert 1.4 < seconds < 2.4
        seconds, (status, _, body) = running.result()
        assert status == 504
        assert 3.9 < seconds < 5.5
    assert post(narrow, path, short)[2] == {"outputs": 3}


class Weighed:
    """What a server's process holds."""

    def __init__(self, address: str) -> None:
        port = int(address.rpartition(":")[2])
        listening = subprocess.run(["pgrep", "-f", "functions.cli serve"], stdout=subprocess.PIPE, check=True).stdout
        self._process = next(
            folder
            for folder in (Path(f"/proc/{pid}") for pid in listening.split() for pid in [pid.decode()])
            if (folder / "net").exists() and _listens(folder, port)
        )

    def memory_mib(self) -> float:
        text = (self._process / "smaps_rollup").read_text()
        return int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1]) / 1024  # type: ignore[index]

    def files(self) -> int:
        return len(list((self._process / "fd").iterdir()))

    def threads(self) -> int:
        return len(list((self._process / "task").iterdir()))


def _listens(process: Path, port: int) -> bool:
    wanted = set()
    for line in (process / "net" / "tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
            wanted.add(f"socket:[{fields[9]}]")
    return any(_link(file) in wanted for file in (process / "fd").iterdir())


def _link(file: Path) -> str:
    try:
        return str(file.readlink())
    except OSError:
        return ""


async def hurried(address: str, message: bytes, seed: int, count: int) -> int:
    """Sends requests and leaves during about half of them, at any moment; gives how many answers were read."""
    host, port = address.split(":")
    chance, answered = random.Random(seed), 0
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    for _ in range(count):
        if reader is None or writer is None:
            reader, writer = await asyncio.open_connection(host, int(port))
            # Closing resets the connection, as a client that dies does.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if chance.random() < 0.5:
            writer.write(message[: chance.choice([len(message), len(message), chance.randrange(len(message))])])
            await asyncio.sleep(chance.choice([0, 0.0005, 0.002, 0.01]))
            writer.transport.abort()
            reader = writer = None
            continue
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = re.search(rb"content-length: (\d+)", head)
        assert length
        await reader.readexactly(int(length[1]))
        answered += 1
    if writer is not None:
        writer.transport.abort()
    return answered


def test_ten_thousand_requests_with_aborts_leave_nothing_behind(tmp_path: Path) -> None:
    """Handles, memory, threads and files are where they were, and the model can be unloaded."""
    with running_server(tmp_path, "--enable_batching", "--model_config_file_poll_wait_seconds=1") as address:
        body = json.dumps({"instances": mlp_row(1).tolist()}).encode()
        message = (
            f"POST /v1/models/mlp:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )

        async def load(requests: int) -> int:
            async with asyncio.timeout(240):
                each = requests // 40
                return sum(await asyncio.gather(*[hurried(address, message, seed, each) for seed in range(40)]))

        server = Weighed(address)
        asyncio.run(load(4000))
        weighed, answered = [settled(server)], 0
        for _ in range(3):
            answered += asyncio.run(load(4000))
            weighed.append(settled(server))
        assert 4800 < answered < 7200
        assert all(each[1:] == weighed[0][1:] for each in weighed), f"(MiB, files, threads): found {weighed}"
        # What leaks grows in every round; the allocator's arenas grow in some, by how the threads happened to meet.
        growth = [after[0] - before[0] for before, after in itertools.pairwise(weighed)]
        assert min(growth) < 4, f"MiB of each round of 4,000 requests: {growth}"
        # A version that anybody holds is not unloaded.
        config = tmp_path / "models.config"
        config.write_text(
            f'model_config_list {{ config {{ name: "half_plus_two" base_path: "{GOLDEN_MODELS / "half_plus_two"}" '
            'model_platform: "tensorflow" } }'
        )
        until(lambda: _state(address, "mlp") in {"END", "NOT_FOUND"})


def settled(server: Weighed) -> tuple[float, int, int]:
    """The figures once connections are closed."""
    found = server.memory_mib(), server.files(), server.threads()

    def steady() -> bool:
        nonlocal found
        last, found = found, (server.memory_mib(), server.files(), server.threads())
        return last[1:] == found[1:]

    time.sleep(1)
    until(steady)
    return found


def _state(address: str, model: str) -> str:
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT)
    connection.request("GET", f"/v1/models/{model}")
    response = connection.getresponse()
    body = json.loads(response.read())
    connection.close()
    if response.status == 404:
        return "NOT_FOUND"
    return str(body["model_version_status"][0]["state"])


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_request_says_over_rest_and_grpc_that_it_is_of_low_priority(tmp_path: Path) -> None:
    flags = ("--enable_batching", "--low_priority_max_batch_size=2", "--model_name=half_plus_two")
    with running_server(tmp_path, *flags) as address:
        body = json.dumps({"instances": [1.0, 2.0, 5.0]}).encode()
        path = "/v1/models/half_plus_two:predict"
        # The first run of a kind of request always goes to the threads.
        status, _, answer = post(address, path, body, x_request_priority="low")
        assert (status, answer) == (400, {"error": "Task size 3 is larger than maximum input batch size 2"})
        assert post(address, path, body)[0] == 200
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "half_plus_two"
        request.inputs["x"].CopyFrom(from_array(np.zeros(300, np.float32)))
        with grpc.insecure_channel(address) as channel:
            call = channel.unary_unary(METHOD, predict_pb2.PredictRequest.SerializeToString, lambda data: data)
            with pytest.raises(grpc.RpcError, match="Task size 300 is larger than maximum input batch size 2"):
                call(request, metadata=[("x-request-priority", "low")], timeout=TIMEOUT)
            assert call(request, timeout=TIMEOUT)
