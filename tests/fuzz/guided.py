"""Fuzzes targets guided by coverage, as long as one likes: `make fuzz SECONDS=60 TARGETS="http1 zip"`.

atheris (libFuzzer for Python) finds the inputs that take new paths. It is not among the project's dependencies: its
wheels exist for Linux only, and the bounded runs of the test suite do without. Each target runs in a process of its
own; what it finds lies in build/fuzz/<target>, and belongs into tests/fuzz/found/<target> once it is fixed.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "fuzz"
MEMORY_MB = 3072
INPUT_SECONDS = 20
"""For one input, instrumented: several times what the same costs in the suite."""

PACKAGES = ["functions", "events", "loader", "hpack", "python_multipart"]


def fuzz(name: str, seconds: int) -> None:
    """Fuzzes one target in this process, which atheris ends."""
    import atheris  # type: ignore[import-not-found]  # noqa: PLC0415  see above

    with atheris.instrument_imports(include=PACKAGES):
        from tests.fuzz.all_targets import TARGETS  # noqa: PLC0415  instrumented as it is imported
    from tests.fuzz.run import inputs_of  # noqa: PLC0415
    from tests.fuzz.target import check  # noqa: PLC0415

    (target,) = (each for each in TARGETS if each.name == name)
    corpus, work = WORK / name / "corpus", WORK / name
    corpus.mkdir(parents=True, exist_ok=True)
    for index, data in enumerate(inputs_of(target)):
        (corpus / f"seed-{index}").write_bytes(data)
    words = work / "words"
    escaped = ("\\x" + word[:64].hex("-").replace("-", "\\x") for word in target.words)
    words.write_text("".join([f'"{word}"\n' for word in escaped]))
    arguments = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        f"-artifact_prefix={work}/",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-timeout={INPUT_SECONDS}",
        *([f"-dict={words}"] if target.words else []),
        "-max_len=16384",
        "-print_final_stats=1",
        str(corpus),
    ]
    atheris.Setup(arguments, lambda data: check(target, data))
    atheris.Fuzz()


def main(seconds: int, names: list[str]) -> int:
    """Fuzzes the named targets, or all, one after the other; 1 when one of them has a defect."""
    from tests.fuzz.all_targets import TARGETS  # noqa: PLC0415

    failed = []
    for name in names or [each.name for each in TARGETS]:
        (WORK / name).mkdir(parents=True, exist_ok=True)
        log = WORK / name / "log"
        with log.open("wb") as out:
            command = [sys.executable, "-m", "tests.fuzz.guided", "--one", name, str(seconds)]
            code = subprocess.run(command, cwd=ROOT, stdout=out, stderr=out, check=False).returncode
        text = log.read_text(errors="replace")
        ran = next((line.split()[-1] for line in text.splitlines() if "number_of_executed_units" in line), "?")
        print(f"{name}: {ran} inputs, {'nothing found' if code == 0 else f'DEFECT, see {log}'}", flush=True)
        if code:
            failed.append(name)
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        fuzz(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
