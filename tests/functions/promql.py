"""What a PromQL expression reads, said by a parser of PromQL."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import promql_parser as promql


@dataclass
class Read:
    """What an expression reads.

    Attributes:
        metrics: name -> (operator, label, value) of its matchers, for each place where it is named.
        labels: of groupings and matchings -> names of the metrics below them.
    """

    metrics: list[tuple[str, list[tuple[str, str, str]]]] = field(default_factory=list)
    labels: list[tuple[str, frozenset[str]]] = field(default_factory=list)


def read(expr: str) -> Read:
    """Parses it; raises ValueError where it is no PromQL."""
    found = Read()
    _walk(promql.parse(expr), found)
    return found


def _walk(node: Any, found: Read) -> None:
    if isinstance(node, promql.VectorSelector):
        matchers = [(str(one.op).rpartition(".")[2], one.name, one.value) for one in node.matchers.matchers]
        found.metrics.append((node.name, matchers))
        return
    if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
        below = Read()
        _walk(node.expr, below)
        names = frozenset(name for name, _ in below.metrics)
        found.labels += [(label, names) for label in node.modifier.labels]
    for part in _parts(node):
        _walk(part, found)


def _parts(node: Any) -> Iterator[Any]:
    if isinstance(node, promql.MatrixSelector):
        yield node.vector_selector
    elif isinstance(node, promql.Call):
        yield from node.args
    elif isinstance(node, promql.BinaryExpr):
        yield node.lhs
        yield node.rhs
    elif isinstance(node, promql.AggregateExpr):
        yield node.expr
        if node.param is not None:
            yield node.param
    elif isinstance(node, promql.ParenExpr | promql.UnaryExpr | promql.SubqueryExpr):
        yield node.expr
    else:
        assert isinstance(node, promql.NumberLiteral | promql.StringLiteral), node
