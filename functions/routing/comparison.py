"""Two answers to one request, compared: numbers within a tolerance, texts for equality, shapes and names exactly. Pure.

An answer is its arrays by name, whatever protocol carried them. Where an array looks like scores (two dimensions or
more, several columns, floating point), each row is also asked whether its highest score is at the same place.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from loader.dtypes import Array

Answer = Mapping[str, Array]
"""Arrays by name: of numbers or bools, or of objects (texts, bytes, None)."""

MAX_SHOWN = 80
"""Characters of a text that a difference shows."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How two answers differ.

    Attributes:
        where: the largest difference in words; empty while they are the same.
        largest: the largest absolute difference between two finite numbers; None where no numbers were compared.
        rows: rows of scores that were compared.
        rows_same: those whose highest score is at the same place.
    """

    where: str
    largest: float | None
    rows: int = 0
    rows_same: int = 0


def compare(here: Answer, there: Answer, rtol: float, atol: float) -> Difference:
    """How `there` differs from `here`: numbers are the same when `|there - here| <= atol + rtol * |here|`.

    NaN is the same as NaN, and an infinity as itself. Source: numpy.isclose.
    """
    if here.keys() != there.keys():
        return Difference(f"outputs {sorted(here)}, there {sorted(there)}"[: 4 * MAX_SHOWN], None)
    where, largest, rows, rows_same = "", None, 0, 0
    worst = -1.0
    for name, mine in here.items():
        theirs = there[name]
        if mine.shape != theirs.shape:
            return Difference(f"{name} has shape {list(mine.shape)}, there {list(theirs.shape)}", largest)
        if mine.dtype.kind in "OSU" or theirs.dtype.kind in "OSU":
            text = _texts(name, mine, theirs)
            if text:
                where, worst = text, np.inf
            continue
        apart, far = _numbers(mine, theirs, rtol, atol)
        if far.size:
            largest = max(largest or 0.0, float(np.where(np.isfinite(far), far, 0.0).max()))
        if apart.any():
            at = int(np.where(apart, np.nan_to_num(far, nan=np.inf), -1.0).argmax())
            if far.ravel()[at] > worst or worst < 0:
                worst = float(far.ravel()[at])
                where = (
                    f"{name}{_index(at, mine.shape)} is {mine.ravel()[at]:.6g}, there {theirs.ravel()[at]:.6g}"
                    f" ({int(apart.sum())} of {apart.size} differ)"
                )
        if _is_scores(mine):
            same = mine.argmax(-1) == theirs.argmax(-1)
            rows, rows_same = rows + same.size, rows_same + int(same.sum())
    return Difference(where, largest, rows, rows_same)


def _numbers(mine: Array, theirs: Array, rtol: float, atol: float) -> tuple[Array, Array]:
    """Which are apart, and how far; complex numbers by their distance in the plane."""
    wide = np.complex128 if "c" in (mine.dtype.kind, theirs.dtype.kind) else np.float64
    one, other = mine.astype(wide), theirs.astype(wide)
    with np.errstate(invalid="ignore", over="ignore"):
        far = np.abs(other - one)
        apart = ~np.isclose(other, one, rtol=rtol, atol=atol, equal_nan=True)
    return apart, far


def _texts(name: str, mine: Array, theirs: Array) -> str:
    for at, (one, other) in enumerate(zip(mine.ravel().tolist(), theirs.ravel().tolist(), strict=True)):
        if one != other:
            return f"{name}{_index(at, mine.shape)} is {_shown(one)}, there {_shown(other)}"
    return ""


def _is_scores(array: Array) -> bool:
    return array.ndim >= 2 and array.shape[-1] > 1 and array.dtype.kind == "f" and array.size > 0


def _index(at: int, shape: tuple[int, ...]) -> str:
    return str([int(one) for one in np.unravel_index(at, shape)]) if shape else ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
