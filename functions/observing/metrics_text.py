"""The samples of one family at one moment: added up over processes, written as Prometheus' text.

Source: prometheus.io/docs/instrumenting/exposition_formats, text format 0.0.4.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Samples:
    """A family's rows, as they were when asked for.

    Attributes:
        name: of the family.
        kind: `counter`, `gauge` or `histogram`.
        labels: names of the labels.
        rows: the numbers by label values: one for a counter or a gauge; for a histogram the count of each bucket, the
            one without a bound among them, and then the sum.
        bounds: upper bounds of the buckets of a histogram.
        highest: whether the rows of two processes are one by the larger number instead of the sum.
    """

    name: str
    kind: str
    labels: Labels
    rows: Mapping[Labels, tuple[float, ...]]
    bounds: tuple[float, ...] = ()
    highest: bool = False

    def lines(self) -> Iterator[str]:
        """The family in text format."""
        yield f"# TYPE {self.name} {self.kind}"
        for values, numbers in sorted(self.rows.items()):
            if self.kind != "histogram":
                yield f"{self.name}{_braced(self.labels, values)} {_number(numbers[0])}"
                continue
            count = 0.0
            for bound, number in zip((*(f"{one:g}" for one in self.bounds), "+Inf"), numbers[:-1], strict=True):
                count += number
                yield f"{self.name}_bucket{_braced((*self.labels, 'le'), (*values, bound))} {_number(count)}"
            yield f"{self.name}_sum{_braced(self.labels, values)} {_number(numbers[-1])}"
            yield f"{self.name}_count{_braced(self.labels, values)} {_number(count)}"

    def plus(self, other: "Samples") -> "Samples":
        """Both as one; `other` is the same family of another process."""
        combine = max if self.highest else _sum
        rows = dict(self.rows)
        for values, numbers in other.rows.items():
            mine = rows.get(values)
            rows[values] = numbers if mine is None else tuple(map(combine, mine, numbers))
        return replace(self, rows=rows)


def total(processes: Iterable[Sequence[Samples]]) -> list[Samples]:
    """The families of several processes as those of one."""
    families: dict[str, Samples] = {}
    for process in processes:
        for one in process:
            known = families.get(one.name)
            families[one.name] = one if known is None else known.plus(one)
    return list(families.values())


def text(families: Iterable[Samples]) -> bytes:
    """Families in Prometheus' text format."""
    return ("\n".join(line for family in families for line in family.lines()) + "\n").encode()


def _sum(one: float, other: float) -> float:
    return one + other


def _braced(names: Sequence[str], values: Sequence[str]) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
