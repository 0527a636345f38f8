"""How long after its last byte does a version answer, on one machine: with `--watch`, and with the poll alone?

    python -m perf.watch_and_serve

A version of half_plus_two is copied beside the base path and renamed into it; the time runs from the rename to the
first answer that names it. Both servers run at the same time and get their versions in turns, each after a random
pause, so that no server's poll is met at the same moment. Prints milliseconds: median, and the slowest.
"""

import contextlib
import http.client
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from perf.server import ROOT

MODEL = ROOT / "tests" / "golden" / "models" / "half_plus_two" / "1"
ROUNDS = 20
POLL_SECONDS = 1
"""The default of both TensorFlow Serving and zeroserve."""

WAYS = {
    f"poll every {POLL_SECONDS} s": [f"--file_system_poll_wait_seconds={POLL_SECONDS}"],
    "--watch, no poll": ["--watch", "--file_system_poll_wait_seconds=3600"],
}


@contextlib.contextmanager
def server(folder: Path, *flags: str) -> Iterator[int]:
    """Serves `folder/models`; gives the port."""
    shutil.copytree(MODEL, folder / "models" / "1")
    port_file = folder / "port"
    command = [sys.executable, "-m", "functions.cli", "serve", "--host=127.0.0.1", "--port=0", "--log_level=warning"]
    command += [f"--port_file={port_file}", "--model_name=m", f"--model_base_path={folder / 'models'}", *flags]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            while not port_file.exists():
                time.sleep(0.01)
            port = int(port_file.read_text())
            while newest(port) != 1:
                time.sleep(0.01)
            time.sleep(2)  # the watch is made after the start
            yield port
        finally:
            process.terminate()


def newest(port: int) -> int:
    """The highest version that answers; 0 for none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/v1/models/m")
    found = json.loads(connection.getresponse().read()).get("model_version_status", [])
    connection.close()
    return max((int(row["version"]) for row in found if row["state"] == "AVAILABLE"), default=0)


def land(folder: Path, port: int, version: int) -> float:
    """Milliseconds from the rename to the first answer by the version."""
    shutil.copytree(MODEL, folder / "aside")
    time.sleep(random.uniform(0, POLL_SECONDS))
    began = time.perf_counter()
    (folder / "aside").rename(folder / "models" / str(version))
    while newest(port) != version:
        time.sleep(0.002)
    return (time.perf_counter() - began) * 1000


def main() -> None:
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folders = {way: root / str(number) for number, way in enumerate(WAYS)}
        ports = {way: stack.enter_context(server(folders[way], *flags)) for way, flags in WAYS.items()}
        samples: dict[str, list[float]] = {way: [] for way in WAYS}
        for version in range(2, ROUNDS + 2):
            for way in random.sample(list(WAYS), len(WAYS)):
                samples[way].append(land(folders[way], ports[way], version))
    for way, found in samples.items():
        print(
            f"{way:20} median {statistics.median(found):6.0f} ms, slowest {max(found):6.0f} ms, {len(found)} versions"
        )


if __name__ == "__main__":
    main()
