"""How many rows a second does a batch job do, here and through a server, beside the loops that people write?

    uv run python -m perf.batch_jobs [--count 3]

One file (JSON Lines of 784 numbers, Parquet of the same, CSV of one number), a small model each. Arms, in turns:
`offline` is `zeroserve batch --model`, `grpc` and `rest` are `zeroserve batch --url`; `naive row` posts one request for
each row with `requests` (of which only the first rows are asked, it is that slow), `naive batch` one for each 128 rows.
All arms read the file and write JSON Lines. Before anything is timed all have to give the same results. Each time is a
whole process, with its start and, offline, with loading the model; `--rows` are enough for that to matter little.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.functions.batch_files import results, write
from tests.functions.command import Command
from tests.functions.served import GOLDEN_MODELS, ROOT

NAIVE = """
import json, sys, requests
source, target, url, size, limit = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
session = requests.Session()
def ask(rows, out):
    for row, y in zip(rows, session.post(url, json={"instances": [row["x"] for row in rows]}).json()["predictions"]):
        out.write(json.dumps({"y": y}) + "\\n")
with open(source) as file, open(target, "w") as out:
    rows = []
    for count, line in enumerate(file):
        if count == limit:
            break
        rows.append(json.loads(line))
        if len(rows) == size:
            ask(rows, out)
            rows = []
    if rows:
        ask(rows, out)
"""


def timed(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=3, help="runs of each arm")
    parser.add_argument("--rows", type=int, default=20_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zeroserve-perf-") as name:
        folder = Path(name)
        x = np.random.default_rng(0).random((asked.rows, 784)).astype(np.float32).round(3)
        one = np.arange(asked.rows * 10) * 0.5
        files = {
            "mlp jsonl": write(folder / "mlp.jsonl", {"x": x}),
            "mlp parquet": write(folder / "mlp.parquet", {"x": x}),
            "mlp npy": write(folder / "mlp.npy", {"x": x}),
            "half_plus_two csv": write(folder / "half.csv", {"x": one}),
            "half_plus_two jsonl": write(folder / "half.jsonl", {"x": one}),
        }
        config = "".join(
            f'config {{ name: "{model}" base_path: "{GOLDEN_MODELS / model}" model_platform: "tensorflow" }}'
            for model in ("mlp", "half_plus_two")
        )
        (folder / "models").write_text(f"model_config_list {{ {config} }}")
        (folder / "server").mkdir()
        with Command(folder / "server", f"--model_config_file={folder / 'models'}") as server:
            server.until_ready()
            for what, file in files.items():
                measure(what, file, server, asked.count, folder)


def measure(what: str, file: Path, server: Command, count: int, folder: Path) -> None:
    model = what.partition(" ")[0]
    batch = [
        sys.executable,
        "-m",
        "functions.cli",
        "batch",
        str(file),
        "--output-format",
        "jsonl",
        "--restart",
        "--quiet",
    ]
    url = server.url(f"/v1/models/{model}")
    ways = {
        "offline": [*batch, "--model", str(GOLDEN_MODELS / model)],
        "grpc": [*batch, "--url", f"127.0.0.1:{server.port}", "--name", model],
        "rest": [*batch, "--url", url],
    }
    arms: dict[str, Callable[[], tuple[float, int]]] = {}
    for name, command in ways.items():
        out = folder / f"{file.name}-{name}"
        arms[name] = _arm([*command, "--output", str(out)], lambda out=out: len(results(out)))
    if file.suffix == ".jsonl":
        limits = {"naive row": (1, 2000), "naive batch": (128, -1)}
        for name, (size, limit) in limits.items():
            target = folder / f"{file.name}-{name.replace(' ', '-')}.out"
            command = [sys.executable, "-c", NAIVE, str(file), str(target), f"{url}:predict", str(size), str(limit)]
            arms[name] = _arm(command, lambda target=target: target.read_text().count("\n"))
    for arm in arms.values():
        arm()
    _check(file, folder, arms)
    samples: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(count):
        for name, arm in arms.items():
            seconds, done = arm()
            samples[name].append(done / seconds)
    for name, values in samples.items():
        shown = ", ".join(f"{value:.0f}" for value in values)
        print(f"{what:20} {name:12} {statistics.median(values):9.0f} rows/s   ({shown})", flush=True)


def _arm(command: list[str], rows: Callable[[], int]) -> Callable[[], tuple[float, int]]:
    def run() -> tuple[float, int]:
        seconds = timed(command)
        return seconds, rows()

    return run


def _check(file: Path, folder: Path, arms: dict[str, Callable[[], tuple[float, int]]]) -> None:
    """All arms have given the same results."""
    found = {}
    for name in arms:
        out = folder / f"{file.name}-{name.replace(' ', '-')}"
        if out.is_dir():
            found[name] = [row["y"] for row in results(out)]
        else:
            found[name] = [json.loads(line)["y"] for line in out.with_name(f"{out.name}.out").read_text().splitlines()]
    for name, values in found.items():
        np.testing.assert_allclose(values, found["offline"][: len(values)], rtol=1e-4, atol=1e-6, err_msg=name)


if __name__ == "__main__":
    main()
