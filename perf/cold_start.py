"""How long from process start to the first correct prediction over HTTP, beside a handler that imports TensorFlow?

    python -m perf.cold_start [--runs 5] [--cases half_plus_two resnet50] [--targets zeroserve framework naive]
                              [--storage s3]

With `--storage s3` the target `s3` reads the model from a local S3 server into an empty cache, and `cached` finds it
there from its start before; `Server-Timing` of the first answer says where the time went (medians, phases overlap).
The others read the local folder.

Targets take turns within one run, so that a machine that changes its speed changes it for all. Each is asked every
5 ms; a first turn that brings the files into memory does not count.
Memory is the proportional set size of all its processes one second after that answer.
"""

import argparse
import contextlib
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from perf.server import Server, keep, model_of, models_root
from tests.servers.s3 import BUCKET, s3_server

_PHASE = re.compile(r"(\w+);dur=([0-9.]+)")
S3_TARGETS = ("s3", "cached")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cases", nargs="+", default=["half_plus_two", "resnet50"])
    parser.add_argument("--targets", nargs="+", default=["zeroserve", "framework", "naive"])
    parser.add_argument("--storage", choices=["s3"])
    options = parser.parse_args()
    with _stored(options.cases) if options.storage else contextlib.nullcontext({}) as places:
        measure(options, places)


def measure(options: argparse.Namespace, places: dict[str, dict[str, str]]) -> None:
    """Starts each target in turn, and prints; `places` are the environments of the targets that read S3."""
    phases: dict[str, dict[str, list[float]]] = {}
    seconds: dict[str, list[float]] = {}
    memory: dict[str, list[float]] = {}
    for case in options.cases:
        for number in range(options.runs + 1):
            for target in [*options.targets, *places]:
                environ, flags = places.get(target, {}), []
                if target in S3_TARGETS:
                    cache = Path(environ["CACHE"]) / f"{case}{number if target == 's3' else ''}"
                    flags = [f"--model_base_path=s3://{BUCKET}/{model_of(case)}", f"--cache_directory={cache}"]
                kind = "zeroserve" if target in S3_TARGETS else target
                with Server(kind, model_of(case), flags, environ) as server:
                    taken = server.first_prediction(case)
                    if number == 0:
                        continue  # files come from disk the first time, and that is another question
                    for name, length in _PHASE.findall(server.timing):
                        phases.setdefault(f"{case} {target}", {}).setdefault(name, []).append(float(length))
                    seconds.setdefault(f"{case} {target}", []).append(taken)
                    time.sleep(1)
                    memory.setdefault(f"{case} {target}", []).append(server.memory_mib())
                    print(f"{case} {target}: {taken:.3f} s", flush=True)
    path = keep("cold_start", {"seconds": seconds, "memory_mib": memory, "phases_ms": phases})
    print(f"\nall samples: {path}\n\n| | s, median (all) | of naive | memory, MiB |\n|---|---|---:|---:|")
    for name, found in seconds.items():
        middle = statistics.median(found)
        naive = seconds.get(f"{name.split()[0]} naive")
        ratio = f"{middle / statistics.median(naive):.2f}" if naive else "-"
        every = " ".join(f"{one:.2f}" for one in sorted(found))
        print(f"| {name} | {middle:.2f} ({every}) | {ratio} | {statistics.median(memory[name]):.0f} |")
    for name, lengths in phases.items():
        print(f"{name}: " + ", ".join(f"{one} {statistics.median(found):.0f} ms" for one, found in lengths.items()))


@contextlib.contextmanager
def _stored(cases: list[str]) -> Iterator[dict[str, dict[str, str]]]:
    """The models in a local S3 server: what `s3` and `cached` need to read them."""
    with tempfile.TemporaryDirectory() as name, s3_server(Path(name)) as server:
        for model in {model_of(case) for case in cases}:
            server.put_tree(models_root() / model, model)
        environ = server.environ | {"CACHE": f"{name}/cache"}
        yield dict.fromkeys(S3_TARGETS, environ)
        shutil.rmtree(f"{name}/cache", ignore_errors=True)


if __name__ == "__main__":
    main()
