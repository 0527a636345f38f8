"""`zeroserve serve --workers=N`: real processes on one port."""

import concurrent.futures
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import grpc
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

import loader.protos as _protos  # before the messages
from tests.functions.command import SECONDS, Command
from tests.functions.served import GOLDEN_MODELS, ROOT

assert _protos
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest  # noqa: E402
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub  # noqa: E402

HALF = ("--model_name=m", f"--model_base_path={GOLDEN_MODELS / 'half_plus_two'}")
BODY = b'{"instances": [1.0]}'


def workers(command: Command) -> list[int]:
    """The process ids of the workers."""
    parent = command.process.pid
    return [int(one) for one in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def metric(command: Command, name: str, *labels: str) -> float:
    """One sample, 0 when there is none; labels by value."""
    for family in text_string_to_metric_families(command.get("/monitoring/prometheus/metrics").text):
        for one in family.samples:
            if one.name == name and tuple(one.labels.values()) == labels:
                return one.value
    return 0


def answered(command: Command) -> float:
    return metric(command, ":tensorflow:serving:request_count_total", "m", "OK")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Command]:
    """A server of two workers, ready."""
    with Command(tmp_path, *HALF, "--workers=2") as command:
        command.until_ready()
        yield command
        command.process.terminate()
        assert command.process.wait(SECONDS) == 0


class Callers:
    """Threads that predict on one kept connection each, without a pause."""

    def __init__(self, command: Command, count: int) -> None:
        self._url = command.url("/v1/models/m:predict")
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]
        self.answered = 0
        self.broken = 0
        self.wrong: list[str] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with requests.Session() as session:
            while not self._stop.is_set():
                try:
                    answer = session.post(self._url, BODY, timeout=SECONDS)
                except requests.ConnectionError:
                    with self._lock:
                        self.broken += 1
                    continue
                with self._lock:
                    if answer.status_code == 200 and answer.json() == {"predictions": [2.5]}:
                        self.answered += 1
                    else:
                        self.wrong.append(answer.text)


def test_a_worker_that_is_killed_under_load_takes_only_its_requests_with_it_and_is_replaced(pair: Command) -> None:
    with Callers(pair, 8) as callers:
        pair.until(lambda: callers.answered > 200)
        counted = answered(pair)
        victim = workers(pair)[0]
        os.kill(victim, signal.SIGKILL)
        before = callers.answered
        pair.until(lambda: callers.answered > before + 200)
        assert pair.get("/readyz").status_code == 200
        pair.until(lambda: len({*workers(pair), victim}) == 3 and pair.versions()[1][0] == "AVAILABLE")
        pair.until(lambda: metric(pair, "zeroserve_workers") == 2)
    # each of its connections, half of all at most one more, had one request in flight
    assert 1 <= callers.broken <= 5
    assert callers.wrong == []
    assert metric(pair, "zeroserve_worker_restarts") == 1
    assert counted <= answered(pair) <= callers.answered


def test_the_parent_of_the_workers_holds_neither_tensorflow_nor_numpy(pair: Command) -> None:
    libraries = Path(f"/proc/{pair.process.pid}/maps").read_text()
    assert not any(name in libraries for name in ("tensorflow", "numpy", "grpc", "uvloop"))
    assert all("libtensorflow" in Path(f"/proc/{pid}/maps").read_text() for pid in workers(pair))


def test_the_counts_are_those_of_all_workers_whichever_is_asked(pair: Command) -> None:
    for _ in range(30):
        assert pair.predict().status_code == 200
    assert {answered(pair) for _ in range(10)} == {30}
    assert metric(pair, "zeroserve_load_seconds_count", "m", "load") == 2


