"""Scores become labels: the best classes of each picture, by name where the model has names."""

import math
from collections.abc import Sequence

import numpy as np

from functions.web.message import json_string
from loader.dtypes import Array


def is_scores(array: Array, count: int) -> bool:
    """Whether `array` holds scores of `count` pictures: floats or integers, `[count, classes]`."""
    return array.ndim == 2 and array.shape[0] == count and array.shape[1] > 0 and _is_number(array)


def _is_number(array: Array) -> bool:
    # bfloat16 and the float8 types are numpy's kind V
    return array.dtype.kind in "fiu" or (array.dtype.kind == "V" and array.dtype != object)


def encode_top(scores: Array, labels: Sequence[str], top_k: int) -> bytes:
    """`{"predictions": [[{"label": "cat", "index": 3, "score": 0.9}, ...], ...]}`, the best first.

    Args:
        scores: `[pictures, classes]`.
        labels: by index; a class without a name has no `label`.
        top_k: how many of them; 0 gives all. Equal scores stand in the order of their classes.
    """
    values = scores.astype(np.float64)
    kept = values.shape[1] if top_k <= 0 else min(top_k, values.shape[1])
    # NaN sorts last; a stable sort of the negated scores keeps equal ones in order
    order = np.argsort(-values, axis=1, kind="stable")[:, :kept]
    rows = []
    for picture, best in enumerate(order.tolist()):
        entries = []
        for index in best:
            name = b'"label": ' + json_string(labels[index]) + b", " if index < len(labels) else b""
            score = _score(scores[picture, index])
            entries.append(b"{" + name + b'"index": %d, "score": ' % index + score + b"}")
        rows.append(b"        [" + b", ".join(entries) + b"]")
    return b'{\n    "predictions": [\n' + b",\n".join(rows) + b"\n    ]\n}"


def _score(value: "np.generic") -> bytes:
    """The shortest text that reads back as the same value of its own type."""
    number = float(value)
    if math.isnan(number):
        return b"NaN"
    if number in {float("inf"), float("-inf")}:
        return b"Infinity" if number > 0 else b"-Infinity"
    return str(value.item() if value.dtype.kind in "iu" else value).encode()
