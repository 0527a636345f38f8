"""The servers that are measured, each a process group that is started, asked, weighed and ended."""

import contextlib
import http.client
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from perf.models import CASES, body

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
OUT = ROOT / "perf" / "out"
TARGETS = ("zeroserve", "batching", "framework", "naive")
"""`zeroserve serve`; with --enable_batching; as a function under functions-framework; one that imports TensorFlow."""
START_SECONDS = 90.0
"""How long a start may take."""
ASK_SECONDS = 0.005
"""Pause between two questions to a server that starts."""
STOP_SECONDS = 10.0


def models_root() -> Path:
    """The folder with the models, built on first use and kept in the system's temporary folder."""
    root = Path(tempfile.gettempdir()) / "zeroserve-perf-models"
    if not (root / "expected.json").exists():
        print(f"building the models in {root}", flush=True)
        quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        subprocess.run([sys.executable, "-m", "perf.models", str(root)], cwd=ROOT, env=quiet, check=True)
    return root


class Server:
    """One running target with one model.

    Attributes:
        started: `time.perf_counter()` when the process was spawned.
        url: where predict requests go.
        address: host and port.
        timing: what the first answer's `Server-Timing` said; empty where it had none.
    """

    def __init__(
        self,
        target: str,
        model: str,
        flags: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        program: Sequence[str] = (str(BIN / "zeroserve"),),
    ) -> None:
        """Starts it; `target` is one of TARGETS, `flags` are further ones for the first two, `program` is theirs."""
        self.timing = ""
        root = models_root()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        framework = [str(BIN / "functions-framework"), "--target", "predict", "--port", str(self._port), "--source"]
        path = f"/v1/models/{model}:predict"
        extra: dict[str, str] = dict(environ or {})
        if target in {"zeroserve", "batching"}:
            command = [*program, "serve", f"--model_name={model}", f"--model_base_path={root / model}"]
            command += [f"--port={self._port}", *["--enable_batching"][: target == "batching"], *flags]
        elif target == "framework":
            command = [*framework, "functions/main.py"]
            extra |= {"MODEL_NAME": model, "MODEL_BASE_PATH": str(root)}
        else:
            command = [*framework, "perf/targets/naive.py"]
            extra |= {"MODEL_PATH": str(root / model / "1")}
            path = "/"
        self._path = path
        self.address = f"127.0.0.1:{self._port}"
        self.url = f"http://127.0.0.1:{self._port}{path}"
        self.target = target
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed in __exit__
        # Python writes and reads bytecode as it does by default: without it all targets import several times slower.
        foreign = ("TF_", "SERVING_", "MODEL_", "PYTHONDONTWRITEBYTECODE")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=clean | extra, stdout=self._log, stderr=self._log, start_new_session=True
        )

    def __enter__(self) -> Self:
        """Ends it afterwards."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Ends it and everything it started."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def predict(self, content: bytes) -> list[float]:
        """The numbers of one answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=START_SECONDS)
        try:
            connection.request("POST", self._path, content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            self.timing = answer.getheader("server-timing") or self.timing
            if answer.status != http.client.OK:
                raise ConnectionError(f"{answer.status} {text[:200]!r}")
            return list(_numbers(json.loads(text)["predictions"]))
        finally:
            connection.close()

    def first_prediction(self, case: str) -> float:
        """Seconds from the spawn to the first answer, which is checked."""
        content = body(case)
        problem: Exception | None = None
        while time.perf_counter() - self.started < START_SECONDS:
            if self._process.poll() is not None:
                break
            try:
                found = self.predict(content)
                elapsed = time.perf_counter() - self.started
                check(case, found, self.target)
                return elapsed
            except (OSError, http.client.HTTPException) as error:
                problem = error
                time.sleep(ASK_SECONDS)
        self._log.seek(0)
        log = self._log.read().decode(errors="replace")[-2000:]
        raise RuntimeError(f"{self.target} gave no prediction: {problem}\n{log}")

    def cpu_seconds(self) -> float:
        """CPU time of the server's process so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def threads_and_files(self) -> tuple[int, int]:
        """How many threads and open files the server's process has."""
        process = Path(f"/proc/{self._process.pid}")
        return len(list((process / "task").iterdir())), len(list((process / "fd").iterdir()))

    def memory_mib(self) -> float:
        """Proportional set size of the process and its descendants, in MiB."""
        total = 0
        for process in _group(self._process.pid):
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1])
        return total / 1024


def check(case: str, found: list[float], who: str) -> None:
    """A wrong answer is not worth timing: RuntimeError."""
    expected = json.loads((models_root() / "expected.json").read_text())[case]
    near = len(found) == len(expected) and all(
        math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-5) for a, b in zip(found, expected, strict=True)
    )
    if not near:
        raise RuntimeError(f"{who} answers {case} with {found[:4]}, wanted {expected[:4]}")


def keep(name: str, samples: dict[str, Any]) -> Path:
    """Writes all samples of a run."""
    OUT.mkdir(exist_ok=True)
    path = OUT / f"{name}-{time.strftime('%Y%m%dT%H%M%S')}.json"
    path.write_text(json.dumps(samples))
    return path


def model_of(case: str) -> str:
    """The model that answers a case."""
    return CASES[case][0]


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, list):
        for one in value:
            yield from _numbers(one)
    else:
        yield float(value)


def _group(leader: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[2]) == leader:
                    yield int(entry.name)