def accepted(port: int) -> int:
    """Connections that a server on this machine holds. Source: proc_pid_net(5); 01 is ESTABLISHED, 08 CLOSE_WAIT."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[1].partition(":")[2], 16) == port and row[3] in {"01", "08"} for row in rows)


def test_each_worker_gets_its_share_of_connections(pair: Command) -> None:
    def sockets() -> list[int]:
        found = []
        for pid in workers(pair):
            names = [one.readlink().name for one in Path(f"/proc/{pid}/fd").iterdir() if one.is_symlink()]
            found.append(sum(name.startswith("socket:") for name in names))
        return found

    pair.until(lambda: not accepted(pair.port))  # those of the tests before are closed
    before = sockets()
    clients = [socket.create_connection(("127.0.0.1", pair.port)) for _ in range(32)]
    try:
        pair.until(lambda: sum(sockets()) - sum(before) == 32)
        shares = [now - then for now, then in zip(sockets(), before, strict=True)]
        assert max(shares) - min(shares) <= 6, shares
    finally:
        for client in clients:
            client.close()


def test_requests_in_flight_in_all_workers_are_finished_after_sigterm(tmp_path: Path) -> None:
    with Command(tmp_path, *HALF, "--workers=2") as command:
        command.until_ready()
        clients = [socket.create_connection(("127.0.0.1", command.port), timeout=SECONDS) for _ in range(8)]
        for client in clients:
            client.sendall(b"POST /v1/models/m:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        command.predict()
        time.sleep(0.2)  # what was sent has arrived; nobody could tell from outside that it was read
        command.process.terminate()
        command.until(lambda: command.log.read_text().count("draining") == 2)
        for client in clients:
            client.sendall(BODY)
        for client in clients:
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
            client.close()
        assert command.process.wait(SECONDS) == 0
        assert command.log.read_text().count("unloaded servable version") == 2


def test_a_second_signal_ends_all_at_once(tmp_path: Path) -> None:
    with Command(tmp_path, *HALF, "--workers=2") as command:
        command.until_ready()
        pids = workers(command)
        with socket.create_connection(("127.0.0.1", command.port)) as client:
            client.sendall(b"POST /v1/models/m:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            command.predict()
            command.process.terminate()
            command.until_line("draining")
            command.process.terminate()
            assert command.process.wait(SECONDS) == 128 + signal.SIGTERM
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    with Command(tmp_path, *HALF, "--workers=2") as command:
        command.until_ready()
        pids = workers(command)
        command.process.kill()
        command.until(lambda: not any(_alive(pid) for pid in pids))


def _alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_a_start_that_fails_ends_all_workers_with_one_line(tmp_path: Path) -> None:
    flags = ("--saved_model_tags=none", "--max_num_load_retries=0", "--workers=2")
    with Command(tmp_path, *HALF, *flags) as command:
        assert command.process.wait(SECONDS) == 1
        lines = [line for line in command.log.read_text().splitlines() if line.startswith("zeroserve: ")]
        assert len(lines) == 1
        assert lines[0].startswith("zeroserve: Failed to start server. Error: UNKNOWN: 1 model(s) did not become")


def reload(command: Command, *models: tuple[str, str]) -> None:
    """HandleReloadConfigRequest, over a connection of its own."""
    request = ReloadConfigRequest()
    for name, base_path in models:
        request.config.model_config_list.config.add(name=name, base_path=base_path, model_platform="tensorflow")
    with grpc.insecure_channel(f"127.0.0.1:{command.port}") as channel:
        ModelServiceStub(channel).HandleReloadConfigRequest(request, timeout=SECONDS)


def statuses(command: Command, model: str, count: int = 24) -> set[int]:
    """What predictions on so many connections, to whichever worker, are answered with."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return {answer.status_code for answer in pool.map(lambda _: command.predict(model), range(count))}


def test_a_reload_reaches_all_workers_and_those_that_come_later(pair: Command) -> None:
    half = str(GOLDEN_MODELS / "half_plus_two")
    reload(pair, ("m", half), ("other", half))
    assert statuses(pair, "other") == {200}
    assert pair.versions("other") == {1: ("AVAILABLE", "")}
    reload(pair, ("other", half))
    pair.until(lambda: statuses(pair, "m") == {404})
    os.kill(workers(pair)[1], signal.SIGKILL)
    pair.until(lambda: metric(pair, "zeroserve_worker_restarts") == 1 and metric(pair, "zeroserve_workers") == 2)
    pair.until(lambda: pair.versions("other") == {1: ("AVAILABLE", "")})
    assert statuses(pair, "other") == {200}
    assert statuses(pair, "m") == {404}


def test_a_model_that_one_worker_unloaded_is_loaded_again_by_another_or_a_new_one(tmp_path: Path) -> None:
    config = tmp_path / "models.conf"
    listed = " ".join(
        f'config {{ name: "{name}" base_path: "{GOLDEN_MODELS / "half_plus_two"}" model_platform: "tensorflow" }}'
        for name in ("m", "other")
    )
    config.write_text(f"model_config_list {{ {listed} }}")
    with Command(tmp_path, f"--model_config_file={config}", "--workers=2") as command:
        command.until_ready()

        def change(verb: str) -> int:  # on a connection of its own, which any worker takes
            return requests.post(command.url(f"/v2/repository/models/m/{verb}"), timeout=60).status_code

        for _ in range(5):
            assert change("unload") == 200
            assert statuses(command, "m", 8) == {404}
            assert change("load") == 200
            assert statuses(command, "m", 8) == {200}
        assert change("unload") == 200
        for worker in workers(command):
            os.kill(worker, signal.SIGKILL)
            command.until(lambda worker=worker: worker not in workers(command) and len(workers(command)) == 2)
            command.until(lambda: metric(command, "zeroserve_workers") == 2)
        assert change("load") == 200
        assert statuses(command, "m", 8) == {200}


