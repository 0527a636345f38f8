"""Models that tests serve: recorded ones, and ones built once with the real TensorFlow and kept."""

import fcntl
import hashlib
import importlib.metadata
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

# A shell that starts the tests in the background has SIGINT ignored, and programs inherit that: Ctrl-C would end none.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def golden() -> Path:
    """tests/golden/models."""
    return TESTS / "golden" / "models"


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`built(name)`: the version directory of a model of tests/models_builder.py.

    Kept between runs under the system's temporary directory, by a digest of what they are made of.
    """
    digest = hashlib.sha256(importlib.metadata.version("tensorflow").encode())
    digest.update(f"{shutil.which('cc')} {shutil.which('gcc')} {shutil.which('clang')}".encode())
    for source in ("models_builder.py", "custom_op.c"):
        digest.update((TESTS / source).read_bytes())
    root = Path(tempfile.gettempdir()) / f"zeroserve-models-{digest.hexdigest()[:16]}"
    root.mkdir(exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # pytest -n: one worker builds, the others wait
        if not (root / "done").exists():
            command = [sys.executable, str(TESTS / "models_builder.py"), str(root)]
            subprocess.run(command, check=True, capture_output=True, timeout=300)
            (root / "done").touch()

    def version(name: str) -> Path:
        if name == "custom_op" and not (root / name).exists():
            pytest.skip("no C compiler: install Debian's package gcc with libc6-dev")
        return root / name / "1"

    return version
