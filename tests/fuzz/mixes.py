"""Targets: mixes, as somebody may have written them into storage."""

import json

import numpy as np

from loader.dtypes import Array
from loader.mixing.declaration import parse_mix
from loader.mixing.evaluation import evaluate
from loader.mixing.expression import Expression, Fact, Input, Output, Reference, parse_expression, references
from loader.mixing.mix_signature import mix_signature
from loader.mixing.rows import Rows
from loader.mixing.vocabulary import FUNCTIONS, OPERATORS
from tests.fuzz.target import DefectError, Target
from tests.loader.mixes import CASCADE

ROWS = 3
_TYPES: tuple[Array, ...] = (
    np.array([[0.5, np.nan, np.inf], [0, -1, 1e38], [3, 2, 1]], np.float32),
    np.array([0, 2**62, -5], np.int64),
    np.array([True, False, True]),
    np.array([b"cat", b"", b"\xff"], object),
    np.empty((ROWS, 0), np.float64),
    np.ones((ROWS, 2, 1, 4), np.uint8),
)


def mix_json(data: bytes) -> None:
    """Reads a declaration, and reckons with all that it says."""
    mix = parse_mix(data)
    mix_signature(mix)
    for step in mix.steps.values():
        for expression in (*step.inputs.values(), *step.otherwise.values(), *step.fallback.values()):
            reckon(expression)
    for expression in mix.values.values():
        reckon(expression)


def mix_expression(data: bytes) -> None:
    """Reads an expression, and reckons it over rows of every type."""
    reckon(parse_expression(data.decode("utf-8", "replace")))


def reckon(expression: Expression) -> None:
    values: dict[Reference, Array] = {}
    for place, reference in enumerate(dict.fromkeys(references(expression))):
        values[reference] = _TYPES[2] if isinstance(reference, Fact) else _TYPES[place % len(_TYPES)]
        assert isinstance(reference, Input | Output | Fact)
    if evaluate(expression, Rows(ROWS, values)).shape[:1] != (ROWS,):
        raise DefectError(f"not one value for each row: {expression}")


def expressions() -> list[bytes]:
    """One call of each function, and what the example of the documentation says."""
    calls = [f"{name}({', '.join(['x.a', 'y', 'x.b'][:least] or ['y'])})" for name, (least, _) in FUNCTIONS.items()]
    signs = [f"x.a {sign} 2.5e3" for sign, (least, _) in OPERATORS.items() if least == 2]
    more = ["max(small.scores) < 0.8 and not failed(small)", "if(ran(a), b[1], c[0:2])", "x == 'cat' or -(1 + y) > .5"]
    return [text.encode() for text in (*calls, *signs, *more)]


_WORDS = tuple(
    word.encode() for word in (*FUNCTIONS, *OPERATORS, "ran(", "failed(", "[0:2]", "'a'", "true", "x.y", ",")
)

TARGETS = (
    Target("mix_json", mix_json, lambda: [json.dumps(CASCADE).encode()], words=(*_WORDS, b'"when": "', b'{"', b"-1")),
    Target("mix_expression", mix_expression, expressions, words=_WORDS),
)
