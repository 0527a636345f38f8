"""What does a mix cost, and how often is it right, beside the large model alone?

    uv run python -m perf.mixing [--count 3]

The demo's softmax regression of handwritten digits is the small model; the large one, a wide convolutional network,
is trained here on the same images (half a minute, kept under perf/out/). One server has both, and a mix of them for
each threshold. All 450 held-out images are asked one at a time over gRPC and all at once, every arm in turns. Before
anything is timed, each mix has to give for every image what the model gives that it chose. Cost is the server's own
CPU time (user and system, all threads) for each image.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from functions.client import Client
from functions.demo.bundle import HERE
from tests.functions.command import Command
from tests.functions.served import ROOT

THRESHOLDS = (0.6, 0.8, 0.95)
OUT = ROOT / "perf" / "out" / "mixing"
SEED = 7
_TICKS = os.sysconf("SC_CLK_TCK")


def held_out() -> tuple[Any, Any, Any, Any]:
    """The demo's own split: what it was trained with, and what it never saw."""
    from sklearn.datasets import load_digits  # noqa: PLC0415  a second of imports
    from sklearn.model_selection import train_test_split  # noqa: PLC0415

    digits = load_digits()
    pixels = (digits.images / 16).astype(np.float32)
    split = train_test_split(pixels, digits.target, test_size=0.25, random_state=SEED, stratify=digits.target)
    return split[0], split[1], split[2], split[3]


def train_large(train_x: Any, train_y: Any) -> Path:
    """The base path of the large model: about a million parameters."""
    base = OUT / "large"
    if (base / "1" / "saved_model.pb").exists():
        return base
    import tensorflow as tf  # noqa: PLC0415  only to train

    from functions.demo.train import digits_module  # noqa: PLC0415

    tf.keras.utils.set_random_seed(SEED)
    layers = tf.keras.layers
    network = tf.keras.Sequential(
        [
            layers.Input([8, 8]),
            layers.Reshape([8, 8, 1]),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Conv2D(128, 3, padding="same", activation="relu"),
            layers.Conv2D(128, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.4),
            layers.Dense(384, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    network.compile("adam", "sparse_categorical_crossentropy")
    network.fit(train_x, train_y, batch_size=64, epochs=15, verbose=0)
    module = digits_module(network)
    shutil.rmtree(base, ignore_errors=True)
    tf.saved_model.save(module, str(base / "1"), signatures={"serving_default": module.serve})
    return base


def declare(folder: Path, large: Path) -> Path:
    """The config file of a server with both models and the mixes."""
    declared = json.loads((ROOT / "examples/mixing/models/digits_mix/1/mix.json").read_text())
    step = declared["steps"]["large"]
    step["model"] = "large"
    del step["label"], step["deadline_ms"]
    only = "model_version_policy { specific { versions: 1 } }"
    models = {"digits": f"{HERE / 'models' / 'digits'}", "large": str(large)}
    for threshold in THRESHOLDS:
        step["when"] = f"max(small.scores) < {threshold}"
        version = folder / f"mix{threshold}" / "1"
        version.mkdir(parents=True)
        (version / "mix.json").write_text(json.dumps(declared))
        models[f"mix{threshold}"] = str(version.parent)
    listed = " ".join(
        f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" {only} '
        + ('version_labels { key: "stable" value: 1 } }' if name == "digits" else "}")
        for name, base in models.items()
    )
    config = folder / "models.conf"
    config.write_text(f"model_config_list {{ {listed} }}")
    return config


def cpu(process: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def main() -> None:
    """Measures, and prints one line of a table for each arm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3, help="rounds over all images")
    count = parser.parse_args().count
    train_x, x, train_y, y = held_out()
    OUT.mkdir(parents=True, exist_ok=True)
    large = train_large(train_x, train_y)
    arms = ["digits", *(f"mix{threshold}" for threshold in THRESHOLDS), "large"]
    samples: dict[str, dict[str, list[float]]] = {arm: {"one": [], "cpu": [], "all": [], "cpu_all": []} for arm in arms}
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        flags = ("--allow_version_labels_for_unavailable_models=true",)
        with Command(folder, f"--model_config_file={declare(folder, large)}", *flags) as server:
            server.until_ready()
            with Client(f"127.0.0.1:{server.port}") as client:
                for arm in arms:
                    found[arm] = client.predict(arm, {"image": x}).outputs
                for threshold in THRESHOLDS:
                    unsure = found["digits"]["scores"].max(axis=1) < threshold
                    mixed = found[f"mix{threshold}"]
                    assert mixed["escalated"].tolist() == unsure.tolist()
                    wanted = np.where(unsure, found["large"]["digit"], found["digits"]["digit"])
                    assert mixed["digit"].tolist() == wanted.tolist()
                for number in range(count + 1):
                    for arm in arms:
                        began_cpu = cpu(server.process.pid)
                        one = []
                        for row in range(len(x)):
                            began = time.perf_counter()
                            client.predict(arm, {"image": x[row : row + 1]})
                            one.append((time.perf_counter() - began) * 1e6)
                        between = cpu(server.process.pid)
                        began = time.perf_counter()
                        for _ in range(20):
                            client.predict(arm, {"image": x})
                        whole = (time.perf_counter() - began) / 20
                        ended = cpu(server.process.pid)
                        if number:  # the first round warms up
                            samples[arm]["one"] += one
                            samples[arm]["cpu"].append((between - began_cpu) / len(x) * 1e6)
                            samples[arm]["all"].append(whole * 1e3)
                            samples[arm]["cpu_all"].append((ended - between) / 20 / len(x) * 1e6)
    (OUT / "samples.json").write_text(json.dumps(samples))
    print(
        "| arm | right, % | asked the large model, % | one image, p50 us | p95 us | CPU us | of 450, CPU us each | ms |"
    )
    for arm in arms:
        right = float(np.mean(found[arm]["digit"] == y)) * 100
        share = float(np.mean(found[arm]["escalated"])) * 100 if "escalated" in found[arm] else 100.0 * (arm == "large")
        kept = samples[arm]
        one = sorted(kept["one"])
        print(
            f"| {arm} | {right:.1f} | {share:.0f} | {statistics.median(one):.0f} | {one[int(len(one) * 0.95)]:.0f} | "
            f"{statistics.median(kept['cpu']):.0f} | {statistics.median(kept['cpu_all']):.1f} | "
            f"{statistics.median(kept['all']):.1f} |"
        )


if __name__ == "__main__":
    main()
