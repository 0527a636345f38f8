"""A mix for tests, and models of its steps that are plain functions of each row."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from loader.dtypes import Array
from loader.mixing.declaration import Mix, parse_mix
from loader.mixing.mixer import Ask, Mixer
from loader.status import Code, ServingError

SCORES = {"dtype": "float32", "shape": [-1, 3]}
CASCADE: dict[str, Any] = {
    "inputs": {"x": {"dtype": "float32", "shape": [-1, 3]}},
    "steps": {
        "small": {"model": "small", "inputs": {"x": "x"}},
        "large": {
            "model": "large",
            "inputs": {"x": "x", "hint": "small.scores"},
            "when": "max(small.scores) < 0.8",
            "otherwise": {"scores": "small.scores"},
            "fallback": {"scores": "small.scores * 0.5"},
        },
    },
    "outputs": {
        "scores": {"value": "large.scores", **SCORES},
        "sure": {"value": "not ran(large) and not failed(large)", "dtype": "bool", "shape": [-1]},
    },
}


def mix_of(declared: Mapping[str, Any]) -> Mix:
    return parse_mix(json.dumps(declared).encode())


class Observed:
    """What a mixer says of rows and calls."""

    def __init__(self) -> None:
        self.counts: list[tuple[str, str, int]] = []
        self.codes: list[tuple[str, str, Code]] = []

    def rows(self, step: str, branch: str, count: int) -> None:
        self.counts.append((step, branch, count))

    def asked(self, step: str, branch: str, seconds: float, code: Code) -> None:
        assert seconds >= 0
        self.codes.append((step, branch, code))


class RowModel:
    """A model whose answer for a row depends on that row alone; it keeps what it was asked."""

    def __init__(self, factor: float, *, failure: Code = Code.OK, seconds: float = 0) -> None:
        self.asked: list[Array] = []
        self.ended = 0
        self._factor, self._failure, self._seconds = factor, failure, seconds

    async def ask(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], deadline: float | None
    ) -> Mapping[str, Array]:
        self.asked.append(inputs["x"])
        try:
            if self._seconds:
                await asyncio.sleep(self._seconds)
        finally:
            self.ended += 1
        if self._failure is not Code.OK:
            raise ServingError(self._failure, "no")
        found = np.asarray(inputs["x"], np.float64) * self._factor
        if "hint" in inputs:
            found = found + inputs["hint"]
        return {"scores": found.astype(np.float32), "digit": np.argmax(found, axis=1)}


def run(
    declared: Mapping[str, Any],
    targets: Mapping[str, Sequence[Ask]],
    inputs: Mapping[str, Array],
    *,
    outputs: Sequence[str] = (),
    deadline: float | None = None,
    observed: Observed | None = None,
) -> list[Array]:
    """One request to a mix."""
    mix = mix_of(declared)
    mixer = Mixer(mix, targets, observed or Observed())
    return asyncio.run(mixer.run(inputs, list(outputs or mix.outputs), deadline))
