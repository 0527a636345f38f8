"""TensorFlow Lite models run like any session, several at a time."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from loader.status import Code, ServingError
from loader.tflite_session import TfliteSession, load
from tests.formats.models import TFLITE


def run(session: TfliteSession, x: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]", key: str) -> list[float]:
    (y,) = session.run({f"{key}/x": x}, [f"{key}/y"], timeout=30)
    assert not y.flags.writeable
    return [float(one) for one in y.ravel()]


def test_many_threads_get_their_own_rows_whatever_their_sizes() -> None:
    signatures, session = load(TFLITE, 3)
    (key,) = signatures

    def once(n: int) -> None:
        x = np.full(1 + n % 7, n, np.float32)
        assert run(session, x, key) == [n / 2 + 2] * (1 + n % 7)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(once, range(300)))
    session.close()
    with pytest.raises(ServingError, match="unloaded"):
        run(session, np.zeros(1, np.float32), key)


def test_the_signature_is_the_models() -> None:
    signatures, session = load(TFLITE, 1)
    session.close()
    (signature,) = signatures.values()
    assert (signature.name, signature.inputs["x"].dtype) == ("serving_default", 1)
    assert signature.inputs["x"].shape == (-1,)
    assert "y" in signature.proto.outputs


def test_what_is_unknown_or_no_model_is_refused(tmp_path: Path) -> None:
    _, session = load(TFLITE, 1)
    with pytest.raises(ServingError, match="not found in the model") as refused:
        session.run({"z": np.zeros(1, np.float32)}, ["y"])
    assert refused.value.code is Code.INVALID_ARGUMENT
    session.close()
    (tmp_path / "model.tflite").write_bytes(b"nothing at all")
    with pytest.raises(ServingError, match="does not load"):
        load(tmp_path / "model.tflite", 1)