def test_a_reload_that_cannot_be_changes_nothing_in_any_worker(pair: Command) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        reload(pair, ("m", str(GOLDEN_MODELS / "half_plus_two")), ("m", "/elsewhere"))
    assert "Illegal to list model m multiple times" in str(caught.value)
    assert statuses(pair, "m") == {200}


def test_a_version_that_is_shown_as_available_is_answered_by_every_worker_and_no_request_fails(tmp_path: Path) -> None:
    model = tmp_path / "m"
    model.mkdir()
    (model / "1").symlink_to(GOLDEN_MODELS / "half_plus_two" / "1")
    with Command(tmp_path, "--model_name=m", f"--model_base_path={model}", "--workers=2") as command:
        command.until_ready()
        with Callers(command, 4) as callers:
            for version in (2, 3):
                (model / str(version)).symlink_to(GOLDEN_MODELS / "half_plus_two" / "1")
                command.until(lambda version=version: command.versions().get(version, ("",))[0] == "AVAILABLE")
                assert statuses(command, f"m/versions/{version}") == {200}
            command.until(lambda: {state for state, _ in command.versions().values()} == {"AVAILABLE", "END"})
        assert (callers.broken, callers.wrong) == (0, [])
        assert callers.answered > 100


def test_a_worker_that_is_stuck_keeps_no_new_connection_waiting(pair: Command) -> None:
    stuck = workers(pair)[0]
    os.kill(stuck, signal.SIGSTOP)
    try:
        assert statuses(pair, "m", 16) == {200}
        assert metric(pair, "zeroserve_workers") == 1
    finally:
        os.kill(stuck, signal.SIGCONT)
    pair.until(lambda: metric(pair, "zeroserve_workers") == 2)


def test_workers_share_the_unix_socket_too(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with Command(tmp_path, *HALF, f"--grpc_socket_path={path}", "--workers=2") as command:
        command.until_ready()
        for _ in range(8):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert client.recv(1000).startswith(b"HTTP/1.1 200")


def test_workers_that_end_at_once_are_replaced_at_growing_intervals(tmp_path: Path) -> None:
    script = (
        "import functions.crew.parent, sys, time\n"
        "def work(berth):\n"
        "    with open(sys.argv[1], 'a') as out: out.write(f'{time.monotonic()}\\n')\n"
        "    return 3\n"
        "sys.exit(functions.crew.parent.Crew(1, [], work, end_seconds=5).run()[0])\n"
    )
    births = tmp_path / "births"
    with subprocess.Popen([sys.executable, "-c", script, str(births)], cwd=ROOT) as process:
        try:
            deadline = time.monotonic() + SECONDS
            while not births.exists() or births.read_text().count("\n") < 5:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            process.terminate()
        assert process.wait(SECONDS) == 0
    moments = [float(line) for line in births.read_text().split()]
    pauses = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert pauses[0] < 0.5 <= pauses[1] < 1.0 <= pauses[2] < 2.0 <= pauses[3]


def test_workers_that_fail_together_end_the_crew_at_once() -> None:
    script = (
        "import functions.crew.parent, os, signal, sys, time\n"
        "def work(berth):\n"
        "    stat = f'/proc/{os.getppid()}/stat'\n"
        "    if berth.index: os.kill(os.getppid(), signal.SIGSTOP)\n"  # until both have ended
        "    while ') T ' not in open(stat).read(): time.sleep(0.01)\n"
        "    return 1\n"
        "sys.exit(functions.crew.parent.Crew(2, [], work, end_seconds=600).run()[0])\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) as process:
        try:
            deadline = time.monotonic() + SECONDS
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            while [_state(pid) for pid in (process.pid, *children.read_text().split())] != ["T", "Z", "Z"]:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.send_signal(signal.SIGCONT)
            assert process.wait(SECONDS) == 1
        finally:
            process.kill()


def _state(pid: int | str) -> str:
    """Of a process. Source: proc_pid_stat(5): T is stopped, Z has ended and is not waited for."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
