"""Reads metrics in Prometheus' text format, as far as our own servers write it. Pure.

Source: prometheus.io/docs/instrumenting/exposition_formats, text format 0.0.4.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

Sample = tuple[str, Mapping[str, str], float]
"""Name, labels, value."""

MAX_VALUE = 1e18
"""Beyond, a number is none that a server of ours has counted; such, NaN and counts below 0 are left out."""

_GROWS = ("_total", "_count", "_bucket")
"""How names of samples end that only grow while a process lives."""

_LINE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)",?')
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", '"': '"', "\\": "\\"}


def samples(text: str) -> Iterator[Sample]:
    """The samples of a text; lines that are none are left out."""
    for line in text.splitlines():
        match = None if line.startswith("#") else _LINE.fullmatch(line)
        if match is None:
            continue
        try:
            value = float(match["value"])
        except ValueError:
            continue
        if not abs(value) <= MAX_VALUE or (value < 0 and match["name"].endswith(_GROWS)):
            continue
        labels = {
            name: _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[1]), quoted)
            for name, quoted in _LABEL.findall(match["labels"] or "")
        }
        yield match["name"], labels, value


def since(now: str, before: str) -> Iterator[Sample]:
    """What one server has counted between two texts of its metrics.

    A count that is lower than it was, or gone, says that the process began again meanwhile, with all its counts at
    zero: then everything that it says now is younger than `before`.
    """
    earlier = {(name, frozenset(labels.items())): value for name, labels, value in samples(before)}
    later = {(name, frozenset(labels.items())): value for name, labels, value in samples(now)}
    if any(later.get(key, -1.0) < value for key, value in earlier.items() if key[0].endswith(_GROWS)):
        earlier = {}
    for (name, labels), value in later.items():
        yield name, dict(labels), value - earlier.get((name, labels), 0.0)


class Totals:
    """Samples of several servers, added up.

    Counters and buckets only grow; what a later reading of one server says is the sum of what it did since its start.
    """

    def __init__(self) -> None:
        self._values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}

    def add(self, found: Iterator[Sample]) -> None:
        """Adds what a server says."""
        for name, labels, value in found:
            key = (name, frozenset(labels.items()))
            self._values[key] = self._values.get(key, 0) + value

    def take(self, other: "Totals") -> None:
        """Adds what others have added up."""
        for key, value in other._values.items():
            self._values[key] = self._values.get(key, 0) + value

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The sums of a family by the values of these labels."""
        sums: dict[tuple[str, ...], float] = {}
        for (family, pairs), value in self._values.items():
            if family == name:
                found = dict(pairs)
                key = tuple(found.get(label, "") for label in labels)
                sums[key] = sums.get(key, 0) + value
        return sums

    def histogram(self, name: str, **labels: str) -> tuple[Sequence[float], Sequence[float]]:
        """Upper bounds (without infinity) and counts of the buckets of all rows that have these labels."""
        cumulated: dict[float, float] = {}
        for (family, pairs), value in self._values.items():
            found = dict(pairs)
            if family == f"{name}_bucket" and labels.items() <= found.items():
                bound = _bound(found.get("le", ""))
                if math.isnan(bound):
                    continue
                cumulated[bound] = cumulated.get(bound, 0) + value
        bounds = sorted(cumulated)
        below = [0.0, *(cumulated[bound] for bound in bounds)]
        counts = [max(0.0, number - before) for before, number in pairwise(below)]
        return [bound for bound in bounds if not math.isinf(bound)], counts


def _bound(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
