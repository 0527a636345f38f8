"""What does JSON cost, to arrays and back, beside json and orjson?

    uv run --with orjson python -m perf.json_codec

Bodies of one number, of 16x784 floats, of one 224x224x3 picture, and of named rows; results of 1, 1,000 and 150,528
floats. The three ways are checked to give the same numbers, then timed in turn, so that all see the same machine. With
`--garbage N` as many objects are alive as in a server that has loaded models, once frozen and once not.
"""

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from functions.rest.json_decode import decode_predict
from functions.rest.json_encode import encode_predictions
from functions.rest.json_fast import read_numbers
from loader import dtypes
from loader.signature import Signature, TensorSpec

try:
    import orjson
except ImportError:
    orjson = None

SAMPLES = 31
SECONDS_OF_A_SAMPLE = 0.01

RNG = np.random.default_rng(5)
SIGNATURES = {
    name: Signature(
        name, "", {alias: TensorSpec(alias, f"{alias}:0", dtypes.FLOAT.number, None) for alias in names}, {}
    )
    for name, names in (("serving_default", "x"), ("two", "ab"))
}
BODIES: dict[str, Any] = {
    "1 number": {"instances": [1.5]},
    "16x784": {"instances": RNG.random((16, 784)).astype(np.float32).tolist()},
    "224x224x3": {"instances": RNG.random((1, 224, 224, 3)).astype(np.float32).tolist()},
    "100 named rows": {
        "signature_name": "two",
        "instances": [{"a": 1.5, "b": row} for row in RNG.random((100, 8)).tolist()],
    },
}
RESULTS = {f"{count} floats": RNG.random(count).astype(np.float32) for count in (1, 10, 160, 1000, 150_528)}


def decoders(body: bytes, named: bool) -> dict[str, Callable[[], Any]]:
    """The ways to read a body; each gives the one input `x`, or `a` and `b` joined."""

    def arrays(value: Any) -> Any:
        if not named:
            return np.asarray(value["instances"], np.float32)
        rows = value["instances"]
        a, b = (np.asarray([row[alias] for row in rows], np.float32) for alias in "ab")
        return np.column_stack([a, b])

    def ours() -> Any:
        inputs = decode_predict(body, SIGNATURES).inputs
        return np.column_stack([inputs["a"], inputs["b"]]) if named else inputs["x"]

    ways = {"ours": ours, "json": lambda: arrays(json.loads(body))}
    if orjson is not None:
        ways["orjson"] = lambda: arrays(orjson.loads(body))
    return ways


def encoders(array: Any) -> dict[str, Callable[[], Any]]:
    """The ways to write a result."""
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: encode_predictions({"y": array}, row=True),
        "json": lambda: json.dumps({"predictions": array.tolist()}).encode(),
    }
    if orjson is not None:
        ways["orjson"] = lambda: orjson.dumps({"predictions": array}, option=orjson.OPT_SERIALIZE_NUMPY)
    return ways


def timed(ways: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Seconds for each way, one sample of each in turn."""
    loops = {}
    for name, way in ways.items():
        started = time.perf_counter()
        way()
        loops[name] = max(1, round(SECONDS_OF_A_SAMPLE / (time.perf_counter() - started)))
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(SAMPLES):
        for name, way in ways.items():
            started = time.perf_counter()
            for _ in range(loops[name]):
                way()
            samples[name].append((time.perf_counter() - started) / loops[name])
    return samples


def report(what: str, samples: dict[str, list[float]], count: int) -> None:
    cells = []
    for name, seconds in samples.items():
        median, p90 = statistics.median(seconds), sorted(seconds)[int(len(seconds) * 0.9)]
        cells.append(f"{name} {median * 1e6:9.1f} us (p90 {p90 * 1e6:9.1f}, {median / count * 1e9:7.1f} ns/element)")
    print(f"{what:28} {'  '.join(cells)}", flush=True)


def measure() -> None:
    for name, value in BODIES.items():
        body = json.dumps(value).encode()
        assert read_numbers(body, SIGNATURES) is not None
        ways = decoders(body, "named" in name)
        expected = ways["json"]()
        for way in ways.values():
            np.testing.assert_array_equal(way(), expected)
        report(f"decode {name}, {len(body)} B", timed(ways), expected.size)
    for name, array in RESULTS.items():
        ways = encoders(array)
        for way in ways.values():
            np.testing.assert_array_equal(np.array(json.loads(way())["predictions"]).astype(np.float32), array)
        report(f"encode {name}", timed(ways), array.size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--garbage", type=int, default=0, help="objects alive besides")
    arguments = parser.parse_args()
    if not arguments.garbage:
        measure()
        return
    alive = [{str(number): [number]} for number in range(arguments.garbage // 2)]
    print(f"{len(alive) * 2} containers alive, not frozen")
    measure()
    gc.collect()
    gc.freeze()
    print("frozen")
    measure()


if __name__ == "__main__":
    main()
